#include "contract/transposed.h"

#include <string>
#include <vector>

namespace ptgq {

Transposition check_transposed(const TensorView& x, const TensorView& rows, const Options& options,
                               const TensorView (&results)[4]) {
  require(x.dim >= 2, "x must have at least two dimensions");
  Transposition t{};
  t.rows = check_outputs(check_input(rows, options), options, x, results[0], results[1]);
  t.tokens = x.sizes[x.dim - 2];
  std::vector<int64_t> sizes(x.sizes, x.sizes + x.dim);
  sizes[x.dim - 2] = x.sizes[x.dim - 1];
  // The size, of an x without elements, may be the largest number: nothing is added to it.
  const int64_t groups = t.tokens / options.group_size + (t.tokens % options.group_size != 0);
  sizes[x.dim - 1] = groups * options.group_size;
  std::vector<int64_t> strides(x.dim, 1);
  for (int64_t i = x.dim - 1; i > 0; --i) strides[i - 1] = strides[i] * sizes[i];
  TensorView transpose = x;
  transpose.data = nullptr;
  transpose.sizes = sizes.data();
  transpose.strides = strides.data();
  try {
    t.columns =
        check_outputs(check_input(transpose, options), options, transpose, results[2], results[3]);
  } catch (const Refusal& refusal) {
    throw Refusal("of the transpose of x: " + std::string(refusal.what()));
  }
  return t;
}

}  // namespace ptgq
