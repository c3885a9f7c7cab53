// What a lane holds of x: neighbouring elements, as they are read, activated, coded and stored.
#pragma once

#include <type_traits>

#include "cuda/device.cuh"

namespace ptgq {

// A lane quantizes 16 elements, or 8 where there are too few to fill the device.
constexpr int kLaneElements = 16;
constexpr int kChunk = 8;  // neighbours, at least: 16-byte loads, and a store of 8 codes

// Two neighbours of 16-bit x in a word.
template <typename T>
using PairOf = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;

// The elements of a lane, in chunks: 16-byte loads.
template <typename T, int kElements = kLaneElements>
struct LaneVector {
  static constexpr int kLoads = kElements * sizeof(T) / sizeof(uint4);
  static constexpr int kChunkLoads = kChunk * sizeof(T) / sizeof(uint4);
  uint4 words[kLoads];

  // step: elements from one chunk to the next.
  __device__ __forceinline__ void load(const T* from, uint32_t step = kChunk) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const T* const chunk = from + i / kChunkLoads * step;
      words[i] = reinterpret_cast<const uint4*>(chunk)[i % kChunkLoads];
    }
  }

  __device__ __forceinline__ float element(int i) const {
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      // One instruction: of the high half, to_float would take two.
      const uint32_t pair = reinterpret_cast<const uint32_t*>(words)[i / 2];
      return float_of(i % 2 == 0 ? pair << 16 : pair & 0xFFFF0000);
    }
    return to_float(reinterpret_cast<const T*>(words)[i]);
  }

  // Four bytes of neighbouring elements.
  __device__ __forceinline__ uint32_t& word(int i) { return reinterpret_cast<uint32_t*>(words)[i]; }

  // The largest |x| as float32 bits: infinity and NaN lie above all finite values.
  __device__ __forceinline__ uint32_t absmax_bits() const {
    if constexpr (sizeof(T) == 2) {
      using Pair = PairOf<T>;
      const Pair* const pairs = reinterpret_cast<const Pair*>(words);
      Pair largest = __habs2(pairs[0]);
#pragma unroll
      for (int i = 1; i < kElements / 2; ++i) largest = __hmax2_nan(largest, __habs2(pairs[i]));
      return absolute_bits(to_float(__hmax_nan(largest.x, largest.y)));
    } else {
      uint32_t absmax = 0;
#pragma unroll
      for (int i = 0; i < kElements; ++i) absmax = max(absmax, absolute_bits(element(i)));
      return absmax;
    }
  }
};

// Four codes in a word.
template <bool kInt8>
__device__ __forceinline__ uint32_t pack(float a, float b, float c, float d) {
  if constexpr (kInt8) {
    // The last byte of y + 1.5 * 2^23 is y rounded to an integer, halves to even.
    const uint32_t ab = __byte_perm(bits_of(a + 0x1.8p23f), bits_of(b + 0x1.8p23f), 0x0040);
    const uint32_t cd = __byte_perm(bits_of(c + 0x1.8p23f), bits_of(d + 0x1.8p23f), 0x0040);
    return __byte_perm(ab, cd, 0x5410);
  } else {
#if __CUDA_ARCH__ >= 890
    // As below, but that the halves' upper bits are not cleared first.
    uint32_t word;
    asm("{.reg .b16 ab, cd; cvt.rn.satfinite.e4m3x2.f32 ab, %2, %1;"
        " cvt.rn.satfinite.e4m3x2.f32 cd, %4, %3; mov.b32 %0, {ab, cd};}"
        : "=r"(word)
        : "f"(a), "f"(b), "f"(c), "f"(d));
    return word;
#else
    const uint32_t ab = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, __NV_E4M3);
    const uint32_t cd = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, __NV_E4M3);
    return ab | cd << 16;
#endif
  }
}

// kPowerOfTwo: the scale is a power of two, so its reciprocal is exact and the product the
// quotient.
template <bool kInt8, bool kPowerOfTwo, typename T, int kElements>
__device__ __forceinline__ uint32_t four_codes(const LaneVector<T, kElements>& x, int first,
                                               float scale, float reciprocal, bool finite) {
  float y[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float element = x.element(first + i);
    y[i] = kPowerOfTwo ? element * reciprocal : quotient(element, scale, reciprocal);
  }
  return kInt8 && !finite ? 0 : pack<kInt8>(y[0], y[1], y[2], y[3]);
}

// Stores a lane's codes, chunks `step` bytes apart: neighbouring ones, of which there are two, in
// one write.
template <bool kNeighbours, bool kInt8, bool kPowerOfTwo = false, typename T, int kElements>
__device__ __forceinline__ void store_codes(uint8_t* to, uint32_t step,
                                            const LaneVector<T, kElements>& x, float scale,
                                            float reciprocal, bool finite) {
  uint32_t codes[kElements / 4];
#pragma unroll
  for (int i = 0; i < kElements / 4; ++i) {
    codes[i] = four_codes<kInt8, kPowerOfTwo>(x, 4 * i, scale, reciprocal, finite);
  }
  if constexpr (kNeighbours && kElements == 2 * kChunk) {
    *reinterpret_cast<uint4*>(to) = make_uint4(codes[0], codes[1], codes[2], codes[3]);
  } else {
#pragma unroll
    for (int i = 0; i < kElements / kChunk; ++i) {
      *reinterpret_cast<uint2*>(to + i * step) = make_uint2(codes[2 * i], codes[2 * i + 1]);
    }
  }
}

// What of a lane's gates is known: no |gate| exceeds kMaxSiluExponent; nothing; and the same of
// what is clamped before.
enum class Gates { kWithin, kAny, kWithinClamped, kAnyClamped };

// gate becomes silu(gate) * up, rounded to T.
template <Gates kGates, typename T, int kElements>
__device__ __forceinline__ void activate_gates(LaneVector<T, kElements>& gate,
                                               const LaneVector<T, kElements>& up,
                                               float limit = 0.0f) {
  constexpr int kWord = sizeof(uint32_t) / sizeof(T);
#pragma unroll
  for (int i = 0; i < kElements; i += kWord) {
    float y[kWord];
#pragma unroll
    for (int j = 0; j < kWord; ++j) {
      const float a = gate.element(i + j);
      const float b = up.element(i + j);
      if constexpr (kGates == Gates::kWithin) {
        y[j] = silu_and_mul_within(a, b);
      } else if constexpr (kGates == Gates::kAny) {
        y[j] = silu_and_mul(a, b);
      } else if constexpr (kGates == Gates::kWithinClamped) {
        y[j] = silu_and_mul_within(at_most(a, limit), clamped(b, limit));
      } else {
        y[j] = clamped_silu_and_mul(a, b, limit);
      }
    }
    gate.word(i / kWord) = rounded_bits(y, T{});
  }
}

template <typename T, int kElements>
__device__ __forceinline__ void activate(LaneVector<T, kElements>& gate,
                                         const LaneVector<T, kElements>& up) {
  // Almost always: two instructions less an element.
  if (gate.absmax_bits() <= bits_of(kMaxSiluExponent)) {
    activate_gates<Gates::kWithin>(gate, up);
  } else {
    activate_gates<Gates::kAny>(gate, up);
  }
}

// The same, clamped before by a limit, infinity if there is none. (A fourth way, of any gates that
// nothing clamps, would spill registers.)
template <typename T, int kElements>
__device__ __forceinline__ void activate(LaneVector<T, kElements>& gate,
                                         const LaneVector<T, kElements>& up, float limit) {
  const uint32_t absmax = gate.absmax_bits();
  if (absmax > bits_of(kMaxSiluExponent)) {
    activate_gates<Gates::kAnyClamped>(gate, up, limit);
  } else if (is_finite(bits_of(limit))) {
    activate_gates<Gates::kWithinClamped>(gate, up, limit);
  } else {
    activate_gates<Gates::kWithin>(gate, up);
  }
}

}  // namespace ptgq
