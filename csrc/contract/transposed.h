// One checked call of per_token_group_quant_transposed: the rows of matrices, and their columns.
#pragma once

#include <vector>

#include "contract/check.h"

namespace ptgq {

struct Transposition {
  Problem rows;     // of x, in which the matrices follow each other
  Problem columns;  // of the transposes: its tokens are columns of x, which it does not have
  int64_t tokens;   // of a matrix
  MaskedRows masked = {};
};

inline int64_t hidden_dim_of(const Transposition& t) {
  return t.rows.num_groups * t.rows.group_size;
}

// The transposes of x as a tensor without memory, their rows filled up to whole groups.
struct Transpose {
  std::vector<int64_t> sizes, strides;
  TensorView view;

  Transpose(const TensorView& x, int64_t group_size);
  Transpose(const Transpose&) = delete;
};

// The call that writes (q, s, q_t, s_t); `rows` is x with one stride between its rows.
Transposition check_transposed(const TensorView& x, const TensorView& rows, const Options& options,
                               const TensorView (&results)[4]);
// Whether results share memory with x, with the counts of rows or with each other.
bool overlap(const Transposition& t);

// As quantize_cpu and quantize_cuda.
void quantize_transposed_cpu(const Transposition& t);
void quantize_transposed_cuda(const Transposition& t, int device, void* stream);

}  // namespace ptgq
