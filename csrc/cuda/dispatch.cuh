// The op on a CUDA device: choice of the kernel. Each type of x includes it in a file of its own,
// so that they compile side by side.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "cuda/launch_masked.cuh"
#include "cuda/small_kernel.cuh"

namespace ptgq {

template <typename T, bool kInt8>
auto tile_kernel_for(bool interleaved, bool plain) {
  // Scales that are not plain are rare: one kernel.
  if (!plain) return tile_kernel<T, kInt8, true, false>;
  return interleaved ? tile_kernel<T, kInt8, true, true> : tile_kernel<T, kInt8, false, true>;
}

template <typename T, bool kInt8>
void launch_tile(const Problem& p, Launch how) {
  TileArguments a{};
  a.problem = p;
  while (int64_t{kMaxRun} << a.lanes_log2 < p.group_size) ++a.lanes_log2;
  a.run = static_cast<uint32_t>(ceil_div(p.group_size, int64_t{1} << a.lanes_log2));
  int64_t slots = kTileThreads >> a.lanes_log2;
  while (slots * p.group_size < kTileCodes && slots < kTileSlots) slots *= 2;
  // Column-major, tokens whose scales of a group fill a sector, or half of it: of more tokens too
  // little would be read side by side.
  const int64_t sector = p.column_major ? std::min<int64_t>(slots, p.e8m0 ? 16 : 8) : 1;
  int64_t groups = std::min(slots / sector, p.num_groups);
  groups = ceil_div(p.num_groups, ceil_div(p.num_groups, groups));
  // Groups that end with a 16-byte word, if so many fit: what follows begins with one.
  const int64_t whole = kWord / std::gcd(p.group_size, kWord);
  if (groups > whole) groups -= groups % whole;
  const int64_t tiles = ceil_div(p.num_groups, groups);
  const int64_t tokens = std::min(slots / groups / sector * sector, p.num_tokens);
  a.tiles = divisor_of(static_cast<uint32_t>(tiles));
  a.groups = divisor_of(static_cast<uint32_t>(groups));
  a.tokens = divisor_of(static_cast<uint32_t>(tokens));
  // One more than the codes need: they may start at any byte of the first.
  const int64_t words = ceil_div(groups * p.group_size, kWord) + 1;
  a.words = divisor_of(static_cast<uint32_t>(words));
  const int64_t scale_bytes = p.column_major ? (groups | 1) * sizeof(float) : 0;
  // Longest runs begin at multiples of 16 elements: the lanes' accesses would meet in few banks.
  const bool interleaved = a.run == kMaxRun;
  launch_kernel(tile_kernel_for<T, kInt8>(interleaved, p.plain),
                ceil_div(p.num_tokens, tokens) * tiles, kTileThreads, a, how,
                tokens * (words * kWord + scale_bytes));
}

template <typename T, bool kInt8>
void launch_small(const Problem& p, Launch how) {
  SmallArguments a{};
  a.problem = p;
  const int64_t sets = ceil_div(p.num_groups, kSetGroups);
  const int64_t tiles = ceil_div(sets, kSmallSets);
  a.sets = divisor_of(static_cast<uint32_t>(p.column_major ? tiles : sets));
  a.aligned = is_aligned<T, kSetGroups>(p) &&
              (p.num_tokens == 1 || p.num_groups * p.group_size % kSetGroups == 0);
  const int64_t blocks = p.column_major ? ceil_div(p.num_tokens, kSmallTokens) * tiles
                                        : ceil_div(p.num_tokens * sets, kSmallThreads);
  void (*const kernels[])(SmallArguments) = {small_kernel<T, kInt8, 1>, small_kernel<T, kInt8, 2>,
                                             small_kernel<T, kInt8, 3>, small_kernel<T, kInt8, 4>,
                                             small_kernel<T, kInt8, 5>, small_kernel<T, kInt8, 6>};
  launch_kernel(kernels[p.group_size - 1], blocks, kSmallThreads, a, how);
}

template <typename T, bool kSilu, bool kLimited, bool kSaturate>
void launch_generic_as(const Problem& p, Launch how) {
  const int64_t groups = p.num_tokens * p.num_groups;
  const bool block_a_group = p.group_size > kMaxWarpGroup;
  const int64_t blocks = block_a_group ? groups : ceil_div(groups, kThreads / kWarpSize);
  if (blocks > kMaxIndex) throw std::runtime_error("x has too many groups for one launch");
  launch_kernel(block_a_group
                    ? per_token_group_quant_kernel<T, kSilu, kLimited, kSaturate, kThreads>
                    : per_token_group_quant_kernel<T, kSilu, kLimited, kSaturate, kWarpSize>,
                blocks, kThreads, p, how);
}

template <typename T, bool kSilu, bool kLimited = false>
void launch_generic(const Problem& p, Launch how) {
  return p.saturate ? launch_generic_as<T, kSilu, kLimited, true>(p, how)
                    : launch_generic_as<T, kSilu, kLimited, false>(p, how);
}

// A call takes the first that fits. Whole lanes: multiples of 16, in aligned rows.
//
//   groups of                 kernel                        a group belongs to
//   whole lanes, up to 512    vector_kernel                 1 to 32 lanes of a warp
//   up to 6, plain scales     small_kernel                  a thread, which has eight
//   up to 512                 tile_kernel                   1 to 32 lanes of a block's tile
//   whole lanes               wide_kernel                   a block
//   up to 2048                per_token_group_quant_kernel  a warp
//   more                      per_token_group_quant_kernel  a block
//
// The first three need indices of 31 bits; the second and the third are not for elements that
// saturate. SiLU has its own first one, else the last two. Masked rows have kernels of their own,
// see cuda/launch_masked.cuh. Traces show the names behind ptgq::.
// Four of them lack the op's name, and keep theirs: they are parameters of stored benchmarks, whose
// histories a rename would end.
template <typename T, bool kInt8>
void launch(const Problem& p, Launch how) {
  const int64_t groups = p.num_tokens * p.num_groups;
  const bool small = p.group_size <= kMaxTileGroup && has_small_indices(p);
  if (small && has_whole_lanes<T>(p)) return launch_vector<T, kInt8>(p, how);
  if (small && !p.saturate && p.group_size <= kMaxSmallGroup && p.plain) {
    return launch_small<T, kInt8>(with_one_row(p), how);
  }
  if (small && !p.saturate) return launch_tile<T, kInt8>(with_one_row(p), how);
  if (p.group_size > kMaxTileGroup && has_whole_lanes<T>(p) && groups <= kMaxIndex) {
    // Two vectors a thread: what it reads twice is in the cache.
    const int64_t threads = ceil_div(p.group_size, 2 * kLaneElements * kWarpSize) * kWarpSize;
    const auto block = static_cast<int>(std::clamp<int64_t>(threads, 64, 512));
    return launch_kernel(p.saturate ? wide_kernel<T, kInt8, true> : wide_kernel<T, kInt8, false>,
                         groups, block, p, how);
  }
  launch_generic<T, false>(p, how);
}

template <typename T, bool kInt8>
void launch_silu_and_mul(const Problem& p, Launch how) {
  if (p.group_size > kMaxTileGroup || !has_small_indices(p) || !has_whole_lanes<T>(p)) {
    return is_limited(p) ? launch_generic<T, true, true>(p, how) : launch_generic<T, true>(p, how);
  }
  if (is_special(p)) return launch_silu_and_mul_placed<T, kInt8, Placement::kSpecial>(p, how);
  launch_silu_and_mul_placed<T, kInt8, Placement::kAny>(p, how);
}

template <typename T, bool kInt8>
void launch_prologue(const Problem& p, Launch how) {
  if (p.prologue == Prologue::kSiluAndMul) return launch_silu_and_mul<T, kInt8>(p, how);
  launch<T, kInt8>(p, how);
}

template <typename T>
void quantize_on(const Problem& p, const MaskedRows& rows, int device, void* stream) {
  const Launch how = launch_on(device, static_cast<cudaStream_t>(stream));
  if (rows.counts != nullptr) return launch_masked<T>(p, rows, how);
  return p.int8 ? launch_prologue<T, true>(p, how) : launch_prologue<T, false>(p, how);
}

}  // namespace ptgq
