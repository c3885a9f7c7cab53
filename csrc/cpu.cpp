// The op on the CPU: choice of the instruction set, threads.
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu_groups.h"
#include "cpu_numerics.h"
#include "scales.h"
// The instruction set that the compiler assumes without flags.
#define PTGQ_QUANTIZE_GROUPS quantize_groups_baseline
#include "cpu_groups.inc"

namespace ptgq {
namespace {

// Elements below which a further thread costs more than it saves.
constexpr int64_t kThreadElements = 32768;

struct InstructionSet {
  const char* name;
  bool supported;
  QuantizeGroups quantize_groups;
};

// The best instruction set that this processor has, or the one that PTGQ_CPU_ISA names.
QuantizeGroups choose_instruction_set() {
  const InstructionSet sets[] = {
#ifdef __x86_64__
      {"avx512",
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"),
       quantize_groups_avx512},
      {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
       quantize_groups_avx2},
#endif
      {"baseline", true, quantize_groups_baseline},
  };
  const char* wanted = std::getenv("PTGQ_CPU_ISA");
  for (const InstructionSet& set : sets) {
    if (set.supported && (wanted == nullptr || std::strcmp(wanted, set.name) == 0)) {
      return set.quantize_groups;
    }
  }
  throw std::runtime_error(
      "PTGQ_CPU_ISA must be avx512, avx2 or baseline, as the processor has, got " +
      std::string(wanted));
}

}  // namespace

void quantize_cpu(const Problem& p) {
  static const QuantizeGroups quantize_groups = choose_instruction_set();
  const int64_t grain = std::max<int64_t>(1, kThreadElements / p.group_size);
  torch::stable::parallel_for(0, p.num_tokens * p.num_groups, grain,
                              [&p](int64_t begin, int64_t end) { quantize_groups(p, begin, end); });
}

}  // namespace ptgq
