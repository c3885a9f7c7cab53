// Conversions that a CPU does in integer arithmetic: exact in every rounding and flush mode.
#pragma once

#include "numerics.h"

namespace ptgq {

struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }

inline float to_float(Bfloat16 x) { return float_of(uint32_t{x.bits} << 16); }

inline float to_float(Float16 x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7FFFu;
  // Rebias the exponent by 127 - 15; infinity and NaN by as much again, to all ones.
  const uint32_t normal =
      (magnitude << 13) + (112u << 23) + (magnitude >= 0x7C00u ? 112u << 23 : 0u);
  // A subnormal is an integer times 2^-24.
  const uint32_t subnormal =
      bits_of(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
  return float_of(sign | (magnitude < 0x0400u ? subnormal : normal));
}

// float32 to E4M3: round to nearest even, saturate. `y` is no NaN.
inline uint8_t e4m3_of(float y) {
  const uint32_t bits = bits_of(y);
  const uint32_t magnitude_bits = bits & 0x7FFFFFFF;
  const uint32_t magnitude =
      magnitude_bits < bits_of(kMaxE4m3) ? magnitude_bits : bits_of(kMaxE4m3);
  // Keep 3 of 23 mantissa bits, halves to even, then rebias the exponent by 127 - 7.
  const uint32_t normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120u << 3);
  // Below 2^-6 codes are multiples of 2^-9, the spacing of float32 from 2^14: the sum rounds.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0x1p14f) - bits_of(0x1p14f);
  const uint32_t code = magnitude < bits_of(0x1p-6f) ? subnormal : normal;
  return static_cast<uint8_t>((bits >> 24 & 0x80) | code);
}

// float32 to INT8: half to even. |y| <= 127.5: the sum's last bits are the rounded integer.
inline uint8_t int8_of(float y) { return static_cast<uint8_t>(bits_of(y + 0x1.8p23f)); }

}  // namespace ptgq
