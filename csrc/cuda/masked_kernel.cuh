// The kernels of masked rows: groups as in vector_kernel.cuh, and any.
#pragma once

#include "contract/rows.h"
#include "cuda/vector_kernel.cuh"

namespace ptgq {

struct MaskedArguments {
  VectorArguments all;  // of the rows of all batches, whether they exist or not
  MaskedRows rows;
  Divisor batches;
  uint32_t x_stride;   // from token to token, if kCommon
  uint32_t step_rows;  // from a warp's groups to its next ones
  uint32_t step_sets;
  uint32_t columns;       // elements of s of a token
  uint32_t scale_tokens;  // tokens of s, padding included
  uint32_t batch_tokens;  // those of a batch in s: with the padding, where it has its own columns
  uint32_t chunks;        // blocks of a batch
  bool int8;              // not of a template: that would be twice the kernels
  bool aligned_scales;    // four at a time
};

// Stores zeros from one element of s, which may be a word, up to another: a thread four at a time,
// its number of so many threads.
__device__ __forceinline__ void zero_scales(const MaskedArguments& m, uint32_t begin, uint32_t end,
                                            uint32_t number, uint32_t threads) {
  const VectorArguments& a = m.all;
  const bool of_bytes = a.e8m0 && !a.packed;
  for (uint32_t i = begin / 4 + number; 4 * i < end; i += threads) {
    if (m.aligned_scales && 4 * i >= begin && 4 * i + 4 <= end) {
      if (of_bytes) {
        static_cast<uint32_t*>(a.s)[i] = 0;
      } else {
        static_cast<uint4*>(a.s)[i] = make_uint4(0, 0, 0, 0);
      }
      continue;
    }
#pragma unroll 1
    for (uint32_t at = max(begin, 4 * i); at < min(end, 4 * i + 4); ++at) {
      if (of_bytes) {
        static_cast<uint8_t*>(a.s)[at] = 0;
      } else {
        static_cast<uint32_t*>(a.s)[at] = 0;
      }
    }
  }
}

// A called function, as saturate_lanes.
template <typename T, bool kSilu, int kLanes>
__device__ __noinline__ float saturate_masked(const MaskedArguments& m, uint32_t step, const T* x,
                                              uint8_t* q) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t mask = lanes_of_group<kLanes, kLaneElements>(lane, m.all.group_size);
  return saturate_part<T, kSilu, kLaneElements>(m.all, mask, step, x, q, m.int8);
}

// Blocks that a multiprocessor holds: it has more registers for each than for the usual kernels,
// which don't loop.
template <typename T, bool kSilu>
constexpr int kMaskedResident = sizeof(T) == 2 ? 5 : (kSilu ? 2 : 4);

// Each batch has as many blocks, whose warps take the groups of its rows that exist in turns; then
// the zeros in place of other rows' scales. One read tells a block how many rows exist.
// Neighbouring blocks are of different batches, so that each multiprocessor has some of full ones.
// (Rows of all batches numbered through are spread evenly, but take 43 % more instructions.)
// kCommon: E4M3 codes of groups that don't saturate, and scales that are not in words or tiles:
// less code.
template <typename T, bool kSilu, int kLanes, bool kCommon>
__global__ void __launch_bounds__(kThreads, kMaskedResident<T, kSilu>)
    per_token_group_quant_masked_kernel(const __grid_constant__ MaskedArguments m) {
  constexpr bool kNeighbours = kLanes < 4 || kSilu;
  constexpr uint32_t kWarps = kThreads / kWarpSize;
  using Tile = WarpTile<kLanes>;
  const VectorArguments& a = m.all;
  const uint32_t chunk = m.batches.quotient(blockIdx.x);
  const uint32_t batch = blockIdx.x - chunk * m.batches.divisor;
  const uint32_t lane = threadIdx.x % kWarpSize;
  const LanePlace<kLanes, kNeighbours> part(lane, a.group_size);
  // Lanes without work stay for the shuffles, and read what another lane of the group reads; those
  // of no group, its first elements.
  const uint32_t start = part.exists ? part.start : 0;
  const uint32_t slot = lane / kLanes;
  const uint32_t tokens = a.column_major ? Tile::kTokens : 1;
  const uint32_t slot_row = a.column_major ? slot % Tile::kTokens : 0;
  const uint32_t slot_group = a.column_major ? slot / Tile::kTokens : slot;
  const uint32_t set_groups = a.column_major ? Tile::kColumns : Tile::kGroups;
  const uint32_t warp = chunk * kWarps + threadIdx.x / kWarpSize;
  const uint32_t rows_before = a.groups.quotient(warp);  // in as many as a warp takes
  uint32_t row = rows_before * tokens + slot_row;
  uint32_t group = (warp - rows_before * a.groups.divisor) * set_groups + slot_group;
  const uint32_t all_groups = a.groups.divisor * set_groups;
  const T* const x = static_cast<const T*>(a.x) + batch * m.rows.x_batch_stride + start;
  const uint32_t first_token = batch * static_cast<uint32_t>(m.rows.batch_tokens);
  uint8_t* const q = a.q + int64_t{first_token} * a.hidden_dim + start;
  const bool own_columns = has_batch_columns(a);
  const uint32_t first_scale =
      own_columns ? batch * a.s_batch_stride : first_token * a.s_token_stride;
  wait_for_previous_kernel();  // which may have written the counts
  const auto existing = static_cast<uint32_t>(existing_rows(m.rows, batch));

  for (; row - slot_row < existing;
       row += m.step_rows * tokens, group += m.step_sets * set_groups) {
    if (group >= all_groups + slot_group) {
      group -= all_groups;
      row += tokens;
      if (row - slot_row >= existing) break;
    }
    const bool inside = row < existing && group < a.num_groups;
    const uint32_t read_row = inside ? row : 0;
    const uint32_t column = inside ? group * a.group_size : 0;
    const T* const from =
        x + column + (kCommon ? uint64_t{read_row} * m.x_stride : read_row * a.x_token_stride);
    LaneVector<T> values;
    values.load(from, part.step);
    if constexpr (kSilu) {
      LaneVector<T> up;
      up.load(from + a.hidden_dim, part.step);
      __syncwarp();  // the loads are not put off
      if constexpr (kCommon) {
        activate(values, up);
      } else {
        activate(values, up, a.swiglu_limit);
      }
    }
    uint32_t absmax = values.absmax_bits();
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      absmax = max(absmax, __shfl_xor_sync(0xFFFFFFFF, absmax, offset));
    }
    if (!inside || !part.exists) continue;
    const bool int8 = !kCommon && m.int8;
    float scale = group_scale(absmax, a.eps, int8 ? kMaxInt8 : kMaxE4m3, a.power_of_two);
    const float reciprocal = reciprocal_of(scale);
    uint8_t* const to = q + (int64_t{row} * a.hidden_dim + column);
    if (int8) {
      store_codes<kNeighbours, true>(to, part.step, values, scale, reciprocal, is_finite(absmax));
    } else {
      store_codes<kNeighbours, false>(to, part.step, values, scale, reciprocal, true);
    }
    if (!kCommon && a.saturate && scale != scale) {
      scale = saturate_masked<T, kSilu, kLanes>(m, part.step, from, to);
    }
    if (start != 0) continue;
    if constexpr (kCommon) {
      put_scale(a, first_scale + row * a.s_token_stride + group * a.s_group_stride, scale);
    } else {
      store_placed<Placement::kSpecial, true>(a, {first_token + row, group}, scale);
    }
  }
  let_next_kernel_start();

  // Scales of rows that don't exist, and padding, which the last batch has of all, unless each has
  // columns of its own.
  const uint32_t scales_before = batch * m.batch_tokens;
  const uint32_t end =
      batch + 1 == m.batches.divisor ? m.scale_tokens : scales_before + m.batch_tokens;
  const uint32_t rows = end - scales_before;
  if (existing == rows) return;
  const bool is_tiled = static_cast<int32_t>(a.s_token_stride) == kTiledRows;
  const uint32_t scale_batch = own_columns ? batch : 0;
  const uint32_t scale_row = own_columns ? 0 : scales_before;
  if (is_tiled) {
    const uint32_t missing = rows - existing;
    for (uint32_t i = chunk * kThreads + threadIdx.x; i < missing * m.columns;
         i += m.chunks * kThreads) {
      const uint32_t column = i / missing;
      store_zero(a, scale_batch, scale_row + existing + i - column * missing, column);
    }
    return;
  }
  const uint32_t first = offset_of_element(a, scale_batch, scale_row, 0u);
  if (!a.column_major) {  // side by side
    zero_scales(m, first + existing * m.columns, first + rows * m.columns,
                chunk * kThreads + threadIdx.x, m.chunks * kThreads);
    return;
  }
  for (uint32_t column = warp; column < m.columns; column += m.chunks * kWarps) {
    const uint32_t of_column = first + column * a.s_group_stride;
    zero_scales(m, of_column + existing, of_column + rows, lane, kWarpSize);
  }
}

struct MaskedProblem {
  Problem problem;
  MaskedRows rows;
};

// The rows that exist; which they are is read, so not before the previous kernel has ended.
template <typename T>
struct ExistingRows {
  const MaskedRows& rows;

  __device__ __forceinline__ const T* row(const Problem& p, int64_t token) const {
    const int64_t batch = token / rows.batch_tokens;
    return static_cast<const T*>(p.x) + batch * rows.x_batch_stride +
           (token - batch * rows.batch_tokens) * p.x_token_stride;
  }
  __device__ __forceinline__ bool exists(int64_t token) const {
    const int64_t batch = token / rows.batch_tokens;
    return token - batch * rows.batch_tokens < existing_rows(rows, batch);
  }
};

// As per_token_group_quant_kernel, a team a group, whether its row exists or not. kLimited: an
// infinite limit changes nothing.
template <typename T, bool kSilu, bool kSaturate, int kTeam>
__global__ void __launch_bounds__(kThreads, 1)
    per_token_group_quant_masked_any_kernel(const __grid_constant__ MaskedProblem m) {
  quantize_by_team<T, kSilu, true, kSaturate, kTeam>(m.problem, ExistingRows<T>{m.rows});
}

}  // namespace ptgq
