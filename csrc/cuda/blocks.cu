// The ops of blocks on a CUDA device, by the type of w.
#include "cuda/launch_blocks.cuh"

namespace ptgq {

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
