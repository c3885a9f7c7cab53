// RMSNorm before quantization on a CUDA device, by the type of x.
#include "cuda/rms_norm.cuh"

namespace ptgq {

void rms_norm_quantize_cuda(const Problem& p, const RmsNorm& n, int device, void* stream) {
  if (p.num_tokens == 0) return;
  const Launch how = launch_on(device, static_cast<cudaStream_t>(stream));
  switch (p.x_type) {
    case ElementType::kBfloat16:
      return rms_norm_quantize_on<__nv_bfloat16>(p, n, how);
    case ElementType::kFloat16:
      return rms_norm_quantize_on<__half>(p, n, how);
    default:
      return rms_norm_quantize_on<float>(p, n, how);
  }
}

}  // namespace ptgq
