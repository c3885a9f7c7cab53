// What takes whole matrices on the CPU, transposed results and blocks, and dequantization: threads.
#include <torch/csrc/stable/ops.h>

#include <algorithm>

#include "cpu/instruction_set.h"

namespace ptgq {
namespace {

// Bands of tokens that are enough for all threads, and the columns of one where there are fewer.
constexpr int64_t kManyBands = 64;
constexpr int64_t kBandTokens = 128;
constexpr int64_t kBandColumns = 1024;

}  // namespace

void quantize_transposed_cpu(const Transposition& t) {
  if (t.rows.num_tokens == 0) return;
  const InstructionSet& set = instruction_set();
  const Problem& p = t.rows;
  // Scales of columns lie side by side, group after group: a line takes several.
  const int64_t high = std::max<int64_t>(1, kBandTokens / p.group_size);
  const int64_t down = (t.columns.num_groups + high - 1) / high;
  const int64_t matrices = p.num_tokens / t.tokens;
  // Whole rows are read fastest, but a few bands would leave threads idle.
  const int64_t wide = matrices * down >= kManyBands
                           ? p.num_groups
                           : std::max<int64_t>(1, kBandColumns / p.group_size);
  const int64_t across = (p.num_groups + wide - 1) / wide;
  const int64_t elements = high * p.group_size * wide * p.group_size;
  const int64_t grain = std::max<int64_t>(1, kThreadElements / elements);
  torch::stable::parallel_for(0, matrices * down * across, grain, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t matrix = unit / across / down;
      const int64_t group = unit / across % down * high;
      const int64_t last_group = std::min(t.columns.num_groups, group + high);
      const int64_t first = unit % across * wide;
      const int64_t last = std::min(p.num_groups, first + wide);
      const int64_t end_token = std::min(t.tokens, last_group * p.group_size);
      for (int64_t token = group * p.group_size; token < end_token; ++token) {
        const int64_t row = (matrix * t.tokens + token) * p.num_groups;
        set.quantize(p, row + first, row + last);
      }
      set.quantize_transposed(
          t, {matrix, group, last_group, first * p.group_size, last * p.group_size});
    }
  });
}

void quantize_blocks_cpu(const BlockProblem& p) {
  if (p.batches * p.rows * p.columns == 0) return;
  const InstructionSet& set = instruction_set();
  const int64_t elements = blocks_of_panel(p) * p.block_rows * p.block_columns;
  const int64_t grain = std::max<int64_t>(1, kThreadElements / elements);
  torch::stable::parallel_for(
      0, p.batches * p.row_blocks * row_panels(p), grain,
      [&](int64_t begin, int64_t end) { set.quantize_blocks(p, begin, end); });
}

void dequantize_blocks_cpu(const BlockDequantization& d) {
  if (d.batches * d.rows * d.columns == 0) return;
  const InstructionSet& set = instruction_set();
  const int64_t grain = std::max<int64_t>(1, kThreadElements / d.columns);
  torch::stable::parallel_for(0, d.batches * d.rows, grain, [&](int64_t begin, int64_t end) {
    set.dequantize_blocks(d, begin, end);
  });
}

void dequantize_cpu(const Dequantization& d) {
  const InstructionSet& set = instruction_set();
  const int64_t grain = std::max<int64_t>(1, kThreadElements / d.group_size);
  torch::stable::parallel_for(0, d.num_tokens * d.num_groups, grain,
                              [&](int64_t begin, int64_t end) { set.dequantize(d, begin, end); });
}

}  // namespace ptgq
