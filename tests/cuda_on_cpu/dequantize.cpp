// The CUDA kernels of dequantize, on the CPU, for ctypes.
#include "emulator.h"
//
#include "cuda/dequantize.cu"

using namespace ptgq;

// Sizes and strides of q, then those of s; as csrc/contract/problem.h numbers types.
extern "C" bool run(void* q, void* s, void* y, const int64_t* places, int64_t dim, const int* types,
                    int64_t group_size) {
  const auto view = [&](void* data, int tensor) {
    const int64_t* const sizes = places + 2 * dim * tensor;
    return TensorView{data, sizes, sizes + dim, dim, 0, 0, static_cast<ElementType>(types[tensor])};
  };
  try {
    Dequantization d =
        check_dequantize(view(q, 0), view(s, 1), group_size, static_cast<ElementType>(types[2]));
    d.y = y;
    dequantize_cuda(d, 0, nullptr);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}
