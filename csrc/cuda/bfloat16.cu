// The op on a CUDA device, of bfloat16.
#include "cuda/dispatch.cuh"

namespace ptgq {

void quantize_bfloat16(const Problem& p, int device, void* stream) {
  quantize_on<__nv_bfloat16>(p, device, stream);
}

}  // namespace ptgq
