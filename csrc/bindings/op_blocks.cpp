// The ops of blocks for CPU and CUDA tensors. Their schemas are in ptgq/block_ops.py.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "bindings/stable_tensors.h"
#include "bindings/stream.h"
#include "contract/blocks.h"

namespace ptgq {
namespace {

// Matrices that one stride does not reach are copied.
Tensor matrices_of(const Tensor& w) {
  const int64_t dim = w.dim();
  if (dim < 3 || w.numel() == 0 || (w.stride(dim - 1) != 1 && w.size(dim - 1) != 1)) return w;
  return has_matrix_strides(view_input(w)) ? w : torch::stable::contiguous(w);
}

void quantize_blocks(const Tensor& w, const Tensor& q, const Tensor& s, int64_t block_rows,
                     int64_t block_columns, double eps, int64_t scale_format, bool saturate) {
  const BlockOptions options =
      block_options(block_rows, block_columns, eps, scale_format, saturate);
  const Tensor matrices = matrices_of(w);
  const BlockProblem p =
      check_block_outputs(check_block_input(view_input(matrices), options), options, view_input(w),
                          view(q, q.mutable_data_ptr()), view(s, s.mutable_data_ptr()));
  const bool empty = p.batches * p.rows * p.columns == 0;
  if (options.aligned_rows && !empty) check_padding(s, scale_elements(p), "row");
  // s goes first: it may be refused, as it can require gradients, and q is then not counted.
  announce_write("s", s);
  announce_write("q", q);
#ifdef PTGQ_WITH_CUDA
  if (w.is_cuda()) {
    const int device = w.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    return quantize_blocks_cuda(p, device, current_stream(device));
  }
#endif
  quantize_blocks_cpu(p);
}

Tensor dequantize_blocks(const Tensor& q, const Tensor& s, int64_t block_rows,
                         int64_t block_columns, ScalarType dtype) {
  // What lies as no kernel reads it is copied.
  const Tensor codes = torch::stable::contiguous(q);
  const bool copied = s.dim() > 2 && !are_packed_matrices(view_input(s));
  const Tensor scales = copied ? torch::stable::contiguous(s) : s;
  BlockDequantization d = check_dequantize_blocks(view_input(codes), view_input(scales), block_rows,
                                                  block_columns, element_type(dtype));
  const Tensor y = torch::stable::new_empty(codes, codes.sizes(), dtype);
  d.y = y.mutable_data_ptr();
#ifdef PTGQ_WITH_CUDA
  if (q.is_cuda()) {
    const int device = q.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    dequantize_blocks_cuda(d, device, current_stream(device));
    return y;
  }
#endif
  dequantize_blocks_cpu(d);
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ptgq, CPU, m) {
  m.impl("per_block_quant", TORCH_BOX(&quantize_blocks));
  m.impl("dequantize_blocks", TORCH_BOX(&dequantize_blocks));
}

#ifdef PTGQ_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(ptgq, CUDA, m) {
  m.impl("per_block_quant", TORCH_BOX(&quantize_blocks));
  m.impl("dequantize_blocks", TORCH_BOX(&dequantize_blocks));
}
#endif

}  // namespace ptgq
