// The fast kernel for silu_and_mul: groups of up to 512 elements, a multiple of 16, in aligned
// rows.
#pragma once

#include "vector_kernel.cuh"

namespace ptgq {

// Vectors a lane: what is not arithmetic costs half as much an element as with one.
constexpr int kSiluVectors = 2;

// kLanes lanes a group, of which some may be idle, in part or wholly.
template <typename T, int kLanes>
__global__ void __launch_bounds__(512)
    silu_and_mul_kernel(const __grid_constant__ VectorArguments a) {
  let_next_kernel_start();
  const Problem& p = a.problem;
  const uint32_t warp = (blockIdx.x * blockDim.x + threadIdx.x) / kWarpSize;
  if (warp >= a.num_warps) return;
  const uint32_t lane = threadIdx.x % kWarpSize;
  const auto [token, group] = place_of<kLanes>(a, warp, lane);
  const uint32_t start = lane % kLanes * kLaneElements;
  constexpr uint32_t kStep = kLanes * kLaneElements;
  const bool has_group = token < p.num_tokens && group < p.num_groups;
  const int64_t hidden_dim = p.num_groups * p.group_size;
  const uint32_t column = group * static_cast<uint32_t>(p.group_size) + start;
  const T* const gates = static_cast<const T*>(p.x) + token * p.x_token_stride + column;

  wait_for_previous_kernel();
  LaneVector<T> x[kSiluVectors]{};
  LaneVector<T> up[kSiluVectors]{};
#pragma unroll
  for (int i = 0; i < kSiluVectors; ++i) {
    if (has_group && start + i * kStep < p.group_size) {
      x[i].load(gates + i * kStep);
      up[i].load(gates + hidden_dim + i * kStep);
    }
  }
  __syncwarp();  // the loads are not put off
  uint32_t absmax = 0;
#pragma unroll
  for (int i = 0; i < kSiluVectors; ++i) {
    x[i].activate(up[i]);
    absmax = max(absmax, x[i].absmax_bits());
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    absmax = max(absmax, __shfl_xor_sync(0xFFFFFFFF, absmax, offset));
  }
  const float scale = group_scale(absmax, p.eps, kMaxE4m3, p.power_of_two);
  const float reciprocal = reciprocal_of(scale);
  if (!has_group) return;
  uint8_t* const q = p.q + token * hidden_dim + column;
#pragma unroll
  for (int i = 0; i < kSiluVectors; ++i) {
    if (start + i * kStep >= p.group_size) continue;
    *reinterpret_cast<uint4*>(q + i * kStep) = lane_codes<false>(x[i], scale, reciprocal, true);
  }
  if (start == 0) store_scale(p, token, group, scale);
}

}  // namespace ptgq
