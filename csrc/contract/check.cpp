#include "contract/check.h"

#include <limits>

#include "contract/views.h"

namespace ptgq {
namespace {

bool same_shape_but_last(const TensorView& a, const TensorView& b) {
  if (a.dim != b.dim) return false;
  for (int64_t i = 0; i + 1 < a.dim; ++i) {
    if (a.sizes[i] != b.sizes[i]) return false;
  }
  return true;
}

// The stride between the last two rows, which is the one between all if there is one.
int64_t row_stride(const TensorView& t) {
  for (int64_t i = t.dim - 2; i >= 0; --i) {
    if (t.sizes[i] > 1) return t.strides[i];
  }
  return t.sizes[t.dim - 1];
}

bool holds(ElementType type, Storage storage) {
  switch (storage) {
    case Storage::kFloat32:
      return type == ElementType::kFloat32;
    case Storage::kE8m0:
      return type == ElementType::kE8m0 || type == ElementType::kByte;
    case Storage::kPacked:
      return type == ElementType::kInt32;
  }
  return false;
}

}  // namespace

Problem check_input(const TensorView& x, const Options& options) {
  Problem p{};
  require(x.type <= ElementType::kFloat32, "x must be bfloat16, float16 or float32");
  p.x_type = x.type;
  require(x.dim >= 1, "x must have at least one dimension");
  const int64_t row = x.sizes[x.dim - 1];
  p.prologue = options.prologue;
  const bool halved = p.prologue == Prologue::kSiluAndMul;
  require(!halved || row % 2 == 0, "the last dimension of x must be even, got ", row);
  const int64_t hidden_dim = halved ? row / 2 : row;
  p.group_size = options.group_size;
  require(p.group_size >= 1 && hidden_dim % p.group_size == 0,
          "group_size must divide the last dimension of ", halved ? "q" : "x", ", ", hidden_dim,
          ", got ", p.group_size);
  p.num_groups = hidden_dim / p.group_size;
  p.num_tokens = hidden_dim == 0 ? 0 : 1;
  for (int64_t i = 0; i + 1 < x.dim; ++i) p.num_tokens *= x.sizes[i];
  const bool masked = options.masked_m.has_value();
  require(!masked || x.dim == 2 || x.dim == 3,
          "x must have 2 or 3 dimensions where masked_m is given, got ", x.dim);
  p.x_token_stride = !masked ? row_stride(x) : x.sizes[x.dim - 2] > 1 ? x.strides[x.dim - 2] : row;
  require(p.num_tokens == 0 || ((x.strides[x.dim - 1] == 1 || row == 1) &&
                                (masked || are_packed(x, x.dim - 1, p.x_token_stride))),
          "x must have contiguous rows");
  require(p.num_tokens == 0 || is_aligned(x, x_element_size(x.type)),
          "x must be aligned to its elements");
  require(is_accepted(options.eps), "eps must lie between 1e-24 and 3.4028235e38, got ",
          options.eps);
  constexpr double kNoLimit = std::numeric_limits<double>::infinity();
  const double limit = options.swiglu_limit.value_or(kNoLimit);
  require(!options.swiglu_limit || (halved && is_accepted(limit)),
          "swiglu_limit must lie between 1e-24 and 3.4028235e38, got ", limit);

  p.x = x.data;
  p.eps = static_cast<float>(options.eps);
  p.swiglu_limit = static_cast<float>(limit);
  p.saturate = options.saturate;
  p.int8 = options.code == Code::kInt8;
  const ScaleFormat& f = options.format;
  require(!p.int8 || f.storage == Storage::kFloat32, "int8 q has float32 scales");
  p.power_of_two = f.kind == Kind::kPowerOfTwo;
  p.e8m0 = f.storage != Storage::kFloat32;
  p.packed = f.storage == Storage::kPacked || f.layout == Layout::kTiled;
  p.column_major = f.layout == Layout::kColumnMajor || f.layout == Layout::kTmaAligned;
  return p;
}

MaskedRows check_rows(const Problem& p, const TensorView& x, const Options& options) {
  if (!options.masked_m) return {};
  const TensorView& m = *options.masked_m;
  const bool wide = m.type == ElementType::kInt64;
  require(wide || m.type == ElementType::kInt32, "masked_m must be int32 or int64");
  const int64_t batches = x.dim == 3 ? x.sizes[0] : 1;
  require(m.dim == 1 && m.sizes[0] == batches, "masked_m must have one size, ", batches,
          ", the batches of x");
  require(same_device(m, x), "x and masked_m must be on one device");
  require(p.num_tokens == 0 || is_aligned(m, wide ? 8 : 4),
          "masked_m must be aligned to its elements");
  const int64_t x_batch_stride = batches > 1 ? x.strides[0] : 0;
  return {m.data, m.strides[0], wide, batches, x.sizes[x.dim - 2], x_batch_stride};
}

int64_t stored_groups(const Problem& p) {
  return p.packed ? round_up(p.num_groups, 4) : p.num_groups;
}

ScaleShape lay_out_scales(Problem& p, const ScaleFormat& format, const TensorView& x) {
  int64_t tokens = 1;  // without elements, too
  for (int64_t i = 0; i + 1 < x.dim; ++i) tokens *= x.sizes[i];
  p.column_tokens = !format.per_batch ? tokens : x.dim >= 2 ? x.sizes[x.dim - 2] : 1;
  const int64_t unit = format.layout == Layout::kTmaAligned ? 4
                       : format.layout == Layout::kTiled    ? 128
                                                            : 1;
  p.column_length = round_up(p.column_tokens, unit);
  const int64_t columns = p.packed ? stored_groups(p) / 4 : p.num_groups;
  p.s_token_stride = p.column_major ? 1 : columns;
  p.s_group_stride = p.column_major ? p.column_length : 1;
  p.s_batch_stride = columns * p.column_length;
  p.plain = !p.packed && p.column_tokens == p.num_tokens && p.column_length == p.num_tokens;
  p.padded = p.column_length > p.column_tokens || (p.packed && p.num_groups % 4 != 0);
  if (format.layout == Layout::kTiled) {
    p.s_token_stride = kTiledRows;
    p.padded = true;
    p.plain = false;
    const int64_t batches = p.column_tokens == 0 ? 0 : tokens / p.column_tokens;
    require(batches * p.column_length < int64_t{1} << 29 && columns < int64_t{1} << 22,
            "x has too many tokens or groups for tiles");
    return {batches * p.column_length, 4 * columns, {1, 4 * columns, 0}};
  }
  const int64_t batch = format.per_batch ? p.s_batch_stride : 0;
  return {ScaleShape::kOfX, columns, {p.s_group_stride, p.s_token_stride, batch}};
}

int64_t Strides::of(int64_t i, const int64_t* sizes, int64_t dim) const {
  if (i == dim - 1) return last;
  int64_t stride = token;
  for (int64_t j = dim - 2; j > i; --j) stride = batch && j == dim - 2 ? batch : stride * sizes[j];
  return stride;
}

Code code_of(ElementType q) {
  if (q == ElementType::kInt8) return Code::kInt8;
  require(q == ElementType::kE4m3 || q == ElementType::kByte,
          "q must be float8_e4m3fn, its bytes (uint8) or int8");
  return Code::kE4m3;
}

ScaleFormat decode_format(int64_t code) {
  const ScaleFormat f{static_cast<Kind>(code & 1), static_cast<Storage>(code >> 1 & 3),
                      static_cast<Layout>(code >> 3 & 3), code >= 32};
  constexpr bool kRead[3][4] = {
      {true, true, true, false}, {true, true, false, true}, {true, false, true, false}};
  const bool known = code >= 0 && code < 64 && f.storage <= Storage::kPacked &&
                     kRead[static_cast<int>(f.storage)][static_cast<int>(f.layout)];
  const bool rounded = f.kind == Kind::kPowerOfTwo || f.storage == Storage::kFloat32;
  const bool batched =
      f.layout == Layout::kTiled || (f.layout != Layout::kRowMajor && f.storage != Storage::kE8m0);
  require(known && rounded && (batched || !f.per_batch),
          "scale_format must be the code of a ptgq.ScaleFormat, got ", code,
          code == -1 ? ": this program was exported by an older ptgq, export it again" : "");
  return f;
}

bool overlap(const Problem& p, const MaskedRows& rows) {
  const Span x = memory_of_x(p, rows), m = memory_of_counts(rows);
  const Span q = memory_of_q(p), s = memory_of_s(p);
  return q.meets(x) || s.meets(x) || s.meets(q) || q.meets(m) || s.meets(m);
}

Problem check_outputs(Problem p, const Options& options, const TensorView& x, const TensorView& q,
                      const TensorView& s) {
  require(same_device(q, x) && same_device(s, x), "x, q and s must be on one device");
  require(same_shape_but_last(q, x) && q.sizes[q.dim - 1] == p.num_groups * p.group_size,
          p.prologue == Prologue::kSiluAndMul ? "q must have the shape of x, half as wide"
                                              : "q must have the shape of x");
  require(p.num_tokens == 0 || is_contiguous(q), "q must be contiguous");
  require(holds(s.type, options.format.storage), "s must have the dtype of scale_format");
  const ScaleShape shape = lay_out_scales(p, options.format, x);
  if (shape.rows == ScaleShape::kOfX) {
    require(same_shape_but_last(s, x) && s.sizes[s.dim - 1] == shape.columns,
            "s must have the shape of x, with a last dimension of ", shape.columns);
  } else {
    require(s.dim == 2 && s.sizes[0] == shape.rows && s.sizes[1] == shape.columns,
            "s must have the shape (", shape.rows, ", ", shape.columns, ")");
  }
  for (int64_t i = 0; p.num_tokens > 0 && i < s.dim; ++i) {
    require(s.sizes[i] == 1 || s.strides[i] == shape.strides.of(i, s.sizes, s.dim),
            "s must have the strides of scale_format");
  }
  require(p.num_tokens == 0 || options.format.storage == Storage::kE8m0 || is_aligned(s, 4),
          "s must be aligned to its elements");
  p.q = static_cast<uint8_t*>(q.data);
  p.s = s.data;
  return p;
}

}  // namespace ptgq
