// In place of csrc/cuda/launch.cuh: launches run on the CPU.
#pragma once

#include <cstdlib>

#include "cuda/device.cuh"

namespace ptgq {

struct Launch {
  void* stream;
  bool captured;
  bool dependent;
  uint32_t first_wave;
};

// FIRST_WAVE: the blocks that the device would hold. Every other launch is a dependent one.
inline Launch launch_on(int, void*) {
  static bool dependent = true;
  dependent = !dependent;
  return {nullptr, false, dependent, static_cast<uint32_t>(std::atoi(std::getenv("FIRST_WAVE")))};
}

template <typename Arguments>
void launch_kernel(void (*kernel)(Arguments), int64_t blocks, int block, const Arguments& arguments,
                   Launch, size_t shared_bytes = 0) {
  emulator::run([&] { kernel(arguments); }, blocks, block, shared_bytes);
}

inline uint4* dynamic_shared_memory() { return reinterpret_cast<uint4*>(emulator::dynamic_shared); }

}  // namespace ptgq
