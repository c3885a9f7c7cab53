// What the kernels of RMSNorm share: their arguments, and the sum over a block. The tree is the
// same with any number of threads: vector k * blockDim.x + t of 8 elements is thread t's k-th, so
// that halves are added in a thread first, then across warps, then in a warp.
#pragma once

#include "contract/rms_norm.h"
#include "cuda/vector_kernel.cuh"

namespace ptgq {

constexpr int kMaxNormThreads = 512;
constexpr int kMaxNormWarps = kMaxNormThreads / kWarpSize;
constexpr int kMaxNormVectors = 4;  // of a thread
constexpr uint32_t kWarpElements = kWarpSize * kSummed;

struct NormArguments {
  Problem problem;
  RmsNorm norm;
  float hidden_dim;
  uint32_t elements;     // of a row
  uint32_t lanes;        // of a group, a power of two; 0: more than a warp has
  uint32_t log2_lanes;   // unless Codes::kAny
  Divisor size;          // by the vectors of a group
  uint32_t prefetching;  // the first blocks, which may start while the previous kernel runs
};

// The sum over the warps of a block of what a lane's threads have, by halves.
template <int kWarps, int kStep = 1>
__device__ __forceinline__ float sum_of_warps(const float* sums) {
  if constexpr (kStep == kWarps) {
    return sums[threadIdx.x % kWarpSize];
  } else {
    return sum_of_warps<kWarps, 2 * kStep>(sums) +
           sum_of_warps<kWarps, 2 * kStep>(sums + kStep * kWarpSize);
  }
}

// The sum of what a block's threads have, a power of two of whole warps. One barrier: each warp
// adds up all.
__device__ __forceinline__ float sum_of_block(float sum) {
  __shared__ float sums[kMaxNormThreads];
  const uint32_t warps = blockDim.x / kWarpSize;
  if (warps > 1) {
    sums[threadIdx.x] = sum;
    __syncthreads();
    sum = warps == 16  ? sum_of_warps<16>(sums)
          : warps == 8 ? sum_of_warps<8>(sums)
          : warps == 4 ? sum_of_warps<4>(sums)
                       : sum_of_warps<2>(sums);
  }
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    sum += float_of(__shfl_xor_sync(0xFFFFFFFF, bits_of(sum), offset));
  }
  return sum;
}

}  // namespace ptgq
