// RMSNorm before quantization on a CUDA device, by the type of x.
#include "cuda/rms_norm.cuh"

namespace ptgq {

void quantize_rms_norm_cuda(const Problem& p, const RmsNorm& n, int device, void* stream) {
  if (p.num_tokens == 0) return;
  const Launch how = launch_on(device, static_cast<cudaStream_t>(stream));
  switch (p.x_type) {
    case ElementType::kBfloat16:
      return quantize_rms_norm_on<__nv_bfloat16>(p, n, how);
    case ElementType::kFloat16:
      return quantize_rms_norm_on<__half>(p, n, how);
    default:
      return quantize_rms_norm_on<float>(p, n, how);
  }
}

}  // namespace ptgq
