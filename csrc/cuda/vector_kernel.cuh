// The fast kernel: groups of 16 to 512 elements, a multiple of 16, in aligned rows.
#pragma once

#include "cuda/lane_vector.cuh"

namespace ptgq {

// Division by a number that is known beforehand, for 31-bit numerators (Granlund and Montgomery,
// "Division by invariant integers using multiplication", PLDI 1994, section 4).
struct Divisor {
  uint32_t divisor;
  uint32_t multiplier;
  uint32_t shift;

  __device__ __forceinline__ uint32_t quotient(uint32_t numerator) const {
    return divisor == 1 ? numerator : __umulhi(numerator, multiplier) >> shift;
  }
};

// A Problem in 31 bits. One row needs the first of these alone.
struct VectorArguments {
  const void* x;
  uint32_t num_warps;   // that have work
  uint32_t num_groups;  // a token's; all, where the rows are one
  uint32_t group_size;
  uint32_t prefetching;  // the first blocks, which may start while the previous kernel runs
  uint8_t* q;
  void* s;
  float eps;
  bool power_of_two;
  bool e8m0;
  bool column_major;
  bool packed;
  bool plain;
  bool padded;
  bool saturate;
  uint32_t num_tokens;
  uint32_t hidden_dim;
  int64_t x_token_stride;
  Divisor groups;  // by a token's groups; column-major, by its sets of kColumns groups
  uint32_t s_token_stride;
  uint32_t s_group_stride;
  uint32_t s_batch_stride;
  uint32_t column_tokens;
  uint32_t column_length;
  float swiglu_limit;
};

// Column-major, a warp takes up to 8 tokens of a group: their float32 scales fill a sector. If that
// leaves room, it takes more groups, not more tokens, which would be read in smaller pieces.
template <int kLanes>
struct WarpTile {
  static_assert(kLanes >= 1 && kLanes <= kWarpSize, "a group is quantized within a warp");
  static constexpr int kGroups = kWarpSize / kLanes;
  static constexpr int kTokens = kGroups < 8 ? kGroups : 8;
  static constexpr int kColumns = kGroups / kTokens;
};

struct Place {
  uint32_t token;
  uint32_t group;
};

// How groups lie in x and s. kRow: all rows side by side, and so their scales, so that a group's
// number says where it is. kColumns: a group's scales side by side, token after token, and no
// others. kSpecial: any, tiles too, and what is asked for may be rare: elements that saturate, and
// gates that are clamped. In other kernels, a test of it took up to 4 % where they are short.
enum class Placement { kRow, kColumns, kAny, kSpecial };

// The group of a lane, of which kLanes have the same. A warp's groups are neighbours as the scales
// lie in memory: in a row or, column-major, in columns. The last ones may be none.
template <int kLanes, Placement kPlacement>
__device__ __forceinline__ Place place_of(const VectorArguments& a, uint32_t warp, uint32_t lane) {
  using Tile = WarpTile<kLanes>;
  const uint32_t slot = lane / kLanes;
  const uint32_t index = warp * Tile::kGroups + slot;
  if constexpr (kPlacement == Placement::kRow) return {0, index};
  if (kPlacement == Placement::kColumns || a.column_major) {
    const uint32_t tokens = a.groups.quotient(warp);
    const uint32_t columns = warp - tokens * a.groups.divisor;
    return {tokens * Tile::kTokens + slot % Tile::kTokens,
            columns * Tile::kColumns + slot / Tile::kTokens};
  }
  const uint32_t token = a.groups.quotient(index);
  return {token, index - token * a.groups.divisor};
}

// Where a lane's elements lie in a group. kNeighbours: its chunks do, and are stored in one write;
// else they are half a group apart, so that the lanes of a load lie side by side.
template <int kLanes, bool kNeighbours = (kLanes < 4), int kElements = kLaneElements>
struct LanePlace {
  uint32_t start;
  uint32_t step;
  bool exists;  // the last lanes may be idle

  __device__ __forceinline__ LanePlace(uint32_t lane, uint32_t group_size)
      : start(lane % kLanes * (kNeighbours ? kElements : kChunk)),
        step(kNeighbours ? kChunk : group_size / 2),
        exists(start < (kNeighbours ? group_size : step)) {}
};

// kPads: also the padding behind the scale.
template <Placement kPlacement, bool kPads>
__device__ __forceinline__ void store_placed(const VectorArguments& a, Place at, float scale) {
  if constexpr (kPlacement == Placement::kRow) {
    put_scale(a, at.group, scale);
  } else if constexpr (kPlacement == Placement::kColumns) {
    put_scale(a, at.group * a.s_group_stride + at.token, scale);
  } else {
    store_scale<kPads, kPlacement == Placement::kSpecial>(a, at.token, at.group, scale);
  }
}

// The lanes of a lane's group that have elements.
template <int kLanes, int kElements>
__device__ __forceinline__ uint32_t lanes_of_group(uint32_t lane, uint32_t group_size) {
  const uint32_t lanes = 0xFFFFFFFF >> (kWarpSize - group_size / kElements);
  return lanes << (lane / kLanes * kLanes);
}

// Quantizes a lane's elements of a group again, from x to q, that was marked, as not all is finite,
// but is to saturate; returns the scale.
template <typename T, bool kSilu, int kElements>
__device__ __forceinline__ float saturate_part(const VectorArguments& a, uint32_t mask,
                                               const uint32_t& step, const T* x, uint8_t* q,
                                               bool int8) {
  const auto place = [&step](uint32_t k) { return k / kChunk * step + k % kChunk; };
  const auto value = [x, &a](uint32_t i) {
    if constexpr (!kSilu) return to_float(x[i]);
    const float y =
        clamped_silu_and_mul(to_float(x[i]), to_float(x[i + a.hidden_dim]), a.swiglu_limit);
    return to_float(round_to(y, T{}));
  };
  const auto max_of = [mask](uint32_t bits) { return __reduce_max_sync(mask, bits); };
  return saturate_group(q, kElements, place, value, max_of, a.eps, a.power_of_two, int8);
}

// A function that is called and begins from the start: inlined, or given what is known, it took
// registers of all.
template <typename T, bool kInt8, bool kSilu, int kLanes, bool kNeighbours, int kElements>
__device__ __noinline__ void saturate_lanes(const VectorArguments& a) {
  const uint32_t lane = threadIdx.x % kWarpSize;
  const uint32_t warp = (blockIdx.x * blockDim.x + threadIdx.x) / kWarpSize;
  const LanePlace<kLanes, kNeighbours, kElements> part(lane, a.group_size);
  const Place at = place_of<kLanes, Placement::kSpecial>(a, warp, lane);
  const int64_t row = at.token;
  const uint32_t column = at.group * a.group_size + part.start;
  const T* const x = static_cast<const T*>(a.x) + row * a.x_token_stride + column;
  const uint32_t mask = lanes_of_group<kLanes, kElements>(lane, a.group_size);
  const float scale = saturate_part<T, kSilu, kElements>(a, mask, part.step, x,
                                                         a.q + row * a.hidden_dim + column, kInt8);
  if (part.start == 0) store_placed<Placement::kSpecial, false>(a, at, scale);
}

// kLanes lanes a group, a power of two for the shuffles, each with kElements of it. A warp takes
// its groups in kParts turns, all of them loaded first.
template <typename T, bool kInt8, bool kSilu, Placement kPlacement, int kLanes, int kElements,
          int kParts>
__device__ __forceinline__ void quantize_groups(const VectorArguments& a) {
  const uint32_t warp = (blockIdx.x * blockDim.x + threadIdx.x) / kWarpSize * kParts;
  if (warp >= a.num_warps) return;
  const uint32_t lane = threadIdx.x % kWarpSize;
  constexpr bool kOneRow = kPlacement == Placement::kRow;
  constexpr bool kSpecial = kPlacement == Placement::kSpecial;
  constexpr bool kNeighbours = kLanes < 4 || kSilu || kElements == kChunk;
  const LanePlace<kLanes, kNeighbours, kElements> part(lane, a.group_size);
  // Lanes without work stay for the shuffles, and read what another lane of the group reads; those
  // of no group, the first elements.
  const uint32_t start = part.exists ? part.start : 0;
  Place at[kParts];
  bool inside[kParts];
  const T* from[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    at[i] = place_of<kLanes, kPlacement>(a, warp + i, lane);
    inside[i] = (kOneRow || at[i].token < a.num_tokens) && at[i].group < a.num_groups;
    const int64_t row = kOneRow ? 0 : at[i].token * a.x_token_stride;
    from[i] = static_cast<const T*>(a.x);
    if (inside[i]) from[i] += row + (at[i].group * a.group_size + start);
    // Gains the latency of memory where x was not written just now. Not for float32, of which a
    // lane holds two sectors, and not for SiLU: there it gained nothing.
    if (sizeof(T) == 2 && !kSilu && blockIdx.x < a.prefetching) prefetch_into_l2(from[i]);
  }

  wait_for_previous_kernel();
  if (!kSilu) let_next_kernel_start();
  LaneVector<T, kElements> x[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) x[i].load(from[i], part.step);
  if constexpr (kSilu) {
    LaneVector<T, kElements> up;
    up.load(from[0] + a.hidden_dim, part.step);
    __syncwarp();  // the loads are not put off
    let_next_kernel_start();
    if constexpr (kSpecial) {
      activate(x[0], up, a.swiglu_limit);
    } else {
      activate(x[0], up);
    }
  }
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    uint32_t absmax = x[i].absmax_bits();
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      absmax = max(absmax, __shfl_xor_sync(0xFFFFFFFF, absmax, offset));
    }
    const float scale = group_scale(absmax, a.eps, kInt8 ? kMaxInt8 : kMaxE4m3, a.power_of_two);
    const float reciprocal = reciprocal_of(scale);
    if (!inside[i] || !part.exists) continue;
    const auto [token, group] = at[i];
    uint8_t* const to =
        a.q + (kOneRow ? 0 : int64_t{token} * a.hidden_dim) + (group * a.group_size + start);
    if (kSilu && a.power_of_two) {  // which is long at an element
      store_codes<kNeighbours, kInt8, true>(to, part.step, x[i], scale, reciprocal,
                                            is_finite(absmax));
    } else {
      store_codes<kNeighbours, kInt8>(to, part.step, x[i], scale, reciprocal, is_finite(absmax));
    }
    if (start == 0) store_placed<kPlacement, true>(a, at[i], scale);
    if (kSpecial && a.saturate && scale != scale) {  // after all that is usual is stored
      saturate_lanes<T, kInt8, kSilu, kLanes, kNeighbours, kElements>(a);
    }
  }
}

// Threads that a multiprocessor holds; on 8.0, which holds more, conversion takes more registers.
#if !defined(__CUDA_ARCH__) || (__CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1100)
constexpr int kHeldThreads = 2048;
#else
constexpr int kHeldThreads = 1536;
#endif
// Blocks that it holds at once: of all its threads, or of half of them, as registers do.
template <typename T>
constexpr int kResident = kHeldThreads / kThreads / (sizeof(T) == 2 ? 1 : 2);

template <typename T, bool kInt8, Placement kPlacement, int kLanes, int kElements, int kParts>
__global__ void __launch_bounds__(kThreads, kResident<T>)
    vector_kernel(const __grid_constant__ VectorArguments a) {
  quantize_groups<T, kInt8, false, kPlacement, kLanes, kElements, kParts>(a);
}

template <typename T, bool kInt8, Placement kPlacement, int kLanes, int kElements>
__global__ void __launch_bounds__(kThreads, kResident<T>)
    silu_and_mul_kernel(const __grid_constant__ VectorArguments a) {
  quantize_groups<T, kInt8, true, kPlacement, kLanes, kElements, 1>(a);
}

// A block a group: any multiple of 16 elements, in aligned rows. What is read twice is in the
// cache.
template <typename T, bool kInt8, bool kSaturate>
__global__ void __launch_bounds__(512) wide_kernel(const __grid_constant__ Problem p) {
  let_next_kernel_start();
  const int64_t token = blockIdx.x / p.num_groups;
  const int64_t group = blockIdx.x - token * p.num_groups;
  const T* const x = static_cast<const T*>(p.x) + token * p.x_token_stride + group * p.group_size;
  uint8_t* const q = p.q + blockIdx.x * p.group_size;
  const int64_t begin = threadIdx.x * kLaneElements;
  const int64_t step = blockDim.x * kLaneElements;

  wait_for_previous_kernel();
  LaneVector<T> vector;
  uint32_t absmax = 0;
  for (int64_t i = begin; i < p.group_size; i += step) {
    vector.load(x + i);
    absmax = max(absmax, vector.absmax_bits());
  }
  absmax = max_of_block(absmax);
  if constexpr (kSaturate) {
    if (!is_finite(absmax)) {
      __syncthreads();  // all have read max_of_block
      const auto value = [x](uint32_t i) { return to_float(x[i]); };
      const auto place = [](uint32_t k) { return threadIdx.x + k * blockDim.x; };
      const auto size = static_cast<uint32_t>(p.group_size);
      const uint32_t count = (size + blockDim.x - 1 - threadIdx.x) / blockDim.x;
      const float scale =
          saturate_group(q, count, place, value, max_of_block, p.eps, p.power_of_two, kInt8);
      if (threadIdx.x == 0) store_scale(p, token, group, scale);
      return;
    }
  }
  const float scale = group_scale(absmax, p.eps, kInt8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
  const float reciprocal = reciprocal_of(scale);
  if (threadIdx.x == 0) store_scale(p, token, group, scale);
  for (int64_t i = begin; i < p.group_size; i += step) {
    vector.load(x + i);
    store_codes<true, kInt8>(q + i, kChunk, vector, scale, reciprocal, is_finite(absmax));
  }
}

}  // namespace ptgq
