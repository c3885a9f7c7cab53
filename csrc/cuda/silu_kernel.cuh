// The fast kernel for silu_and_mul: groups of up to 512 elements, a multiple of 16, in aligned
// rows.
#pragma once

#include "cuda/vector_kernel.cuh"

namespace ptgq {

// gate becomes silu(gate) * up, rounded to T. kWithin: no |gate| exceeds kMaxSiluExponent.
template <bool kWithin, typename T, int kElements>
__device__ __forceinline__ void activate(LaneVector<T, kElements>& gate,
                                         const LaneVector<T, kElements>& up) {
  constexpr int kWord = sizeof(uint32_t) / sizeof(T);
#pragma unroll
  for (int i = 0; i < kElements; i += kWord) {
    float y[kWord];
#pragma unroll
    for (int j = 0; j < kWord; ++j) {
      const float a = gate.element(i + j);
      const float b = up.element(i + j);
      y[j] = kWithin ? silu_and_mul_within(a, b) : silu_and_mul(a, b);
    }
    gate.word(i / kWord) = rounded_bits(y, T{});
  }
}

// kLanes lanes a group: a power of two, for the shuffles. A lane quantizes kParts vectors of
// kElements one after the other, all loaded first.
template <typename T, int kLanes, int kParts, int kElements = kLaneElements>
__global__ void __launch_bounds__(512)
    silu_and_mul_kernel(const __grid_constant__ VectorArguments a) {
  const Problem& p = a.problem;
  const uint32_t warp = (blockIdx.x * blockDim.x + threadIdx.x) / kWarpSize * kParts;
  if (warp >= a.num_warps) return;
  const uint32_t lane = threadIdx.x % kWarpSize;
  const auto size = static_cast<uint32_t>(p.group_size);
  constexpr bool kNeighbours = kLanes < 4 || kParts > 1 || kElements == kChunk;
  const LanePlace<kLanes, kNeighbours, kElements> part(lane, size);
  // Lanes without work stay for the shuffles, and read what another lane reads.
  const uint32_t start = part.exists ? part.start : 0;
  Place at[kParts];
  const T* from[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    at[i] = place_of<kLanes>(a, warp + i, lane);
    const uint32_t token = min(at[i].token, static_cast<uint32_t>(p.num_tokens) - 1);
    const uint32_t group = min(at[i].group, static_cast<uint32_t>(p.num_groups) - 1);
    from[i] = static_cast<const T*>(p.x) + token * p.x_token_stride + (group * size + start);
  }

  wait_for_previous_kernel();
  LaneVector<T, kElements> gate[kParts];
  LaneVector<T, kElements> up[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    gate[i].load(from[i], part.step);
    up[i].load(from[i] + a.hidden_dim, part.step);
  }
  __syncwarp();  // the loads are not put off
  let_next_kernel_start();
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    // Almost always: two instructions less an element.
    if (gate[i].absmax_bits() <= bits_of(kMaxSiluExponent)) {
      activate<true>(gate[i], up[i]);
    } else {
      activate<false>(gate[i], up[i]);
    }
    uint32_t absmax = gate[i].absmax_bits();
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      absmax = max(absmax, __shfl_xor_sync(0xFFFFFFFF, absmax, offset));
    }
    const float scale = group_scale(absmax, p.eps, kMaxE4m3, p.power_of_two);
    const float reciprocal = reciprocal_of(scale);
    if (!exists(p, at[i]) || !part.exists) continue;
    const auto [token, group] = at[i];
    uint8_t* const to = p.q + int64_t{token} * a.hidden_dim + (group * size + start);
    if (p.power_of_two) {
      store_codes<kNeighbours, false, true>(to, part.step, gate[i], scale, reciprocal, true);
    } else {
      store_codes<kNeighbours, false>(to, part.step, gate[i], scale, reciprocal, true);
    }
    if (start == 0) store_scale(p, token, group, scale);
  }
}

}  // namespace ptgq
