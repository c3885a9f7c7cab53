#include "contract/transposed.h"

#include <string>

#include "contract/views.h"

namespace ptgq {

Transpose::Transpose(const TensorView& x, int64_t group_size)
    : sizes(x.sizes, x.sizes + x.dim), strides(x.dim, 1), view(x) {
  const int64_t tokens = x.sizes[x.dim - 2];
  sizes[x.dim - 2] = x.sizes[x.dim - 1];
  // The size, of an x without elements, may be the largest number: nothing is added to it.
  sizes[x.dim - 1] = (tokens / group_size + (tokens % group_size != 0)) * group_size;
  for (int64_t i = x.dim - 1; i > 0; --i) strides[i - 1] = strides[i] * sizes[i];
  view.data = nullptr;
  view.sizes = sizes.data();
  view.strides = strides.data();
}

Transposition check_transposed(const TensorView& x, const TensorView& rows, const Options& options,
                               const TensorView (&results)[4]) {
  require(x.dim >= 2, "x must have at least two dimensions");
  Transposition t{};
  t.rows = check_outputs(check_input(rows, options), options, x, results[0], results[1]);
  t.tokens = x.sizes[x.dim - 2];
  t.masked = check_rows(t.rows, x, options);
  const Transpose transpose(x, options.group_size);
  try {
    t.columns = check_outputs(check_input(transpose.view, options), options, transpose.view,
                              results[2], results[3]);
  } catch (const Refusal& refusal) {
    throw Refusal("of the transpose of x: " + std::string(refusal.what()));
  }
  return t;
}

bool overlap(const Transposition& t) {
  const Span read[] = {memory_of_x(t.rows, t.masked), memory_of_counts(t.masked)};
  const Span written[] = {memory_of_q(t.rows), memory_of_s(t.rows), memory_of_q(t.columns),
                          memory_of_s(t.columns)};
  for (const Span& one : written) {
    for (const Span& other : read) {
      if (one.meets(other)) return true;
    }
    for (const Span& other : written) {
      if (&one != &other && one.meets(other)) return true;
    }
  }
  return false;
}

}  // namespace ptgq
