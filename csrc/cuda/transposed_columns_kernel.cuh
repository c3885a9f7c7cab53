// per_token_group_quant_transposed on a CUDA device: the columns of what has no tiles.
#pragma once

#include "cuda/transposed_kernel.cuh"

namespace ptgq {

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
