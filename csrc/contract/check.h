// What a call must satisfy, whoever makes it: from tensors, in plain types, to a Problem.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "contract/problem.h"

namespace ptgq {

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
  Code code;
  ScaleFormat format;
  Prologue prologue;
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

// What the number says that is ptgq.ScaleFormat.code.
ScaleFormat decode_format(int64_t code);
// What codes of this type are.
Code code_of(ElementType q);

// A result's strides: of the last dimension, between tokens and, unless 0, between batches.
struct Strides {
  int64_t last, token, batch;
  int64_t of(int64_t i, const int64_t* sizes, int64_t dim) const;
};
// Lays scales out whose leading dimensions are those of `sizes`; the last is scale_columns().
Strides lay_out_scales(Problem& p, const ScaleFormat& format, const int64_t* sizes, int64_t dim);
int64_t scale_columns(const Problem& p);
// Whether results share memory with x or with each other; padding of s counts.
bool overlap(const Problem& p);

}  // namespace ptgq
