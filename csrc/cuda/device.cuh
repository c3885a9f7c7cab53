// The quantization kernel: device code only, no torch header.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <type_traits>

#include "contract/numerics.h"
#include "contract/problem.h"
#include "contract/scales.h"
#include "contract/silu.h"

namespace ptgq {

constexpr int kWarpSize = 32;
constexpr int kThreads = 256;

// Whether it is for 9.0, where kernels' registers were tuned: for others the compiler takes more.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900
constexpr bool kIsHopper = true;
#else
constexpr bool kIsHopper = false;
#endif

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }

__device__ __forceinline__ float round_to(float y, float) { return y; }
__device__ __forceinline__ __nv_bfloat16 round_to(float y, __nv_bfloat16) {
  return __float2bfloat16_rn(y);
}
__device__ __forceinline__ __half round_to(float y, __half) { return __float2half_rn(y); }

// Four bytes of neighbouring elements, each rounded to nearest: for two, one instruction.
__device__ __forceinline__ uint32_t rounded_bits(const float (&y)[1], float) {
  return bits_of(y[0]);
}
__device__ __forceinline__ uint32_t rounded_bits(const float (&y)[2], __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(y[0], y[1]);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ uint32_t rounded_bits(const float (&y)[2], __half) {
  const __half2 pair = __floats2half2_rn(y[0], y[1]);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// The quotient x / scale, exactly as IEEE division rounds it: with r the correctly rounded
// reciprocal, one residual step corrects x * r (Markstein, IBM J. Res. Dev. 34, 1990, theorem 8.4).
// The signs are such that -0 stays -0.
__device__ __forceinline__ float quotient(float x, float scale, float reciprocal) {
  const float y = __fmul_rn(x, reciprocal);
  const float residual = __fmaf_rn(y, scale, -x);
  return __fmaf_rn(-residual, reciprocal, y);
}

// NaN, the quotient by a NaN scale, gives a non-finite group's codes: 0x7F, or 0 for INT8.
__device__ __forceinline__ uint8_t code_of(float y, bool int8) {
  if (int8) return static_cast<uint8_t>(__float2int_rn(y));
  return __nv_cvt_float_to_fp8(y, __NV_SATFINITE, __NV_E4M3);
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
#ifdef __CUDA_ARCH__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

// Copies 16 bytes into shared memory while the thread goes on, which reads them after
// wait_for_copies().
__device__ __forceinline__ void start_copy(uint4* to, const void* from) {
#ifdef __CUDA_ARCH__
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
#else
  *to = *static_cast<const uint4*>(from);
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// The largest of the values of a block's threads, of which there are whole warps.
__device__ __forceinline__ uint32_t max_of_block(uint32_t value) {
  __shared__ uint32_t of_warps[kWarpSize];
  of_warps[threadIdx.x / kWarpSize] = __reduce_max_sync(0xFFFFFFFF, value);
  __syncthreads();
  for (int i = 0; i < blockDim.x / kWarpSize; ++i) value = max(value, of_warps[i]);
  return value;
}

// Of a group that was marked, as not all of its elements are finite, but is to saturate: stores the
// codes of a thread's elements, and returns the scale. All is read again, element by element, so
// that this rare case costs the others no register. `place`: of the thread's k-th element in the
// group; `value`: of an element; `max_of`: over the threads of the group.
template <typename Place, typename Value, typename Max>
__device__ __forceinline__ float saturate_group(uint8_t* q, uint32_t count, const Place& place,
                                                const Value& value, const Max& max_of, float eps,
                                                bool power_of_two, bool int8) {
  uint32_t absmax = 0;
#pragma unroll 1
  for (uint32_t k = 0; k < count; ++k) absmax = max(absmax, finite_bits(value(place(k))));
  const float scale = finite_scale(max_of(absmax), eps, int8 ? kMaxInt8 : kMaxE4m3, power_of_two);
  const float reciprocal = reciprocal_of(scale);
#pragma unroll 1
  for (uint32_t k = 0; k < count; ++k) {
    const float x = value(place(k));
    q[place(k)] = code_of(saturated(x, quotient(x, scale, reciprocal), int8), int8);
  }
  return scale;
}

struct EveryRow {};  // of a matrix

// A team, a warp or the whole block, quantizes a group. The scale of a row that does not exist is
// 0.
template <typename T, bool kSilu, bool kLimited, bool kSaturate, int kTeam, typename Rows>
__device__ __forceinline__ void quantize_by_team(const Problem& p, const Rows& rows) {
  constexpr int kBatch = 8;
  let_next_kernel_start();
  const int lane = threadIdx.x % kTeam;
  const int64_t index = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kTeam;
  if (index >= p.num_tokens * p.num_groups) return;
  const int64_t token = index / p.num_groups;
  const int64_t group = index % p.num_groups;
  const T* x;
  // Written out: by a function of Rows, the compiler would order instructions otherwise.
  if constexpr (std::is_same_v<Rows, EveryRow>) {
    x = static_cast<const T*>(p.x) + token * p.x_token_stride + group * p.group_size;
  } else {
    x = rows.row(p, token) + group * p.group_size;
  }
  uint8_t* const q = p.q + index * p.group_size;

  const int64_t hidden_dim = p.num_groups * p.group_size;
  const auto value = [x, hidden_dim, &p](int64_t i) {
    if constexpr (!kSilu) return to_float(x[i]);
    const float gate = to_float(x[i]);
    const float up = to_float(x[i + hidden_dim]);
    const float y =
        kLimited ? clamped_silu_and_mul(gate, up, p.swiglu_limit) : silu_and_mul(gate, up);
    return to_float(round_to(y, T{}));
  };

  wait_for_previous_kernel();
  if constexpr (!std::is_same_v<Rows, EveryRow>) {
    if (!rows.exists(token)) {
      if (lane == 0) store_scale(p, token, group, 0.0f);
      return;
    }
  }
  uint32_t absmax = 0;
  for (int64_t i = lane; i < p.group_size; i += kBatch * kTeam) {
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (i + k * kTeam < p.group_size) absmax = max(absmax, absolute_bits(value(i + k * kTeam)));
    }
  }
  const auto max_of_team = [](uint32_t bits) {
    return kTeam == kWarpSize ? __reduce_max_sync(0xFFFFFFFF, bits) : max_of_block(bits);
  };
  absmax = max_of_team(absmax);
  if constexpr (kSaturate) {
    if (!is_finite(absmax)) {
      if (kTeam > kWarpSize) __syncthreads();  // all have read max_of_block
      const auto size = static_cast<uint32_t>(p.group_size);
      const uint32_t count = lane < size ? (size - lane + kTeam - 1) / kTeam : 0;
      const auto place = [lane](uint32_t k) { return lane + k * kTeam; };
      const float scale =
          saturate_group(q, count, place, value, max_of_team, p.eps, p.power_of_two, p.int8);
      if (lane == 0) store_scale(p, token, group, scale);
      return;
    }
  }

  const float scale = group_scale(absmax, p.eps, p.int8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
  const float reciprocal = reciprocal_of(scale);
  if (lane == 0) store_scale(p, token, group, scale);
  for (int64_t i = lane; i < p.group_size; i += kBatch * kTeam) {
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const int64_t at = i + k * kTeam;
      if (at < p.group_size) q[at] = code_of(quotient(value(at), scale, reciprocal), p.int8);
    }
  }
}

// For what the faster kernels don't take: any group size, alignment and row stride. (Not asked to
// fit more than one block, so that it does not spill registers.)
template <typename T, bool kSilu, bool kLimited, bool kSaturate, int kTeam>
__global__ void __launch_bounds__(kThreads, 1)
    per_token_group_quant_kernel(const __grid_constant__ Problem p) {
  quantize_by_team<T, kSilu, kLimited, kSaturate, kTeam>(p, EveryRow{});
}

}  // namespace ptgq
