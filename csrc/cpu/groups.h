// The CPU kernel: one definition per instruction set.
#pragma once

#include "contract/problem.h"

namespace ptgq {

// Quantizes the groups [begin, end), counted row by row.
using QuantizeGroups = void (*)(const Problem&, int64_t begin, int64_t end);

// Writes `count` elements of silu_and_mul of a token to y, in the type of x, from `begin` on.
using Activate = void (*)(const Problem&, int64_t token, int64_t begin, int64_t count, void* y);

void activate_baseline(const Problem& p, int64_t token, int64_t begin, int64_t count, void* y);
void quantize_groups_baseline(const Problem& p, int64_t begin, int64_t end);
#ifdef __x86_64__
void activate_avx2(const Problem& p, int64_t token, int64_t begin, int64_t count, void* y);
void activate_avx512(const Problem& p, int64_t token, int64_t begin, int64_t count, void* y);
void quantize_groups_avx2(const Problem& p, int64_t begin, int64_t end);
void quantize_groups_avx512(const Problem& p, int64_t begin, int64_t end);
#endif

}  // namespace ptgq
