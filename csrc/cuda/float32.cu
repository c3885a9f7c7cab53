// The op on a CUDA device, of float32, and what all types ask of a device.
#include <atomic>

#include "cuda/dispatch.cuh"

namespace ptgq {
namespace {

Device inspect(int device) {
  cudaFuncAttributes attributes{};
  int multiprocessors = 0;
  int threads = 0;
  check(cudaFuncGetAttributes(&attributes,
                              per_token_group_quant_kernel<float, false, false, false, kWarpSize>));
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  check(cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, device));
  return {static_cast<uint32_t>(multiprocessors * (threads / kThreads)),
          attributes.ptxVersion >= 90 && allows_dependent_launch()};
}

}  // namespace

Device device_facts(int device) {
  static std::atomic<uint32_t> known[64];  // 0: not yet, else twice the wave, and 1 if it waits
  const uint32_t facts = device < 64 ? known[device].load() : 0;
  if (facts != 0) return {facts / 2, facts % 2 == 1};
  const Device found = inspect(device);
  if (device < 64) known[device] = 2 * found.first_wave + found.waits;
  return found;
}

void quantize_float32(const Problem& p, const MaskedRows& rows, int device, void* stream) {
  quantize_on<float>(p, rows, device, stream);
}

}  // namespace ptgq
