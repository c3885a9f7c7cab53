// RMSNorm before quantization: what a call adds to a Problem, whose x is normalized first, and the
// arithmetic of ptgq/backends/normalization.py, with the same bits.
#pragma once

#include "contract/check.h"
#include "contract/numerics.h"

namespace ptgq {

// Elements that the sum of squares begins with.
constexpr int kSummed = 8;

struct RmsNorm {
  const void* weight;
  void* residual;                 // null: none
  void* norm_out;                 // null: none; may be x
  int64_t residual_token_stride;  // in elements
  int64_t norm_out_token_stride;
  float norm_eps;
  ElementType weight_type;    // that of x, or float32
  ElementType residual_type;  // the same; that of x where there is none
};

// A checked call, of p with its outputs. `residual` and `norm_out` may be null.
RmsNorm check_rms_norm(const Problem& p, const TensorView& x, double norm_eps,
                       const TensorView& weight, const TensorView* residual,
                       const TensorView* norm_out);
// Whether what is written shares memory with other operands: norm_out may be x.
bool overlap(const Problem& p, const RmsNorm& n);

// As quantize_cpu and quantize_cuda.
void quantize_rms_norm_cpu(const Problem& p, const RmsNorm& n);
void quantize_rms_norm_cuda(const Problem& p, const RmsNorm& n, int device, void* stream);

// The sum of neighbours, by halves.
PTGQ_HOST_DEVICE float sum_of(const float (&s)[kSummed]) {
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

// 1 / sqrt(mean + norm_eps), from the sum of squares; NaN where that is not finite.
PTGQ_HOST_DEVICE float rstd_of(float sum, float hidden_dim, float norm_eps) {
  if (!is_finite(absolute_bits(sum))) return float_of(kNanBits);
#ifdef __CUDA_ARCH__
  return __frcp_rn(__fsqrt_rn(__fdiv_rn(sum, hidden_dim) + norm_eps));
#else
  return 1.0f / __builtin_sqrtf(sum / hidden_dim + norm_eps);
#endif
}

}  // namespace ptgq
