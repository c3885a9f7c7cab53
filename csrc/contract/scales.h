// The place of a scale in memory, for host and device, and how it is stored with its padding. `p`
// is a Problem, or has what of it is read here.
#pragma once

#include "contract/numerics.h"
#include "contract/problem.h"

namespace ptgq {

// Stores a scale as element `at` of s, or as byte `at` where s holds bytes or words of them.
template <typename P>
PTGQ_HOST_DEVICE void put_scale(const P& p, int64_t at, float scale) {
  if (p.e8m0) {
    static_cast<uint8_t*>(p.s)[at] = e8m0_of(scale);
  } else {
    static_cast<float*>(p.s)[at] = scale;
  }
}

template <typename P, typename Index>
PTGQ_HOST_DEVICE void store_plain_scale(const P& p, Index token, Index group, float scale) {
  put_scale(p, token * p.s_token_stride + group * p.s_group_stride, scale);
}

// The offset of a scale where s has batches, words or padding; `row` counts a column's tokens.
template <typename P, typename Index>
PTGQ_HOST_DEVICE Index offset_of_scale(const P& p, Index batch, Index row, Index group) {
  const Index column = p.packed ? group / 4 : group;
  const Index at = batch * static_cast<Index>(p.s_batch_stride) +
                   row * static_cast<Index>(p.s_token_stride) +
                   column * static_cast<Index>(p.s_group_stride);
  return p.packed ? 4 * at + group % 4 : at;
}

// The elements of s, padding included.
PTGQ_HOST_DEVICE int64_t scale_elements(const Problem& p) {
  return p.num_tokens / p.column_tokens * p.s_batch_stride;
}

// Stores zeros behind the last scale of a column, of a token, or of both.
template <typename P, typename Index>
PTGQ_HOST_DEVICE void store_padding(const P& p, Index batch, Index row, Index group) {
  const auto column_length = static_cast<Index>(p.column_length);
  const auto num_groups = static_cast<Index>(p.num_groups);
  const Index rows = row == static_cast<Index>(p.column_tokens) - 1 ? column_length - row : 1;
  const Index groups = p.packed && group == num_groups - 1 ? 4 - group % 4 : 1;
#ifdef __CUDACC__
#pragma unroll 1  // else it takes half of the registers
#endif
  for (Index i = 1; i < rows * groups; ++i) {
    put_scale(p, offset_of_scale(p, batch, row + i % rows, group + i / rows), 0.0f);
  }
}

// In tiles of 128 tokens and 4 groups, one after the other, those of a row of tiles first: token
// 32 j + i of a tile has word 4 i + j, the bytes of its four groups. All tokens of a column, and
// the groups of a word, share the zeros of the tokens that are none; the last group of a token
// stores those behind it. In 32 bits but for offsets, of type Offset: divisions take registers.
template <bool kPads, typename Offset, typename P>
PTGQ_HOST_DEVICE void store_tiled_scale(const P& p, uint32_t token, uint32_t group, float scale) {
  const auto tokens = static_cast<uint32_t>(p.column_tokens);
  const auto num_groups = static_cast<uint32_t>(p.num_groups);
  const auto length = static_cast<uint32_t>(p.column_length);
  const uint32_t batch = token < tokens ? 0 : token / tokens;
  const uint32_t row = token - batch * tokens;
  const uint32_t first = group & ~3u;
  const uint32_t down = (num_groups + 3) / 4 * 512;  // bytes of a row of tiles
  uint8_t* const s = static_cast<uint8_t*>(p.s);
  const auto word = [=](uint32_t row) {
    row += batch * length;
    const uint32_t inside = 128 * first + (row % 32 * 16 + row / 32 % 4 * 4);
    return static_cast<Offset>(row / 128) * down + inside;
  };
  s[word(row) + (group - first)] = e8m0_of(scale);
  if (!kPads) return;
  const uint32_t groups = num_groups - first < 4 ? num_groups - first : 4;
#ifdef __CUDACC__
#pragma unroll 1
#endif
  for (uint32_t i = row * groups + (group - first); i < length - tokens; i += tokens * groups) {
    const Offset at = word(tokens + i);
    s[at] = s[at + 1] = s[at + 2] = s[at + 3] = 0;
  }
  if (group != num_groups - 1) return;
#ifdef __CUDACC__
#pragma unroll 1
#endif
  for (uint32_t k = groups; k < 4; ++k) s[word(row) + k] = 0;
}

// Stores the scale of a group; the last token of a column and the last group of a token also store
// the padding behind them, unless it is there already. kTiles: s may be in tiles. Index holds the
// number of tokens and, unless s is plain, every offset into it.
template <bool kPads = true, bool kTiles = true, typename P, typename Index>
PTGQ_HOST_DEVICE void store_scale(const P& p, Index token, Index group, float scale) {
  if (p.plain) return store_plain_scale(p, token, group, scale);
  if (kTiles && static_cast<int32_t>(p.s_token_stride) == kTiledRows) {
    return store_tiled_scale<kPads, Index>(p, static_cast<uint32_t>(token),
                                           static_cast<uint32_t>(group), scale);
  }
  const auto column_tokens = static_cast<Index>(p.column_tokens);
  Index batch = 0;
  if (token >= column_tokens) {  // most have one batch: no division
    batch = token / column_tokens;
    token -= batch * column_tokens;
  }
  put_scale(p, offset_of_scale(p, batch, token, group), scale);
  if (kPads && p.padded &&
      (token == column_tokens - 1 || group == static_cast<Index>(p.num_groups) - 1)) {
    store_padding(p, batch, token, group);
  }
}

}  // namespace ptgq
