// The op on a CUDA device, by the type of x.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "contract/problem.h"

#ifdef PTGQ_WITH_CUDA
namespace ptgq {

bool allows_dependent_launch() {
  const char* setting = std::getenv("PTGQ_PDL");
  if (setting == nullptr || std::strcmp(setting, "1") == 0) return true;
  if (std::strcmp(setting, "0") == 0) return false;
  throw std::runtime_error("PTGQ_PDL must be 0 or 1, got " + std::string(setting));
}

void quantize_bfloat16(const Problem& p, const MaskedRows& rows, int device, void* stream);
void quantize_float16(const Problem& p, const MaskedRows& rows, int device, void* stream);
void quantize_float32(const Problem& p, const MaskedRows& rows, int device, void* stream);

void quantize_cuda(const Problem& p, const MaskedRows& rows, int device, void* stream) {
  if (p.num_tokens == 0) return;
  switch (p.x_type) {
    case ElementType::kBfloat16:
      return quantize_bfloat16(p, rows, device, stream);
    case ElementType::kFloat16:
      return quantize_float16(p, rows, device, stream);
    default:
      return quantize_float32(p, rows, device, stream);
  }
}

}  // namespace ptgq
#endif
