// The ops for CPU and CUDA tensors, from the dispatcher's tensors to a Problem or a Dequantization.
// Their schemas are in ptgq/extension.py and ptgq/dequantize_op.py.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>

#include "bindings/stable_tensors.h"
#include "bindings/stream.h"
#include "contract/check.h"
#include "contract/dequantize.h"
#include "contract/rms_norm.h"
#include "contract/scales.h"
#include "contract/transposed.h"

namespace ptgq {
namespace {

// Rows of more than two dimensions are viewed if they have one stride, else copied; masked, they
// are read as they lie.
Tensor rows_of(const Tensor& x, bool masked = false) {
  const int64_t last = x.dim() - 1;
  if (masked || last < 2 || x.is_contiguous()) return x;
  if (x.stride(last) != 1 && x.size(last) != 1) return x;
  const int64_t shape[] = {x.numel() / x.size(last), x.size(last)};
  return torch::stable::reshape(x, {shape, 2});
}

// The checked call; `rows` are those of x.
Problem problem_of(const Tensor& x, const Tensor& rows, const Tensor& q, const Tensor& s,
                   const Options& options) {
  const Problem p = check_outputs(check_input(view_input(rows), options), options, view_input(x),
                                  view(q, q.mutable_data_ptr()), view(s, s.mutable_data_ptr()));
  if (options.format.layout == Layout::kTmaAligned && p.num_tokens > 0) {
    check_padding(s, scale_elements(p), "column");
  }
  return p;
}

void run(const Tensor& x, const Tensor& q, const Tensor& s, const Options& options) {
  const Tensor rows = rows_of(x, options.masked_m.has_value());
  const Problem p = problem_of(x, rows, q, s, options);
  const MaskedRows masked = check_rows(p, view_input(rows), options);
  // s goes first: it may be refused, as it can require gradients, and q is then not counted.
  announce_write("s", s);
  announce_write("q", q);
#ifdef PTGQ_WITH_CUDA
  if (x.is_cuda()) {
    const int device = x.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    return quantize_cuda(p, masked, device, current_stream(device));
  }
#endif
  quantize_cpu(p, masked);
}

std::optional<TensorView> view_given(const std::optional<Tensor>& t) {
  if (!t) return std::nullopt;
  return view_input(*t);
}

void quantize(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size, double eps,
              int64_t scale_format, bool saturate, std::optional<Tensor> masked_m) {
  const Code code = code_of(element_type(q.scalar_type()));
  const ScaleFormat format = decode_format(scale_format);
  run(x, q, s,
      {group_size, eps, code, format, Prologue::kNone, std::nullopt, saturate,
       view_given(masked_m)});
}

void quantize_silu_and_mul(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size,
                           double eps, int64_t scale_format, std::optional<double> swiglu_limit,
                           bool saturate, std::optional<Tensor> masked_m) {
  const Code code = code_of(element_type(q.scalar_type()));
  const ScaleFormat format = decode_format(scale_format);
  run(x, q, s,
      {group_size, eps, code, format, Prologue::kSiluAndMul, swiglu_limit, saturate,
       view_given(masked_m)});
}

void quantize_transposed(const Tensor& x, const Tensor& q, const Tensor& s, const Tensor& q_t,
                         const Tensor& s_t, int64_t group_size, double eps, int64_t scale_format,
                         bool saturate, std::optional<Tensor> masked_m) {
  const ScaleFormat format = decode_format(scale_format);
  const Options options{group_size,      eps,          Code::kE4m3, format,
                        Prologue::kNone, std::nullopt, saturate,    view_given(masked_m)};
  require(q.scalar_type() != ScalarType::Char && q_t.scalar_type() != ScalarType::Char,
          "q and q_t must be float8_e4m3fn or its bytes (uint8)");
  const Tensor rows = rows_of(x, masked_m.has_value());
  const TensorView written[] = {view(q, q.mutable_data_ptr()), view(s, s.mutable_data_ptr()),
                                view(q_t, q_t.mutable_data_ptr()),
                                view(s_t, s_t.mutable_data_ptr())};
  const Transposition t = check_transposed(view_input(x), view_input(rows), options, written);
  if (format.layout == Layout::kTmaAligned && t.rows.num_tokens > 0) {
    check_padding(s, scale_elements(t.rows), "column");
    check_padding(s_t, scale_elements(t.columns), "column");
  }
  announce_write("s", s);
  announce_write("s_t", s_t);
  announce_write("q", q);
  announce_write("q_t", q_t);
#ifdef PTGQ_WITH_CUDA
  if (x.is_cuda()) {
    const int device = x.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    return quantize_transposed_cuda(t, device, current_stream(device));
  }
#endif
  quantize_transposed_cpu(t);
}

void quantize_rms_norm(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size,
                       double eps, int64_t scale_format, const Tensor& weight, double norm_eps,
                       std::optional<Tensor> residual, std::optional<Tensor> norm_out,
                       bool saturate) {
  const Code code = code_of(element_type(q.scalar_type()));
  const ScaleFormat format = decode_format(scale_format);
  const Options options{group_size, eps, code, format, Prologue::kNone, std::nullopt, saturate};
  const Tensor rows = rows_of(x);
  const Problem p = problem_of(x, rows, q, s, options);
  const auto written = [](std::optional<Tensor>& t) {
    return t ? view(*t, t->mutable_data_ptr()) : TensorView{};
  };
  const TensorView of_residual = written(residual), of_norm_out = written(norm_out);
  const RmsNorm n =
      check_rms_norm(p, view_input(x), norm_eps, view_input(weight),
                     residual ? &of_residual : nullptr, norm_out ? &of_norm_out : nullptr);
  if (residual) announce_write("residual", *residual);
  if (norm_out) announce_write("norm_out", *norm_out);
  announce_write("s", s);
  announce_write("q", q);
  if (p.num_tokens == 0) return;
#ifdef PTGQ_WITH_CUDA
  if (x.is_cuda()) {
    const int device = x.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    return quantize_rms_norm_cuda(p, n, device, current_stream(device));
  }
#endif
  quantize_rms_norm_cpu(p, n);
}

Tensor dequantize(const Tensor& q, const Tensor& s, int64_t group_size, ScalarType dtype) {
  // What lies as no kernel reads it is copied.
  const Tensor rows =
      q.dim() > 0 && !has_row_stride(view_input(q)) ? torch::stable::contiguous(q) : q;
  const Tensor scales =
      s.dim() > 0 && !has_scale_strides(view_input(s)) ? torch::stable::contiguous(s) : s;
  Dequantization d =
      check_dequantize(view_input(rows), view_input(scales), group_size, element_type(dtype));
  const Tensor y = torch::stable::new_empty(q, q.sizes(), dtype);
  if (d.num_tokens == 0) return y;
  d.y = y.mutable_data_ptr();
#ifdef PTGQ_WITH_CUDA
  if (q.is_cuda()) {
    const int device = q.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    dequantize_cuda(d, device, current_stream(device));
    return y;
  }
#endif
  dequantize_cpu(d);
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ptgq, CPU, m) {
  m.impl("per_token_group_quant", TORCH_BOX(&quantize));
  m.impl("silu_and_mul_per_token_group_quant", TORCH_BOX(&quantize_silu_and_mul));
  m.impl("rms_norm_per_token_group_quant", TORCH_BOX(&quantize_rms_norm));
  m.impl("dequantize", TORCH_BOX(&dequantize));
  m.impl("per_token_group_quant_transposed", TORCH_BOX(&quantize_transposed));
}

#ifdef PTGQ_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(ptgq, CUDA, m) {
  m.impl("per_token_group_quant", TORCH_BOX(&quantize));
  m.impl("silu_and_mul_per_token_group_quant", TORCH_BOX(&quantize_silu_and_mul));
  m.impl("rms_norm_per_token_group_quant", TORCH_BOX(&quantize_rms_norm));
  m.impl("dequantize", TORCH_BOX(&dequantize));
  m.impl("per_token_group_quant_transposed", TORCH_BOX(&quantize_transposed));
}
#endif

}  // namespace ptgq
