// RMSNorm before quantization: a block a row, which it reads once.
#pragma once

#include "cuda/rms_norm_sum.cuh"

namespace ptgq {

template <typename T>
using Eight = LaneVector<T, kSummed>;

template <typename T>
__device__ __forceinline__ Eight<T> load_eight(const void* from, int64_t at) {
  Eight<T> vector;
  vector.load(static_cast<const T*>(from) + at);
  return vector;
}

template <typename T>
__device__ __forceinline__ void store_eight(void* to, int64_t at, const Eight<T>& vector) {
  auto* const words = reinterpret_cast<uint4*>(static_cast<T*>(to) + at);
#pragma unroll
  for (int i = 0; i < Eight<T>::kLoads; ++i) words[i] = vector.words[i];
}

// Eight results, rounded to T.
template <typename T, typename Value>
__device__ __forceinline__ Eight<T> rounded_eight(const Value& value) {
  constexpr int kWord = sizeof(uint32_t) / sizeof(T);
  Eight<T> vector;
#pragma unroll
  for (int i = 0; i < kSummed; i += kWord) {
    float y[kWord];
#pragma unroll
    for (int j = 0; j < kWord; ++j) y[j] = value(i + j);
    vector.word(i / kWord) = rounded_bits(y, T{});
  }
  return vector;
}

// The same elements in R, which holds them.
template <typename R, typename T>
__device__ __forceinline__ Eight<R> held(const Eight<T>& vector) {
  if constexpr (std::is_same_v<R, T>) {
    return vector;
  } else {
    return rounded_eight<R>([&](int i) { return vector.element(i); });
  }
}

// Adds a residual of type S, and stores the sum there.
template <typename S, typename R, typename T, int kVectors>
__device__ __forceinline__ void add_residual(const NormArguments& a, const Eight<T> (&x)[kVectors],
                                             Eight<R> (&r)[kVectors]) {
  const RmsNorm& n = a.norm;
  S* const residual = static_cast<S*>(n.residual) + blockIdx.x * n.residual_token_stride;
  Eight<S> before[kVectors];
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const uint32_t at = (k * blockDim.x + threadIdx.x) * kSummed;
    if (at < a.elements) before[k] = load_eight<S>(residual, at);
  }
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const uint32_t at = (k * blockDim.x + threadIdx.x) * kSummed;
    if (at >= a.elements) continue;
    const Eight<S> sum =
        rounded_eight<S>([&](int i) { return before[k].element(i) + x[k].element(i); });
    store_eight(residual, at, sum);
    r[k] = held<R>(sum);
  }
}

template <typename T>
__device__ __forceinline__ uint32_t absmax_of(const Eight<T>& y, bool saturate) {
  if (!saturate) return y.absmax_bits();
  uint32_t absmax = 0;
#pragma unroll
  for (int i = 0; i < kSummed; ++i) absmax = max(absmax, finite_bits(y.element(i)));
  return absmax;
}

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

// Stores the codes of eight elements that saturate.
template <typename T>
__device__ __noinline__ void store_saturated(uint8_t* to, Eight<T> y, float scale, float reciprocal,
                                             bool int8) {
  uint32_t codes[2] = {};
#pragma unroll
  for (int i = 0; i < kSummed; ++i) {
    const float x = y.element(i);
    const uint32_t code = code_of(saturated(x, quotient(x, scale, reciprocal), int8), int8);
    codes[i / 4] |= code << i % 4 * 8;
  }
  *reinterpret_cast<uint2*>(to) = make_uint2(codes[0], codes[1]);
}

// Rows of whole vectors, kVectors a thread, and groups of 8 to 256 elements, powers of two, or of
// multiples of 256. kMixed: the residual or the weight is float32, x is not.
template <typename T, bool kMixed, int kVectors>
__global__ void __launch_bounds__(kMaxNormThreads, kMixed || sizeof(T) == 4 ? 1 : 2)
    rms_norm_per_token_group_quant_kernel(const __grid_constant__ NormArguments a) {
  using R = std::conditional_t<kMixed, float, T>;
  // Registers hold no weights of more vectors while the row is summed.
  constexpr bool kEarly = kVectors <= 2;
  const Problem& p = a.problem;
  const RmsNorm& n = a.norm;
  const int64_t token = blockIdx.x;
  const T* const x = static_cast<const T*>(p.x) + token * p.x_token_stride;
  const auto place = [](int k) { return (k * blockDim.x + threadIdx.x) * kSummed; };
  const bool of_float32 = n.weight_type == ElementType::kFloat32;
  const auto weight_at = [&](uint32_t at) {
    if (!kMixed) return held<R>(load_eight<T>(n.weight, at));
    return of_float32 ? held<R>(load_eight<float>(n.weight, at))
                      : held<R>(load_eight<T>(n.weight, at));
  };

  // As in vector_kernel.cuh.
  if (sizeof(T) == 2 && blockIdx.x < a.prefetching) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      if (place(k) >= a.elements) continue;
      prefetch_into_l2(x + place(k));
      if (!kMixed) prefetch_into_l2(static_cast<const T*>(n.weight) + place(k));
      if (!kMixed && n.residual != nullptr) {
        prefetch_into_l2(static_cast<const T*>(n.residual) + token * n.residual_token_stride +
                         place(k));
      }
    }
  }
  wait_for_previous_kernel();
  let_next_kernel_start();

  Eight<T> elements[kVectors] = {};
  Eight<R> r[kVectors] = {};
  Eight<R> weight[kEarly ? kVectors : 1];
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (place(k) < a.elements) elements[k] = load_eight<T>(x, place(k));
  }
  if constexpr (kEarly) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      if (place(k) < a.elements) weight[k] = weight_at(place(k));
    }
  }
  if (n.residual == nullptr) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k) r[k] = held<R>(elements[k]);
  } else if (kMixed && n.residual_type == ElementType::kFloat32) {
    add_residual<float>(a, elements, r);
  } else {
    add_residual<T>(a, elements, r);
  }

  float sum[kVectors];
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    float squares[kSummed];
#pragma unroll
    for (int i = 0; i < kSummed; ++i) squares[i] = __fmul_rn(r[k].element(i), r[k].element(i));
    sum[k] = sum_of(squares);
  }
#pragma unroll
  for (int half = kVectors / 2; half > 0; half /= 2) {
#pragma unroll
    for (int k = 0; k < half; ++k) sum[k] += sum[k + half];
  }
  const float rstd = rstd_of(sum_of_block(sum[0]), a.hidden_dim, n.norm_eps);

  Eight<T> y[kVectors] = {};
  uint32_t absmax[kVectors] = {};
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (place(k) >= a.elements) continue;
    const Eight<R> w = kEarly ? weight[kEarly ? k : 0] : weight_at(place(k));
    y[k] = rounded_eight<T>(
        [&](int i) { return __fmul_rn(__fmul_rn(r[k].element(i), rstd), w.element(i)); });
    absmax[k] = absmax_of(y[k], p.saturate);
  }
  if (n.norm_out != nullptr) {
    T* const row = static_cast<T*>(n.norm_out) + token * n.norm_out_token_stride;
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      if (place(k) < a.elements) store_eight(row, place(k), y[k]);
    }
  }
  max_of_groups(a, absmax);

  auto* const scales = reinterpret_cast<float*>(dynamic_shared_memory());
  uint8_t* const q = p.q + token * a.elements;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (place(k) >= a.elements) continue;
    const float scale = group_scale(absmax[k], p.eps, p.int8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
    const float reciprocal = reciprocal_of(scale);
    uint8_t* const to = q + place(k);
    if (p.saturate) {
      store_saturated(to, y[k], scale, reciprocal, p.int8);
    } else if (p.int8) {
      store_codes<true, true>(to, kChunk, y[k], scale, reciprocal, is_finite(absmax[k]));
    } else {
      store_codes<true, false>(to, kChunk, y[k], scale, reciprocal, is_finite(absmax[k]));
    }
    const uint32_t vector = place(k) / kSummed;
    const uint32_t group = a.size.quotient(vector);
    if (vector != group * a.size.divisor) continue;
    if (p.plain) {
      store_plain_scale(p, token, int64_t{group}, scale);
    } else {
      scales[group] = scale;
    }
  }
  if (p.plain) return;
  // Rare formats share one copy of the code.
  __syncthreads();
  for (uint32_t group = threadIdx.x; group < p.num_groups; group += blockDim.x) {
    store_scale(p, static_cast<uint32_t>(token), group, scales[group]);
  }
}

}  // namespace ptgq
