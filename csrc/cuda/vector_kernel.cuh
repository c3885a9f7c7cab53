// The fast kernel: groups of 16 to 512 elements, a multiple of 16, in aligned rows.
#pragma once

#include <type_traits>

#include "cuda/device.cuh"

namespace ptgq {

// A lane quantizes 16 elements, or 8 where there are too few to fill the device.
constexpr int kLaneElements = 16;
constexpr int kChunk = 8;  // neighbours, at least: 16-byte loads, and a store of 8 codes

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
      using Pair = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;
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

// Division by a number that is known beforehand, for 31-bit numerators (Granlund and Montgomery,
// "Division by invariant integers using multiplication", PLDI 1994, section 4).
struct Divisor {
  uint32_t divisor;
  uint32_t multiplier;
  uint32_t shift;

  __device__ __forceinline__ uint32_t quotient(uint32_t numerator) const {
    return divisor == 1 ? numerator : __umulhi(numerator, multiplier) >> shift;
  }
};

struct VectorArguments {
  Problem problem;
  Divisor groups;  // by a token's groups; column-major, by its sets of kColumns groups
  uint32_t hidden_dim;
  uint32_t num_warps;    // that have work
  uint32_t prefetching;  // the first blocks, which may start while the previous kernel runs
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

// Column-major, a warp takes up to 8 tokens of a group: their float32 scales fill a sector. If that
// leaves room, it takes more groups, not more tokens, which would be read in smaller pieces.
template <int kLanes>
struct WarpTile {
  static_assert(kLanes >= 1 && kLanes <= kWarpSize, "a group is quantized within a warp");
  static constexpr int kGroups = kWarpSize / kLanes;
  static constexpr int kTokens = kGroups < 8 ? kGroups : 8;
  static constexpr int kColumns = kGroups / kTokens;
};

struct Place {
  uint32_t token;
  uint32_t group;
};

// A warp's last groups may be none.
__device__ __forceinline__ bool exists(const Problem& p, Place at) {
  return at.token < static_cast<uint32_t>(p.num_tokens) &&
         at.group < static_cast<uint32_t>(p.num_groups);
}

// The group of a lane, of which kLanes have the same. A warp's groups are neighbours as the scales
// lie in memory: in a row or, column-major, in columns.
template <int kLanes>
__device__ __forceinline__ Place place_of(const VectorArguments& a, uint32_t warp, uint32_t lane) {
  using Tile = WarpTile<kLanes>;
  const uint32_t slot = lane / kLanes;
  if (a.problem.column_major) {
    const uint32_t tokens = a.groups.quotient(warp);
    const uint32_t columns = warp - tokens * a.groups.divisor;
    return {tokens * Tile::kTokens + slot % Tile::kTokens,
            columns * Tile::kColumns + slot / Tile::kTokens};
  }
  const uint32_t index = warp * Tile::kGroups + slot;
  const uint32_t token = a.groups.quotient(index);
  return {token, index - token * a.groups.divisor};
}

// Where a lane's elements lie in a group. kNeighbours: its chunks do, and are stored in one write;
// else they are half a group apart, so that the lanes of a load lie side by side.
template <int kLanes, bool kNeighbours = (kLanes < 4), int kElements = kLaneElements>
struct LanePlace {
  uint32_t start;
  uint32_t step;
  bool exists;  // the last lanes may be idle

  __device__ __forceinline__ LanePlace(uint32_t lane, uint32_t group_size)
      : start(lane % kLanes * (kNeighbours ? kElements : kChunk)),
        step(kNeighbours ? kChunk : group_size / 2),
        exists(start < (kNeighbours ? group_size : step)) {}
};

// kLanes lanes a group: a power of two, for the shuffles.
template <typename T, bool kInt8, int kLanes>
__global__ void __launch_bounds__(512) vector_kernel(const __grid_constant__ VectorArguments a) {
  const Problem& p = a.problem;
  const uint32_t warp = (blockIdx.x * blockDim.x + threadIdx.x) / kWarpSize;
  if (warp >= a.num_warps) return;
  const uint32_t lane = threadIdx.x % kWarpSize;
  const Place at = place_of<kLanes>(a, warp, lane);
  const auto [token, group] = at;
  const LanePlace<kLanes> part(lane, static_cast<uint32_t>(p.group_size));
  // Lanes without work stay for the shuffles.
  const bool inside = exists(p, at) && part.exists;
  const uint32_t column = group * static_cast<uint32_t>(p.group_size) + part.start;
  const T* from = static_cast<const T*>(p.x) + token * p.x_token_stride + column;

  // Gains the latency of memory where x was not written just now. Not for float32, of which a lane
  // holds two sectors: there it gained nothing.
  if (sizeof(T) == 2 && blockIdx.x < a.prefetching && inside) prefetch_into_l2(from);
  wait_for_previous_kernel();
  let_next_kernel_start();
  LaneVector<T> x{};
  if (inside) x.load(from, part.step);
  uint32_t absmax = x.absmax_bits();
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    absmax = max(absmax, __shfl_xor_sync(0xFFFFFFFF, absmax, offset));
  }
  const float scale = group_scale(absmax, p.eps, kInt8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
  if (!inside) return;
  uint8_t* const to = p.q + int64_t{token} * a.hidden_dim + column;
  store_codes < kLanes<4, kInt8>(to, part.step, x, scale, reciprocal_of(scale), is_finite(absmax));
  if (lane % kLanes == 0) store_scale(p, token, group, scale);
}

// A block a group: any multiple of 16 elements, in aligned rows. What is read twice is in the
// cache.
template <typename T, bool kInt8>
__global__ void __launch_bounds__(512) wide_kernel(const __grid_constant__ Problem p) {
  let_next_kernel_start();
  const int64_t token = blockIdx.x / p.num_groups;
  const int64_t group = blockIdx.x - token * p.num_groups;
  const T* const x = static_cast<const T*>(p.x) + token * p.x_token_stride + group * p.group_size;
  uint8_t* const q = p.q + blockIdx.x * p.group_size;
  const int64_t begin = threadIdx.x * kLaneElements;
  const int64_t step = blockDim.x * kLaneElements;

  wait_for_previous_kernel();
  LaneVector<T> vector;
  uint32_t absmax = 0;
  for (int64_t i = begin; i < p.group_size; i += step) {
    vector.load(x + i);
    absmax = max(absmax, vector.absmax_bits());
  }
  absmax = max_of_block(absmax);
  const float scale = group_scale(absmax, p.eps, kInt8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
  const float reciprocal = reciprocal_of(scale);
  if (threadIdx.x == 0) store_scale(p, token, group, scale);
  for (int64_t i = begin; i < p.group_size; i += step) {
    vector.load(x + i);
    store_codes<true, kInt8>(q + i, kChunk, vector, scale, reciprocal, is_finite(absmax));
  }
}

}  // namespace ptgq
