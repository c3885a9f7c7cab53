// The op on a CUDA device, of bfloat16.
#include "cuda/dispatch.cuh"

namespace ptgq {

void quantize_bfloat16(const Problem& p, const MaskedRows& rows, int device, void* stream) {
  quantize_on<__nv_bfloat16>(p, rows, device, stream);
}

}  // namespace ptgq
