// SiLU(gate) * up in float32, for host and device: the operations of ptgq/backends/activation.py,
// with the same bits.
#pragma once

#include "contract/numerics.h"

namespace ptgq {

PTGQ_HOST_DEVICE float fused_multiply_add(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

// exp(-x) for |x| <= 87: 2^n * 2^f with n the integer nearest to -x * log2(e).
PTGQ_HOST_DEVICE float exp_of_minus(float x) {
  const float shifted = fused_multiply_add(x, -0x1.715476p+0f, 0x1.8p23f);  // n in the last bits
  const float f = fused_multiply_add(x, -0x1.715476p+0f, 0x1.8p23f - shifted);
  float power = 0x1.3a0458p-7f;
  power = fused_multiply_add(power, f, 0x1.c9fc74p-5f);
  power = fused_multiply_add(power, f, 0x1.ec0372p-3f);
  power = fused_multiply_add(power, f, 0x1.62e12cp-1f);
  power = fused_multiply_add(power, f, 1.0f);
  return float_of(bits_of(power) + (bits_of(shifted) << 23));
}

// The smaller and the larger of two, NaN of NaN.
PTGQ_HOST_DEVICE float at_most(float x, float limit) {
#ifdef __CUDA_ARCH__
  float y;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(limit));
  return y;
#else
  return limit < x ? limit : x;
#endif
}
PTGQ_HOST_DEVICE float at_least(float x, float limit) {
#ifdef __CUDA_ARCH__
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(limit));
  return y;
#else
  return limit > x ? limit : x;
#endif
}

// The elements that gates let through, clamped.
PTGQ_HOST_DEVICE float clamped(float up, float limit) {
  return at_least(at_most(up, limit), -limit);
}

// exp's argument is kept within it.
constexpr float kMaxSiluExponent = 87.0f;

// For |gate| <= kMaxSiluExponent.
PTGQ_HOST_DEVICE float silu_and_mul_within(float gate, float up) {
  return gate * reciprocal_of(1.0f + exp_of_minus(gate)) * up;
}

PTGQ_HOST_DEVICE float silu_and_mul(float gate, float up) {
  const float above = gate < -kMaxSiluExponent ? -kMaxSiluExponent : gate;
  const float inside = above > kMaxSiluExponent ? kMaxSiluExponent : above;
  return gate * reciprocal_of(1.0f + exp_of_minus(inside)) * up;
}

// Of any gate, both clamped before; an infinite limit changes nothing.
PTGQ_HOST_DEVICE float clamped_silu_and_mul(float gate, float up, float limit) {
  return silu_and_mul(at_most(gate, limit), clamped(up, limit));
}

}  // namespace ptgq
