// The op on CUDA tensors: checks, device, stream, choice of the kernel and launch.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "problem.h"
#include "vector_kernel.cuh"

// Defined by a torch with CUDA alone. Weak, so that the library loads beside a CPU-only torch.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void**);

namespace ptgq {
namespace {

constexpr int64_t kMaxIndex = 0x7FFFFFFF;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

Divisor divisor_of(uint32_t divisor) {
  uint32_t log2 = 0;
  while (uint64_t{1} << log2 < divisor) ++log2;
  const uint64_t multiplier = (uint64_t{1} << (31 + log2)) / divisor + 1;
  return {divisor, static_cast<uint32_t>(multiplier), log2 == 0 ? 0 : log2 - 1};
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Whether 16-byte accesses and 31-bit indices reach everything.
template <typename T>
bool fits_vector_kernel(const KernelArguments& a) {
  const bool whole_lanes = a.group_size >= kLaneElements && a.group_size <= 512 &&
                           (a.group_size & (a.group_size - 1)) == 0;
  return whole_lanes && is_aligned(a.x) && is_aligned(a.q) &&
         (a.num_tokens == 1 || a.x_token_stride * sizeof(T) % 16 == 0) &&
         a.num_groups * a.group_size <= kMaxIndex &&
         (a.num_tokens + kWarpSize) * a.num_groups + kWarpSize <= kMaxIndex;
}

template <typename T, bool kInt8, int kGroupSize>
void launch_vector(const KernelArguments& a, bool column_major, cudaStream_t stream) {
  constexpr int kWarpGroups = kWarpSize * kLaneElements / kGroupSize;
  const int64_t warps = column_major ? ceil_div(a.num_tokens, kWarpGroups) * a.num_groups
                                     : ceil_div(a.num_tokens * a.num_groups, kWarpGroups);
  const VectorArguments arguments{a, divisor_of(static_cast<uint32_t>(a.num_groups)),
                                  static_cast<uint32_t>(warps), column_major};
  constexpr int kBlock = 128;
  const int blocks = static_cast<int>(ceil_div(warps, kBlock / kWarpSize));
  vector_kernel<T, kInt8, kGroupSize><<<blocks, kBlock, 0, stream>>>(arguments);
}

template <typename T, bool kInt8>
void launch(const KernelArguments& a, bool column_major, cudaStream_t stream) {
  if (fits_vector_kernel<T>(a)) {
    switch (a.group_size) {
      case 16:
        return launch_vector<T, kInt8, 16>(a, column_major, stream);
      case 32:
        return launch_vector<T, kInt8, 32>(a, column_major, stream);
      case 64:
        return launch_vector<T, kInt8, 64>(a, column_major, stream);
      case 128:
        return launch_vector<T, kInt8, 128>(a, column_major, stream);
      case 256:
        return launch_vector<T, kInt8, 256>(a, column_major, stream);
      case 512:
        return launch_vector<T, kInt8, 512>(a, column_major, stream);
    }
  }
  const int64_t blocks = ceil_div(a.num_tokens * a.num_groups, kThreads / kWarpSize);
  STD_TORCH_CHECK(blocks <= kMaxIndex, "x has too many groups: ", a.num_tokens * a.num_groups);
  per_token_group_quant_kernel<T><<<blocks, kThreads, 0, stream>>>(a);
}

void per_token_group_quant(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size,
                           double eps, bool column_major_scales, bool use_ue8m0) {
  const Problem p = check(x, q, s, group_size, eps, column_major_scales, use_ue8m0);
  if (p.num_tokens == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  void* current = nullptr;
  STD_TORCH_CHECK(
      aoti_torch_get_current_cuda_stream(x.get_device_index(), &current) == AOTI_TORCH_SUCCESS,
      "x has no current stream");
  const auto stream = static_cast<cudaStream_t>(current);

  const KernelArguments a{p.x,
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
  const auto launch_for = [&]<typename T>() {
    return p.int8 ? launch<T, true>(a, column_major_scales, stream)
                  : launch<T, false>(a, column_major_scales, stream);
  };
  switch (p.x_type) {
    case ScalarType::BFloat16:
      launch_for.template operator()<__nv_bfloat16>();
      break;
    case ScalarType::Half:
      launch_for.template operator()<__half>();
      break;
    default:
      launch_for.template operator()<float>();
  }
  const cudaError_t error = cudaGetLastError();
  STD_TORCH_CHECK(error == cudaSuccess, "kernel launch failed: ", cudaGetErrorString(error));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ptgq, CUDA, m) {
  m.impl("per_token_group_quant", TORCH_BOX(&per_token_group_quant));
}

}  // namespace ptgq
