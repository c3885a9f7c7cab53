// The CPU kernel for x86-64 with AVX2 and FMA; cpu.cpp chooses it where the processor has them.
#ifdef __x86_64__
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

// A compiler that ignores this builds the same results for the baseline.
#pragma GCC target("avx2,fma")
#ifndef __clang__
#define PTGQ_AVX2
#define PTGQ_FMA  // GCC 12 does not define __FMA__ for the pragma
#endif
#include "cpu_groups.h"
#include "cpu_numerics.h"
#include "scales.h"
#define PTGQ_QUANTIZE_GROUPS quantize_groups_avx2
#include "cpu_groups.inc"
#define PTGQ_ACTIVATE activate_avx2
#include "cpu_silu.inc"
#endif
