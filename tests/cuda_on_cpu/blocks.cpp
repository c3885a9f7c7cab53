// The CUDA kernels of blocks, on the CPU, for ctypes.
#include "emulator.h"
//
#include "cuda/blocks.cu"

using namespace ptgq;

namespace {

// Sizes and strides of each tensor; types as csrc/contract/problem.h numbers them.
TensorView view(void* data, const int64_t* places, int64_t dim, int type) {
  return {data, places, places + dim, dim, 0, 0, static_cast<ElementType>(type)};
}

}  // namespace

extern "C" bool quantize(void* w, void* q, void* s, const int64_t* places, int64_t dim,
                         const int* types, int64_t block_rows, int64_t block_columns, double eps,
                         int64_t format, bool saturate) {
  const BlockOptions options = block_options(block_rows, block_columns, eps, format, saturate);
  const TensorView w_view = view(w, places, dim, types[0]);
  try {
    const BlockProblem p = check_block_outputs(check_block_input(w_view, options), options, w_view,
                                               view(q, places + 2 * dim, dim, types[1]),
                                               view(s, places + 4 * dim, dim, types[2]));
    quantize_blocks_cuda(p, 0, nullptr);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

extern "C" bool dequantize(void* q, void* s, void* y, const int64_t* places, int64_t dim,
                           const int* types, int64_t block_rows, int64_t block_columns) {
  try {
    BlockDequantization d = check_dequantize_blocks(
        view(q, places, dim, types[0]), view(s, places + 2 * dim, dim, types[1]), block_rows,
        block_columns, static_cast<ElementType>(types[2]));
    d.y = y;
    dequantize_blocks_cuda(d, 0, nullptr);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}
