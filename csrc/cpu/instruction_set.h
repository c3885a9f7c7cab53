// The functions of the instruction set that serves, and when threads share their work.
#pragma once

#include "cpu/groups.h"

namespace ptgq {

// A thread of fewer elements costs more than it saves.
constexpr int64_t kThreadElements = 32768;

struct InstructionSet {
  const char* name;
  bool supported;
  decltype(&baseline::quantize) quantize;
  decltype(&baseline::activate) activate;
  decltype(&baseline::dequantize) dequantize;
  decltype(&baseline::quantize_transposed) quantize_transposed;
  decltype(&baseline::quantize_blocks) quantize_blocks;
  decltype(&baseline::dequantize_blocks) dequantize_blocks;
  decltype(&baseline::quantize_rms_norm) quantize_rms_norm;
};

// Chosen at the first call; throws std::runtime_error where PTGQ_CPU_ISA names another.
const InstructionSet& instruction_set();

}  // namespace ptgq
