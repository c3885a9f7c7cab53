// per_token_group_quant_transposed on a CUDA device: rows and columns from one read of x.
#pragma once

#include "contract/rows.h"
#include "contract/transposed.h"
#include "cuda/transposed_maxima.cuh"

namespace ptgq {

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

// A scale and its reciprocal, read at once.
struct alignas(8) Factor {
  float scale;
  float reciprocal;
};

// The place of a column's factors: pairs of the same place in their chunks lie side by side, so
// that threads side by side read from different banks.
__device__ __forceinline__ uint32_t place_of_factor(uint32_t column) {
  return (column % kChunk / 2 * kPieces + column / kChunk) * 2 + column % 2;
}

// Blocks that a multiprocessor holds.
template <typename T>
constexpr int kTransposedResident = (sizeof(T) == 2 ? 2 : 1) + kIsHopper;

// kLanes: those of a group, where they are known, else 0. kMasked: tiles without a row that exists
// store zeros, as many bytes by columns as others store.
template <typename T, int kLanes, bool kMasked>
__global__ void __launch_bounds__(kTransposedThreads, kTransposedResident<T>)
    per_token_group_quant_transposed_kernel(
        const __grid_constant__ ArgumentsOf<TransposedArguments, kMasked> a) {
  __shared__ uint4 codes[kSide * kSide / sizeof(uint4)];            // of the columns
  __shared__ uint32_t of_warps[kPieces / 2][kSide];                 // absmax of columns
  __shared__ uint32_t of_rows[kSide / kMinTransposedGroup][kSide];  // absmax of their groups
  // Factors of each group of a row, and of a column, within the tile.
  __shared__ Factor row_factors[kSide / kMinTransposedGroup][kSide];
  __shared__ Factor column_factors[kSide / kMinTransposedGroup][kSide];
  const uint32_t rest = a.column_tiles.quotient(blockIdx.x);
  const uint32_t first_column = (blockIdx.x - rest * a.column_tiles.divisor) * kSide;
  const uint32_t matrix = a.token_tiles.quotient(rest);
  const uint32_t first_token = (rest - matrix * a.token_tiles.divisor) * kSide;
  const uint32_t lanes = kLanes == 0 ? a.lanes : kLanes;
  const uint32_t across = threadIdx.x % kPieces;
  const uint32_t down = threadIdx.x / kPieces;
  const uint32_t column = first_column + across * kChunk;
  const uint32_t token = first_token + down * kChunk;
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
  // Those of the thread that are read.
  const uint32_t tokens =
      column < a.hidden_dim && token < existing() ? min(uint32_t{kChunk}, existing() - token) : 0;
#pragma unroll
  for (int i = 0; i < kChunk; ++i, from += a.rows.x_token_stride) {
    if (i < tokens) {
      x[i].load(from);
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

  const uint32_t group_size = lanes * kChunk;
  row_maxima(x, lanes, absmax);
  if (across % lanes == 0) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) of_rows[across / lanes][down * kChunk + i] = absmax[i];
  }
  __syncthreads();

  // One place that stores scales of rows, and one of columns: the code of rare formats is long.
  const uint32_t groups = kSide / group_size;
  for (uint32_t k = threadIdx.x; k < groups * kSide; k += kTransposedThreads) {
    const uint32_t group = k / kSide;
    const uint32_t at = k % kSide;
    const float row_scale =
        group_scale(of_rows[group][at], a.rows.eps, kMaxE4m3, a.rows.power_of_two);
    row_factors[group][at] = {row_scale, reciprocal_of(row_scale)};
    const uint32_t of_columns = first_column / group_size + group;
    if (first_token + at < a.tokens && of_columns * group_size < a.hidden_dim) {
      const bool missing = kMasked && first_token + at >= existing();
      store_scale(a.rows, int64_t{matrix} * a.tokens + first_token + at, int64_t{of_columns},
                  missing ? 0.0f : row_scale);
    }
    uint32_t largest = 0;
    for (uint32_t warp = 0; warp < lanes / 2; ++warp) {
      largest = max(largest, of_warps[group * (lanes / 2) + warp][at]);
    }
    const float scale = group_scale(largest, a.columns.eps, kMaxE4m3, a.columns.power_of_two);
    column_factors[group][place_of_factor(at)] = {scale, reciprocal_of(scale)};
    const uint32_t of_tokens = first_token / group_size + group;
    if (first_column + at < a.hidden_dim &&
        of_tokens < static_cast<uint32_t>(a.columns.num_groups)) {
      const bool missing = kMasked && of_tokens * group_size >= existing();
      store_scale(a.columns, int64_t{matrix} * a.hidden_dim + first_column + at, int64_t{of_tokens},
                  missing ? 0.0f : scale);
    }
  }
  __syncthreads();

  // Four rows of four columns at a time: elements are taken out of their words once for both.
  const Factor* const of_row = row_factors[across / lanes] + down * kChunk;
  const Factor* const of_column = column_factors[down / lanes] + across * 2;
  uint8_t* const q = a.rows.q + row * a.hidden_dim + column;
  // 8 neighbouring codes of a column, at another place in each chunk of columns: threads side by
  // side then write to different banks.
  uint2* const words =
      reinterpret_cast<uint2*>(codes) + across * kChunk * kPieces + (down ^ across);
  // Codes of tokens past the last are 0, also where the group is marked.
  const auto kept = [tokens](uint32_t word, uint32_t first) {
    if (tokens >= first + 4) return word;
    return tokens <= first ? 0 : word & ~uint32_t{0} >> 8 * (first + 4 - tokens);
  };
  uint32_t of_rows_first[kChunk];
#pragma unroll
  for (int j = 0; j < kChunk; j += 4) {
#pragma unroll
    for (int i = 0; i < kChunk; i += 4) {
      float y[4][4];
#pragma unroll
      for (int k = 0; k < 16; ++k) y[k / 4][k % 4] = x[i + k / 4].element(j + k % 4);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const Factor f = of_row[i + k];
        const auto code = [&](int l) { return quotient(y[k][l], f.scale, f.reciprocal); };
        const uint32_t word = pack<false>(code(0), code(1), code(2), code(3));
        if (j == 0) {
          of_rows_first[i + k] = word;
        } else if (i + k < tokens) {
          *reinterpret_cast<uint2*>(q + (i + k) * a.hidden_dim) =
              make_uint2(of_rows_first[i + k], word);
        }
      }
#pragma unroll
      for (int l = 0; l < 4; ++l) {
        const Factor f = of_column[(j + l) / 2 * kPieces * 2 + (j + l) % 2];
        const auto code = [&](int k) { return quotient(y[k][l], f.scale, f.reciprocal); };
        const uint32_t word = pack<false>(code(0), code(1), code(2), code(3));
        reinterpret_cast<uint32_t*>(words + (j + l) * kPieces)[i / 4] = kept(word, i);
      }
    }
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

}  // namespace ptgq
