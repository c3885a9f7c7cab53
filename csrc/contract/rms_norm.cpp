#include "contract/rms_norm.h"

#include <algorithm>
#include <array>

#include "contract/dequantize.h"
#include "contract/views.h"

namespace ptgq {
namespace {

// The stride between rows of a tensor that has the shape of x, one stride and aligned elements.
int64_t row_stride(const char* name, const TensorView& t, const TensorView& x, const Problem& p) {
  require(t.dim == x.dim && std::equal(t.sizes, t.sizes + t.dim, x.sizes), name,
          " must have the shape of x");
  require(same_device(t, x), name, " must be on the device of x");
  const int64_t hidden_dim = p.num_groups * p.group_size;
  if (p.num_tokens == 0) return hidden_dim;
  require(has_row_stride(t), name, " must have contiguous rows with one stride");
  require(is_aligned(t, x_element_size(t.type)), name, " must be aligned to its elements");
  int64_t stride = hidden_dim;
  for (int64_t i = 0; i + 1 < t.dim; ++i) {
    if (t.sizes[i] > 1) stride = t.strides[i];
  }
  require(stride >= hidden_dim, name, " must have rows that do not overlap");
  return stride;
}

bool is_of(ElementType type, const TensorView& x) {
  return type == x.type || type == ElementType::kFloat32;
}

}  // namespace

RmsNorm check_rms_norm(const Problem& p, const TensorView& x, double norm_eps,
                       const TensorView& weight, const TensorView* residual,
                       const TensorView* norm_out) {
  RmsNorm n{};
  const int64_t hidden_dim = p.num_groups * p.group_size;
  require(is_accepted(norm_eps), "norm_eps must lie between 1e-24 and 3.4028235e38, got ",
          norm_eps);
  n.norm_eps = static_cast<float>(norm_eps);
  require(is_of(weight.type, x), "weight must have the dtype of x, or float32");
  require(weight.dim == 1 && weight.sizes[0] == hidden_dim, "weight must have the shape (",
          hidden_dim, ")");
  require(same_device(weight, x), "weight must be on the device of x");
  require(weight.strides[0] == 1 || hidden_dim <= 1, "weight must be contiguous");
  require(is_aligned(weight, x_element_size(weight.type)),
          "weight must be aligned to its elements");
  n.weight = weight.data;
  n.weight_type = weight.type;
  n.residual_type = x.type;
  if (residual != nullptr) {
    require(is_of(residual->type, x), "residual must have the dtype of x, or float32");
    n.residual_token_stride = row_stride("residual", *residual, x, p);
    n.residual = residual->data;
    n.residual_type = residual->type;
  }
  if (norm_out != nullptr) {
    require(norm_out->type == x.type, "norm_out must have the dtype of x");
    n.norm_out_token_stride = row_stride("norm_out", *norm_out, x, p);
    n.norm_out = norm_out->data;
  }
  return n;
}

bool overlap(const Problem& p, const RmsNorm& n) {
  struct Operand {
    Span memory;
    bool written;
  };
  const int64_t width = p.num_groups * p.group_size;
  const auto memory = [](const void* data, int64_t bytes) {
    return Span{static_cast<const char*>(data), bytes};
  };
  const auto rows = [&](const void* data, int64_t stride, ElementType type) {
    const int64_t elements = data == nullptr ? 0 : (p.num_tokens - 1) * stride + width;
    return memory(data, elements * x_element_size(type));
  };
  const std::array operands{
      Operand{memory(n.weight, width * x_element_size(n.weight_type)), false},
      Operand{rows(n.residual, n.residual_token_stride, n.residual_type), true},
      Operand{rows(n.norm_out, n.norm_out_token_stride, p.x_type), true},
      Operand{memory_of_q(p), true},
      Operand{memory_of_s(p), true},
      Operand{memory_of_x(p), false},
  };
  const bool in_place =
      n.norm_out == p.x && (p.num_tokens == 1 || n.norm_out_token_stride == p.x_token_stride);
  for (size_t i = 0; i < operands.size(); ++i) {
    for (size_t j = i + 1; j < operands.size(); ++j) {
      if (in_place && i == 2 && j == 5) continue;
      const bool written = operands[i].written || operands[j].written;
      if (written && operands[i].memory.meets(operands[j].memory)) return true;
    }
  }
  return false;
}

}  // namespace ptgq
