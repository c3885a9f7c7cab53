// torch's tensors as its dispatcher passes them.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <string>

#include "contract/check.h"

namespace ptgq {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline ElementType element_type(ScalarType type) {
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
    case ScalarType::Int:
      return ElementType::kInt32;
    case ScalarType::Long:
      return ElementType::kInt64;
    case ScalarType::Byte:
      return ElementType::kByte;
    default:
      return ElementType::kOther;
  }
}

inline TensorView view(const Tensor& t, void* data) {
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

// Padded float32 scales must own the padding of their last column or row, as it is written.
inline void check_padding(const Tensor& s, int64_t elements, const char* line) {
  int64_t bytes = 0;
  int64_t offset = 0;
  require(aoti_torch_get_storage_size(s.get(), &bytes) == AOTI_TORCH_SUCCESS &&
              aoti_torch_get_storage_offset(s.get(), &offset) == AOTI_TORCH_SUCCESS,
          "s has no memory");
  const int64_t end = offset + elements;
  require(end * 4 <= bytes, "s must own the padding of its last ", line,
          ": a copy that torch makes of out in compiled code has none");
}

// A tensor copied to itself is not touched, but autograd counts the write, and torch refuses what
// may not be written in place.
inline void announce_write(const char* name, const Tensor& t) {
  if (aoti_torch_copy_(t.get(), t.get(), 0) == AOTI_TORCH_SUCCESS) return;
  throw Refusal(std::string("Inplace update to inference tensor outside InferenceMode is not "
                            "allowed, nor to a leaf that requires gradients: ") +
                name + " is one of them");
}

inline TensorView view_input(const Tensor& x) {
  return view(x, const_cast<void*>(x.const_data_ptr()));
}

}  // namespace ptgq
