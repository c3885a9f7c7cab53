// The ops of blocks on a CUDA device: choice of the kernel.
#include <stdexcept>

#include "cuda/blocks_kernel.cuh"
#include "cuda/launch.cuh"

namespace ptgq {
namespace {

constexpr int64_t kMaxWarpBlock = 2048;  // elements; above, one warp would be long at a block

// Blocks of a tile's size, or one that covers the matrix: so far as the size of a block counts.
bool fills_tiles(int64_t size, int64_t blocks) {
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

}  // namespace

void quantize_blocks_cuda(const BlockProblem& p, int device, void* stream) {
  if (p.batches * p.rows * p.columns == 0) return;
  const Launch how = launch_on(device, static_cast<cudaStream_t>(stream));
  switch (p.w_type) {
    case ElementType::kBfloat16:
      return quantize_blocks_on<__nv_bfloat16>(p, how);
    case ElementType::kFloat16:
      return quantize_blocks_on<__half>(p, how);
    default:
      return quantize_blocks_on<float>(p, how);
  }
}

// Whole blocks are those of dequantize, with groups of a block's columns: the rows of a block are a
// batch of tokens that share their scales.
void dequantize_blocks_cuda(const BlockDequantization& d, int device, void* stream) {
  if (d.batches * d.rows * d.columns == 0) return;
  const int64_t row_blocks = ceil_div(d.rows, d.block_rows);
  const bool rows_follow = d.batches == 1 || (d.rows % d.block_rows == 0 &&
                                              d.s_batch_stride == row_blocks * d.s_row_stride);
  if (d.columns % d.block_columns == 0 && rows_follow) {
    Dequantization as_groups{};
    as_groups.q = d.q;
    as_groups.s = d.s;
    as_groups.y = d.y;
    as_groups.num_tokens = d.batches * d.rows;
    as_groups.num_groups = d.columns / d.block_columns;
    as_groups.group_size = d.block_columns;
    as_groups.q_token_stride = d.columns;
    as_groups.s_batch_stride = d.s_row_stride;
    as_groups.s_token_stride = 0;
    as_groups.s_group_stride = d.s_column_stride;
    as_groups.batch_tokens = d.block_rows;
    as_groups.y_type = d.y_type;
    as_groups.e8m0 = d.e8m0;
    return dequantize_cuda(as_groups, device, stream);
  }
  const Launch how = launch_on(device, static_cast<cudaStream_t>(stream));
  switch (d.y_type) {
    case ElementType::kBfloat16:
      return dequantize_blocks_on<__nv_bfloat16>(d, how);
    case ElementType::kFloat16:
      return dequantize_blocks_on<__half>(d, how);
    default:
      return dequantize_blocks_on<float>(d, how);
  }
}

}  // namespace ptgq
