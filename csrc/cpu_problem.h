// What the CPU code of every instruction set starts from: no torch header, plain C++ types.
#pragma once

#include <cstdint>

namespace ptgq {

enum class InputType { kBfloat16, kFloat16, kFloat32 };

struct CpuProblem {
  const void* x;
  uint8_t* q;
  void* s;
  InputType x_type;
  bool int8;
  bool e8m0;
  bool power_of_two;
  int64_t num_groups;
  int64_t group_size;
  int64_t x_token_stride;
  int64_t s_token_stride;
  int64_t s_group_stride;
  float eps;
};

// Quantizes the groups [begin, end), counted row by row. One definition per instruction set.
using QuantizeGroups = void (*)(const CpuProblem&, int64_t begin, int64_t end);

void quantize_groups_baseline(const CpuProblem& p, int64_t begin, int64_t end);
#ifdef __x86_64__
void quantize_groups_avx2(const CpuProblem& p, int64_t begin, int64_t end);
void quantize_groups_avx512(const CpuProblem& p, int64_t begin, int64_t end);
#endif

}  // namespace ptgq
