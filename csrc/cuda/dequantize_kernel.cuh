// dequantize on a CUDA device: as fast as memory, so what counts is that accesses are whole lines.
#pragma once

#include "contract/dequantize.h"
#include "cuda/dispatch.cuh"

namespace ptgq {

// A thread's results that a 16-byte store writes: a chunk, whose codes are one load. The threads of
// a warp have neighbouring chunks.
template <typename T>
constexpr int kChunkCodes = sizeof(uint4) / sizeof(T);

struct DequantizeArguments {
  Dequantization call;
  Divisor size;           // by the chunks of a group, else by its elements
  Divisor groups;         // by a token's groups
  Divisor batch_tokens;   // by the tokens of a batch of s
  uint32_t num_chunks;    // the last may be cut off
  uint32_t num_elements;  // if chunks may hold several groups
  bool flat;              // scales lie as groups are counted, row by row, an element each
};

// Four codes, bytes of a word, exactly.
template <bool kInt8>
__device__ __forceinline__ void to_floats(uint32_t codes, float (&x)[4]) {
  if constexpr (kInt8) {
    // The last byte of 2^23 + 128 + code; integers that float32 holds.
    codes ^= 0x80808080;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[i] = float_of(__byte_perm(codes, 0x4B000000, 0x7440 | i)) - (0x1p23f + 128);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#if __CUDA_ARCH__ >= 890
      const auto bytes = static_cast<__nv_fp8x2_storage_t>(codes >> 16 * i);
      const __half2 pair = __nv_cvt_fp8x2_to_halfraw2(bytes, __NV_E4M3);
#else
      // The bits of E4M3 below float16's sign and first exponent bit are 2^-8 of the value; of NaN
      // alone adding one carries into that bit, and all exponent bits are then set.
      const uint32_t halves = __byte_perm(codes, 0, i == 0 ? 0x1404 : 0x3424);
      const uint32_t magnitude = halves >> 1 & 0x3F803F80;
      const uint32_t nan = (magnitude + 0x00800080) & 0x40004000;
      const uint32_t bits = (halves & 0x80008000) | magnitude | nan;
      const __half2 pair =
          __hmul2(*reinterpret_cast<const __half2*>(&bits), __float2half2_rn(256.0f));
#endif
      const float2 both = __half22float2(pair);
      x[2 * i] = both.x;
      x[2 * i + 1] = both.y;
    }
  }
}

template <typename T, bool kInt8>
__device__ __forceinline__ T product(uint8_t code, float scale) {
  float x[4];
  to_floats<kInt8>(code, x);
  return round_to(x[0] * scale, T{});
}

__device__ __forceinline__ uint32_t stored_at(const DequantizeArguments& a, uint32_t index) {
  const Dequantization& d = a.call;
  if (a.flat) return stored_scale(d, 0, 0, index);
  const uint32_t token = a.groups.quotient(index);
  const uint32_t batch = a.batch_tokens.quotient(token);
  return stored_scale(d, batch, token - batch * a.batch_tokens.divisor,
                      index - token * a.groups.divisor);
}

// Whole chunks of a group, kSteps a thread.
template <typename T, bool kInt8, int kSteps>
__global__ void __launch_bounds__(kThreads)
    dequantize_kernel(const __grid_constant__ DequantizeArguments a) {
  constexpr int kCodes = kChunkCodes<T>;
  using Word = std::conditional_t<kCodes == 8, uint2, uint32_t>;
  const uint32_t first = blockIdx.x * (kThreads * kSteps) + threadIdx.x;
  wait_for_previous_kernel();
  let_next_kernel_start();
  union {
    Word words[kSteps];
    uint32_t codes[kSteps][kCodes / 4];
  };
  uint32_t stored[kSteps];
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const uint32_t chunk = first + i * kThreads;
    if (chunk < a.num_chunks) words[i] = reinterpret_cast<const Word*>(a.call.q)[chunk];
  }
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const uint32_t chunk = first + i * kThreads;
    if (chunk < a.num_chunks) stored[i] = stored_at(a, a.size.quotient(chunk));
  }
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const uint32_t chunk = first + i * kThreads;
    if (chunk >= a.num_chunks) return;
    const float scale = scale_from(a.call, stored[i]);
    constexpr int kPerWord = sizeof(uint32_t) / sizeof(T);
    uint32_t results[4];
#pragma unroll
    for (int j = 0; j < kCodes / 4; ++j) {
      float x[4];
      to_floats<kInt8>(codes[i][j], x);
#pragma unroll
      for (int k = 0; k < 4; k += kPerWord) {
        float y[kPerWord];
#pragma unroll
        for (int l = 0; l < kPerWord; ++l) y[l] = x[k + l] * scale;
        results[(4 * j + k) / kPerWord] = rounded_bits(y, T{});
      }
    }
    static_cast<uint4*>(a.call.y)[chunk] =
        make_uint4(results[0], results[1], results[2], results[3]);
  }
}

// Groups that are not whole chunks: a thread's chunk has elements of several.
template <typename T, bool kInt8>
__global__ void __launch_bounds__(kThreads)
    dequantize_small_kernel(const __grid_constant__ DequantizeArguments a) {
  constexpr int kCodes = kChunkCodes<T>;
  using Word = std::conditional_t<kCodes == 8, uint2, uint32_t>;
  const uint32_t chunk = blockIdx.x * kThreads + threadIdx.x;
  if (chunk >= a.num_chunks) return;
  const uint32_t first = chunk * kCodes;
  const uint32_t count = min(uint32_t{kCodes}, a.num_elements - first);
  uint32_t index = a.size.quotient(first);
  uint32_t place = first - index * a.size.divisor;
  wait_for_previous_kernel();
  let_next_kernel_start();
  alignas(Word) uint8_t codes[kCodes];
  if (count == kCodes) {
    *reinterpret_cast<Word*>(codes) = reinterpret_cast<const Word*>(a.call.q)[chunk];
  } else {
#pragma unroll
    for (int i = 0; i < kCodes; ++i) codes[i] = i < count ? a.call.q[first + i] : 0;
  }
  float scale = scale_from(a.call, stored_at(a, index));
  alignas(uint4) T results[kCodes];
#pragma unroll
  for (int i = 0; i < kCodes; ++i) {
    if (place == a.size.divisor) {
      place = 0;
      ++index;
      if (i < count) scale = scale_from(a.call, stored_at(a, index));
    }
    results[i] = product<T, kInt8>(codes[i], scale);
    ++place;
  }
  T* const y = static_cast<T*>(a.call.y) + first;
  if (count == kCodes) {
    *reinterpret_cast<uint4*>(y) = *reinterpret_cast<const uint4*>(results);
  } else {
#pragma unroll
    for (int i = 0; i < kCodes; ++i) {
      if (i < count) y[i] = results[i];
    }
  }
}

// Any strides, alignment and size: a block a piece of a row, kRowSteps elements a thread.
constexpr int kRowSteps = 8;

template <typename T, bool kInt8>
__global__ void __launch_bounds__(kThreads)
    dequantize_rows_kernel(const __grid_constant__ Dequantization d) {
  const int64_t hidden_dim = d.num_groups * d.group_size;
  const int64_t pieces = (hidden_dim + kThreads * kRowSteps - 1) / (kThreads * kRowSteps);
  const int64_t token = blockIdx.x / pieces;
  const int64_t first = (blockIdx.x - token * pieces) * (kThreads * kRowSteps) + threadIdx.x;
  const int64_t batch = token / d.batch_tokens;
  const int64_t row = token - batch * d.batch_tokens;
  wait_for_previous_kernel();
  let_next_kernel_start();
#pragma unroll
  for (int i = 0; i < kRowSteps; ++i) {
    const int64_t column = first + i * kThreads;
    if (column >= hidden_dim) return;
    const float scale = scale_from(d, stored_scale(d, batch, row, column / d.group_size));
    static_cast<T*>(d.y)[token * hidden_dim + column] =
        product<T, kInt8>(d.q[token * d.q_token_stride + column], scale);
  }
}

template <typename T, bool kInt8>
void launch_dequantize(const Dequantization& d, Launch how) {
  constexpr int kCodes = kChunkCodes<T>;
  const int64_t hidden_dim = d.num_groups * d.group_size;
  const int64_t elements = d.num_tokens * hidden_dim;
  const bool whole = d.group_size % kCodes == 0;
  const int64_t chunks = ceil_div(elements, kCodes);
  const bool contiguous = d.num_tokens == 1 || d.q_token_stride == hidden_dim;
  const bool aligned = reinterpret_cast<uintptr_t>(d.q) % kCodes == 0;
  // Indices in steps behind the last chunk are counted, too.
  const int64_t counted = (whole ? chunks : elements) + 4 * kThreads;
  if (!contiguous || !aligned || counted > kMaxIndex) {
    const int64_t blocks = d.num_tokens * ceil_div(hidden_dim, int64_t{kThreads} * kRowSteps);
    if (blocks > kMaxIndex) throw std::runtime_error("q is too large for one launch");
    return launch_kernel(dequantize_rows_kernel<T, kInt8>, blocks, kThreads, d, how);
  }
  const auto divisor = [](int64_t by) { return divisor_of(static_cast<uint32_t>(by)); };
  const bool rows_follow =
      d.num_tokens == 1 || (d.s_token_stride == d.num_groups && d.batch_tokens == d.num_tokens);
  const DequantizeArguments a{d,
                              divisor(whole ? d.group_size / kCodes : d.group_size),
                              divisor(d.num_groups),
                              divisor(d.batch_tokens),
                              static_cast<uint32_t>(chunks),
                              static_cast<uint32_t>(elements),
                              !d.packed && d.s_group_stride == 1 && rows_follow};
  if (!whole) {
    return launch_kernel(dequantize_small_kernel<T, kInt8>, ceil_div(chunks, kThreads), kThreads, a,
                         how);
  }
  // Four chunks a thread where they are still a wave: the loads of all are then under way at once.
  const int64_t blocks = ceil_div(chunks, 4 * kThreads);
  if (blocks >= how.first_wave) {
    return launch_kernel(dequantize_kernel<T, kInt8, 4>, blocks, kThreads, a, how);
  }
  launch_kernel(dequantize_kernel<T, kInt8, 1>, ceil_div(chunks, kThreads), kThreads, a, how);
}

template <typename T>
void dequantize_on(const Dequantization& d, Launch how) {
  if (d.int8) return launch_dequantize<T, true>(d, how);
  launch_dequantize<T, false>(d, how);
}

}  // namespace ptgq
