// What proofs/cpu_calls.cpp calls: the CUDA kernels, on the CPU.
#include "contract/problem.h"

namespace ptgq {

void quantize_bfloat16(const Problem& p, const MaskedRows& rows);
void quantize_float16(const Problem& p, const MaskedRows& rows);
void quantize_float32(const Problem& p, const MaskedRows& rows);

void quantize_cpu(const Problem& p, const MaskedRows& rows) {
  switch (p.x_type) {
    case ElementType::kBfloat16:
      return quantize_bfloat16(p, rows);
    case ElementType::kFloat16:
      return quantize_float16(p, rows);
    default:
      return quantize_float32(p, rows);
  }
}

}  // namespace ptgq
