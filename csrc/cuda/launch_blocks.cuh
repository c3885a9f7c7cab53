// Launches of the kernels of blocks: choice of the kernel.
#pragma once

#include <stdexcept>

#include "cuda/blocks_kernel.cuh"
#include "cuda/launch.cuh"

namespace ptgq {

constexpr int64_t kMaxWarpBlock = 2048;  // elements; above, one warp would be long at a block

// Blocks of a tile's size, or one that covers the matrix: so far as the size of a block counts.
inline bool fills_tiles(int64_t size, int64_t blocks) {
  return size == kBlockSide || (blocks == 1 && size < kBlockSide);
}

template <typename T>
bool has_tiles(const BlockProblem& p) {
  constexpr int64_t kLoad = sizeof(uint4) / sizeof(T);
  return fills_tiles(p.block_rows, p.row_blocks) && fills_tiles(p.block_columns, p.column_blocks) &&
         p.columns % kChunk == 0 && reinterpret_cast<uintptr_t>(p.q) % kChunk == 0 &&
         reinterpret_cast<uintptr_t>(p.w) % sizeof(uint4) == 0 &&
         (p.rows == 1 || p.w_row_stride % kLoad == 0) &&
         (p.batches == 1 || p.w_batch_stride % kLoad == 0);
}

template <typename T>
void quantize_blocks_on(const BlockProblem& p, Launch how) {
  const int64_t blocks = p.batches * p.row_blocks * p.column_blocks;
  if (blocks > kMaxIndex) throw std::runtime_error("w has too many blocks for one launch");
  BlockArguments a{p, divisor_of(static_cast<uint32_t>(p.row_blocks)),
                   divisor_of(static_cast<uint32_t>(p.column_blocks)), 0};
  if (has_tiles<T>(p)) {
    return launch_kernel(per_block_quant_tile_kernel<T>, blocks, kBlockThreads, a, how);
  }
  const bool small = p.block_rows <= kMaxWarpBlock / p.block_columns;
  const int team = small ? kWarpSize : kThreads;
  while (1 << a.width_log2 < std::min<int64_t>(team, p.block_columns)) ++a.width_log2;
  launch_kernel(small ? per_block_quant_kernel<T, kWarpSize> : per_block_quant_kernel<T, kThreads>,
                ceil_div(blocks, kThreads / team), kThreads, a, how);
}

template <typename T>
void dequantize_blocks_on(const BlockDequantization& d, Launch how) {
  const int64_t pieces = ceil_div(d.columns, int64_t{kThreads} * kBlockSteps);
  const int64_t blocks = d.batches * d.rows * pieces;
  if (blocks > kMaxIndex) throw std::runtime_error("q is too large for one launch");
  launch_kernel(dequantize_blocks_kernel<T>, blocks, kThreads, d, how);
}

}  // namespace ptgq
