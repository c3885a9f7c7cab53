// The CPU kernel for x86-64 with AVX2 and FMA; cpu.cpp chooses it where the processor has them.
#ifdef __x86_64__
#include <algorithm>
#include <cstring>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define __FMA__ 1
#else
#pragma GCC target("avx2,fma")
#endif
#include "cpu_numerics.h"
#include "cpu_problem.h"
#define PTGQ_QUANTIZE_GROUPS quantize_groups_avx2
#include "cpu_groups.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
