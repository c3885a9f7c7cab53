// The op on CPU tensors.
#include "cpu_numerics.h"
#include "problem.h"

namespace ptgq {
namespace {

template <typename T>
void quantize(const Problem& p) {
  const float qmax = p.int8 ? kMaxInt8 : kMaxE4m3;
  for (int64_t token = 0; token < p.num_tokens; ++token) {
    for (int64_t group = 0; group < p.num_groups; ++group) {
      const T* x = static_cast<const T*>(p.x) + token * p.x_token_stride + group * p.group_size;
      uint8_t* q = static_cast<uint8_t*>(p.q) + (token * p.num_groups + group) * p.group_size;

      uint32_t absmax = 0;
      for (int64_t i = 0; i < p.group_size; ++i) {
        const uint32_t bits = absolute_bits(to_float(x[i]));
        absmax = bits > absmax ? bits : absmax;
      }
      const float scale = group_scale(absmax, p.eps, qmax, p.power_of_two);

      const int64_t at = token * p.s_token_stride + group * p.s_group_stride;
      if (p.e8m0) {
        static_cast<uint8_t*>(p.s)[at] = e8m0_of(scale);
      } else {
        static_cast<uint32_t*>(p.s)[at] = bits_of(scale);
      }
      for (int64_t i = 0; i < p.group_size; ++i) {
        if (!is_finite(absmax)) {
          q[i] = p.int8 ? 0 : kNanE4m3;
        } else {
          const float y = to_float(x[i]) / scale;
          q[i] = p.int8 ? int8_of(y) : e4m3_of(y);
        }
      }
    }
  }
}

void per_token_group_quant(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size,
                           double eps, bool column_major_scales, bool use_ue8m0) {
  const Problem p = check(x, q, s, group_size, eps, column_major_scales, use_ue8m0);
  switch (p.x_type) {
    case ScalarType::BFloat16:
      return quantize<Bfloat16>(p);
    case ScalarType::Half:
      return quantize<Float16>(p);
    default:
      return quantize<float>(p);
  }
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ptgq, CPU, m) {
  m.impl("per_token_group_quant", TORCH_BOX(&per_token_group_quant));
}

}  // namespace ptgq

// Read by ptgq.extension: which compute capabilities the library holds code for.
extern "C" __attribute__((visibility("default"))) const char* ptgq_cuda_architectures() {
  return PTGQ_CUDA_ARCHITECTURES;
}
