// dequantize on a CUDA device, by the type of y.
#include "cuda/dequantize_kernel.cuh"

namespace ptgq {

void dequantize_cuda(const Dequantization& d, int device, void* stream) {
  const Launch how = launch_on(device, static_cast<cudaStream_t>(stream));
  switch (d.y_type) {
    case ElementType::kBfloat16:
      return dequantize_on<__nv_bfloat16>(d, how);
    case ElementType::kFloat16:
      return dequantize_on<__half>(d, how);
    default:
      return dequantize_on<float>(d, how);
  }
}

}  // namespace ptgq
