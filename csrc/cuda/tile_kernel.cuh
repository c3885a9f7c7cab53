// The kernel for groups of up to 512 elements, of any size and alignment.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/vector_kernel.cuh"

namespace ptgq {

constexpr int kTileThreads = 256;
constexpr int kMaxTileGroup = 512;
// A tile has this many codes, but no more groups: enough that what a block costs is little.
constexpr int kTileCodes = 8192;
constexpr int kTileSlots = 1024;
constexpr int kMaxRun = 16;  // elements that a lane may hold
constexpr int kStep = 4;     // elements between looks whether a run is at its end

// A block's tile: rows of neighbouring groups of neighbouring tokens; the last ones are cut off. In
// shared memory are its codes and, column-major, its scales.
struct TileArguments {
  Problem problem;
  Divisor tiles;        // by the tiles of a token
  Divisor groups;       // by the tile's groups of a token
  Divisor tokens;       // by the tile's tokens
  Divisor words;        // by the 16-byte words of a row of codes in shared memory
  uint32_t lanes_log2;  // of the lanes of a group
  uint32_t run;         // elements of a lane, at most kMaxRun
};

// Stores rows of codes that lie in shared memory as they do in q: at the same offsets from 16
// bytes.
__device__ __forceinline__ void store_rows(uint8_t* q, int64_t hidden_dim, const uint4* codes,
                                           uint32_t rows, uint32_t bytes, Divisor words) {
  for (uint32_t i = threadIdx.x; i < rows * words.divisor; i += kTileThreads) {
    const uint32_t row = words.quotient(i);
    uint8_t* const to = q + row * hidden_dim;
    const int start = static_cast<int>(reinterpret_cast<uintptr_t>(to) % sizeof(uint4));
    // The word's first byte in the row, and its bytes that are the row's.
    const int first = static_cast<int>(i - row * words.divisor) * int{sizeof(uint4)} - start;
    const int from = max(0, -first);
    const int end = min(int{sizeof(uint4)}, static_cast<int>(bytes) - first);
    if (from == 0 && end == int{sizeof(uint4)}) {
      *reinterpret_cast<uint4*>(to + first) = codes[i];
    } else {
      const uint8_t* const word = reinterpret_cast<const uint8_t*>(codes + i);
      for (int byte = from; byte < end; ++byte) to[first + byte] = word[byte];
    }
  }
}

// The largest magnitude of a group, as float32 bits, from its lanes' values.
template <typename T>
__device__ __forceinline__ uint32_t absmax_of_lanes(const T (&values)[kMaxRun], uint32_t run,
                                                    uint32_t lanes) {
  uint32_t absmax = 0;
#pragma unroll
  for (int i = 0; i < kMaxRun; i += kStep) {
    if (i >= run) break;
#pragma unroll
    for (int j = i; j < i + kStep; ++j) absmax = max(absmax, absolute_bits(to_float(values[j])));
  }
  for (uint32_t offset = lanes / 2; offset > 0; offset /= 2) {
    absmax = max(absmax, __shfl_xor_sync(0xFFFFFFFF, absmax, offset));
  }
  return absmax;
}

// Each lane holds a run of neighbouring elements or, kInterleaved, each next one of the group.
// Codes go through shared memory: each stored by itself would be a write of a whole sector. kPlain:
// what other scales need takes registers.
template <typename T, bool kInt8, bool kInterleaved, bool kPlain>
__global__ void __launch_bounds__(kTileThreads)
    tile_kernel(const __grid_constant__ TileArguments a) {
  uint4* const codes = dynamic_shared_memory();
  let_next_kernel_start();
  const Problem& p = a.problem;
  const auto size = static_cast<uint32_t>(p.group_size);
  const int64_t hidden_dim = p.num_groups * p.group_size;
  const uint32_t tile_row = a.tiles.quotient(blockIdx.x);
  const int64_t first_token = int64_t{tile_row} * a.tokens.divisor;
  const int64_t first_group = int64_t{blockIdx.x - tile_row * a.tiles.divisor} * a.groups.divisor;
  const auto tokens =
      static_cast<uint32_t>(min(int64_t{a.tokens.divisor}, p.num_tokens - first_token));
  const auto groups =
      static_cast<uint32_t>(min(int64_t{a.groups.divisor}, p.num_groups - first_group));
  const T* const tile_x =
      static_cast<const T*>(p.x) + first_token * p.x_token_stride + first_group * size;
  uint8_t* const tile_q = p.q + first_token * hidden_dim + first_group * size;
  const auto q_offset = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(tile_q));
  const uint32_t lanes = 1 << a.lanes_log2;
  const uint32_t lane = threadIdx.x & (lanes - 1);
  const uint32_t start = kInterleaved ? lane : lane * a.run;
  const uint32_t step = kInterleaved ? lanes : 1;
  auto* const scales = reinterpret_cast<float*>(codes + a.tokens.divisor * a.words.divisor);
  const uint32_t pitch = a.groups.divisor | 1;  // columns of scales lie in different banks
  const auto put = [&](uint32_t token, uint32_t group, float scale) {
    const auto row = static_cast<uint32_t>(first_token) + token;
    if constexpr (kPlain) {
      store_plain_scale(p, int64_t{row}, first_group + group, scale);
    } else {
      store_scale(p, row, static_cast<uint32_t>(first_group) + group, scale);
    }
  };

  wait_for_previous_kernel();
  const uint32_t slots = a.tokens.divisor * a.groups.divisor;
  for (uint32_t base = 0; base < slots; base += kTileThreads >> a.lanes_log2) {
    const uint32_t slot = base + (threadIdx.x >> a.lanes_log2);
    const uint32_t token = a.groups.quotient(slot);
    const uint32_t group = slot - token * a.groups.divisor;
    const bool inside = token < tokens && group < groups;
    // Lanes without elements stay for the shuffles.
    const int left = inside && start < size ? static_cast<int>(size - start) : 0;
    const int count = kInterleaved ? (left + static_cast<int>(step) - 1) >> a.lanes_log2
                                   : min(static_cast<int>(a.run), left);
    const uint32_t column = group * size + start;

    const T* const x = tile_x + token * p.x_token_stride + column;
    T values[kMaxRun];
#pragma unroll
    for (int i = 0; i < kMaxRun; i += kStep) {
      if (i >= a.run) break;
#pragma unroll
      for (int j = i; j < i + kStep; ++j) values[j] = j < count ? x[j * step] : T{};
    }
    const uint32_t absmax = absmax_of_lanes(values, a.run, lanes);
    const float scale = group_scale(absmax, p.eps, kInt8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
    const float reciprocal = reciprocal_of(scale);
    if (lane == 0 && inside) {
      if (p.column_major) {
        scales[token * pitch + group] = scale;
      } else {
        put(token, group, scale);
      }
    }

    const uint32_t row_offset =
        (q_offset + token * static_cast<uint32_t>(hidden_dim)) % sizeof(uint4);
    uint8_t* const q =
        reinterpret_cast<uint8_t*>(codes + token * a.words.divisor) + row_offset + column;
#pragma unroll
    for (int i = 0; i < kMaxRun; i += kStep) {
      if (i >= a.run) break;
      float y[kStep];
#pragma unroll
      for (int j = 0; j < kStep; ++j) y[j] = quotient(to_float(values[i + j]), scale, reciprocal);
      uint32_t four = pack<kInt8>(y[0], y[1], y[2], y[3]);
      if (kInt8 && !is_finite(absmax)) four = 0;
#pragma unroll
      for (int j = 0; j < kStep; ++j) {
        if (i + j < count) q[(i + j) * step] = static_cast<uint8_t>(four >> 8 * j);
      }
    }
  }
  __syncthreads();
  store_rows(tile_q, hidden_dim, codes, tokens, groups * size, a.words);
  if (!p.column_major) return;
  // Column by column: neighbouring threads store neighbours.
  for (uint32_t i = threadIdx.x; i < slots; i += kTileThreads) {
    const uint32_t group = a.tokens.quotient(i);
    const uint32_t token = i - group * a.tokens.divisor;
    if (token < tokens && group < groups) put(token, group, scales[token * pitch + group]);
  }
}

}  // namespace ptgq
