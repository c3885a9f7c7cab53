// torch.ops.ptgq.per_token_group_quant for CPU and CUDA tensors: from the dispatcher's tensors to a
// Problem. The schema is in ptgq/extension.py.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "check.h"
#include "stream.h"

namespace ptgq {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

ElementType element_type(ScalarType type) {
  switch (type) {
    case ScalarType::BFloat16:
      return ElementType::kBfloat16;
    case ScalarType::Half:
      return ElementType::kFloat16;
    case ScalarType::Float:
      return ElementType::kFloat32;
    case ScalarType::Float8_e4m3fn:
      return ElementType::kE4m3;
    case ScalarType::Float8_e8m0fnu:
      return ElementType::kE8m0;
    case ScalarType::Char:
      return ElementType::kInt8;
    case ScalarType::Byte:
      return ElementType::kByte;
    default:
      return ElementType::kOther;
  }
}

TensorView view(const Tensor& t, void* data) {
  return {data,
          t.sizes().data(),
          t.strides().data(),
          t.dim(),
          t.is_cpu()    ? 0
          : t.is_cuda() ? 1
                        : 2,
          t.get_device_index(),
          element_type(t.scalar_type())};
}

Problem problem(const Tensor& x, const Tensor& q, const Tensor& s, const Options& options) {
  const TensorView x_view = view(x, const_cast<void*>(x.const_data_ptr()));
  return check_outputs(check_input(x_view, options), x_view, view(q, q.mutable_data_ptr()),
                       view(s, s.mutable_data_ptr()));
}

void on_cpu(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size, double eps,
            bool column_major_scales, bool use_ue8m0) {
  quantize_cpu(problem(x, q, s, {group_size, eps, column_major_scales, use_ue8m0}));
}

#ifdef PTGQ_WITH_CUDA
void on_cuda(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size, double eps,
             bool column_major_scales, bool use_ue8m0) {
  const Problem p = problem(x, q, s, {group_size, eps, column_major_scales, use_ue8m0});
  const int device = x.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  quantize_cuda(p, device, current_stream(device));
}
#endif

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ptgq, CPU, m) { m.impl("per_token_group_quant", TORCH_BOX(&on_cpu)); }

#ifdef PTGQ_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(ptgq, CUDA, m) { m.impl("per_token_group_quant", TORCH_BOX(&on_cuda)); }
#endif

}  // namespace ptgq
