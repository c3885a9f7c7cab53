// The op on CUDA tensors: checks, device, stream and launch.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "cuda_kernel.cuh"
#include "problem.h"

// Defined by a torch with CUDA alone. Weak, so that the library loads beside a CPU-only torch.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void**);

namespace ptgq {
namespace {

template <typename T>
void launch(const KernelArguments& arguments, cudaStream_t stream) {
  const int64_t groups_a_block = kThreads / kWarpSize;
  const int64_t blocks =
      (arguments.num_tokens * arguments.num_groups + groups_a_block - 1) / groups_a_block;
  STD_TORCH_CHECK(blocks <= 0x7FFFFFFF,
                  "x has too many groups: ", arguments.num_tokens * arguments.num_groups);
  per_token_group_quant_kernel<T><<<blocks, kThreads, 0, stream>>>(arguments);
}

void per_token_group_quant(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size,
                           double eps, bool column_major_scales, bool use_ue8m0) {
  const Problem p = check(x, q, s, group_size, eps, column_major_scales, use_ue8m0);
  if (p.num_tokens == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  void* stream = nullptr;
  STD_TORCH_CHECK(
      aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream) == AOTI_TORCH_SUCCESS,
      "x has no current stream");

  const KernelArguments arguments{p.x,
                                  static_cast<uint8_t*>(p.q),
                                  p.s,
                                  p.num_tokens,
                                  p.num_groups,
                                  p.group_size,
                                  p.x_token_stride,
                                  p.s_token_stride,
                                  p.s_group_stride,
                                  p.eps,
                                  p.int8,
                                  p.e8m0,
                                  p.power_of_two};
  switch (p.x_type) {
    case ScalarType::BFloat16:
      launch<__nv_bfloat16>(arguments, static_cast<cudaStream_t>(stream));
      break;
    case ScalarType::Half:
      launch<__half>(arguments, static_cast<cudaStream_t>(stream));
      break;
    default:
      launch<float>(arguments, static_cast<cudaStream_t>(stream));
  }
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, "kernel launch failed: ", cudaGetErrorString(error));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ptgq, CUDA, m) {
  m.impl("per_token_group_quant", TORCH_BOX(&per_token_group_quant));
}

}  // namespace ptgq
