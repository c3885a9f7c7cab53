// The CPU code: the same functions for each instruction set, in a namespace of its name.
#pragma once

#include "contract/blocks.h"
#include "contract/rms_norm.h"
#include "contract/transposed.h"

namespace ptgq {

// Some columns of some groups of tokens of a matrix.
struct Band {
  int64_t matrix;
  int64_t first_group, last_group;
  int64_t first_column, last_column;
  int64_t tokens;  // of the matrix that exist
};

// Neighbouring blocks are handled together, as a panel, so that memory is read in longer pieces; so
// many of them that their elements, which are read twice, stay in a cache.
constexpr int kPanelBlocks = 8;
constexpr int64_t kPanelElements = 131072;

// What RMSNorm sums at least: as many as kFloats.
constexpr uint64_t kLeastSums = 32;

inline int64_t blocks_of_panel(const BlockProblem& p) {
  const int64_t fitting = kPanelElements / (p.block_rows * p.block_columns);
  return fitting < 1 ? 1 : fitting > kPanelBlocks ? kPanelBlocks : fitting;
}
inline int64_t row_panels(const BlockProblem& p) {
  const int64_t wide = blocks_of_panel(p);
  return (p.column_blocks + wide - 1) / wide;
}

}  // namespace ptgq

// quantize: the groups [begin, end), counted row by row.
// dequantize: the same groups.
// quantize_transposed: the columns of a band.
// quantize_blocks: panels of blocks, counted row by row, of which row_panels() says how many a row
// has; dequantize_blocks: rows of all matrices.
// quantize_rms_norm: the tokens [begin, end); `sums` holds `size` sums, and y, where there is no
// norm_out, a token in the type of x.
// activate: `count` elements of silu_and_mul of a token to y, in the type of x, from `begin` on.
#define PTGQ_DECLARE(isa)                                                                \
  namespace ptgq::isa {                                                                  \
  void quantize(const Problem& p, int64_t begin, int64_t end);                           \
  void activate(const Problem& p, int64_t token, int64_t begin, int64_t count, void* y); \
  void dequantize(const Dequantization& d, int64_t begin, int64_t end);                  \
  void quantize_transposed(const Transposition& t, const Band& band);                    \
  void quantize_blocks(const BlockProblem& p, int64_t begin, int64_t end);               \
  void dequantize_blocks(const BlockDequantization& d, int64_t begin, int64_t end);      \
  void quantize_rms_norm(const Problem& p, const RmsNorm& n, int64_t begin, int64_t end, \
                         float* sums, int64_t size, void* y);                            \
  }

PTGQ_DECLARE(baseline)
#ifdef __x86_64__
PTGQ_DECLARE(avx2)
PTGQ_DECLARE(avx512)
#endif
#undef PTGQ_DECLARE
