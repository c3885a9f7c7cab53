// The CUDA kernels of RMSNorm, on the CPU, for ctypes.
#include "emulator.h"
//
#include <cstdio>

#include "cuda/rms_norm.cu"

using namespace ptgq;

// Tensors: x, q, s, weight, residual, norm_out; the last two may have no data. Sizes and strides of
// two dimensions each, of weight the second; types as csrc/contract/problem.h numbers them.
extern "C" bool run(void** data, const int64_t* places, const int* types, int64_t group_size,
                    int64_t format, bool saturate, double norm_eps) {
  const auto view = [&](int i) {
    const int64_t* const sizes = places + 4 * i;
    return TensorView{data[i], sizes, sizes + 2, 2, 0, 0, static_cast<ElementType>(types[i])};
  };
  try {
    const TensorView x = view(0), q = view(1), residual = view(4), norm_out = view(5);
    const Options options{group_size,      1e-10,        code_of(q.type), decode_format(format),
                          Prologue::kNone, std::nullopt, saturate};
    const Problem p = check_outputs(check_input(x, options), options, x, q, view(2));
    TensorView weight = view(3);
    ++weight.sizes;
    ++weight.strides;
    weight.dim = 1;
    const RmsNorm n = check_rms_norm(p, x, norm_eps, weight, data[4] ? &residual : nullptr,
                                     data[5] ? &norm_out : nullptr);
    quantize_rms_norm_cuda(p, n, 0, nullptr);
    return true;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return false;
  }
}
