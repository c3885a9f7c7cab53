// The kernel for groups of up to 6 elements, with plain scales.
#pragma once

#include "cuda/vector_kernel.cuh"

namespace ptgq {

constexpr int kMaxSmallGroup = 6;
constexpr int kSetGroups = 8;  // neighbours, a thread's: together whole 16-byte words

constexpr int kSmallThreads = 128;
// Column-major, the tile of a block: tokens, so that a group's scales fill whole sectors, and sets.
constexpr int kSmallTokens = 32;
constexpr int kSmallSets = kSmallThreads / kSmallTokens;

struct SmallArguments {
  Problem problem;
  Divisor sets;  // by a token's sets of groups; column-major, by its tiles
  bool aligned;  // x and q to sets, at the first element of each token
};

// Stores a token's scales of a set: those of a whole one side by side in one write.
__device__ __forceinline__ void store_set(const Problem& p, uint32_t token, uint32_t group,
                                          const float (&scale)[kSetGroups], int count) {
  const int64_t first = token * p.s_token_stride + group;
  auto* const floats = static_cast<float*>(p.s) + first;
  auto* const bytes = static_cast<uint8_t*>(p.s) + first;
  if (p.e8m0 && count == kSetGroups && reinterpret_cast<uintptr_t>(bytes) % sizeof(uint2) == 0) {
    uint32_t words[2] = {};
#pragma unroll
    for (int i = 0; i < kSetGroups; ++i) {
      words[i / 4] |= uint32_t{e8m0_of(scale[i])} << i % 4 * 8;
    }
    *reinterpret_cast<uint2*>(bytes) = make_uint2(words[0], words[1]);
  } else if (!p.e8m0 && count == kSetGroups &&
             reinterpret_cast<uintptr_t>(floats) % sizeof(float4) == 0) {
    reinterpret_cast<float4*>(floats)[0] = make_float4(scale[0], scale[1], scale[2], scale[3]);
    reinterpret_cast<float4*>(floats)[1] = make_float4(scale[4], scale[5], scale[6], scale[7]);
  } else {
#pragma unroll
    for (int i = 0; i < kSetGroups; ++i) {
      if (i < count) put_scale(p, first + i, scale[i]);
    }
  }
}

// Stores the scales of a block's tile, column by column: neighbouring threads store neighbours, and
// a thread as many bytes as make a word.
__device__ __forceinline__ void store_columns(const Problem& p, uint32_t first_token,
                                              uint32_t first_group,
                                              const float (&scale)[kSetGroups]) {
  constexpr uint32_t kGroups = kSmallSets * kSetGroups;
  __shared__ float tile[kSmallTokens][kGroups + 1];  // columns lie in different banks
#pragma unroll
  for (int i = 0; i < kSetGroups; ++i) {
    tile[threadIdx.x / kSmallSets][threadIdx.x % kSmallSets * kSetGroups + i] = scale[i];
  }
  __syncthreads();
  const uint32_t run = p.e8m0 ? sizeof(uint32_t) : 1;  // tokens of a thread
  const uint32_t row = threadIdx.x * run % kSmallTokens;
  const int64_t token = first_token + row;
  const uint32_t step = kSmallThreads * run / kSmallTokens;
  const uint32_t groups = min(kGroups, static_cast<uint32_t>(p.num_groups) - first_group);
  for (uint32_t i = threadIdx.x * run / kSmallTokens; i < groups; i += step) {
    const int64_t first = token * p.s_token_stride + (first_group + i) * p.s_group_stride;
    uint8_t* const bytes = static_cast<uint8_t*>(p.s) + first;
    if (p.e8m0 && token + run <= p.num_tokens && p.s_token_stride == 1 &&
        reinterpret_cast<uintptr_t>(bytes) % sizeof(uint32_t) == 0) {
      uint32_t word = 0;
#pragma unroll
      for (int j = 0; j < sizeof word; ++j) word |= uint32_t{e8m0_of(tile[row + j][i])} << 8 * j;
      *reinterpret_cast<uint32_t*>(bytes) = word;
    } else {
      for (uint32_t j = 0; j < run && token + j < p.num_tokens; ++j) {
        put_scale(p, first + j * p.s_token_stride, tile[row + j][i]);
      }
    }
  }
}

// A thread quantizes a set of groups of kSize elements.
template <typename T, bool kInt8, int kSize>
__global__ void __launch_bounds__(kSmallThreads)
    small_kernel(const __grid_constant__ SmallArguments a) {
  constexpr int kElements = kSize * kSetGroups;
  let_next_kernel_start();
  const Problem& p = a.problem;
  uint32_t first_token = 0;  // of the block's tile
  uint32_t first_group = 0;
  uint32_t token;
  uint32_t group;
  if (p.column_major) {
    const uint32_t row = a.sets.quotient(blockIdx.x);
    first_token = row * kSmallTokens;
    first_group = (blockIdx.x - row * a.sets.divisor) * kSmallSets * kSetGroups;
    token = first_token + threadIdx.x / kSmallSets;
    group = first_group + threadIdx.x % kSmallSets * kSetGroups;
  } else {
    const uint32_t index = blockIdx.x * kSmallThreads + threadIdx.x;
    token = a.sets.quotient(index);
    group = (index - token * a.sets.divisor) * kSetGroups;
  }
  const bool inside = token < p.num_tokens && group < p.num_groups;
  const int count = inside ? static_cast<int>(min(int64_t{kSetGroups}, p.num_groups - group)) : 0;
  const int64_t column = int64_t{group} * kSize;
  const T* const from = static_cast<const T*>(p.x) + token * p.x_token_stride + column;
  uint8_t* const to = p.q + token * p.num_groups * kSize + column;
  const bool whole = a.aligned && count == kSetGroups;

  wait_for_previous_kernel();
  alignas(uint4) T x[kElements];
  if (whole) {
#pragma unroll
    for (int i = 0; i < kElements * sizeof(T) / sizeof(uint4); ++i) {
      reinterpret_cast<uint4*>(x)[i] = reinterpret_cast<const uint4*>(from)[i];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kElements; ++i) x[i] = i < count * kSize ? from[i] : T{};
  }
  float scale[kSetGroups];
  float reciprocal[kSetGroups];
#pragma unroll
  for (int i = 0; i < kSetGroups; ++i) {
    uint32_t absmax = 0;
#pragma unroll
    for (int j = 0; j < kSize; ++j) absmax = max(absmax, absolute_bits(to_float(x[i * kSize + j])));
    scale[i] = group_scale(absmax, p.eps, kInt8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
    reciprocal[i] = reciprocal_of(scale[i]);
  }
  if (p.column_major) {
    store_columns(p, first_token, first_group, scale);
  } else if (inside) {
    store_set(p, token, group, scale, count);
  }
  uint32_t codes[kElements / 4];
#pragma unroll
  for (int i = 0; i < kElements; i += 4) {
    float y[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int of = (i + j) / kSize;
      y[j] = quotient(to_float(x[i + j]), scale[of], reciprocal[of]);
      // The codes of a group that is not finite are 0; E4M3's are NaN's.
      if (kInt8 && y[j] != y[j]) y[j] = 0.0f;
    }
    codes[i / 4] = pack<kInt8>(y[0], y[1], y[2], y[3]);
  }
  if (whole) {
#pragma unroll
    for (int i = 0; i < kElements / 8; ++i) {
      reinterpret_cast<uint2*>(to)[i] = make_uint2(codes[2 * i], codes[2 * i + 1]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      if (i < count * kSize) to[i] = static_cast<uint8_t>(codes[i / 4] >> i % 4 * 8);
    }
  }
}

}  // namespace ptgq
