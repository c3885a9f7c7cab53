// The numerics contract's arithmetic, for host and device: no torch header, no branch per element.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define PTGQ_HOST_DEVICE __host__ __device__ __forceinline__
#else
// Always inlined, with internal linkage: the CPU code is compiled once per instruction set, and the
// linker must not merge a function built for one with a caller built for another.
#define PTGQ_HOST_DEVICE static inline __attribute__((always_inline))
#endif

namespace ptgq {

constexpr float kMaxE4m3 = 448.0f;
constexpr float kMaxInt8 = 127.0f;
constexpr uint32_t kInfinityBits = 0x7F800000;
constexpr uint32_t kNanBits = 0x7FC00000;
constexpr uint8_t kNanE4m3 = 0x7F;

PTGQ_HOST_DEVICE uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

PTGQ_HOST_DEVICE float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// The absmax of a group is kept as bits, which order like the values, infinity and NaN on top.
PTGQ_HOST_DEVICE uint32_t absolute_bits(float value) { return bits_of(value) & 0x7FFFFFFF; }

PTGQ_HOST_DEVICE bool is_finite(uint32_t absmax_bits) { return absmax_bits < kInfinityBits; }

PTGQ_HOST_DEVICE float round_up_to_power_of_two(float positive) {
  return float_of((bits_of(positive) + 0x7FFFFF) & 0x7F800000);
}

// absmax / qmax as IEEE division rounds it: neither --use_fast_math nor -ffast-math may be set.
PTGQ_HOST_DEVICE float quotient_by_qmax(float absmax, float qmax) {
#ifdef __CUDA_ARCH__
  // A constant, the correctly rounded reciprocal, and one residual step, as in quotient() of
  // cuda/device.cuh. A division would look for subnormals, which eps >= 1e-24 excludes.
  const float reciprocal = qmax == kMaxInt8 ? 1.0f / kMaxInt8 : 1.0f / kMaxE4m3;
  const float y = __fmul_rn(absmax, reciprocal);
  return __fmaf_rn(__fmaf_rn(-y, qmax, absmax), reciprocal, y);
#else
  return absmax / qmax;
#endif
}

// 1 / x, rounded to nearest, for 2^-126 <= x < 2^126; NaN of NaN.
PTGQ_HOST_DEVICE float reciprocal_of(float x) {
#ifdef __CUDA_ARCH__
  // __frcp_rn computes the same, but asks whether x is in this range.
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return __fmaf_rn(__fmaf_rn(-x, y, 1.0f), y, y);
#else
  return 1.0f / x;
#endif
}

PTGQ_HOST_DEVICE float finite_scale(uint32_t absmax_bits, float eps, float qmax,
                                    bool power_of_two) {
  const float absmax = float_of(absmax_bits);
  const float scale = quotient_by_qmax(absmax > eps ? absmax : eps, qmax);
  return power_of_two ? round_up_to_power_of_two(scale) : scale;
}

PTGQ_HOST_DEVICE float group_scale(uint32_t absmax_bits, float eps, float qmax, bool power_of_two) {
  if (!is_finite(absmax_bits)) return float_of(kNanBits);
  return finite_scale(absmax_bits, eps, qmax, power_of_two);
}

// Where non-finite elements saturate, they count as 0 in an absmax.
PTGQ_HOST_DEVICE uint32_t finite_bits(float value) {
  const uint32_t bits = absolute_bits(value);
  return is_finite(bits) ? bits : 0;
}

// What then is coded of x, whose quotient is y: of an infinity qmax with its sign; of NaN itself
// or, for INT8, 0.
PTGQ_HOST_DEVICE float saturated(float x, float y, bool int8) {
  const uint32_t bits = absolute_bits(x);
  if (is_finite(bits)) return y;
  if (bits > kInfinityBits) return int8 ? 0.0f : float_of(kNanBits);
  return float_of(bits_of(int8 ? kMaxInt8 : kMaxE4m3) | (bits_of(x) & 0x80000000));
}

// The exponent of a power of two, as OCP MX stores it; NaN gives 0xFF.
PTGQ_HOST_DEVICE uint8_t e8m0_of(float power_of_two) {
  return static_cast<uint8_t>(bits_of(power_of_two) >> 23);
}

}  // namespace ptgq
