// What a call must satisfy, whoever makes it: from tensors, in plain types, to a Problem.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "problem.h"

namespace ptgq {

enum class ElementType : uint8_t {
  kBfloat16,
  kFloat16,
  kFloat32,
  kE4m3,
  kE8m0,
  kInt8,
  kInt32,
  kByte,
  kOther
};

struct TensorView {
  void* data;
  const int64_t* sizes;
  const int64_t* strides;  // in elements
  int64_t dim;
  int device_type;  // numbered as the caller likes
  int device_index;
  ElementType type;
};

struct Options {
  int64_t group_size;
  double eps;
  bool column_major_scales;
  bool use_ue8m0;
  bool tma_aligned_scales = false;  // and column-major
  bool per_batch_scales = false;    // and column-major
  bool silu_and_mul = false;
};

// Why a call is refused.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The problem that x and the options state, without its outputs.
Problem check_input(const TensorView& x, const Options& options);
// The same with its outputs.
Problem check_outputs(Problem p, const Options& options, const TensorView& x, const TensorView& q,
                      const TensorView& s);

}  // namespace ptgq
