// The CPU kernel for x86-64 with AVX2 and FMA: chosen in quantize.cpp where the processor has them.
#ifdef __x86_64__
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define PTGQ_AVX2
#define PTGQ_FMA  // neither compiler defines __FMA__ for the pragma
#include "contract/scales.h"
#include "cpu/groups.h"
#include "cpu/numerics.h"
#define PTGQ_QUANTIZE_GROUPS quantize_groups_avx2
#include "cpu/groups.inc"
#define PTGQ_ACTIVATE activate_avx2
#include "cpu/silu.inc"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
