// torch's current CUDA stream.
#pragma once

#include <cstdint>
#include <stdexcept>

// Defined by a torch with CUDA alone. Weak, so that the library loads beside a CPU-only torch.
extern "C" __attribute__((weak)) int32_t aoti_torch_get_current_cuda_stream(int32_t, void**);

namespace ptgq {

inline void* current_stream(int device) {
  void* stream = nullptr;
  if (aoti_torch_get_current_cuda_stream(device, &stream) != 0) {
    throw std::runtime_error("the device has no current stream");
  }
  return stream;
}

}  // namespace ptgq
