// RMSNorm before quantization: a block a row, which it reads once.
#pragma once

#include "cuda/rms_norm_groups.cuh"

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

// Rounded once: of two 16-bit numbers, rounding to float32 before would change nothing, as it has
// two bits more than twice theirs (Figueroa, "When is double rounding innocuous?", SIGNUM 30,
// 1995).
template <typename S, typename T>
__device__ __forceinline__ Eight<S> sum_of(const Eight<S>& before, const Eight<T>& x) {
  if constexpr (std::is_same_v<S, T> && sizeof(T) == 2) {
    Eight<S> sum;
    const auto pair = [](const Eight<T>& of, int i) {
      return reinterpret_cast<const PairOf<T>*>(of.words)[i];
    };
#pragma unroll
    for (int i = 0; i < kSummed / 2; ++i) {
      reinterpret_cast<PairOf<T>*>(sum.words)[i] = __hadd2_rn(pair(before, i), pair(x, i));
    }
    return sum;
  }
  return rounded_eight<S>([&](int i) { return before.element(i) + x.element(i); });
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
    const Eight<S> sum = sum_of(before[k], x[k]);
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

// Elements of a line of the cache.
template <typename T>
constexpr uint32_t kLine = 128 / sizeof(T);

// Whether a vector of weights is copied at once.
template <typename T, bool kMixed>
constexpr bool kIsCopied = sizeof(T) == 2 && !kMixed;

// What a kernel stores: kAny, what its arguments say, saturated or not.
enum class Codes { kAny, kE4m3, kInt8 };

// Blocks that a multiprocessor holds.
template <typename T, bool kMixed, Codes kCodes>
constexpr int kNormResident =
    kMixed || sizeof(T) == 4 || (kCodes == Codes::kAny && !kIsHopper) ? 1 : 2;

// Rows of whole vectors, kVectors a thread, and groups of 8 to 256 elements, powers of two, or of
// multiples of 256. kMixed: the residual or the weight is float32, x is not. All but
// kAny: groups that don't saturate, of a lane or more for each vector, whose lanes have one that
// computes the scale: less code. (Copying the next row into shared memory meanwhile, or prefetching
// it, gained nothing on an H200: instructions take the time, not waiting for memory.)
template <typename T, bool kMixed, int kVectors, Codes kCodes>
__global__ void __launch_bounds__(kMaxNormThreads, kNormResident<T, kMixed, kCodes>)
    rms_norm_per_token_group_quant_kernel(const __grid_constant__ NormArguments a) {
  using R = std::conditional_t<kMixed, float, T>;
  constexpr bool kCommon = kCodes != Codes::kAny;
  // Registers hold no weights of more vectors while the row is summed: a thread's wait in shared
  // memory, where it copied them.
  constexpr bool kEarly = kVectors <= 2;
  constexpr bool kCopied = !kEarly && kIsCopied<T, kMixed>;
  uint4* const copied = dynamic_shared_memory();
  const auto copy_of = [copied](int k) { return copied + (k * blockDim.x + threadIdx.x); };
  const Problem& p = a.problem;
  const RmsNorm& n = a.norm;
  const int64_t token = blockIdx.x;
  const T* const x = static_cast<const T*>(p.x) + token * p.x_token_stride;
  const auto place = [](int k) { return (k * blockDim.x + threadIdx.x) * kSummed; };
  // All threads have the first half of several.
  const auto is_none = [&](int k) {
    return (kVectors == 1 || k >= kVectors / 2) && place(k) >= a.elements;
  };
  const bool of_float32 = n.weight_type == ElementType::kFloat32;
  const auto weight_at = [&](uint32_t at) {
    if (!kMixed) return held<R>(load_eight<T>(n.weight, at));
    return of_float32 ? held<R>(load_eight<float>(n.weight, at))
                      : held<R>(load_eight<T>(n.weight, at));
  };

  // As in vector_kernel.cuh, but one thread a line: in hot chains, all threads took 1.8 us more of
  // 13 (1024 x 7168 on an H200). The weight is in the cache.
  if (sizeof(T) == 2 && blockIdx.x < a.prefetching) {
    for (uint32_t at = threadIdx.x * kLine<T>; at < a.elements; at += blockDim.x * kLine<T>) {
      prefetch_into_l2(x + at);
      if (!kMixed && n.residual != nullptr) {
        prefetch_into_l2(static_cast<const T*>(n.residual) + token * n.residual_token_stride + at);
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
    if (!is_none(k)) elements[k] = load_eight<T>(x, place(k));
  }
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (is_none(k)) continue;
    if constexpr (kEarly) weight[k] = weight_at(place(k));
    if constexpr (kCopied) start_copy(copy_of(k), static_cast<const T*>(n.weight) + place(k));
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

  if constexpr (kCopied) wait_for_copies();
  Eight<T> y[kVectors] = {};
  uint32_t absmax[kVectors] = {};
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (is_none(k)) continue;
    Eight<R> w;
    if constexpr (kEarly) {
      w = weight[k];
    } else if constexpr (kCopied) {
      w.words[0] = *copy_of(k);
    } else {
      w = weight_at(place(k));
    }
    y[k] = rounded_eight<T>(
        [&](int i) { return __fmul_rn(__fmul_rn(r[k].element(i), rstd), w.element(i)); });
    absmax[k] = absmax_of(y[k], !kCommon && p.saturate);
  }
  if (n.norm_out != nullptr) {
    T* const row = static_cast<T*>(n.norm_out) + token * n.norm_out_token_stride;
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      if (!is_none(k)) store_eight(row, place(k), y[k]);
    }
  }
  uint8_t* const q = p.q + token * a.elements;
  const bool int8 = kCommon ? kCodes == Codes::kInt8 : p.int8;
  const float qmax = int8 ? kMaxInt8 : kMaxE4m3;

  if constexpr (kCommon) {
    const OwnGroup<kVectors> own(a.lanes);
    const float own_scale = group_scale(own.max_of(absmax), p.eps, qmax, p.power_of_two);
    const float own_reciprocal = reciprocal_of(own_scale);
#pragma unroll
    for (int k = 0; k < kVectors; ++k) {
      const float scale = own.of(own_scale, k);
      const float reciprocal = own.of(own_reciprocal, k);
      if (is_none(k)) continue;
      if (int8) {
        store_codes<true, true>(q + place(k), kChunk, y[k], scale, reciprocal, scale == scale);
      } else {
        store_codes<true, false>(q + place(k), kChunk, y[k], scale, reciprocal, true);
      }
    }
    const uint32_t vector = own.vector() * blockDim.x + (threadIdx.x - own.lane);
    if (own.lane % own.per_group == 0 && vector * kSummed < a.elements) {
      store_scale(p, static_cast<uint32_t>(token), vector >> a.log2_lanes, own_scale);
    }
    return;
  }

  max_of_groups(a, absmax);
  auto* const scales = reinterpret_cast<float*>(copied + (kCopied ? kVectors * blockDim.x : 0));
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (is_none(k)) continue;
    const float scale = group_scale(absmax[k], p.eps, qmax, p.power_of_two);
    const float reciprocal = reciprocal_of(scale);
    uint8_t* const to = q + place(k);
    if (p.saturate) {
      store_saturated(to, y[k], scale, reciprocal, int8);
    } else if (int8) {
      store_codes<true, true>(to, kChunk, y[k], scale, reciprocal, is_finite(absmax[k]));
    } else {
      store_codes<true, false>(to, kChunk, y[k], scale, reciprocal, is_finite(absmax[k]));
    }
    const uint32_t vector = place(k) / kSummed;
    const uint32_t group = a.size.quotient(vector);
    if (vector == group * a.size.divisor) scales[group] = scale;
  }
  // One place that stores: the code of rare formats is long.
  __syncthreads();
  for (uint32_t group = threadIdx.x; group < p.num_groups; group += blockDim.x) {
    store_scale(p, static_cast<uint32_t>(token), group, scales[group]);
  }
}

}  // namespace ptgq
