#include "check.h"

#include <sstream>

namespace ptgq {
namespace {

template <typename... Parts>
void require(bool condition, const Parts&... message) {
  if (condition) return;
  std::ostringstream text;
  (text << ... << message);
  throw Refusal(text.str());
}

InputType input_type(ElementType type) {
  switch (type) {
    case ElementType::kBfloat16:
      return InputType::kBfloat16;
    case ElementType::kFloat16:
      return InputType::kFloat16;
    case ElementType::kFloat32:
      return InputType::kFloat32;
    default:
      throw Refusal("x must be bfloat16, float16 or float32");
  }
}

bool same_shape_but_last(const TensorView& a, const TensorView& b) {
  if (a.dim != b.dim) return false;
  for (int64_t i = 0; i + 1 < a.dim; ++i) {
    if (a.sizes[i] != b.sizes[i]) return false;
  }
  return true;
}

// Whether the dimensions [0, end) follow each other in memory, the last of them with this stride.
bool are_packed(const TensorView& t, int64_t end, int64_t stride) {
  for (int64_t i = end - 1; i >= 0; --i) {
    if (t.sizes[i] > 1 && t.strides[i] != stride) return false;
    stride *= t.sizes[i];
  }
  return true;
}

bool is_contiguous(const TensorView& t) { return are_packed(t, t.dim, 1); }

bool is_aligned(const TensorView& t, size_t element_size) {
  return reinterpret_cast<uintptr_t>(t.data) % element_size == 0;
}

bool same_device(const TensorView& a, const TensorView& b) {
  return a.device_type == b.device_type && a.device_index == b.device_index;
}

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// How the scales lie, from their shape; throws if their strides are others.
void lay_out_scales(Problem& p, const TensorView& s, const Options& options) {
  require(s.dim >= 1, "s must have at least one dimension");
  const int64_t last = s.dim - 1;
  const int64_t columns = p.packed ? round_up(p.num_groups, 4) / 4 : p.num_groups;
  int64_t tokens = 1;
  for (int64_t i = 0; i < last; ++i) tokens *= s.sizes[i];
  require(tokens == p.num_tokens && s.sizes[last] == columns,
          "s must have the shape of x, with a last dimension of ", columns);
  require(options.column_major_scales || !(options.tma_aligned_scales || options.per_batch_scales),
          "tma_aligned_scales and per_batch_scales need column_major_scales");
  const bool batches = options.per_batch_scales && s.dim >= 2;
  p.column_tokens = options.per_batch_scales ? (batches ? s.sizes[last - 1] : 1) : p.num_tokens;
  p.column_length = p.column_tokens;
  if (options.tma_aligned_scales) {
    require(p.packed || !p.e8m0, "tma_aligned_scales are float32 or int32");
    p.column_length = round_up(p.column_tokens, 4);
  }
  p.s_token_stride = p.column_major ? 1 : columns;
  p.s_group_stride = p.column_major ? p.column_length : 1;
  p.s_batch_stride = columns * p.column_length;
  p.plain = !p.packed && p.column_tokens == p.num_tokens && p.column_length == p.num_tokens;
  p.padded = p.column_length > p.column_tokens || (p.packed && p.num_groups % 4 != 0);
  require(p.plain || !p.int8, "int8 q has scales without words, batches and padding");

  bool right = s.sizes[last] <= 1 || s.strides[last] == p.s_group_stride;
  right = right && are_packed(s, last - batches, batches ? p.s_batch_stride : p.s_token_stride);
  right = right && (!batches || s.sizes[last - 1] <= 1 || s.strides[last - 1] == 1);
  require(right,
          "s must be contiguous, or have the strides of column_major_scales, "
          "tma_aligned_scales and per_batch_scales as they are given");
}

}  // namespace

Problem check_input(const TensorView& x, const Options& options) {
  Problem p{};
  p.x_type = input_type(x.type);
  require(x.dim >= 1, "x must have at least one dimension");
  const int64_t row = x.sizes[x.dim - 1];
  p.silu_and_mul = options.silu_and_mul;
  require(!p.silu_and_mul || row % 2 == 0, "the last dimension of x must be even, got ", row);
  const int64_t hidden_dim = p.silu_and_mul ? row / 2 : row;
  p.group_size = options.group_size;
  require(p.group_size >= 1 && hidden_dim % p.group_size == 0,
          "group_size must divide the last dimension of ", p.silu_and_mul ? "q" : "x", ", ",
          hidden_dim, ", got ", p.group_size);
  p.num_groups = hidden_dim / p.group_size;
  p.num_tokens = hidden_dim == 0 ? 0 : 1;
  for (int64_t i = 0; i + 1 < x.dim; ++i) p.num_tokens *= x.sizes[i];
  const bool packed = p.num_tokens == 0 || is_contiguous(x);
  require(packed || (x.dim == 2 && (x.strides[1] == 1 || row == 1)), "x must have contiguous rows");
  require(p.num_tokens == 0 || is_aligned(x, p.x_type == InputType::kFloat32 ? 4 : 2),
          "x must be aligned to its elements");
  // Not `eps < ...`: NaN must fail. The bound keeps eps / 448 and its residuals normal.
  require(options.eps >= 1e-24 && options.eps <= 3.4028234663852886e38,
          "eps must lie between 1e-24 and 3.4028235e38, got ", options.eps);

  p.x = x.data;
  p.x_token_stride = packed ? row : x.strides[0];
  p.eps = static_cast<float>(options.eps);
  p.power_of_two = options.use_ue8m0;
  p.column_major = options.column_major_scales;
  return p;
}

Problem check_outputs(Problem p, const Options& options, const TensorView& x, const TensorView& q,
                      const TensorView& s) {
  p.int8 = q.type == ElementType::kInt8;
  require(p.int8 || q.type == ElementType::kE4m3 || q.type == ElementType::kByte,
          "q must be float8_e4m3fn, its bytes (uint8) or int8");
  p.packed = s.type == ElementType::kInt32;
  p.e8m0 = p.packed || s.type == ElementType::kE8m0 || s.type == ElementType::kByte;
  require(p.e8m0 || s.type == ElementType::kFloat32,
          "s must be float32, int32, float8_e8m0fnu or its bytes (uint8)");
  require(p.power_of_two || !p.e8m0, "float8_e8m0fnu and int32 scales need use_ue8m0");
  require(same_device(q, x) && same_device(s, x), "x, q and s must be on one device");
  require(
      same_shape_but_last(q, x) && q.sizes[q.dim - 1] == p.num_groups * p.group_size,
      p.silu_and_mul ? "q must have the shape of x, half as wide" : "q must have the shape of x");
  require(!(p.silu_and_mul && p.int8), "q of silu_and_mul must be float8_e4m3fn or its bytes");
  require(p.num_tokens == 0 || is_contiguous(q), "q must be contiguous");
  // Batches are told by the dimensions of s, where those of x may have been joined.
  require(options.per_batch_scales || same_shape_but_last(s, x),
          "s must have the shape of x but for the last dimension");
  if (p.num_tokens > 0) lay_out_scales(p, s, options);
  require(p.num_tokens == 0 || (p.e8m0 && !p.packed) || is_aligned(s, 4),
          "s must be aligned to its elements");
  p.q = static_cast<uint8_t*>(q.data);
  p.s = s.data;
  return p;
}

}  // namespace ptgq
