// Quantization of rows on the CPU: choice of the instruction set, threads.
#include <torch/csrc/stable/ops.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "contract/rows.h"
#include "cpu/instruction_set.h"

// The instruction set that the compiler assumes without flags.
#define PTGQ_ISA baseline
#include "cpu/groups.inc"

namespace ptgq {
namespace {

using namespace baseline;  // its stores past the caches

// Results of silu_and_mul that are kept at a time: they stay in the cache.
constexpr int64_t kActivatedElements = 4096;
#ifdef __x86_64__
// Not asked as the others are: GCC knows the name from its release 11 on.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

// The best instruction set that this processor has, or the one that PTGQ_CPU_ISA names.
InstructionSet choose_instruction_set() {
  const InstructionSet sets[] = {
#ifdef __x86_64__
      {"avx512",
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"),
       avx512::quantize, avx512::activate, avx512::dequantize, avx512::quantize_transposed,
       avx512::quantize_blocks, avx512::dequantize_blocks, avx512::quantize_rms_norm},
      {"avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(),
       avx2::quantize, avx2::activate, avx2::dequantize, avx2::quantize_transposed,
       avx2::quantize_blocks, avx2::dequantize_blocks, avx2::quantize_rms_norm},
#endif
      {"baseline", true, baseline::quantize, baseline::activate, baseline::dequantize,
       baseline::quantize_transposed, baseline::quantize_blocks, baseline::dequantize_blocks,
       baseline::quantize_rms_norm},
  };
  const char* wanted = std::getenv("PTGQ_CPU_ISA");
  for (const InstructionSet& set : sets) {
    if (set.supported && (wanted == nullptr || std::strcmp(wanted, set.name) == 0)) {
      return set;
    }
  }
  throw std::runtime_error(
      "PTGQ_CPU_ISA must be avx512, avx2 or baseline, as the processor has, got " +
      std::string(wanted));
}

// Quantizes silu_and_mul of x, some groups of a token at a time.
void quantize_activated(const InstructionSet& set, const Problem& p, int64_t begin, int64_t end) {
  const int64_t element_size = x_element_size(p.x_type);
  const int64_t most = std::max<int64_t>(1, kActivatedElements / p.group_size);
  std::vector<uint8_t> y(std::min(most, end - begin) * p.group_size * element_size);
  while (begin < end) {
    const int64_t token = begin / p.num_groups;
    const int64_t group = begin - token * p.num_groups;
    const int64_t count = std::min({most, end - begin, p.num_groups - group});
    const int64_t first = group * p.group_size;
    set.activate(p, token, first, count * p.group_size, y.data());
    Problem activated = p;
    activated.x = y.data() - first * element_size;
    activated.x_token_stride = 0;
    set.quantize(activated, begin, begin + count);
    begin += count;
  }
}

// Quantizes the RMSNorm of tokens, one after the other.
void quantize_normalized(const InstructionSet& set, const Problem& p, const RmsNorm& n,
                         int64_t begin, int64_t end) {
  const int64_t hidden_dim = p.num_groups * p.group_size;
  const int64_t element_size = x_element_size(p.x_type);
  const auto neighbours = static_cast<uint64_t>((hidden_dim + kSummed - 1) / kSummed);
  std::vector<float> sums(std::max<uint64_t>(std::bit_ceil(neighbours), kLeastSums));
  std::vector<uint8_t> y(n.norm_out == nullptr ? hidden_dim * element_size : 0);
  set.quantize_rms_norm(p, n, begin, end, sums.data(), static_cast<int64_t>(sums.size()), y.data());
}

// Scales of neighbouring groups lie far apart in columns, mostly in the same set of the cache: so
// they go to rows first, of as many tokens as a line has scales of a column.
template <typename Scale>
void quantize_columns(const InstructionSet& set, const Problem& p, int64_t begin, int64_t end) {
  constexpr int64_t kTokens = kLine / sizeof(Scale);
  const int64_t columns = p.num_groups;
  const bool whole_lines = exceeds_caches(p) && p.s_token_stride == 1 &&
                           p.s_group_stride % kTokens == 0 &&
                           reinterpret_cast<uintptr_t>(p.s) % kLine == 0;
  std::vector<Scale> scales(kTokens * columns);
  while (begin < end) {
    const int64_t token = begin / columns / kTokens * kTokens;
    const int64_t stop = std::min(end, (token + kTokens) * columns);
    Problem rows = p;
    rows.column_major = false;
    rows.s = scales.data() - token * columns;
    rows.s_token_stride = columns;
    rows.s_group_stride = 1;
    set.quantize(rows, begin, stop);
    const int64_t first = begin - token * columns;
    const int64_t last = stop - token * columns;
    Scale* column = static_cast<Scale*>(p.s) + token * p.s_token_stride;
    for (int64_t group = 0; group < columns; ++group, column += p.s_group_stride) {
      // The groups [first, last), counted row by row, have these tokens of a column.
      const int64_t from = first / columns + (group < first % columns);
      const int64_t to = last / columns + (group < last % columns);
      if (whole_lines && to - from == kTokens) {
        Scale line[kTokens];
        for (int64_t i = 0; i < kTokens; ++i) line[i] = scales[i * columns + group];
        stream_line(column, line);
      } else {
        for (int64_t i = from; i < to; ++i) {
          column[i * p.s_token_stride] = scales[i * columns + group];
        }
      }
    }
    begin = stop;
  }
  if (whole_lines) end_stream();
}

void quantize_range(const InstructionSet& set, const Problem& p, int64_t begin, int64_t end) {
  // Rows of scales cost more than they save for less than a row.
  const bool in_columns = p.column_major && p.plain && end - begin >= p.num_groups;
  if (p.prologue == Prologue::kSiluAndMul) return quantize_activated(set, p, begin, end);
  if (in_columns && p.e8m0) return quantize_columns<uint8_t>(set, p, begin, end);
  if (in_columns) return quantize_columns<float>(set, p, begin, end);
  set.quantize(p, begin, end);
}

// Stores zeros for the rows [begin, end) of a column of scales.
void store_zeros(const Problem& p, int64_t batch, int64_t begin, int64_t end) {
  const int64_t columns = scale_columns(p);
  if (p.s_token_stride == kTiledRows) {
    for (int64_t column = 0; column < columns; ++column) {
      for (int64_t row = begin; row < end; ++row) store_zero(p, batch, row, column);
    }
    return;
  }
  const int64_t size = p.e8m0 && !p.packed ? 1 : 4;
  const int64_t runs = p.column_major ? columns : 1;
  const int64_t elements = (end - begin) * (p.column_major ? 1 : columns);
  for (int64_t column = 0; column < runs; ++column) {
    const int64_t at = offset_of_element(p, batch, begin, column);
    std::memset(static_cast<uint8_t*>(p.s) + at * size, 0, elements * size);
  }
}

// Quantizes the rows that exist. All scales of others are zeroed before: those of the last row that
// exists may share their padding.
void quantize_masked(const InstructionSet& set, const Problem& p, const MaskedRows& rows,
                     int64_t grain) {
  std::vector<int64_t> ends(rows.batches);  // rows that exist up to the end of a batch
  for (int64_t batch = 0; batch < rows.batches; ++batch) {
    ends[batch] = (batch == 0 ? 0 : ends[batch - 1]) + existing_rows(rows, batch);
  }
  const auto first_of = [&](int64_t batch) { return batch == 0 ? 0 : ends[batch - 1]; };
  const int64_t tokens = rows.batch_tokens;
  const bool own = has_batch_columns(p);
  const int64_t batch_grain = std::max<int64_t>(1, kThreadElements / (tokens * p.num_groups));
  torch::stable::parallel_for(0, rows.batches, batch_grain, [&](int64_t begin, int64_t end) {
    for (int64_t batch = begin; batch < end; ++batch) {
      const int64_t row = own ? 0 : batch * tokens;
      const bool last = own || batch == rows.batches - 1;
      const int64_t stop = last ? p.column_length : row + tokens;
      store_zeros(p, own ? batch : 0, row + ends[batch] - first_of(batch), stop);
    }
  });
  const int64_t size = x_element_size(p.x_type);
  torch::stable::parallel_for(
      0, ends.back() * p.num_groups, grain, [&](int64_t begin, int64_t end) {
        int64_t batch =
            std::upper_bound(ends.begin(), ends.end(), begin / p.num_groups) - ends.begin();
        for (; begin < end; ++batch) {
          const int64_t stop = std::min(end, ends[batch] * p.num_groups);
          Problem one = p;               // whose tokens [batch * tokens, ...) are the batch's rows
          one.num_tokens = ends.back();  // what caches may hold
          one.x = static_cast<const uint8_t*>(p.x) +
                  batch * (rows.x_batch_stride - tokens * p.x_token_stride) * size;
          const int64_t shift = (batch * tokens - first_of(batch)) * p.num_groups;
          if (begin < stop) quantize_range(set, one, begin + shift, stop + shift);
          begin = stop;
        }
      });
}

}  // namespace

const InstructionSet& instruction_set() {
  static const InstructionSet set = choose_instruction_set();
  return set;
}

const char* cpu_instruction_set() { return instruction_set().name; }

void quantize_cpu(const Problem& p, const MaskedRows& rows) {
  const InstructionSet& set = instruction_set();
  const int64_t grain = std::max<int64_t>(1, kThreadElements / p.group_size);
  if (rows.counts != nullptr && p.num_tokens > 0) return quantize_masked(set, p, rows, grain);
  torch::stable::parallel_for(
      0, p.num_tokens * p.num_groups, grain,
      [&](int64_t begin, int64_t end) { quantize_range(set, p, begin, end); });
}

void quantize_rms_norm_cpu(const Problem& p, const RmsNorm& n) {
  const InstructionSet& set = instruction_set();
  const int64_t grain = std::max<int64_t>(1, kThreadElements / (p.num_groups * p.group_size));
  torch::stable::parallel_for(0, p.num_tokens, grain, [&](int64_t begin, int64_t end) {
    quantize_normalized(set, p, n, begin, end);
  });
}

}  // namespace ptgq
