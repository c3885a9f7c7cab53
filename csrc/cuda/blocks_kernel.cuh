// Blocks of a matrix on a CUDA device: device code only, no torch header.
#pragma once

#include "contract/blocks.h"
#include "cuda/dequantize_kernel.cuh"
#include "cuda/lane_vector.cuh"
#include "cuda/launch_vector.cuh"

namespace ptgq {

// A tile is a block of 128 x 128, or the whole of a matrix that has no more. It stays in registers
// between its absmax and its codes, so that w is read once: 32 elements of each of 512 threads, in
// rows of 16 threads that each have 8 neighbours. That is 64 bytes under way a thread (bfloat16),
// 96 KB in the three thread blocks that a multiprocessor holds, twice what hides memory's latency
// (H200: 36 GB/ms over 132, some 0.7 us); shared memory would add a trip there and back.
constexpr int kBlockSide = 128;
constexpr int kBlockThreads = 512;
constexpr int kBlockElements = kBlockSide * kBlockSide / kBlockThreads;
constexpr int kBlockLanes = kBlockSide / kChunk;         // of a row
constexpr int kBlockStep = kBlockThreads / kBlockLanes;  // rows between a thread's chunks
constexpr int kBlockChunks = kBlockElements / kChunk;

struct BlockArguments {
  BlockProblem problem;
  Divisor row_blocks;     // by a matrix's rows of blocks
  Divisor column_blocks;  // by the blocks of a row
  uint32_t width_log2;    // threads of a row of a block, where it is no tile
};

template <typename T>
__global__ void __launch_bounds__(kBlockThreads)
    per_block_quant_tile_kernel(const __grid_constant__ BlockArguments a) {
  const BlockProblem& p = a.problem;
  const uint32_t row_block = a.column_blocks.quotient(blockIdx.x);
  const uint32_t column_block = blockIdx.x - row_block * a.column_blocks.divisor;
  const uint32_t batch = a.row_blocks.quotient(row_block);
  const int64_t row =
      int64_t{row_block - batch * a.row_blocks.divisor} * kBlockSide + threadIdx.x / kBlockLanes;
  const int64_t column = int64_t{column_block} * kBlockSide + threadIdx.x % kBlockLanes * kChunk;
  const T* const w =
      static_cast<const T*>(p.w) + batch * p.w_batch_stride + row * p.w_row_stride + column;
  uint8_t* const q = p.q + (batch * p.rows + row) * p.columns + column;
  // The thread's first `chunks` chunks are in the matrix: columns divide by a chunk.
  const int64_t left = column < p.columns ? (p.rows - row + kBlockStep - 1) / kBlockStep : 0;
  const int chunks = static_cast<int>(min(left, int64_t{kBlockChunks}));

  wait_for_previous_kernel();
  using Vector = LaneVector<T, kBlockElements>;
  Vector x;
#pragma unroll
  for (int i = 0; i < Vector::kLoads; ++i) {
    const int chunk = i / Vector::kChunkLoads;
    const auto* const from =
        reinterpret_cast<const uint4*>(w + chunk * kBlockStep * p.w_row_stride);
    x.words[i] = chunk < chunks ? from[i % Vector::kChunkLoads] : uint4{};
  }
  let_next_kernel_start();
  const uint32_t absmax = max_of_block(x.absmax_bits());
  if (p.saturate && !is_finite(absmax)) {
    __syncthreads();  // all have read max_of_block
    const auto place = [&p](uint32_t k) {
      return static_cast<int64_t>(k / kChunk * kBlockStep) * p.columns + k % kChunk;
    };
    const auto value = [w, &p](int64_t at) {
      const int64_t down = at / p.columns;
      return to_float(w[down * p.w_row_stride + (at - down * p.columns)]);
    };
    const auto count = static_cast<uint32_t>(max(chunks, 0) * kChunk);
    const float scale =
        saturate_group(q, count, place, value, max_of_block, p.eps, p.power_of_two, false);
    if (threadIdx.x == 0) store_block_scale(p, row_block, column_block, scale);
    return;
  }
  const float scale = group_scale(absmax, p.eps, kMaxE4m3, p.power_of_two);
  const float reciprocal = reciprocal_of(scale);
  if (threadIdx.x == 0) store_block_scale(p, row_block, column_block, scale);
#pragma unroll
  for (int i = 0; i < kBlockChunks; ++i) {
    if (i >= chunks) break;
    const uint32_t low = four_codes<false, false>(x, i * kChunk, scale, reciprocal, true);
    const uint32_t high = four_codes<false, false>(x, i * kChunk + 4, scale, reciprocal, true);
    *reinterpret_cast<uint2*>(q + i * kBlockStep * p.columns) = make_uint2(low, high);
  }
}

// Any size, alignment and stride: a team, a warp or the whole block of threads, quantizes a block
// of w, element by element, and reads it twice. (One block at least: see device.cuh.)
template <typename T, int kTeam>
__global__ void __launch_bounds__(kThreads, 1)
    per_block_quant_kernel(const __grid_constant__ BlockArguments a) {
  const BlockProblem& p = a.problem;
  const int64_t index = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kTeam;
  const int64_t row_block = index / p.column_blocks;
  const int64_t column_block = index - row_block * p.column_blocks;
  const int64_t batch = row_block / p.row_blocks;
  if (batch >= p.batches) return;
  const int64_t first_row = (row_block - batch * p.row_blocks) * p.block_rows;
  const int64_t first_column = column_block * p.block_columns;
  const int64_t rows = min(p.block_rows, p.rows - first_row);
  const int64_t columns = min(p.block_columns, p.columns - first_column);
  const T* const w = static_cast<const T*>(p.w) + batch * p.w_batch_stride +
                     first_row * p.w_row_stride + first_column;
  uint8_t* const q = p.q + (batch * p.rows + first_row) * p.columns + first_column;
  const int lane = threadIdx.x % kTeam;
  const int width = 1 << a.width_log2;
  const auto for_each = [&](const auto& visit) {
    for (int64_t row = lane >> a.width_log2; row < rows; row += kTeam >> a.width_log2) {
      for (int64_t column = lane & (width - 1); column < columns; column += width) {
        visit(to_float(w[row * p.w_row_stride + column]), q[row * p.columns + column]);
      }
    }
  };
  const auto max_of_team = [](uint32_t bits) {
    return kTeam == kWarpSize ? __reduce_max_sync(0xFFFFFFFF, bits) : max_of_block(bits);
  };

  wait_for_previous_kernel();
  let_next_kernel_start();
  uint32_t absmax = 0;
  for_each([&](float x, uint8_t&) { absmax = max(absmax, absolute_bits(x)); });
  absmax = max_of_team(absmax);
  const bool saturates = p.saturate && !is_finite(absmax);
  if (saturates) {
    if (kTeam > kWarpSize) __syncthreads();  // all have read max_of_block
    absmax = 0;
    for_each([&](float x, uint8_t&) { absmax = max(absmax, finite_bits(x)); });
    absmax = max_of_team(absmax);
  }
  const float scale = group_scale(absmax, p.eps, kMaxE4m3, p.power_of_two);
  const float reciprocal = reciprocal_of(scale);
  if (lane == 0) store_block_scale(p, row_block, column_block, scale);
  for_each([&](float x, uint8_t& code) {
    const float y = quotient(x, scale, reciprocal);
    code = code_of(saturates ? saturated(x, y, false) : y, false);
  });
}

// Where blocks are cut off, so that dequantize_kernel's groups are none: a thread block a piece of
// a row, kBlockSteps elements a thread.
constexpr int kBlockSteps = 8;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    dequantize_blocks_kernel(const __grid_constant__ BlockDequantization d) {
  const int64_t pieces = (d.columns + kThreads * kBlockSteps - 1) / (kThreads * kBlockSteps);
  const int64_t token = blockIdx.x / pieces;
  const int64_t first = (blockIdx.x - token * pieces) * (kThreads * kBlockSteps) + threadIdx.x;
  const int64_t batch = token / d.rows;
  const int64_t row_block = (token - batch * d.rows) / d.block_rows;
  wait_for_previous_kernel();
  let_next_kernel_start();
#pragma unroll
  for (int i = 0; i < kBlockSteps; ++i) {
    const int64_t column = first + i * kThreads;
    if (column >= d.columns) return;
    const float scale = block_scale(d, batch, row_block, column / d.block_columns);
    const int64_t at = token * d.columns + column;
    static_cast<T*>(d.y)[at] = product<T, false>(d.q[at], scale);
  }
}

}  // namespace ptgq
