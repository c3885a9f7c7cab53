// The CUDA kernels of per_token_group_quant_transposed, on the CPU, for ctypes.
#include <string>

#include "emulator.h"
//
#include "cuda/transposed.cu"

namespace ptgq {
// Rows that a kernel of their own quantizes are tried elsewhere.
void quantize_cuda(const Problem&, const MaskedRows&, int, void*) {}
}  // namespace ptgq

using namespace ptgq;

// Of x, q, s, q_t, s_t and, of masked rows, their counts; `places` has all sizes and strides,
// `types` are numbered as in csrc/contract/problem.h. Returns why a call is refused.
extern "C" const char* run(int count, void** data, const int64_t* places, const int64_t* dims,
                           const int* types, int64_t group_size, int64_t format, bool saturate) {
  static std::string error;
  TensorView views[6];
  for (int i = 0; i < count; ++i) {
    const auto type = static_cast<ElementType>(types[i]);
    views[i] = {data[i], places, places + dims[i], dims[i], 0, 0, type};
    places += 2 * dims[i];
  }
  try {
    Options options{group_size,      1e-10,        Code::kE4m3, decode_format(format),
                    Prologue::kNone, std::nullopt, saturate};
    if (count == 6) options.masked_m = views[5];
    const TensorView results[] = {views[1], views[2], views[3], views[4]};
    quantize_transposed_cuda(check_transposed(views[0], views[0], options, results), 0, nullptr);
    return nullptr;
  } catch (const std::exception& refusal) {
    error = refusal.what();
    return error.c_str();
  }
}
