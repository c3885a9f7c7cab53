// Conversions on the CPU, without a branch: exact also where subnormals are flushed to zero.
#pragma once

#include <algorithm>

#include "contract/numerics.h"

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define PTGQ_FMA
#endif

namespace ptgq {

struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

PTGQ_HOST_DEVICE uint32_t select(bool condition, uint32_t yes, uint32_t no) {
  // The compiler may make a branch of `? :`, which keeps a loop from vectors.
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return no ^ ((yes ^ no) & mask);
}

// A 16-bit value in a word's upper half, with zeros below, to float32.
PTGQ_HOST_DEVICE float upper_half_to_float(Bfloat16, uint32_t word) { return float_of(word); }

PTGQ_HOST_DEVICE float upper_half_to_float(Float16, uint32_t word) {
  const uint32_t magnitude = word & 0x7FFFFFFF;
  // Rebias the exponent by 127 - 15; infinity and NaN by as much again, to all ones.
  const uint32_t rebias = select(magnitude >= 0x7C000000u, 224u << 23, 112u << 23);
  const uint32_t normal = (magnitude >> 3) + rebias;
  // A subnormal is an integer times 2^-24.
  const float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-40f;
  const uint32_t bits = select(magnitude < 0x04000000u, bits_of(subnormal), normal);
  return float_of((word & 0x80000000) | bits);
}

PTGQ_HOST_DEVICE float to_float(float x) { return x; }

template <typename T>
PTGQ_HOST_DEVICE float to_float(T x) {
  return upper_half_to_float(x, uint32_t{x.bits} << 16);
}

// float32 to the type of an input, round to nearest even.
PTGQ_HOST_DEVICE float round_to(float y, float) { return y; }

PTGQ_HOST_DEVICE Bfloat16 round_to(float y, Bfloat16) {
  const uint32_t bits = bits_of(y);
  const uint32_t nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  const bool nan = (bits & 0x7FFFFFFF) > kInfinityBits;
  return {static_cast<uint16_t>(select(nan, kNanBits >> 16, nearest))};
}

PTGQ_HOST_DEVICE Float16 round_to(float y, Float16) {
  constexpr int32_t kMinNormal = 0x38800000;  // 2^-14: below, values are multiples of 2^-24, too
  constexpr int32_t kInfinite = 0x47800000;   // 2^16: so large, and larger, is infinity
  const auto bits = static_cast<int32_t>(bits_of(y));
  const int32_t magnitude = std::min(bits & 0x7FFFFFFF, kInfinite);
  // As e4m3_of, with 2^13 times the value's power of two.
  const int32_t exponent = std::max(magnitude, kMinNormal) & 0x7F800000;
  const int32_t anchor = exponent + (13 << 23);
  const float sum = float_of(magnitude) + float_of(anchor);
  const int32_t code =
      static_cast<int32_t>(bits_of(sum)) - anchor + ((exponent - kMinNormal) >> 13);
  const bool nan = (bits & 0x7FFFFFFF) > static_cast<int32_t>(kInfinityBits);
  const uint32_t sign = bits >> 16 & 0x8000;
  return {static_cast<uint16_t>(sign | select(nan, 0x7E00, static_cast<uint32_t>(code)))};
}

PTGQ_HOST_DEVICE float multiply_add(float x, float y, float z) {
#ifdef PTGQ_FMA
  return __builtin_fmaf(x, y, z);
#else
  return x * y + z;
#endif
}

// Quotients are computed times kUnit: 8 times the exponent of the smallest normal code is then a
// multiple of 256 and vanishes from the code. No reciprocal of a scale overflows by it.
constexpr float kUnit = 0x1p39f;

// A magnitude times kUnit, rounded to E4M3, half to even, as float32 bits: the upper half has the
// exponent, of which each step is 8 codes, and the lower half the codes counted from there. Nothing
// saturates: a scale is rounded to at most 1 + 2^-23 times too small, so quotients round to 448 at
// most.
PTGQ_HOST_DEVICE uint32_t e4m3_of(float y) {
  constexpr int32_t kMinNormal = (127 + 39 - 6) << 23;  // below, codes are multiples of 2^-9, too
  // The power of two below y: its float32 spacing is 2^-20 times that of the codes there. So the
  // sum is rounded to codes, and its last bits count the code spacings in y: 8 to 16, or 0 to 8.
  const int32_t exponent = bits_of(y) & 0x7F800000;
  // std::max would be two selections with GCC 12.
  const uint32_t power = exponent > kMinNormal ? exponent : kMinNormal;
  return bits_of(multiply_add(y, 0x1p-20f, float_of(power)));
}

// The code of a result of e4m3_of with a sign.
PTGQ_HOST_DEVICE uint8_t e4m3_code(uint32_t rounded, uint32_t sign) {
  return static_cast<uint8_t>(((rounded + (rounded >> 20)) & 0x7F) | sign << 7);
}

// float32 times kUnit, rounded to INT8, half to even, in the last byte: for |y| <= 127.5 the last
// bits of the sum are the integer.
PTGQ_HOST_DEVICE uint32_t int8_of(float y) { return bits_of(y + 0x1.8p23f * kUnit); }

}  // namespace ptgq
