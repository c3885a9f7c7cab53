// The op on CPU tensors: checks, choice of the instruction set, threads.
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cpu_numerics.h"
#include "cpu_problem.h"
#include "problem.h"
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
  STD_TORCH_CHECK(
      false, "PTGQ_CPU_ISA must be avx512, avx2 or baseline, as the processor has, got ", wanted);
}

InputType input_type(ScalarType type) {
  if (type == ScalarType::BFloat16) return InputType::kBfloat16;
  return type == ScalarType::Half ? InputType::kFloat16 : InputType::kFloat32;
}

void per_token_group_quant(const Tensor& x, const Tensor& q, const Tensor& s, int64_t group_size,
                           double eps, bool column_major_scales, bool use_ue8m0) {
  static const QuantizeGroups quantize_groups = choose_instruction_set();
  const Problem p = check(x, q, s, group_size, eps, column_major_scales, use_ue8m0);
  const CpuProblem problem{p.x,
                           static_cast<uint8_t*>(p.q),
                           p.s,
                           input_type(p.x_type),
                           p.int8,
                           p.e8m0,
                           p.power_of_two,
                           p.num_groups,
                           p.group_size,
                           p.x_token_stride,
                           p.s_token_stride,
                           p.s_group_stride,
                           p.eps};
  const int64_t grain = std::max<int64_t>(1, kThreadElements / group_size);
  torch::stable::parallel_for(
      0, p.num_tokens * p.num_groups, grain,
      [&problem](int64_t begin, int64_t end) { quantize_groups(problem, begin, end); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ptgq, CPU, m) {
  m.impl("per_token_group_quant", TORCH_BOX(&per_token_group_quant));
}

}  // namespace ptgq

// Read by ptgq.extension: which compute capabilities the library holds code for, and which commit.
#define PTGQ_EXPORT extern "C" __attribute__((visibility("default")))
PTGQ_EXPORT const char* ptgq_cuda_architectures() { return PTGQ_CUDA_ARCHITECTURES; }
PTGQ_EXPORT const char* ptgq_commit() { return PTGQ_COMMIT; }
