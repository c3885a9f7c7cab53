// What proofs/cpu_calls.cpp calls: the CUDA kernels, on the CPU.
#include "contract/problem.h"

namespace ptgq {

void quantize_bfloat16(const Problem& p);
void quantize_float16(const Problem& p);
void quantize_float32(const Problem& p);

void quantize_cpu(const Problem& p) {
  switch (p.x_type) {
    case ElementType::kBfloat16:
      return quantize_bfloat16(p);
    case ElementType::kFloat16:
      return quantize_float16(p);
    default:
      return quantize_float32(p);
  }
}

}  // namespace ptgq
