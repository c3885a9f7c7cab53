// The checked call: from tensors, in plain types, to a Problem; for the fast path and the op.
#pragma once

#include <cstdint>
#include <optional>
#include <sstream>
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
  std::optional<double> swiglu_limit;
  bool saturate;
  std::optional<TensorView> masked_m = std::nullopt;
};

// Why a call is refused.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename... Parts>
void require(bool condition, const Parts&... message) {
  if (condition) return;
  std::ostringstream text;
  (text << ... << message);
  throw Refusal(text.str());
}

// The problem that x and the options state, without its outputs.
Problem check_input(const TensorView& x, const Options& options);
// The rows of x that exist, by the options' masked_m.
MaskedRows check_rows(const Problem& p, const TensorView& x, const Options& options);
// The same problem with its outputs.
Problem check_outputs(Problem p, const Options& options, const TensorView& x, const TensorView& q,
                      const TensorView& s);

// The format that has a number as its ptgq.ScaleFormat.code.
ScaleFormat decode_format(int64_t code);
// The codes that a type holds.
Code code_of(ElementType q);

// The strides of a result: of its last dimension, between tokens and, unless 0, between batches.
struct Strides {
  int64_t last, token, batch;
  int64_t of(int64_t i, const int64_t* sizes, int64_t dim) const;
};
// How s lies as a tensor: with the leading dimensions of x or, of two dimensions, with so many
// rows.
struct ScaleShape {
  static constexpr int64_t kOfX = -1;
  int64_t rows;
  int64_t columns;
  Strides strides;
};
// Lays out the scales of x.
ScaleShape lay_out_scales(Problem& p, const ScaleFormat& format, const TensorView& x);
// Groups of a token that s has place for.
int64_t stored_groups(const Problem& p);
// Whether results share memory with x, with the counts of rows or with each other; padding of s
// counts.
bool overlap(const Problem& p, const MaskedRows& rows);

}  // namespace ptgq
