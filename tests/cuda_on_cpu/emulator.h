// Runs CUDA kernels on the CPU, one block after the other: each thread is a fiber that runs until
// it waits for its warp or its block. Arithmetic is the host's, as csrc/contract has it.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <vector>

#undef __global__
#define __global__
#undef __device__
#define __device__
#undef __noinline__
#define __noinline__ inline
#undef __forceinline__
#define __forceinline__ inline
#undef __shared__
#define __shared__ static  // one block runs at a time
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

using std::max;
using std::min;

namespace emulator {

constexpr int kWarp = 32;
constexpr size_t kStack = 1 << 16;

struct Index {
  unsigned x;
};
inline Index thread, block, threads, grid;
alignas(64) inline unsigned char dynamic_shared[1 << 18];

// Threads that wait for one another; those that have ended are not waited for.
struct Group {
  int live;
  int arrived = 0;
  uint64_t times = 0;              // that all have arrived
  uint32_t exchanged[2][kWarp]{};  // by turns: one is read while the next is written

  void leave() {
    --live;
    release();
  }
  void release() {
    if (arrived != live) return;
    arrived = 0;
    ++times;
  }
};

struct Fiber {
  std::vector<char> stack = std::vector<char>(kStack);
  void* pointer = nullptr;  // of the stack, while another runs
  bool ended = false;
  const Group* waits_for = nullptr;
  uint64_t times = 0;
};

inline std::vector<Fiber> fibers;
inline std::vector<Group> warps;
inline std::map<std::pair<unsigned, uint32_t>, Group> parts;  // of a warp, by the mask of its lanes
inline Group whole_block{0};
inline std::function<void()> kernel;
inline void* scheduler;

// Keeps what the calling convention of x86-64 says that a callee keeps.
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.pushsection .text
.weak emulator_switch
emulator_switch:
  pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
  ret
.popsection
)");

inline Group& own_warp() { return warps[thread.x / kWarp]; }

inline void wait(Group& group) {
  Fiber& self = fibers[thread.x];
  self.waits_for = &group;
  self.times = group.times;
  ++group.arrived;
  group.release();
  emulator_switch(&self.pointer, scheduler);
}

// The values of the lanes that a mask has.
using Values = uint32_t[kWarp];
inline const Values& exchange(uint32_t mask, uint32_t value) {
  const unsigned warp = thread.x / kWarp;
  Group& group = mask == 0xFFFFFFFF
                     ? warps[warp]
                     : parts.try_emplace({warp, mask}, Group{std::popcount(mask)}).first->second;
  auto& values = group.exchanged[group.times % 2];
  values[thread.x % kWarp] = value;
  wait(group);
  return values;
}

inline void run_thread() {
  kernel();
  fibers[thread.x].ended = true;
  own_warp().leave();
  whole_block.leave();
  emulator_switch(&fibers[thread.x].pointer, scheduler);
  std::abort();  // nothing resumes it
}

inline void start(Fiber& fiber) {
  const auto end = reinterpret_cast<uintptr_t>(fiber.stack.data() + kStack) / 16 * 16;
  void** const entry = reinterpret_cast<void**>(end) - 2;  // as if it had been called
  *entry = reinterpret_cast<void*>(&run_thread);
  fiber.pointer = entry - 6;
  fiber.ended = false;
  fiber.waits_for = nullptr;
}

inline void run_block() {
  warps.assign(threads.x / kWarp, Group{kWarp});
  parts.clear();
  whole_block = Group{static_cast<int>(threads.x)};
  for (unsigned i = 0; i < threads.x; ++i) start(fibers[i]);
  for (bool goes_on = true; goes_on;) {
    goes_on = false;
    for (thread.x = 0; thread.x < threads.x; ++thread.x) {
      Fiber& fiber = fibers[thread.x];
      if (fiber.ended || (fiber.waits_for && fiber.waits_for->times == fiber.times)) continue;
      const unsigned number = thread.x;
      emulator_switch(&scheduler, fiber.pointer);
      thread.x = number;
      goes_on = true;
    }
  }
  for (unsigned i = 0; i < threads.x; ++i) {
    if (!fibers[i].ended) throw std::runtime_error("threads wait for one another for ever");
  }
}

inline void run(std::function<void()> body, int64_t blocks, int block_threads, size_t shared) {
  if (shared > sizeof dynamic_shared) throw std::runtime_error("too much shared memory");
  kernel = std::move(body);
  threads.x = block_threads;
  grid.x = static_cast<unsigned>(blocks);
  if (fibers.size() < threads.x) fibers.resize(threads.x);
  for (int64_t i = 0; i < blocks; ++i) {
    block.x = static_cast<unsigned>(i);
    run_block();
  }
}

}  // namespace emulator

#define threadIdx emulator::thread
#define blockIdx emulator::block
#define blockDim emulator::threads
#define gridDim emulator::grid

inline void __syncthreads() { emulator::wait(emulator::whole_block); }
inline void __syncwarp() { emulator::wait(emulator::own_warp()); }
template <typename T>
T __shfl_sync(uint32_t mask, T value, int lane) {
  uint32_t bits;
  static_assert(sizeof value == sizeof bits);
  std::memcpy(&bits, static_cast<const void*>(&value), sizeof bits);
  bits = emulator::exchange(mask, bits)[lane];
  std::memcpy(static_cast<void*>(&value), &bits, sizeof bits);
  return value;
}
template <typename T>
T __shfl_xor_sync(uint32_t mask, T value, int by) {
  return __shfl_sync(mask, value, threadIdx.x % emulator::kWarp ^ by);
}
inline uint32_t __shfl_up_sync(uint32_t mask, uint32_t value, unsigned by) {
  const unsigned lane = threadIdx.x % emulator::kWarp;
  return emulator::exchange(mask, value)[lane < by ? lane : lane - by];
}
inline uint32_t __reduce_max_sync(uint32_t mask, uint32_t value) {
  const emulator::Values& values = emulator::exchange(mask, value);
  for (int i = 0; i < emulator::kWarp; ++i) {
    if (mask >> i & 1) value = max(value, values[i]);
  }
  return value;
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint64_t{a} * b >> 32; }
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selected) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<uint32_t>(bytes >> (selected >> 4 * i & 7) * 8 & 0xFF) << 8 * i;
  }
  return result;
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline int __float2int_rn(float x) { return x == x ? static_cast<int>(std::nearbyint(x)) : 0; }
