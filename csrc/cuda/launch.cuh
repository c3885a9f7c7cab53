// How kernels are launched, and when one may start before the one before it has ended.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "cuda/device.cuh"

namespace ptgq {

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("kernel launch failed: ") + cudaGetErrorString(error));
}

// What a stream captures next depends on `node` alone, if it is not null, in the graph `capture`:
// 0 where nothing is captured.
struct Captured {
  unsigned long long capture;
  cudaGraphNode_t node;
  bool operator==(const Captured&) const = default;
};

inline Captured newest_captured(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long capture = 0;
  const cudaGraphNode_t* nodes = nullptr;
  size_t count = 0;
#if CUDART_VERSION >= 13000
  check(cudaStreamGetCaptureInfo(stream, &status, &capture, nullptr, &nodes, nullptr, &count));
#else
  check(cudaStreamGetCaptureInfo_v2(stream, &status, &capture, nullptr, &nodes, &count));
#endif
  if (status != cudaStreamCaptureStatusActive) return {};
  return {capture, count == 1 ? nodes[0] : nullptr};
}

// This thread's last kernel in a graph.
inline thread_local Captured last_captured{};

struct Launch {
  cudaStream_t stream;
  bool captured;
  bool dependent;       // programmatic dependent launch
  uint32_t first_wave;  // blocks of kThreads threads that the device holds at once
};

struct Device {
  uint32_t first_wave;
  // Its kernels wait for the one before, as dependent launch demands: from 9.0 on, and unless
  // PTGQ_PDL forbids it.
  bool waits;
};

// Found out once; throws, and is asked again, where a query fails.
Device device_facts(int device);

// Dependent launch gains 0.3 us behind a kernel that lets the next one start, and costs as much
// behind one that does not (H200). A graph's capture tells that ours is before.
inline Launch launch_on(int device, cudaStream_t stream) {
  const Device facts = device_facts(device);
  const Captured before = facts.waits ? newest_captured(stream) : Captured{};
  const bool dependent = before.node != nullptr && before == last_captured;
  return {stream, before.capture != 0, dependent, facts.first_wave};
}

template <typename Arguments>
void launch_kernel(void (*kernel)(Arguments), int64_t blocks, int block, const Arguments& arguments,
                   Launch how, size_t shared_bytes = 0) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(block);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = how.stream;
  config.attrs = &attribute;
  config.numAttrs = how.dependent ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, arguments));
  if (how.captured) last_captured = newest_captured(how.stream);
}

// Of the size that the launch says.
__device__ __forceinline__ uint4* dynamic_shared_memory() {
  extern __shared__ uint4 memory[];
  return memory;
}

}  // namespace ptgq
