// The CPU code for x86-64 with AVX2, FMA and F16C: chosen in quantize.cpp where the processor has
// them.
#ifdef __x86_64__
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define PTGQ_AVX2
#define PTGQ_FMA  // neither compiler defines __FMA__ for the pragma
#define PTGQ_ISA avx2
#include "cpu/groups.inc"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
