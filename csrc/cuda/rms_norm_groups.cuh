// The largest of groups in the kernel of RMSNorm, whose threads have a vector each of some groups.
#pragma once

#include "cuda/rms_norm_sum.cuh"

namespace ptgq {

// The largest of a group for each vector of a thread.
template <int kVectors>
__device__ __forceinline__ void max_of_groups(const NormArguments& a,
                                              uint32_t (&absmax)[kVectors]) {
  if (a.lanes != 0) {
#pragma unroll
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
      if (offset >= a.lanes) continue;
#pragma unroll
      for (int k = 0; k < kVectors; ++k) {
        absmax[k] = max(absmax[k], __shfl_xor_sync(0xFFFFFFFF, absmax[k], offset));
      }
    }
    return;
  }
  __shared__ uint32_t of_segments[kMaxNormVectors * kMaxNormWarps];
  const uint32_t lane = threadIdx.x % kWarpSize;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const uint32_t segment = (k * blockDim.x + threadIdx.x) / kWarpSize;
    absmax[k] = __reduce_max_sync(0xFFFFFFFF, absmax[k]);
    if (lane == 0) of_segments[segment] = absmax[k];
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const uint32_t segment = (k * blockDim.x + threadIdx.x) / kWarpSize;
    if (segment * kWarpElements >= a.elements) continue;
    const uint32_t segments = a.size.divisor / kWarpSize;  // of a group
    const uint32_t first = a.size.quotient(segment * kWarpSize) * segments;
    uint32_t largest = 0;
    for (uint32_t i = lane; i < segments; i += kWarpSize) {
      largest = max(largest, of_segments[first + i]);
    }
    absmax[k] = __reduce_max_sync(0xFFFFFFFF, largest);
  }
}

// The one of a thread's kVectors groups whose scale it computes for all lanes of that group, of
// which there are kVectors or more.
template <int kVectors>
struct OwnGroup {
  uint32_t lanes;      // of a group
  uint32_t per_group;  // that own the same
  uint32_t lane;       // among the group's

  __device__ __forceinline__ explicit OwnGroup(uint32_t lanes)
      : lanes(lanes), per_group(lanes / kVectors), lane(threadIdx.x & (lanes - 1)) {}

  __device__ __forceinline__ uint32_t vector() const { return lane / per_group; }

  // Its largest, by halves: a lane sends the absmax of those that the other one may own.
  __device__ __forceinline__ uint32_t max_of(uint32_t (&absmax)[kVectors]) const {
    uint32_t offset = lanes / 2;
#pragma unroll
    for (int half = kVectors / 2; half > 0; half /= 2, offset /= 2) {
      const bool upper = (lane & offset) != 0;
#pragma unroll
      for (int k = 0; k < half; ++k) {
        const uint32_t sent = upper ? absmax[k] : absmax[k + half];
        const uint32_t kept = upper ? absmax[k + half] : absmax[k];
        absmax[k] = max(kept, __shfl_xor_sync(0xFFFFFFFF, sent, offset));
      }
    }
#pragma unroll
    for (int o = kWarpSize / 2 / kVectors; o > 0; o /= 2) {
      if (o >= per_group) continue;
      absmax[0] = max(absmax[0], __shfl_xor_sync(0xFFFFFFFF, absmax[0], o));
    }
    return absmax[0];
  }

  // The value that the owner of a thread's k-th group has.
  __device__ __forceinline__ float of(float value, int k) const {
    return __shfl_sync(0xFFFFFFFF, value, (threadIdx.x - lane + k * per_group) % kWarpSize);
  }
};

}  // namespace ptgq
