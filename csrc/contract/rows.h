// Masked rows, for host and device: how many of a batch exist, and the zeros in place of the scales
// of those that don't.
#pragma once

#include "contract/numerics.h"
#include "contract/problem.h"

namespace ptgq {

// The rows of a batch that exist: a count below 0 is 0, one above all is all.
PTGQ_HOST_DEVICE int64_t existing_rows(const MaskedRows& rows, int64_t batch) {
  const int64_t at = batch * rows.count_stride;
  const int64_t count = rows.wide ? static_cast<const int64_t*>(rows.counts)[at]
                                  : static_cast<const int32_t*>(rows.counts)[at];
  return count < 0 ? 0 : count < rows.batch_tokens ? count : rows.batch_tokens;
}

// Whether each batch has columns of scales of its own. One that is alone has all.
template <typename P>
PTGQ_HOST_DEVICE bool has_batch_columns(const P& p) {
  return p.column_tokens < p.num_tokens;
}

// Elements of s of a token; words of four groups where it is packed.
template <typename P>
PTGQ_HOST_DEVICE int64_t scale_columns(const P& p) {
  return p.packed ? (int64_t{p.num_groups} + 3) / 4 : int64_t{p.num_groups};
}

// The place of an element of s, which may be a word, in a row of a column of scales.
template <typename P, typename Index>
PTGQ_HOST_DEVICE Index offset_of_element(const P& p, Index batch, Index row, Index column) {
  if (static_cast<int32_t>(p.s_token_stride) == kTiledRows) {
    row += batch * static_cast<Index>(p.column_length);
    const Index tile = row / 128 * static_cast<Index>(scale_columns(p)) + column;
    return 128 * tile + row % 32 * 4 + row / 32 % 4;
  }
  return batch * static_cast<Index>(p.s_batch_stride) + row * static_cast<Index>(p.s_token_stride) +
         column * static_cast<Index>(p.s_group_stride);
}

// Stores zero there.
template <typename P, typename Index>
PTGQ_HOST_DEVICE void store_zero(const P& p, Index batch, Index row, Index column) {
  const Index at = offset_of_element(p, batch, row, column);
  if (p.e8m0 && !p.packed) {
    static_cast<uint8_t*>(p.s)[at] = 0;
  } else {
    static_cast<uint32_t*>(p.s)[at] = 0;
  }
}

}  // namespace ptgq
