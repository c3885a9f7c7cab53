// Launches of the vector kernels: which of them, and how many elements a lane takes, by the amount
// of work.
#pragma once

#include <type_traits>

#include "cuda/tile_kernel.cuh"

namespace ptgq {

constexpr int64_t kMaxIndex = 0x7FFFFFFF;
constexpr int64_t kMaxWarpGroup = 2048;  // above, one warp would be long at a group
constexpr int64_t kWord = 16;            // bytes of the widest access
// The largest group whose lanes can hold 8 elements.
constexpr int64_t kMaxNarrowGroup = kWarpSize * kChunk;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline Divisor divisor_of(uint32_t divisor) {
  uint32_t log2 = 0;
  while (uint64_t{1} << log2 < divisor) ++log2;
  const uint64_t multiplier = (uint64_t{1} << (31 + log2)) / divisor + 1;
  return {divisor, static_cast<uint32_t>(multiplier), log2 == 0 ? 0 : log2 - 1};
}

// Whether 16-byte loads and stores of kElements codes reach the elements, so many at a time.
template <typename T, int kElements>
bool is_aligned(const Problem& p) {
  return reinterpret_cast<uintptr_t>(p.x) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(p.q) % kElements == 0 &&
         (p.num_tokens == 1 || p.x_token_stride * sizeof(T) % 16 == 0);
}

template <typename T>
bool has_whole_lanes(const Problem& p) {
  return p.group_size % kLaneElements == 0 && is_aligned<T, kLaneElements>(p);
}

// Whether 31-bit indices reach every token, element of a token and group, and beyond in a tile, and
// every byte of scales that are not plain.
inline bool has_small_indices(const Problem& p) {
  constexpr int64_t kLast = kMaxIndex - kTileSlots;
  return p.num_tokens <= kLast && p.num_groups * p.group_size <= kLast &&
         p.num_tokens * p.num_groups <= kLast && (p.plain || scale_elements(p) <= kLast / 4);
}

inline bool is_limited(const Problem& p) { return is_finite(bits_of(p.swiglu_limit)); }

// Whether it takes Placement::kSpecial.
inline bool is_special(const Problem& p) {
  return p.saturate || is_limited(p) || p.s_token_stride == kTiledRows;
}

// Row-major, contiguous rows are one: it ends but once.
inline Problem with_one_row(Problem p) {
  if (!p.column_major && p.plain && p.x_token_stride == p.num_groups * p.group_size) {
    p.num_groups *= p.num_tokens;
    p.num_tokens = 1;
  }
  return p;
}

// kLanes: those of a group in the kernel.
template <int kLanes>
VectorArguments vector_arguments(const Problem& p, Launch how) {
  using Tile = WarpTile<kLanes>;
  const auto narrow = [](int64_t value) { return static_cast<uint32_t>(value); };
  const int64_t groups = p.column_major ? ceil_div(p.num_groups, Tile::kColumns) : p.num_groups;
  const int64_t warps = p.column_major ? ceil_div(p.num_tokens, Tile::kTokens) * groups
                                       : ceil_div(p.num_tokens * p.num_groups, Tile::kGroups);
  VectorArguments a{};
  a.x = p.x;
  a.num_warps = narrow(warps);
  a.num_groups = narrow(p.num_groups);
  a.group_size = narrow(p.group_size);
  a.prefetching = how.dependent ? how.first_wave : 0;
  a.q = p.q;
  a.s = p.s;
  a.eps = p.eps;
  a.power_of_two = p.power_of_two;
  a.e8m0 = p.e8m0;
  a.column_major = p.column_major;
  a.packed = p.packed;
  a.plain = p.plain;
  a.padded = p.padded;
  a.saturate = p.saturate;
  a.num_tokens = narrow(p.num_tokens);
  a.hidden_dim = narrow(p.num_groups * p.group_size);
  a.x_token_stride = p.x_token_stride;
  a.groups = divisor_of(narrow(groups));
  a.s_token_stride = narrow(p.s_token_stride);
  a.s_group_stride = narrow(p.s_group_stride);
  a.s_batch_stride = narrow(p.s_batch_stride);
  a.column_tokens = narrow(p.column_tokens);
  a.column_length = narrow(p.column_length);
  a.swiglu_limit = p.swiglu_limit;
  return a;
}

// kLanes: those of a group in the kernel, whose warps do the work of kParts.
template <int kLanes, int kParts = 1>
void launch_warps(void (*kernel)(VectorArguments), const Problem& p, Launch how) {
  const VectorArguments a = vector_arguments<kLanes>(p, how);
  const int64_t warps = a.num_warps;
  launch_kernel(kernel, ceil_div(warps, kParts * kThreads / kWarpSize), kThreads, a, how);
}

// Calls with the least power of two, from kLanes on, that is not below `lanes`.
template <int kLanes = 1, typename Call>
void with_lanes(int64_t lanes, const Call& call) {
  if constexpr (kLanes < kWarpSize) {
    if (lanes > kLanes) return with_lanes<2 * kLanes>(lanes, call);
  }
  call(std::integral_constant<int, kLanes>{});
}

// Waves of lanes that take so many elements each, of which the device holds one at once.
inline double waves_of(const Problem& p, Launch how, int elements) {
  const double lanes = static_cast<double>(p.num_tokens * p.num_groups * p.group_size) / elements;
  return lanes / (static_cast<double>(how.first_wave) * kThreads);
}

// Whether one wave takes all with 8 elements a lane: then that is fastest.
inline bool fits_narrow_lanes(const Problem& p, Launch how) {
  return p.group_size <= kMaxNarrowGroup && waves_of(p, how, kChunk) <= 1;
}

template <typename T, bool kInt8, Placement kPlacement>
void launch_placed(const Problem& p, Launch how) {
  const int64_t lanes = p.group_size / kLaneElements;
  // Both were measured with 16-bit x: of float32, a lane's registers leave half of the lanes.
  if constexpr (sizeof(T) == 2 && kPlacement == Placement::kRow) {
    if (fits_narrow_lanes(p, how)) {
      return with_lanes<2>(2 * lanes, [&](auto n) {
        launch_warps<n>(vector_kernel<T, kInt8, kPlacement, n, kChunk, 1>, p, how);
      });
    }
  }
  if constexpr (sizeof(T) == 2 &&
                (kPlacement == Placement::kRow || kPlacement == Placement::kColumns)) {
    // Rather one wave of twice the work than two, but where each may start before the last has
    // ended.
    const double waves = waves_of(p, how, kLaneElements);
    if (!how.dependent && waves > 1 && waves <= 2) {
      return with_lanes(lanes, [&](auto n) {
        launch_warps<n, 2>(vector_kernel<T, kInt8, kPlacement, n, kLaneElements, 2>, p, how);
      });
    }
  }
  with_lanes(lanes, [&](auto n) {
    launch_warps<n>(vector_kernel<T, kInt8, kPlacement, n, kLaneElements, 1>, p, how);
  });
}

template <typename T, bool kInt8>
void launch_vector(const Problem& p, Launch how) {
  const Problem row = with_one_row(p);
  if (is_special(p)) return launch_placed<T, kInt8, Placement::kSpecial>(p, how);
  if (p.plain && p.column_major) return launch_placed<T, kInt8, Placement::kColumns>(p, how);
  if (p.plain && row.num_tokens == 1 && has_small_indices(row)) {
    return launch_placed<T, kInt8, Placement::kRow>(row, how);
  }
  launch_placed<T, kInt8, Placement::kAny>(p, how);
}

template <typename T, bool kInt8, Placement kPlacement>
void launch_silu_and_mul_placed(const Problem& p, Launch how) {
  if (fits_narrow_lanes(p, how)) {
    return with_lanes<2>(p.group_size / kChunk, [&](auto n) {
      launch_warps<n>(silu_and_mul_kernel<T, kInt8, kPlacement, n, kChunk>, p, how);
    });
  }
  with_lanes(p.group_size / kLaneElements, [&](auto n) {
    launch_warps<n>(silu_and_mul_kernel<T, kInt8, kPlacement, n, kLaneElements>, p, how);
  });
}

}  // namespace ptgq
