// Conversions on the CPU, without a branch: exact also where subnormals are flushed to zero.
#pragma once

#include <algorithm>

#include "numerics.h"

namespace ptgq {

struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

PTGQ_HOST_DEVICE float to_float(float x) { return x; }

PTGQ_HOST_DEVICE float to_float(Bfloat16 x) { return float_of(uint32_t{x.bits} << 16); }

PTGQ_HOST_DEVICE uint32_t select(bool condition, uint32_t yes, uint32_t no) {
  // By a mask: of `? :` the compiler may make a branch, which keeps a loop from vectors.
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return no ^ ((yes ^ no) & mask);
}

PTGQ_HOST_DEVICE float to_float(Float16 x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7FFFu;
  // Rebias the exponent by 127 - 15; infinity and NaN by as much again, to all ones.
  const uint32_t rebias = select(magnitude >= 0x7C00u, 224u << 23, 112u << 23);
  const uint32_t normal = (magnitude << 13) + rebias;
  // A subnormal is an integer times 2^-24.
  const float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
  return float_of(sign | select(magnitude < 0x0400u, bits_of(subnormal), normal));
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

// float32 to E4M3, round to nearest even. `y` is a quotient by a group's scale, which rounding left
// at most 1 + 2^-23 times too small, so |y| rounds to 448 at most and nothing saturates.
PTGQ_HOST_DEVICE uint8_t e4m3_of(float y) {
  constexpr int32_t kMinNormal = 0x3C800000;  // 2^-6: below, codes are multiples of 2^-9, too
  const uint32_t bits = bits_of(y);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  // The power of two below |y|: its float32 spacing is 2^-20 times that of the codes there. So the
  // sum is rounded to codes, and its last bits count the code spacings in |y|: 8 to 16, or 0 to 8.
  const int32_t power = std::max(static_cast<int32_t>(magnitude & 0x7F800000), kMinNormal);
  const uint32_t sum = bits_of(float_of(magnitude) * 0x1p-20f + float_of(power));
  // 8 codes a power of two; only the last byte counts.
  const uint32_t code = sum + (sum >> 20) - (kMinNormal >> 20);
  return static_cast<uint8_t>((bits >> 24 & 0x80) | (code & 0x7F));
}

// float32 to INT8: half to even. |y| <= 127.5: the sum's last bits are the rounded integer.
PTGQ_HOST_DEVICE uint8_t int8_of(float y) { return static_cast<uint8_t>(bits_of(y + 0x1.8p23f)); }

}  // namespace ptgq
