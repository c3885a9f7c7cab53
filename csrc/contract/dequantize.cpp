#include "contract/dequantize.h"

namespace ptgq {
namespace {

// Reads the strides of what precedes the last dimension: as few runs of tokens, one stride each, as
// there are; at most `most`.
struct Runs {
  int count = 0;
  int64_t sizes[2] = {1, 1};
  int64_t strides[2] = {0, 0};
  bool fit = true;

  Runs(const TensorView& t, int most) {
    for (int64_t i = t.dim - 2; i >= 0; --i) {
      if (t.sizes[i] == 1) continue;
      if (count == 0 || t.strides[i] != sizes[count - 1] * strides[count - 1]) {
        fit = count < most;
        if (!fit) return;
        strides[count++] = t.strides[i];
      }
      sizes[count - 1] *= t.sizes[i];
    }
  }
};

}  // namespace

bool has_row_stride(const TensorView& q) {
  const int64_t last = q.dim - 1;
  return (q.strides[last] == 1 || q.sizes[last] == 1) && Runs(q, 1).fit;
}

bool has_scale_strides(const TensorView& s) { return Runs(s, 2).fit; }

Dequantization check_dequantize(const TensorView& q, const TensorView& s, int64_t group_size,
                                ElementType y_type) {
  require(q.dim >= 1 && q.dim == s.dim, "s must have as many dimensions as q, at least one");
  const int64_t last = q.dim - 1;
  require(group_size >= 1 && q.sizes[last] % group_size == 0,
          "group_size must divide the last dimension of q, ", q.sizes[last], ", got ", group_size);
  Dequantization d{};
  d.int8 = code_of(q.type) == Code::kInt8;
  d.e8m0 = s.type != ElementType::kFloat32;
  d.packed = s.type == ElementType::kInt32;
  const bool bytes = s.type == ElementType::kE8m0 || s.type == ElementType::kByte;
  require(!d.e8m0 || d.packed || bytes, "s must be float32, int32, float8_e8m0fnu or its bytes");
  require(y_type <= ElementType::kFloat32, "dtype must be bfloat16, float16 or float32");
  d.y_type = y_type;
  d.group_size = group_size;
  d.num_groups = q.sizes[last] / group_size;
  const int64_t columns = d.packed ? (d.num_groups + 3) / 4 : d.num_groups;
  require(s.sizes[last] == columns, "s must have a last dimension of ", columns, ", got ",
          s.sizes[last]);
  d.num_tokens = d.num_groups == 0 ? 0 : 1;
  for (int64_t i = 0; i < last; ++i) {
    require(s.sizes[i] == q.sizes[i], "s must have the shape of q but for the last dimension");
    d.num_tokens *= q.sizes[i];
  }
  require(q.device_type == s.device_type && q.device_index == s.device_index,
          "q and s must be on one device");
  if (d.num_tokens == 0) return d;
  require(has_row_stride(q), "q must have contiguous rows with one stride");
  require(has_scale_strides(s), "s must have two strides between tokens at most");
  require(bytes || reinterpret_cast<uintptr_t>(s.data) % 4 == 0,
          "s must be aligned to its elements");
  const Runs rows(s, 2);
  d.q_token_stride = d.num_tokens == 1 ? q.sizes[last] : Runs(q, 1).strides[0];
  d.batch_tokens = rows.sizes[0];
  d.s_token_stride = rows.strides[0];
  d.s_batch_stride = rows.strides[1];
  d.s_group_stride = columns == 1 ? 1 : s.strides[last];
  d.q = static_cast<const uint8_t*>(q.data);
  d.s = s.data;
  return d;
}

}  // namespace ptgq
