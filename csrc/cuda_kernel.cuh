// The quantization kernel: device code only, no torch header.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "numerics.h"
#include "problem.h"

namespace ptgq {

constexpr int kWarpSize = 32;
constexpr int kThreads = 256;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }

// NaN, the quotient by a NaN scale, gives a non-finite group's codes: 0x7F, or 0 for INT8.
__device__ __forceinline__ uint8_t code_of(float y, bool int8) {
  if (int8) return static_cast<uint8_t>(__float2int_rn(y));
  return __nv_cvt_float_to_fp8(y, __NV_SATFINITE, __NV_E4M3);
}

__device__ __forceinline__ void store_scale(const Problem& p, int64_t token, int64_t group,
                                            float scale) {
  const int64_t at = token * p.s_token_stride + group * p.s_group_stride;
  if (p.e8m0) {
    static_cast<uint8_t*>(p.s)[at] = e8m0_of(scale);
  } else {
    static_cast<float*>(p.s)[at] = scale;
  }
}

// Programmatic dependent launch: the next kernel's blocks may start when there is room, and wait
// before their first access until this kernel is done and its writes are visible.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

// Before the wait: the cache keeps up with the previous kernel's writes, so nothing stale is read.
__device__ __forceinline__ void prefetch_into_l2(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// Before 9.0, where division calls subroutines, the compiler spills to keep to 32 registers unless
// it is told that one block a multiprocessor will do.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define PTGQ_LAUNCH_BOUNDS __launch_bounds__(kThreads, 1)
#else
#define PTGQ_LAUNCH_BOUNDS __launch_bounds__(kThreads)
#endif

// One warp a group: any group size, alignment and row stride.
template <typename T>
__global__ void PTGQ_LAUNCH_BOUNDS per_token_group_quant_kernel(Problem p) {
  let_next_kernel_start();
  const int lane = threadIdx.x % kWarpSize;
  const int64_t index = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarpSize;
  if (index >= p.num_tokens * p.num_groups) return;
  const int64_t token = index / p.num_groups;
  const int64_t group = index % p.num_groups;
  const T* x = static_cast<const T*>(p.x) + token * p.x_token_stride + group * p.group_size;
  uint8_t* q = p.q + index * p.group_size;

  wait_for_previous_kernel();
  uint32_t absmax = 0;
  for (int64_t i = lane; i < p.group_size; i += kWarpSize) {
    absmax = max(absmax, absolute_bits(to_float(x[i])));
  }
  absmax = __reduce_max_sync(0xFFFFFFFF, absmax);

  const float scale = group_scale(absmax, p.eps, p.int8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
  if (lane == 0) store_scale(p, token, group, scale);
  for (int64_t i = lane; i < p.group_size; i += kWarpSize) {
    q[i] = code_of(__fdiv_rn(to_float(x[i]), scale), p.int8);
  }
}

}  // namespace ptgq
