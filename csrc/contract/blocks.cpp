#include "contract/blocks.h"

#include <algorithm>

#include "contract/views.h"

namespace ptgq {
namespace {

int64_t ceil_of(int64_t size, int64_t unit) { return size / unit + (size % unit != 0); }

// The stride between matrices, which is the one between all if there is one.
int64_t matrix_stride(const TensorView& t) {
  for (int64_t i = t.dim - 3; i >= 0; --i) {
    if (t.sizes[i] > 1) return t.strides[i];
  }
  return t.sizes[t.dim - 2] * t.sizes[t.dim - 1];
}

int64_t matrices(const TensorView& t) {
  int64_t count = 1;
  for (int64_t i = 0; i + 2 < t.dim; ++i) count *= t.sizes[i];
  return count;
}

void check_block_size(int64_t rows, int64_t columns) {
  require(rows >= 1 && columns >= 1, "block_size must be at least 1 each, got (", rows, ", ",
          columns, ")");
}

bool is_byte(ElementType type) { return type == ElementType::kE8m0 || type == ElementType::kByte; }

// Whether t has the leading dimensions of w, and these two.
bool has_shape(const TensorView& t, const TensorView& w, int64_t rows, int64_t columns) {
  if (t.dim != w.dim) return false;
  for (int64_t i = 0; i + 2 < t.dim; ++i) {
    if (t.sizes[i] != w.sizes[i]) return false;
  }
  return t.sizes[t.dim - 2] == rows && t.sizes[t.dim - 1] == columns;
}

}  // namespace

BlockOptions block_options(int64_t block_rows, int64_t block_columns, double eps,
                           int64_t scale_format, bool saturate) {
  constexpr int64_t kAlignedRows = 64;
  const bool aligned = scale_format >= kAlignedRows;
  const ScaleFormat f = decode_format(aligned ? scale_format - kAlignedRows : scale_format);
  require(f.layout == Layout::kRowMajor && f.storage != Storage::kPacked &&
              (!aligned || f.storage == Storage::kFloat32),
          "scale_format must be the code of a ptgq.ScaleFormat of blocks, got ", scale_format);
  return {block_rows, block_columns, eps, f.kind, f.storage, aligned, saturate};
}

bool are_packed_matrices(const TensorView& t) { return are_packed(t, t.dim - 2, matrix_stride(t)); }

bool has_matrix_strides(const TensorView& w) {
  const int64_t last = w.dim - 1;
  return (w.strides[last] == 1 || w.sizes[last] == 1) && are_packed_matrices(w);
}

BlockProblem check_block_input(const TensorView& w, const BlockOptions& options) {
  BlockProblem p{};
  require(w.type <= ElementType::kFloat32, "w must be bfloat16, float16 or float32");
  require(w.dim >= 2, "w must have at least two dimensions");
  check_block_size(options.block_rows, options.block_columns);
  require(is_accepted(options.eps), "eps must lie between 1e-24 and 3.4028235e38, got ",
          options.eps);
  p.batches = matrices(w);
  p.rows = w.sizes[w.dim - 2];
  p.columns = w.sizes[w.dim - 1];
  // Blocks are cut to the matrix: products of larger sizes might overflow.
  p.block_rows = std::min(options.block_rows, std::max<int64_t>(p.rows, 1));
  p.block_columns = std::min(options.block_columns, std::max<int64_t>(p.columns, 1));
  p.row_blocks = ceil_of(p.rows, p.block_rows);
  p.column_blocks = ceil_of(p.columns, p.block_columns);
  const bool empty = p.batches * p.rows * p.columns == 0;
  require(empty || has_matrix_strides(w),
          "w must have contiguous rows, and one stride between matrices");
  require(empty || is_aligned(w, x_element_size(w.type)), "w must be aligned to its elements");
  p.w = w.data;
  p.w_type = w.type;
  p.w_row_stride = p.rows == 1 ? p.columns : w.strides[w.dim - 2];
  p.w_batch_stride = matrix_stride(w);
  p.s_row_stride = options.aligned_rows ? round_up(p.column_blocks, 4) : p.column_blocks;
  p.eps = static_cast<float>(options.eps);
  p.e8m0 = options.storage == Storage::kE8m0;
  p.power_of_two = options.kind == Kind::kPowerOfTwo;
  p.saturate = options.saturate;
  return p;
}

BlockProblem check_block_outputs(BlockProblem p, const BlockOptions& options, const TensorView& w,
                                 const TensorView& q, const TensorView& s) {
  const bool empty = p.batches * p.rows * p.columns == 0;
  require(same_device(q, w) && same_device(s, w), "w, q and s must be on one device");
  require(code_of(q.type) == Code::kE4m3, "q must be float8_e4m3fn or its bytes (uint8)");
  require(has_shape(q, w, p.rows, p.columns), "q must have the shape of w");
  require(empty || is_contiguous(q), "q must be contiguous");
  require(p.e8m0 ? is_byte(s.type) : s.type == ElementType::kFloat32,
          "s must have the dtype of scale_format");
  require(has_shape(s, w, p.row_blocks, p.column_blocks),
          "s must have the shape of w, with last dimensions of ", p.row_blocks, " and ",
          p.column_blocks);
  const int64_t last = s.dim - 1;
  require(empty ||
              ((s.sizes[last] == 1 || s.strides[last] == 1) && are_packed(s, last, p.s_row_stride)),
          "s must have the strides of scale_format");
  require(empty || p.e8m0 || is_aligned(s, options.aligned_rows ? 16 : 4),
          options.aligned_rows ? "s must start at a multiple of 16 bytes"
                               : "s must be aligned to its elements");
  p.q = static_cast<uint8_t*>(q.data);
  p.s = s.data;
  return p;
}

bool overlap(const BlockProblem& p) {
  const int64_t w_elements =
      (p.batches - 1) * p.w_batch_stride + (p.rows - 1) * p.w_row_stride + p.columns;
  const Span w{static_cast<const char*>(p.w), w_elements * x_element_size(p.w_type)};
  const Span q{reinterpret_cast<const char*>(p.q), p.batches * p.rows * p.columns};
  const Span s{static_cast<const char*>(p.s), scale_elements(p) * (p.e8m0 ? 1 : 4)};
  return q.meets(w) || s.meets(w) || s.meets(q);
}

BlockDequantization check_dequantize_blocks(const TensorView& q, const TensorView& s,
                                            int64_t block_rows, int64_t block_columns,
                                            ElementType y_type) {
  require(q.dim >= 2, "q must have at least two dimensions");
  check_block_size(block_rows, block_columns);
  require(code_of(q.type) == Code::kE4m3, "q must be float8_e4m3fn or its bytes (uint8)");
  require(s.type == ElementType::kFloat32 || is_byte(s.type),
          "s must be float32, float8_e8m0fnu or its bytes");
  require(y_type <= ElementType::kFloat32, "dtype must be bfloat16, float16 or float32");
  BlockDequantization d{};
  d.batches = matrices(q);
  d.rows = q.sizes[q.dim - 2];
  d.columns = q.sizes[q.dim - 1];
  d.block_rows = std::min(block_rows, std::max<int64_t>(d.rows, 1));
  d.block_columns = std::min(block_columns, std::max<int64_t>(d.columns, 1));
  const int64_t row_blocks = ceil_of(d.rows, d.block_rows);
  const int64_t column_blocks = ceil_of(d.columns, d.block_columns);
  require(has_shape(s, q, row_blocks, column_blocks),
          "s must have the shape of q, with last dimensions of ", row_blocks, " and ",
          column_blocks);
  require(same_device(q, s), "q and s must be on one device");
  d.q = static_cast<const uint8_t*>(q.data);
  d.s = s.data;
  d.y_type = y_type;
  d.e8m0 = is_byte(s.type);
  if (d.batches * d.rows * d.columns == 0) return d;
  require(is_contiguous(q), "q must be contiguous");
  d.s_batch_stride = matrix_stride(s);
  require(are_packed_matrices(s), "s must have one stride between matrices");
  require(d.e8m0 || is_aligned(s, 4), "s must be aligned to its elements");
  d.s_row_stride = s.strides[s.dim - 2];
  d.s_column_stride = s.strides[s.dim - 1];
  return d;
}

}  // namespace ptgq
