// per_token_group_quant_transposed on a CUDA device: rows and columns from one read of x.
#pragma once

#include "contract/rows.h"
#include "contract/transposed.h"
#include "cuda/launch_vector.cuh"

namespace ptgq {

// A block's tile: so many tokens and columns. A thread holds 8 x 8 elements of it, whose codes by
// columns are then whole words of neighbouring tokens; a warp reads whole lines.
constexpr int kSide = 128;
constexpr int kTransposedThreads = kSide / kChunk * (kSide / kChunk);
constexpr int kPieces = kSide / kChunk;  // of a side
constexpr int kMinTransposedGroup = 16;  // two threads' elements: whole 16-byte stores of a column

struct TransposedArguments {
  Problem rows;
  Problem columns;
  uint32_t tokens;  // of a matrix
  uint32_t hidden_dim;
  Divisor column_tiles;
  Divisor token_tiles;
  uint32_t lanes;  // of a group: threads side by side, or one below the other
};

// What a kernel takes, with the rows that exist or, where all do, without.
template <typename Arguments>
struct WithRows : Arguments {
  MaskedRows masked;
};
template <typename Arguments, bool kMasked>
using ArgumentsOf = std::conditional_t<kMasked, WithRows<Arguments>, Arguments>;

// The largest magnitude of each of the 8 columns of 8 chunks, as float32 bits.
template <typename T>
__device__ __forceinline__ void column_maxima(const LaneVector<T, kChunk> (&x)[kChunk],
                                              uint32_t (&absmax)[kChunk]) {
  if constexpr (sizeof(T) == 2) {
    using Pair = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;
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

// kMasked: tiles without a row that exists store zeros, as many bytes by columns as others store.
template <typename T, bool kMasked>
__global__ void __launch_bounds__(kTransposedThreads, 2) per_token_group_quant_transposed_kernel(
    const __grid_constant__ ArgumentsOf<TransposedArguments, kMasked> a) {
  __shared__ uint4 codes[kSide * kSide / sizeof(uint4)];  // of the columns
  __shared__ uint32_t of_warps[kPieces / 2][kSide];       // absmax of columns
  __shared__ float scales[kSide / kMinTransposedGroup][kSide];
  const uint32_t rest = a.column_tiles.quotient(blockIdx.x);
  const uint32_t first_column = (blockIdx.x - rest * a.column_tiles.divisor) * kSide;
  const uint32_t matrix = a.token_tiles.quotient(rest);
  const uint32_t first_token = (rest - matrix * a.token_tiles.divisor) * kSide;
  const uint32_t across = threadIdx.x % kPieces;
  const uint32_t down = threadIdx.x / kPieces;
  const uint32_t column = first_column + across * kChunk;
  const uint32_t token = first_token + down * kChunk;
  const bool exists = column < a.hidden_dim;
  const int64_t row = int64_t{matrix} * a.tokens + token;

  wait_for_previous_kernel();
  let_next_kernel_start();
  LaneVector<T, kChunk> x[kChunk];
  const T* from = static_cast<const T*>(a.rows.x) + row * a.rows.x_token_stride + column;
  uint32_t counted = 0;
  if constexpr (kMasked) {
    counted = static_cast<uint32_t>(existing_rows(a.masked, matrix));
    from = static_cast<const T*>(a.rows.x) + matrix * a.masked.x_batch_stride +
           token * a.rows.x_token_stride + column;
  }
  // Not one variable for both, by which the compiler would order instructions otherwise.
  const auto existing = [&] { return kMasked ? counted : a.tokens; };
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    if (exists && token + i < existing()) {
      x[i].load(from + i * a.rows.x_token_stride);
    } else {
#pragma unroll
      for (uint4& word : x[i].words) word = make_uint4(0, 0, 0, 0);
    }
  }

  uint32_t absmax[kChunk];
  column_maxima(x, absmax);
#pragma unroll
  for (uint32_t& one : absmax) one = max(one, __shfl_xor_sync(0xFFFFFFFF, one, kPieces));
  if (down % 2 == 0) {
#pragma unroll
    for (int j = 0; j < kChunk; ++j) of_warps[down / 2][across * kChunk + j] = absmax[j];
  }

  // The rows, meanwhile.
  const uint32_t group_size = a.lanes * kChunk;
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    uint32_t largest = x[i].absmax_bits();
    for (uint32_t offset = a.lanes / 2; offset > 0; offset /= 2) {
      largest = max(largest, __shfl_xor_sync(0xFFFFFFFF, largest, offset));
    }
    if (!exists || token + i >= a.tokens) continue;
    const float scale = group_scale(largest, a.rows.eps, kMaxE4m3, a.rows.power_of_two);
    const bool missing = kMasked && token + i >= existing();
    if (across % a.lanes == 0) {
      store_scale(a.rows, row + i, int64_t{column / group_size}, missing ? 0.0f : scale);
    }
    if (missing) continue;
    store_codes<true, false>(a.rows.q + (row + i) * a.hidden_dim + column, kChunk, x[i], scale,
                             reciprocal_of(scale), true);
  }
  __syncthreads();

  const uint32_t groups = kSide / group_size;
  for (uint32_t k = threadIdx.x; k < groups * kSide; k += kTransposedThreads) {
    const uint32_t group = k / kSide;
    uint32_t largest = 0;
    for (uint32_t warp = 0; warp < a.lanes / 2; ++warp) {
      largest = max(largest, of_warps[group * (a.lanes / 2) + warp][k % kSide]);
    }
    const float scale = group_scale(largest, a.columns.eps, kMaxE4m3, a.columns.power_of_two);
    scales[group][k % kSide] = scale;
    const uint32_t at = first_column + k % kSide;
    const uint32_t of_tokens = first_token / group_size + group;
    if (at < a.hidden_dim && of_tokens < static_cast<uint32_t>(a.columns.num_groups)) {
      const bool missing = kMasked && of_tokens * group_size >= existing();
      store_scale(a.columns, int64_t{matrix} * a.hidden_dim + at, int64_t{of_tokens},
                  missing ? 0.0f : scale);
    }
  }
  __syncthreads();

  // Of a column, 8 neighbouring codes, at another place in each chunk of columns: threads side by
  // side then write to different banks.
  uint2* const words = reinterpret_cast<uint2*>(codes);
  // Codes of tokens past the last are 0, also where the group is marked.
  const uint32_t tokens = token < existing() ? min(uint32_t{kChunk}, existing() - token) : 0;
  const uint64_t kept = tokens == 0 ? 0 : ~uint64_t{0} >> 8 * (kChunk - tokens);
#pragma unroll
  for (int j = 0; j < kChunk; ++j) {
    const float scale = scales[down / a.lanes][across * kChunk + j];
    const float reciprocal = reciprocal_of(scale);
    float y[kChunk];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) y[i] = quotient(x[i].element(j), scale, reciprocal);
    words[(across * kChunk + j) * kPieces + (down ^ across)] =
        make_uint2(pack<false>(y[0], y[1], y[2], y[3]) & static_cast<uint32_t>(kept),
                   pack<false>(y[4], y[5], y[6], y[7]) & static_cast<uint32_t>(kept >> 32));
  }
  __syncthreads();
  const int64_t padded = a.columns.num_groups * group_size;
#pragma unroll
  for (int i = 0; i < kChunk / 2; ++i) {
    const uint32_t place = threadIdx.x + i * kTransposedThreads;
    const uint32_t in_tile = place / (kPieces / 2);
    const uint32_t piece = place % (kPieces / 2) * 2;
    const uint32_t moved = in_tile / kChunk;
    const uint4 both = codes[(in_tile * kPieces + (piece ^ (moved & ~1u))) / 2];
    const uint32_t at = first_column + in_tile;
    const uint32_t begin = first_token + piece * kChunk;
    if (at >= a.hidden_dim || begin >= padded) continue;
    uint8_t* const to = a.columns.q + (int64_t{matrix} * a.hidden_dim + at) * padded + begin;
    *reinterpret_cast<uint4*>(to) =
        moved % 2 == 0 ? both : make_uint4(both.z, both.w, both.x, both.y);
  }
}

struct ColumnArguments {
  Problem columns;
  const void* x;
  int64_t x_token_stride;
  int64_t tokens;  // of a matrix
  int64_t hidden_dim;
  int64_t blocks;  // of the columns of a group of tokens
};

// The columns alone, of any group size and alignment: a thread has a column of a group of tokens.
template <typename T, bool kMasked>
__global__ void __launch_bounds__(kThreads) per_token_group_quant_transposed_columns_kernel(
    const __grid_constant__ ArgumentsOf<ColumnArguments, kMasked> a) {
  const Problem& p = a.columns;
  const int64_t matrix_group = blockIdx.x / a.blocks;
  const int64_t column = (blockIdx.x - matrix_group * a.blocks) * kThreads + threadIdx.x;
  const int64_t matrix = matrix_group / p.num_groups;
  const int64_t group = matrix_group - matrix * p.num_groups;
  if (column >= a.hidden_dim) return;
  wait_for_previous_kernel();
  let_next_kernel_start();
  const int64_t first = group * p.group_size;
  int64_t left = a.tokens - first;
  const T* x = static_cast<const T*>(a.x) + (matrix * a.tokens + first) * a.x_token_stride + column;
  if constexpr (kMasked) {
    const int64_t existing = existing_rows(a.masked, matrix);
    left = existing > first ? existing - first : 0;
    x = static_cast<const T*>(a.x) + matrix * a.masked.x_batch_stride + first * a.x_token_stride +
        column;
  }
  const int64_t count = p.group_size < left ? p.group_size : left;
  uint32_t absmax = 0;
#pragma unroll 8
  for (int64_t i = 0; i < count; ++i) {
    const float element = to_float(x[i * a.x_token_stride]);
    absmax = max(absmax, p.saturate ? finite_bits(element) : absolute_bits(element));
  }
  const float scale = group_scale(absmax, p.eps, kMaxE4m3, p.power_of_two);
  const float reciprocal = reciprocal_of(scale);
  const int64_t token = matrix * a.hidden_dim + column;
  store_scale(p, token, group, kMasked && count == 0 ? 0.0f : scale);
  uint8_t* const q = p.q + (token * p.num_groups + group) * p.group_size;
#pragma unroll 1
  for (int64_t i = 0; i < count; ++i) {
    const float element = to_float(x[i * a.x_token_stride]);
    const float y = quotient(element, scale, reciprocal);
    q[i] = code_of(p.saturate ? saturated(element, y, false) : y, false);
  }
#pragma unroll 1
  for (int64_t i = count; i < p.group_size; ++i) q[i] = 0;
}

}  // namespace ptgq
