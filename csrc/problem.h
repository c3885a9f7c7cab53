// One call of the op, checked: what the CPU and the CUDA implementation both start from.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>

namespace ptgq {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

struct Problem {
  const void* x;
  void* q;
  void* s;
  ScalarType x_type;
  bool int8;          // q holds INT8, else E4M3
  bool e8m0;          // s holds E8M0 bytes, else float32
  bool power_of_two;  // scales are rounded up to powers of two
  int64_t num_tokens;
  int64_t num_groups;  // a token's
  int64_t group_size;
  int64_t x_token_stride;  // in elements; q is contiguous
  int64_t s_token_stride;
  int64_t s_group_stride;
  float eps;
};

inline bool same_shape_but_last(const Tensor& a, const Tensor& b) {
  if (a.dim() != b.dim()) return false;
  for (int64_t i = 0; i + 1 < a.dim(); ++i) {
    if (a.size(i) != b.size(i)) return false;
  }
  return true;
}

// Column-major scales lie as [num_groups, num_tokens]: the transpose of a contiguous tensor.
inline bool is_column_major(const Tensor& s, int64_t num_tokens) {
  const int64_t last = s.dim() - 1;
  if (s.size(last) > 1 && s.stride(last) != num_tokens) return false;
  int64_t stride = 1;
  for (int64_t i = last - 1; i >= 0; --i) {
    if (s.size(i) > 1 && s.stride(i) != stride) return false;
    stride *= s.size(i);
  }
  return true;
}

inline Problem check(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size,
                     double eps, bool column_major_scales, bool use_ue8m0) {
  Problem p{};
  p.x_type = x.scalar_type();
  STD_TORCH_CHECK(p.x_type == ScalarType::BFloat16 || p.x_type == ScalarType::Half ||
                      p.x_type == ScalarType::Float,
                  "x must be bfloat16, float16 or float32");
  p.int8 = q.scalar_type() == ScalarType::Char;
  STD_TORCH_CHECK(
      p.int8 || q.scalar_type() == ScalarType::Float8_e4m3fn || q.scalar_type() == ScalarType::Byte,
      "q must be float8_e4m3fn, its bytes (uint8) or int8");
  p.e8m0 = s.scalar_type() == ScalarType::Float8_e8m0fnu || s.scalar_type() == ScalarType::Byte;
  STD_TORCH_CHECK(p.e8m0 || s.scalar_type() == ScalarType::Float,
                  "s must be float32, float8_e8m0fnu or its bytes (uint8)");
  STD_TORCH_CHECK(use_ue8m0 || !p.e8m0, "float8_e8m0fnu scales need use_ue8m0");
  STD_TORCH_CHECK(q.get_device_index() == x.get_device_index() &&
                      s.get_device_index() == x.get_device_index() && q.is_cuda() == x.is_cuda() &&
                      s.is_cuda() == x.is_cuda() && q.is_cpu() == x.is_cpu() &&
                      s.is_cpu() == x.is_cpu(),
                  "x, q and s must be on one device");

  STD_TORCH_CHECK(x.dim() >= 1, "x must have at least one dimension");
  const int64_t hidden_dim = x.size(x.dim() - 1);
  STD_TORCH_CHECK(group_size >= 1 && hidden_dim % group_size == 0,
                  "group_size must divide the last dimension of x, ", hidden_dim, ", got ",
                  group_size);
  p.group_size = group_size;
  p.num_groups = hidden_dim / group_size;
  p.num_tokens = hidden_dim == 0 ? 0 : x.numel() / hidden_dim;

  STD_TORCH_CHECK(same_shape_but_last(q, x) && q.size(q.dim() - 1) == hidden_dim,
                  "q must have the shape of x");
  STD_TORCH_CHECK(same_shape_but_last(s, x) && s.size(s.dim() - 1) == p.num_groups,
                  "s must have the shape of x, with a last dimension of ", p.num_groups);
  STD_TORCH_CHECK(q.is_contiguous(), "q must be contiguous");
  STD_TORCH_CHECK(column_major_scales ? is_column_major(s, p.num_tokens) : s.is_contiguous(),
                  "s must be contiguous, or its transpose with column_major_scales");
  STD_TORCH_CHECK(x.is_contiguous() || (x.dim() == 2 && (x.stride(1) == 1 || hidden_dim == 1)),
                  "x must be contiguous, or two-dimensional with contiguous rows");
  // Not `eps < ...`: NaN must fail. The bound keeps eps / 448 and its residuals normal.
  STD_TORCH_CHECK(eps >= 1e-24 && eps <= 3.4028234663852886e38,
                  "eps must lie between 1e-24 and 3.4028235e38, got ", eps);

  p.eps = static_cast<float>(eps);
  p.power_of_two = use_ue8m0;
  p.x_token_stride = x.is_contiguous() ? hidden_dim : x.stride(0);
  p.s_token_stride = column_major_scales ? 1 : p.num_groups;
  p.s_group_stride = column_major_scales ? p.num_tokens : 1;
  if (p.num_tokens > 0) {
    p.x = x.const_data_ptr();
    p.q = q.mutable_data_ptr();
    p.s = s.mutable_data_ptr();
  }
  return p;
}

}  // namespace ptgq
