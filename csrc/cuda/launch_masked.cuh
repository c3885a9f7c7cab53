// Launches of the kernels of masked rows.
#pragma once

#include "cuda/launch_vector.cuh"
#include "cuda/masked_kernel.cuh"

namespace ptgq {

// Eighths of the blocks that the device holds at once, measured on an H200: with more, counts of 0
// take longer; with fewer, counts that differ leave multiprocessors idle.
constexpr int64_t kMaskedEighths = 10;

template <typename T, bool kSilu>
void launch_masked_lanes(const Problem& p, const MaskedRows& rows, Launch how) {
  with_lanes(p.group_size / kLaneElements, [&](auto n) {
    MaskedArguments m{};
    m.all = vector_arguments<n>(p, how);
    m.rows = rows;
    m.columns = static_cast<uint32_t>(scale_columns(p));
    const int64_t own_columns = has_batch_columns(p);
    m.scale_tokens =
        static_cast<uint32_t>(own_columns ? rows.batches * p.column_length : p.column_length);
    m.batch_tokens = static_cast<uint32_t>(own_columns ? p.column_length : rows.batch_tokens);
    m.batches = divisor_of(static_cast<uint32_t>(rows.batches));
    m.int8 = p.int8;
    const uintptr_t four = p.e8m0 && !p.packed ? 4 : 16;
    m.aligned_scales = reinterpret_cast<uintptr_t>(p.s) % four == 0;
    using Tile = WarpTile<n>;
    constexpr int64_t kWarps = kThreads / kWarpSize;
    const int64_t sets = ceil_div(p.num_groups, p.column_major ? Tile::kColumns : Tile::kGroups);
    m.all.groups = divisor_of(static_cast<uint32_t>(sets));
    const int64_t pieces = ceil_div(rows.batch_tokens, p.column_major ? Tile::kTokens : 1);
    const int64_t wanted = kMaskedEighths * how.first_wave / 8 / rows.batches;
    const int64_t chunks = std::clamp<int64_t>(wanted, 1, ceil_div(sets * pieces, kWarps));
    m.chunks = static_cast<uint32_t>(chunks);
    m.x_stride = static_cast<uint32_t>(p.x_token_stride);
    m.step_rows = static_cast<uint32_t>(chunks * kWarps / sets);
    m.step_sets = static_cast<uint32_t>(chunks * kWarps % sets);
    const bool common = !p.int8 && !is_special(p) && !p.packed && p.x_token_stride <= kMaxIndex;
    launch_kernel(common ? per_token_group_quant_masked_kernel<T, kSilu, n, true>
                         : per_token_group_quant_masked_kernel<T, kSilu, n, false>,
                  chunks * rows.batches, kThreads, m, how);
  });
}

template <typename T, bool kSilu, bool kSaturate>
void launch_masked_any(const Problem& p, const MaskedRows& rows, Launch how) {
  const int64_t groups = p.num_tokens * p.num_groups;
  const bool block_a_group = p.group_size > kMaxWarpGroup;
  const int64_t blocks = block_a_group ? groups : ceil_div(groups, kThreads / kWarpSize);
  if (blocks > kMaxIndex) throw std::runtime_error("x has too many groups for one launch");
  launch_kernel(block_a_group
                    ? per_token_group_quant_masked_any_kernel<T, kSilu, kSaturate, kThreads>
                    : per_token_group_quant_masked_any_kernel<T, kSilu, kSaturate, kWarpSize>,
                blocks, kThreads, MaskedProblem{p, rows}, how);
}

template <typename T, bool kSilu>
void launch_masked_prologue(const Problem& p, const MaskedRows& rows, Launch how) {
  const bool aligned = rows.batches == 1 || rows.x_batch_stride * sizeof(T) % kWord == 0;
  if (p.group_size > kMaxTileGroup || !has_small_indices(p) || !has_whole_lanes<T>(p) || !aligned) {
    return p.saturate ? launch_masked_any<T, kSilu, true>(p, rows, how)
                      : launch_masked_any<T, kSilu, false>(p, rows, how);
  }
  launch_masked_lanes<T, kSilu>(p, rows, how);
}

// Groups of whole lanes, up to 512, of rows that 31 bits count: the first kernel, for every layout;
// else the second.
template <typename T>
void launch_masked(const Problem& p, const MaskedRows& rows, Launch how) {
  return p.prologue == Prologue::kSiluAndMul ? launch_masked_prologue<T, true>(p, rows, how)
                                             : launch_masked_prologue<T, false>(p, rows, how);
}

}  // namespace ptgq
