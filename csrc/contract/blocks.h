// Checked calls of the functions of blocks, in plain types: what host, CPU and device code work
// from.
#pragma once

#include "contract/check.h"
#include "contract/dequantize.h"
#include "contract/scales.h"

namespace ptgq {

// Matrices one after the other, in blocks; those at the lower and at the right edge may be smaller.
// q is contiguous.
struct BlockProblem {
  const void* w;
  uint8_t* q;
  void* s;
  int64_t batches;  // matrices
  int64_t rows;     // of a matrix
  int64_t columns;
  int64_t block_rows;
  int64_t block_columns;
  int64_t row_blocks;  // of a matrix, from top to bottom
  int64_t column_blocks;
  int64_t w_batch_stride;  // in elements
  int64_t w_row_stride;
  int64_t s_row_stride;  // in elements; behind the last block of a row comes padding
  float eps;
  ElementType w_type;
  bool e8m0;  // as in Problem
  bool power_of_two;
  bool saturate;
};

struct BlockOptions {
  int64_t block_rows;
  int64_t block_columns;
  double eps;
  Kind kind;
  Storage storage;
  bool aligned_rows;
  bool saturate;
};

// The options with the number of a format of blocks, as its ptgq.ScaleFormat.code.
BlockOptions block_options(int64_t block_rows, int64_t block_columns, double eps,
                           int64_t scale_format, bool saturate);
// The problem that w and the options state, without its outputs.
BlockProblem check_block_input(const TensorView& w, const BlockOptions& options);
// The same with its outputs.
BlockProblem check_block_outputs(BlockProblem p, const BlockOptions& options, const TensorView& w,
                                 const TensorView& q, const TensorView& s);
// Whether matrices follow each other with one stride; and whether rows are contiguous, too.
bool are_packed_matrices(const TensorView& t);
bool has_matrix_strides(const TensorView& w);
// Whether results share memory with w or with each other; padding of s counts.
bool overlap(const BlockProblem& p);
// The elements of s, padding included.
PTGQ_HOST_DEVICE int64_t scale_elements(const BlockProblem& p) {
  return p.batches * p.row_blocks * p.s_row_stride;
}

// Stores the scale of a block; the last of a row also stores the padding behind it. `row` counts
// the rows of blocks of all matrices.
PTGQ_HOST_DEVICE void store_block_scale(const BlockProblem& p, int64_t row, int64_t column,
                                        float scale) {
  const int64_t at = row * p.s_row_stride + column;
  put_scale(p, at, scale);
  if (column != p.column_blocks - 1) return;
  const int64_t padding = p.s_row_stride - p.column_blocks;
#ifdef __CUDACC__
#pragma unroll 1
#endif
  for (int64_t i = 1; i <= padding; ++i) put_scale(p, at + i, 0.0f);
}

// As quantize_cpu and quantize_cuda.
void quantize_blocks_cpu(const BlockProblem& p);
void quantize_blocks_cuda(const BlockProblem& p, int device, void* stream);

struct BlockDequantization {
  const uint8_t* q;  // contiguous, as y
  const void* s;
  void* y;
  int64_t batches;
  int64_t rows;
  int64_t columns;
  int64_t block_rows;
  int64_t block_columns;
  int64_t s_batch_stride;  // in elements
  int64_t s_row_stride;
  int64_t s_column_stride;
  ElementType y_type;
  bool e8m0;
};

// The call without y.
BlockDequantization check_dequantize_blocks(const TensorView& q, const TensorView& s,
                                            int64_t block_rows, int64_t block_columns,
                                            ElementType y_type);

// The scale of a block.
PTGQ_HOST_DEVICE float block_scale(const BlockDequantization& d, int64_t batch, int64_t row,
                                   int64_t column) {
  const int64_t at = batch * d.s_batch_stride + row * d.s_row_stride + column * d.s_column_stride;
  if (d.e8m0) return scale_of(static_cast<const uint8_t*>(d.s)[at]);
  return static_cast<const float*>(d.s)[at];
}

void dequantize_blocks_cpu(const BlockDequantization& d);
void dequantize_blocks_cuda(const BlockDequantization& d, int device, void* stream);

}  // namespace ptgq
