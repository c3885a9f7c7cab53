// per_token_group_quant_transposed on a CUDA device, by the type of x.
#include "cuda/transposed_kernel.cuh"

namespace ptgq {

void quantize_transposed_cuda(const Transposition& t, int device, void* stream) {
  if (t.rows.num_tokens == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  switch (t.rows.x_type) {
    case ElementType::kBfloat16:
      return launch_transposed<__nv_bfloat16>(t, device, on);
    case ElementType::kFloat16:
      return launch_transposed<__half>(t, device, on);
    default:
      return launch_transposed<float>(t, device, on);
  }
}

}  // namespace ptgq
