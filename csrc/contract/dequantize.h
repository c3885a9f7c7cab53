// One checked call of dequantize, in plain types: what host, CPU and device code work from.
#pragma once

#include "contract/check.h"
#include "contract/scales.h"

namespace ptgq {

struct Dequantization {
  const uint8_t* q;
  const void* s;
  void* y;  // contiguous
  int64_t num_tokens;
  int64_t num_groups;  // a token's
  int64_t group_size;
  int64_t q_token_stride;
  int64_t s_batch_stride;  // of s in its elements, in words where it is packed
  int64_t s_token_stride;
  int64_t s_group_stride;  // of four groups where it is packed
  int64_t batch_tokens;    // after which the batch of s ends
  ElementType y_type;
  bool int8;  // as in Problem
  bool e8m0;
  bool packed;
};

// The call without y. Any strides of s serve that these three say, of q one between rows.
Dequantization check_dequantize(const TensorView& q, const TensorView& s, int64_t group_size,
                                ElementType y_type);
bool has_row_stride(const TensorView& q);
bool has_scale_strides(const TensorView& s);

// As quantize_cpu and quantize_cuda.
void dequantize_cpu(const Dequantization& d);
void dequantize_cuda(const Dequantization& d, int device, void* stream);

// The scale that a byte states: 2^(byte - 127), a subnormal of 0; NaN of 0xFF.
PTGQ_HOST_DEVICE float scale_of(uint8_t byte) {
  const uint32_t ends = static_cast<uint8_t>(byte + 1) <= 1 ? 0x00400000 : 0;
  return float_of(uint32_t{byte} << 23 | ends);
}

// What is stored of a scale: the bits of a float32, or a byte.
PTGQ_HOST_DEVICE uint32_t stored_scale(const Dequantization& d, int64_t batch, int64_t row,
                                       int64_t group) {
  const int64_t at = offset_of_scale(d, batch, row, group);
  return d.e8m0 ? static_cast<const uint8_t*>(d.s)[at] : static_cast<const uint32_t*>(d.s)[at];
}

PTGQ_HOST_DEVICE float scale_from(const Dequantization& d, uint32_t stored) {
  return d.e8m0 ? scale_of(static_cast<uint8_t>(stored)) : float_of(stored);
}

}  // namespace ptgq
