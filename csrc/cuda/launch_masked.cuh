// Launches of the kernels of masked rows.
#pragma once

#include "cuda/launch_vector.cuh"
#include "cuda/masked_kernel.cuh"

namespace ptgq {

// Waves of blocks, of which the first ones that end make room for the rest: so the device spreads
// what there is, be it little or much.
constexpr int64_t kMaskedWaves = 2;
constexpr int64_t kMaxMaskedBatches = 4096;  // whose ends fit in shared memory beside other blocks'

template <typename T, bool kSilu>
void launch_masked_lanes(const Problem& p, const MaskedRows& rows, Launch how) {
  with_lanes(p.group_size / kLaneElements, [&](auto n) {
    MaskedArguments m{};
    m.all = vector_arguments<n>(p, how);
    m.rows = rows;
    m.columns = divisor_of(static_cast<uint32_t>(scale_columns(p)));
    const int64_t own_columns = has_batch_columns(p);
    m.scale_tokens =
        static_cast<uint32_t>(own_columns ? rows.batches * p.column_length : p.column_length);
    m.batch_tokens = static_cast<uint32_t>(own_columns ? p.column_length : rows.batch_tokens);
    m.batches = static_cast<uint32_t>(rows.batches);
    m.int8 = p.int8;
    const int64_t blocks =
        std::min(ceil_div(m.all.num_warps, kThreads / kWarpSize), kMaskedWaves * how.first_wave);
    launch_kernel(per_token_group_quant_masked_kernel<T, kSilu, n>, blocks, kThreads, m, how,
                  rows.batches * sizeof(uint32_t));
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
  if (p.group_size > kMaxTileGroup || !has_small_indices(p) || !has_whole_lanes<T>(p) || !aligned ||
      rows.batches > kMaxMaskedBatches) {
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
