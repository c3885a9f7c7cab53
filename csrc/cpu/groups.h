// The CPU code: the same functions for each instruction set, in a namespace of its name.
#pragma once

#include "contract/dequantize.h"
#include "contract/transposed.h"

namespace ptgq {
// Some columns of some groups of tokens of a matrix.
struct Band {
  int64_t matrix;
  int64_t first_group, last_group;
  int64_t first_column, last_column;
};
}  // namespace ptgq

// quantize: the groups [begin, end), counted row by row.
// dequantize: the same groups.
// quantize_columns: the columns of a band.
// activate: `count` elements of silu_and_mul of a token to y, in the type of x, from `begin` on.
#define PTGQ_DECLARE(isa)                                                                \
  namespace ptgq::isa {                                                                  \
  void quantize(const Problem& p, int64_t begin, int64_t end);                           \
  void activate(const Problem& p, int64_t token, int64_t begin, int64_t count, void* y); \
  void dequantize(const Dequantization& d, int64_t begin, int64_t end);                  \
  void quantize_columns(const Transposition& t, const Band& band);                       \
  }

PTGQ_DECLARE(baseline)
#ifdef __x86_64__
PTGQ_DECLARE(avx2)
PTGQ_DECLARE(avx512)
#endif
#undef PTGQ_DECLARE
