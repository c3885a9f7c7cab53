// The CPU kernel for x86-64 with AVX-512 (F, BW, DQ, VL); cpu.cpp chooses it where the processor
// has them.
#ifdef __x86_64__
#include <algorithm>
#include <cstring>

#if defined(__clang__)
#pragma clang attribute push(                                                            \
    __attribute__((                                                                      \
        target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512"))), \
    apply_to = function)
#define __FMA__ 1
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#include "cpu_numerics.h"
#include "cpu_problem.h"
#define PTGQ_QUANTIZE_GROUPS quantize_groups_avx512
#include "cpu_groups.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
