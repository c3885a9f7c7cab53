// The largest magnitudes of a tile's rows and columns, of which a thread holds 8 x 8 elements.
#pragma once

#include "cuda/launch_vector.cuh"

namespace ptgq {

// A block's tile: so many tokens and columns. A thread holds 8 x 8 elements of it, whose codes by
// columns are then whole words of neighbouring tokens; a warp reads whole lines.
constexpr int kSide = 128;
constexpr int kTransposedThreads = kSide / kChunk * (kSide / kChunk);
constexpr int kPieces = kSide / kChunk;  // of a side
constexpr int kMinTransposedGroup = 16;  // two threads' elements: whole 16-byte stores of a column

__device__ __forceinline__ __half2 lows(__half2 a, __half2 b) { return __lows2half2(a, b); }
__device__ __forceinline__ __half2 highs(__half2 a, __half2 b) { return __highs2half2(a, b); }
__device__ __forceinline__ __nv_bfloat162 lows(__nv_bfloat162 a, __nv_bfloat162 b) {
  return __lows2bfloat162(a, b);
}
__device__ __forceinline__ __nv_bfloat162 highs(__nv_bfloat162 a, __nv_bfloat162 b) {
  return __highs2bfloat162(a, b);
}

// The largest magnitude of each of the 8 columns of 8 chunks, as float32 bits.
template <typename T>
__device__ __forceinline__ void column_maxima(const LaneVector<T, kChunk> (&x)[kChunk],
                                              uint32_t (&absmax)[kChunk]) {
  if constexpr (sizeof(T) == 2) {
    using Pair = PairOf<T>;
#pragma unroll
    for (int j = 0; j < kChunk / 2; ++j) {
      Pair largest = __habs2(reinterpret_cast<const Pair*>(x[0].words)[j]);
#pragma unroll
      for (int i = 1; i < kChunk; ++i) {
        largest = __hmax2_nan(largest, __habs2(reinterpret_cast<const Pair*>(x[i].words)[j]));
      }
      absmax[2 * j] = absolute_bits(to_float(largest.x));
      absmax[2 * j + 1] = absolute_bits(to_float(largest.y));
    }
  } else {
#pragma unroll
    for (int j = 0; j < kChunk; ++j) {
      absmax[j] = 0;
#pragma unroll
      for (int i = 0; i < kChunk; ++i) absmax[j] = max(absmax[j], absolute_bits(x[i].element(j)));
    }
  }
}

// The same of each chunk, over as many lanes side by side: of 16-bit x, of two chunks at once.
template <typename T>
__device__ __forceinline__ void row_maxima(const LaneVector<T, kChunk> (&x)[kChunk], uint32_t lanes,
                                           uint32_t (&absmax)[kChunk]) {
  const auto over_lanes = [lanes](const auto& reduce) {
#pragma unroll
    for (uint32_t offset = kPieces / 2; offset > 0; offset /= 2) {
      if (offset < lanes) reduce(offset);
    }
  };
  if constexpr (sizeof(T) == 2) {
    using Pair = PairOf<T>;
    const auto largest_of = [](const LaneVector<T, kChunk>& chunk) {
      const Pair* const pairs = reinterpret_cast<const Pair*>(chunk.words);
      return __hmax2_nan(__hmax2_nan(__habs2(pairs[0]), __habs2(pairs[1])),
                         __hmax2_nan(__habs2(pairs[2]), __habs2(pairs[3])));
    };
#pragma unroll
    for (int i = 0; i < kChunk; i += 2) {
      const Pair one = largest_of(x[i]);
      const Pair other = largest_of(x[i + 1]);
      Pair both = __hmax2_nan(lows(one, other), highs(one, other));
      over_lanes([&](uint32_t offset) {
        both = __hmax2_nan(both, __shfl_xor_sync(0xFFFFFFFF, both, offset));
      });
      absmax[i] = absolute_bits(to_float(both.x));
      absmax[i + 1] = absolute_bits(to_float(both.y));
    }
  } else {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      absmax[i] = x[i].absmax_bits();
      over_lanes([&](uint32_t offset) {
        absmax[i] = max(absmax[i], __shfl_xor_sync(0xFFFFFFFF, absmax[i], offset));
      });
    }
  }
}

}  // namespace ptgq
