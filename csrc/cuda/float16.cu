// The op on a CUDA device, of float16.
#include "cuda/dispatch.cuh"

namespace ptgq {

void quantize_float16(const Problem& p, const MaskedRows& rows, int device, void* stream) {
  quantize_on<__half>(p, rows, device, stream);
}

}  // namespace ptgq
