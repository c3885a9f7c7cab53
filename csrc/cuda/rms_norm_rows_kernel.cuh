// RMSNorm before quantization of rows that the kernel of whole vectors does not take.
#pragma once

#include "cuda/rms_norm_sum.cuh"

namespace ptgq {

// Any size and alignment, rows of any length. Sums of a thread wait
// in shared memory for those that they are added to.
template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    rms_norm_per_token_group_quant_rows_kernel(const __grid_constant__ NormArguments a) {
  let_next_kernel_start();
  const Problem& p = a.problem;
  const RmsNorm& n = a.norm;
  const int64_t token = blockIdx.x;
  const int64_t hidden_dim = p.num_groups * p.group_size;
  const T* const x = static_cast<const T*>(p.x) + token * p.x_token_stride;
  const int64_t of_residual = token * n.residual_token_stride;
  const auto element = [](const void* data, ElementType type, int64_t i) {
    return type == ElementType::kFloat32 ? static_cast<const float*>(data)[i]
                                         : to_float(static_cast<const T*>(data)[i]);
  };
  const auto added = [&](int64_t i) {
    if (n.residual == nullptr) return to_float(x[i]);
    const float sum = element(n.residual, n.residual_type, of_residual + i) + to_float(x[i]);
    if (n.residual_type == ElementType::kFloat32) {
      static_cast<float*>(n.residual)[of_residual + i] = sum;
      return sum;
    }
    const T r = round_to(sum, T{});
    static_cast<T*>(n.residual)[of_residual + i] = r;
    return to_float(r);
  };

  wait_for_previous_kernel();
  auto* const waiting = reinterpret_cast<float*>(dynamic_shared_memory()) + threadIdx.x;
  uint64_t vectors = 1;  // of a thread, a power of two
  while (vectors * kThreads * kSummed < hidden_dim) vectors *= 2;
  float sum = 0.0f;
  uint64_t k = 0;
  for (uint64_t i = 0; i < vectors; ++i) {
    float squares[kSummed];
#pragma unroll
    for (int j = 0; j < kSummed; ++j) {
      const int64_t at = (k * kThreads + threadIdx.x) * kSummed + j;
      const float r = at < hidden_dim ? added(at) : 0.0f;
      squares[j] = __fmul_rn(r, r);
    }
    sum = sum_of(squares);
    // k counts with its bits reversed, so that halves of the vectors meet.
    int level = 0;
    for (; i >> level & 1; ++level) sum += waiting[level * kThreads];
    if (i + 1 < vectors) waiting[level * kThreads] = sum;
    uint64_t bit = vectors / 2;
    for (; bit > 0 && (k & bit) != 0; bit /= 2) k ^= bit;
    k |= bit;
  }
  __syncthreads();  // the residual is written
  const float rstd = rstd_of(sum_of_block(sum), a.hidden_dim, n.norm_eps);

  const auto y_at = [&](int64_t i) {
    const float r = n.residual == nullptr ? to_float(x[i])
                                          : element(n.residual, n.residual_type, of_residual + i);
    return round_to(__fmul_rn(__fmul_rn(r, rstd), element(n.weight, n.weight_type, i)), T{});
  };
  // A warp a group or, of large ones, the block: a thread reads what it writes, and nothing else.
  const bool whole_block = a.lanes == 0;
  const uint32_t team = whole_block ? kThreads : kWarpSize;
  const uint32_t lane = threadIdx.x % team;
  const auto max_of_team = [&](uint32_t bits) {
    if (!whole_block) return __reduce_max_sync(0xFFFFFFFF, bits);
    __syncthreads();  // all have read what was before
    return max_of_block(bits);
  };
  for (int64_t group = threadIdx.x / team; group < p.num_groups; group += kThreads / team) {
    const int64_t first = group * p.group_size;
    uint8_t* const q = p.q + token * hidden_dim + first;
    uint32_t absmax = 0;
    for (int64_t i = lane; i < p.group_size; i += team) {
      absmax = max(absmax, absolute_bits(to_float(y_at(first + i))));
    }
    absmax = max_of_team(absmax);
    float scale = group_scale(absmax, p.eps, p.int8 ? kMaxInt8 : kMaxE4m3, p.power_of_two);
    const float reciprocal = reciprocal_of(scale);
    if (p.saturate && !is_finite(absmax)) {
      const auto size = static_cast<uint32_t>(p.group_size);
      const uint32_t count = lane < size ? (size - lane + team - 1) / team : 0;
      const auto place = [&](uint32_t i) { return lane + i * team; };
      const auto value = [&](uint32_t i) { return to_float(y_at(first + i)); };
      scale = saturate_group(q, count, place, value, max_of_team, p.eps, p.power_of_two, p.int8);
    } else {
      for (int64_t i = lane; i < p.group_size; i += team) {
        q[i] = code_of(quotient(to_float(y_at(first + i)), scale, reciprocal), p.int8);
      }
    }
    if (lane == 0) store_scale(p, token, group, scale);
    if (n.norm_out == nullptr) continue;
    T* const row = static_cast<T*>(n.norm_out) + token * n.norm_out_token_stride + first;
    for (int64_t i = lane; i < p.group_size; i += team) row[i] = y_at(first + i);
  }
}

}  // namespace ptgq
