// The op on CUDA tensors: checks, device, stream, choice of the kernel and launch.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <atomic>

#include "problem.h"
#include "vector_kernel.cuh"

// Defined by a torch with CUDA alone. Weak, so that the library loads beside a CPU-only torch.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void**);

namespace ptgq {
namespace {

constexpr int64_t kMaxIndex = 0x7FFFFFFF;
// Small blocks: few idle warps in small problems, and no slower in large ones.
constexpr int kBlock = 128;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

Divisor divisor_of(uint32_t divisor) {
  uint32_t log2 = 0;
  while (uint64_t{1} << log2 < divisor) ++log2;
  const uint64_t multiplier = (uint64_t{1} << (31 + log2)) / divisor + 1;
  return {divisor, static_cast<uint32_t>(multiplier), log2 == 0 ? 0 : log2 - 1};
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Whether the kernels wait for the one before them, as programmatic dependent launch demands: they
// do where they were compiled for compute capability 9.0 or newer.
bool kernels_wait(int device) {
  static std::atomic<int8_t> known[64];  // 0 unknown, 1 no, 2 yes
  if (device >= 64) return false;
  if (known[device] == 0) {
    cudaFuncAttributes attributes{};
    cudaFuncGetAttributes(&attributes, per_token_group_quant_kernel<float>);
    known[device] = attributes.ptxVersion >= 90 ? 2 : 1;
  }
  return known[device] == 2;
}

struct Launch {
  cudaStream_t stream;
  bool dependent;
};

template <typename Arguments>
void launch_kernel(void (*kernel)(Arguments), int64_t blocks, int block, const Arguments& arguments,
                   Launch how) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(block);
  config.stream = how.stream;
  config.attrs = &attribute;
  config.numAttrs = how.dependent ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, arguments);
}

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
void launch_vector(const KernelArguments& a, bool column_major, Launch how) {
  constexpr int kWarpGroups = kWarpSize * kLaneElements / kGroupSize;
  const int64_t warps = column_major ? ceil_div(a.num_tokens, kWarpGroups) * a.num_groups
                                     : ceil_div(a.num_tokens * a.num_groups, kWarpGroups);
  const VectorArguments arguments{a, divisor_of(static_cast<uint32_t>(a.num_groups)),
                                  static_cast<uint32_t>(warps), column_major};
  launch_kernel(vector_kernel<T, kInt8, kGroupSize>, ceil_div(warps, kBlock / kWarpSize), kBlock,
                arguments, how);
}

template <typename T, bool kInt8>
void launch(const KernelArguments& a, bool column_major, Launch how) {
  if (fits_vector_kernel<T>(a)) {
    switch (a.group_size) {
      case 16:
        return launch_vector<T, kInt8, 16>(a, column_major, how);
      case 32:
        return launch_vector<T, kInt8, 32>(a, column_major, how);
      case 64:
        return launch_vector<T, kInt8, 64>(a, column_major, how);
      case 128:
        return launch_vector<T, kInt8, 128>(a, column_major, how);
      case 256:
        return launch_vector<T, kInt8, 256>(a, column_major, how);
      case 512:
        return launch_vector<T, kInt8, 512>(a, column_major, how);
    }
  }
  const int64_t blocks = ceil_div(a.num_tokens * a.num_groups, kThreads / kWarpSize);
  STD_TORCH_CHECK(blocks <= kMaxIndex, "x has too many groups: ", a.num_tokens * a.num_groups);
  launch_kernel(per_token_group_quant_kernel<T>, blocks, kThreads, a, how);
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
  const Launch how{static_cast<cudaStream_t>(current), kernels_wait(x.get_device_index())};

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
    return p.int8 ? launch<T, true>(a, column_major_scales, how)
                  : launch<T, false>(a, column_major_scales, how);
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
