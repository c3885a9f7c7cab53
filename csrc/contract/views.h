// What checks ask of a tensor and of a number.
#pragma once

#include "contract/check.h"
#include "contract/scales.h"

namespace ptgq {

// Whether the dimensions [0, end) follow each other in memory, the last of them with this stride.
inline bool are_packed(const TensorView& t, int64_t end, int64_t stride) {
  for (int64_t i = end - 1; i >= 0; --i) {
    if (t.sizes[i] > 1 && t.strides[i] != stride) return false;
    stride *= t.sizes[i];
  }
  return true;
}

inline bool is_contiguous(const TensorView& t) { return are_packed(t, t.dim, 1); }

inline bool is_aligned(const TensorView& t, size_t element_size) {
  return reinterpret_cast<uintptr_t>(t.data) % element_size == 0;
}

inline bool same_device(const TensorView& a, const TensorView& b) {
  return a.device_type == b.device_type && a.device_index == b.device_index;
}

// The range of eps and of a limit: within it, eps / 448 and its residuals are normal. NaN fails.
inline bool is_accepted(double value) { return value >= 1e-24 && value <= 3.4028234663852886e38; }

inline int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// The memory of a tensor.
struct Span {
  const char* begin;
  int64_t bytes;
  bool meets(const Span& other) const {
    return begin < other.begin + other.bytes && other.begin < begin + bytes;
  }
};

// What is read and written of a call, also of rows that don't exist; padding of s counts.
inline Span memory_of_x(const Problem& p, const MaskedRows& rows = {}) {
  const int64_t width = p.num_groups * p.group_size;
  const int64_t row = p.prologue == Prologue::kSiluAndMul ? 2 * width : width;
  const bool all = rows.counts == nullptr;
  const int64_t last =
      all ? (p.num_tokens - 1) * p.x_token_stride
          : (rows.batch_tokens - 1) * p.x_token_stride + (rows.batches - 1) * rows.x_batch_stride;
  return {static_cast<const char*>(p.x), (last + row) * x_element_size(p.x_type)};
}
inline Span memory_of_counts(const MaskedRows& rows) {
  const int64_t counts = rows.counts == nullptr ? 0 : (rows.batches - 1) * rows.count_stride + 1;
  return {static_cast<const char*>(rows.counts), counts * (rows.wide ? 8 : 4)};
}
inline Span memory_of_q(const Problem& p) {
  return {reinterpret_cast<const char*>(p.q), p.num_tokens * p.num_groups * p.group_size};
}
inline Span memory_of_s(const Problem& p) {
  const bool bytes = p.e8m0 && !p.packed;
  return {static_cast<const char*>(p.s), scale_elements(p) * (bytes ? 1 : 4)};
}

}  // namespace ptgq
