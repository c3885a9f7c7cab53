// RMSNorm before quantization on a CUDA device: choice of the kernel.
#pragma once

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "cuda/dispatch.cuh"
#include "cuda/rms_norm_kernel.cuh"
#include "cuda/rms_norm_rows_kernel.cuh"

namespace ptgq {

// Whether 16-byte accesses reach rows of a type.
inline bool has_aligned_rows(const void* data, int64_t stride, ElementType type, int64_t tokens) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 &&
         (tokens == 1 || stride * x_element_size(type) % 16 == 0);
}

inline bool takes_vectors(const Problem& p, const RmsNorm& n) {
  const int64_t hidden_dim = p.num_groups * p.group_size;
  const auto size = static_cast<uint64_t>(p.group_size);
  const bool in_warp = size >= kSummed && size <= kWarpElements && std::has_single_bit(size);
  return hidden_dim % kSummed == 0 && hidden_dim <= kMaxNormVectors * kMaxNormThreads * kSummed &&
         (in_warp || size % kWarpElements == 0) && has_small_indices(p) &&
         reinterpret_cast<uintptr_t>(p.q) % kSummed == 0 &&
         has_aligned_rows(p.x, p.x_token_stride, p.x_type, p.num_tokens) &&
         has_aligned_rows(n.weight, 0, n.weight_type, 1) &&
         has_aligned_rows(n.residual, n.residual_token_stride, n.residual_type, p.num_tokens) &&
         has_aligned_rows(n.norm_out, n.norm_out_token_stride, p.x_type, p.num_tokens);
}

// Vectors of a thread, and threads of a row.
struct NormBlock {
  int64_t vectors;
  int64_t threads;
};

// Of few rows, each gets many threads, so that all wait for memory at once; of more than the device
// holds so, threads have more vectors, so that less is spent on barriers and sums.
inline NormBlock block_of(const Problem& p, Launch how) {
  const int64_t vectors = p.num_groups * p.group_size / kSummed;
  const auto with_threads = [&](int64_t least) {
    const auto threads = std::clamp<int64_t>(std::bit_ceil(static_cast<uint64_t>(least)), kWarpSize,
                                             kMaxNormThreads);
    const auto each = std::bit_ceil(static_cast<uint64_t>(ceil_div(vectors, threads)));
    return NormBlock{static_cast<int64_t>(each), threads};
  };
  const NormBlock most = with_threads(vectors);
  // Registers leave half of a device's threads.
  const int64_t held = int64_t{how.first_wave} * kThreads / 2;
  if (p.num_tokens * most.threads <= held) return most;
  return with_threads(ceil_div(vectors, kMaxNormVectors));
}

template <typename T, bool kMixed, Codes kCodes>
auto rms_norm_kernel_of(int64_t vectors) {
  return vectors == 1   ? rms_norm_per_token_group_quant_kernel<T, kMixed, 1, kCodes>
         : vectors == 2 ? rms_norm_per_token_group_quant_kernel<T, kMixed, 2, kCodes>
                        : rms_norm_per_token_group_quant_kernel<T, kMixed, 4, kCodes>;
}

template <typename T>
void quantize_rms_norm_on(const Problem& p, const RmsNorm& n, Launch how) {
  const int64_t hidden_dim = p.num_groups * p.group_size;
  NormArguments a{p, n};
  a.hidden_dim = static_cast<float>(hidden_dim);
  if (p.num_tokens > kMaxIndex) throw std::runtime_error("x has too many rows for one launch");
  if (!takes_vectors(p, n)) {
    a.lanes = p.group_size <= kMaxWarpGroup ? kWarpSize : 0;
    int64_t levels = 0;
    while ((int64_t{kThreads} * kSummed << levels) < hidden_dim) ++levels;
    return launch_kernel(rms_norm_per_token_group_quant_rows_kernel<T>, p.num_tokens, kThreads, a,
                         how, levels * kThreads * sizeof(float));
  }
  a.elements = static_cast<uint32_t>(hidden_dim);
  const bool in_warp = p.group_size <= kWarpElements;
  a.lanes = in_warp ? static_cast<uint32_t>(p.group_size / kSummed) : 0;
  a.size = divisor_of(static_cast<uint32_t>(p.group_size / kSummed));
  a.prefetching = how.dependent ? how.first_wave : 0;
  const NormBlock block = block_of(p, how);
  const auto is_other = [&](ElementType type) { return type != p.x_type; };
  const bool mixed = is_other(n.weight_type) || is_other(n.residual_type);
  const bool common = !mixed && !p.saturate && in_warp && a.lanes >= block.vectors;
  if (common) a.log2_lanes = std::countr_zero(a.lanes);
  auto* kernel = !common  ? rms_norm_kernel_of<T, false, Codes::kAny>(block.vectors)
                 : p.int8 ? rms_norm_kernel_of<T, false, Codes::kInt8>(block.vectors)
                          : rms_norm_kernel_of<T, false, Codes::kE4m3>(block.vectors);
  if constexpr (sizeof(T) == 2) {
    if (mixed) kernel = rms_norm_kernel_of<T, true, Codes::kAny>(block.vectors);
  }
  const bool copied = block.vectors > 2 && sizeof(T) == 2 && !mixed;
  const size_t shared = (copied ? block.vectors * block.threads * sizeof(uint4) : 0) +
                        (common ? 0 : p.num_groups * sizeof(float));
  launch_kernel(kernel, p.num_tokens, static_cast<int>(block.threads), a, how, shared);
}

}  // namespace ptgq
