// The kernels of masked rows: groups as in vector_kernel.cuh, and any.
#pragma once

#include "contract/rows.h"
#include "cuda/vector_kernel.cuh"

namespace ptgq {

struct MaskedArguments {
  VectorArguments all;  // of the rows of all batches, whether they exist or not
  MaskedRows rows;
  Divisor columns;        // by the elements of s of a token
  uint32_t scale_tokens;  // tokens of s, padding included
  uint32_t batch_tokens;  // those of a batch in s: with the padding, where it has its own columns
  uint32_t batches;
  bool int8;  // not of a template: that would be twice the kernels
};

// Returns how many rows exist, and puts how many do up to each batch's end into `ends`.
__device__ __forceinline__ uint32_t sum_rows(const MaskedArguments& m, uint32_t* ends) {
  __shared__ uint32_t of_warps[kThreads / kWarpSize];
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t warp = threadIdx.x / kWarpSize;
  uint32_t before = 0;
  for (uint32_t first = 0; first < m.batches; first += kThreads) {
    const uint32_t batch = first + threadIdx.x;
    uint32_t sum = batch < m.batches ? static_cast<uint32_t>(existing_rows(m.rows, batch)) : 0;
#pragma unroll
    for (int offset = 1; offset < kWarpSize; offset *= 2) {
      const uint32_t below = __shfl_up_sync(0xFFFFFFFF, sum, offset);
      if (lane >= offset) sum += below;
    }
    if (lane == kWarpSize - 1) of_warps[warp] = sum;
    __syncthreads();
    sum += before;
    for (uint32_t i = 0; i < kThreads / kWarpSize; ++i) {
      if (i < warp) sum += of_warps[i];
      before += of_warps[i];
    }
    if (batch < m.batches) ends[batch] = sum;
    __syncthreads();
  }
  return before;
}

// The first batch up to whose end, as the function counts, there are more than `number`; else the
// last one.
template <typename Count>
__device__ __forceinline__ uint32_t find_batch(uint32_t batches, uint32_t number,
                                               const Count& count) {
  uint32_t low = 0;
  for (uint32_t high = batches - 1; low < high;) {
    const uint32_t middle = (low + high) / 2;
    if (count(middle) <= number) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
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
// which neither search nor loop.
template <typename T, bool kSilu>
constexpr int kMaskedResident = sizeof(T) == 2 ? (kSilu ? 4 : 5) : (kSilu ? 2 : 4);

// Rows that exist are numbered through, and the warps take groups of them in turns, as they would
// of a matrix of so many rows: so the work is spread evenly, whatever the counts are, and rows that
// don't exist cost nothing but the zeros of their scales, which all threads store behind. (A block
// for each part of every batch, which leaves where no row exists, would be simpler; but of 32
// batches of 256 rows of 7168 those are 14336 blocks, and starting a block that leaves at once
// takes about a nanosecond, more than all that there may be to do.) The search for a row's batch
// takes five reads of shared memory for 32 batches, beside one of memory.
template <typename T, bool kSilu, int kLanes>
__global__ void __launch_bounds__(kThreads, kMaskedResident<T, kSilu>)
    per_token_group_quant_masked_kernel(const __grid_constant__ MaskedArguments m) {
  constexpr bool kNeighbours = kLanes < 4 || kSilu;
  constexpr uint32_t kWarps = kThreads / kWarpSize;
  const VectorArguments& a = m.all;
  auto* const ends = reinterpret_cast<uint32_t*>(dynamic_shared_memory());
  wait_for_previous_kernel();  // which may have written the counts
  const uint32_t existing = sum_rows(m, ends);
  const auto first_of = [ends](uint32_t batch) { return batch == 0 ? 0 : ends[batch - 1]; };

  using Tile = WarpTile<kLanes>;
  const uint32_t warps = a.column_major
                             ? (existing + Tile::kTokens - 1) / Tile::kTokens * a.groups.divisor
                             : (existing * a.num_groups + Tile::kGroups - 1) / Tile::kGroups;
  const uint32_t lane = threadIdx.x % kWarpSize;
  const LanePlace<kLanes, kNeighbours> part(lane, a.group_size);
  const uint32_t start = part.exists ? part.start : 0;
  for (uint32_t warp = blockIdx.x * kWarps + threadIdx.x / kWarpSize; warp < warps;
       warp += gridDim.x * kWarps) {
    const Place at = place_of<kLanes, Placement::kSpecial>(a, warp, lane);
    const bool inside = at.token < existing && at.group < a.num_groups;
    // Lanes of no group read one that exists.
    const uint32_t number = inside ? at.token : 0;
    const uint32_t column = (inside ? at.group : 0) * a.group_size + start;
    const uint32_t batch =
        find_batch(m.batches, number, [ends](uint32_t batch) { return ends[batch]; });
    const uint32_t row = number - first_of(batch);
    const T* const from = static_cast<const T*>(a.x) + batch * m.rows.x_batch_stride +
                          row * a.x_token_stride + column;
    LaneVector<T> x;
    x.load(from, part.step);
    if constexpr (kSilu) {
      LaneVector<T> up;
      up.load(from + a.hidden_dim, part.step);
      __syncwarp();  // the loads are not put off
      activate(x, up, a.swiglu_limit);
    }
    uint32_t absmax = x.absmax_bits();
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      absmax = max(absmax, __shfl_xor_sync(0xFFFFFFFF, absmax, offset));
    }
    if (!inside || !part.exists) continue;
    float scale = group_scale(absmax, a.eps, m.int8 ? kMaxInt8 : kMaxE4m3, a.power_of_two);
    const float reciprocal = reciprocal_of(scale);
    const auto token = static_cast<uint32_t>(batch * m.rows.batch_tokens + row);
    uint8_t* const to = a.q + int64_t{token} * a.hidden_dim + column;
    if (m.int8) {
      store_codes<kNeighbours, true>(to, part.step, x, scale, reciprocal, is_finite(absmax));
    } else {
      store_codes<kNeighbours, false>(to, part.step, x, scale, reciprocal, is_finite(absmax));
    }
    if (a.saturate && scale != scale) {
      scale = saturate_masked<T, kSilu, kLanes>(m, part.step, from, to);
    }
    if (start == 0) store_placed<Placement::kSpecial, true>(a, {token, at.group}, scale);
  }
  let_next_kernel_start();

  // Scales of rows that don't exist, and padding, which follows as more of them: neighbouring
  // threads store neighbours.
  const uint32_t missing = m.scale_tokens - existing;
  const bool by_columns = a.column_major || static_cast<int32_t>(a.s_token_stride) == kTiledRows;
  const bool own_columns = has_batch_columns(a);
  const auto missing_up_to = [&](uint32_t batch) {
    return (batch + 1) * m.batch_tokens - ends[batch];
  };
  for (uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < missing * m.columns.divisor;
       i += gridDim.x * kThreads) {
    const uint32_t quotient = by_columns ? i / missing : m.columns.quotient(i);
    const uint32_t rest = i - quotient * (by_columns ? missing : m.columns.divisor);
    const uint32_t number = by_columns ? rest : quotient;
    const uint32_t batch = find_batch(m.batches, number, missing_up_to);
    // Before it, missing_up_to(batch - 1) are missing; in it, the first ones exist.
    const uint32_t row = number + ends[batch];  // in all batches
    const uint32_t begin = batch * m.batch_tokens;
    store_zero(a, own_columns ? batch : 0, own_columns ? row - begin : row,
               by_columns ? quotient : rest);
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
