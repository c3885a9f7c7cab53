// The op on a CUDA device: choice of the kernel and launch.
#include <cuda_runtime.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "vector_kernel.cuh"

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

struct Launch {
  cudaStream_t stream;
  bool dependent;       // programmatic dependent launch
  uint32_t first_wave;  // blocks of kBlock threads that the device holds at once
};

// Dependent launch demands that the kernels wait for the one before them: they do where they were
// compiled for compute capability 9.0 or newer.
Launch launch_on(int device, cudaStream_t stream) {
  // 0: not known yet; else 1 + the blocks, 1 alone where the kernels don't wait.
  static std::atomic<uint32_t> known[64];
  uint32_t blocks = device < 64 ? known[device].load() : 0;
  if (blocks == 0) {
    cudaFuncAttributes attributes{};
    cudaFuncGetAttributes(&attributes, per_token_group_quant_kernel<float>);
    int multiprocessors = 0;
    int threads = 0;
    cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, device);
    blocks = attributes.ptxVersion >= 90 ? 1 + multiprocessors * (threads / kBlock) : 1;
    if (device < 64) known[device] = blocks;
  }
  return {stream, blocks > 1, blocks - 1};
}

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
bool fits_vector_kernel(const Problem& p) {
  const bool whole_lanes = p.group_size >= kLaneElements && p.group_size <= 512 &&
                           (p.group_size & (p.group_size - 1)) == 0;
  return whole_lanes && is_aligned(p.x) && is_aligned(p.q) &&
         (p.num_tokens == 1 || p.x_token_stride * sizeof(T) % 16 == 0) &&
         p.num_groups * p.group_size <= kMaxIndex &&
         (p.num_tokens + kWarpSize) * p.num_groups + kWarpSize <= kMaxIndex;
}

template <typename T, bool kInt8, int kGroupSize>
void launch_vector(const Problem& p, Launch how) {
  constexpr int kWarpGroups = kWarpSize * kLaneElements / kGroupSize;
  const int64_t warps = p.column_major ? ceil_div(p.num_tokens, kWarpGroups) * p.num_groups
                                       : ceil_div(p.num_tokens * p.num_groups, kWarpGroups);
  const VectorArguments arguments{p, divisor_of(static_cast<uint32_t>(p.num_groups)),
                                  static_cast<uint32_t>(warps), how.first_wave};
  launch_kernel(vector_kernel<T, kInt8, kGroupSize>, ceil_div(warps, kBlock / kWarpSize), kBlock,
                arguments, how);
}

template <typename T, bool kInt8>
void launch(const Problem& p, Launch how) {
  if (fits_vector_kernel<T>(p)) {
    switch (p.group_size) {
      case 16:
        return launch_vector<T, kInt8, 16>(p, how);
      case 32:
        return launch_vector<T, kInt8, 32>(p, how);
      case 64:
        return launch_vector<T, kInt8, 64>(p, how);
      case 128:
        return launch_vector<T, kInt8, 128>(p, how);
      case 256:
        return launch_vector<T, kInt8, 256>(p, how);
      case 512:
        return launch_vector<T, kInt8, 512>(p, how);
    }
  }
  const int64_t blocks = ceil_div(p.num_tokens * p.num_groups, kThreads / kWarpSize);
  if (blocks > kMaxIndex) throw std::runtime_error("x has too many groups for one launch");
  launch_kernel(per_token_group_quant_kernel<T>, blocks, kThreads, p, how);
}

}  // namespace

void quantize_cuda(const Problem& p, int device, void* stream) {
  if (p.num_tokens == 0) return;
  const Launch how = launch_on(device, static_cast<cudaStream_t>(stream));
  const auto launch_for = [&]<typename T>() {
    return p.int8 ? launch<T, true>(p, how) : launch<T, false>(p, how);
  };
  switch (p.x_type) {
    case InputType::kBfloat16:
      launch_for.template operator()<__nv_bfloat16>();
      break;
    case InputType::kFloat16:
      launch_for.template operator()<__half>();
      break;
    case InputType::kFloat32:
      launch_for.template operator()<float>();
  }
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("kernel launch failed: ") + cudaGetErrorString(error));
  }
}

}  // namespace ptgq
