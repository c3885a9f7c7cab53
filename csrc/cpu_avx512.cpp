// The CPU kernel for x86-64 with AVX-512 (F, BW, DQ, VL); cpu.cpp chooses it where the processor
// has them.
#ifdef __x86_64__
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

// A compiler that ignores this builds the same results for the baseline.
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#ifndef __clang__
#define PTGQ_AVX512
#define PTGQ_FMA  // GCC 12 does not define __FMA__ for the pragma
#endif
#include "cpu_groups.h"
#include "cpu_numerics.h"
#include "scales.h"
#define PTGQ_QUANTIZE_GROUPS quantize_groups_avx512
#include "cpu_groups.inc"
#define PTGQ_ACTIVATE activate_avx512
#include "cpu_silu.inc"
#endif
