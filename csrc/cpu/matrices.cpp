// What takes whole matrices on the CPU, transposed results and blocks, and dequantization: threads.
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstring>

#include "contract/rows.h"
#include "contract/scales.h"
#include "cpu/instruction_set.h"

namespace ptgq {
namespace {

// Bands of tokens that are enough for a thread, to share the work evenly; and the columns of one
// where there are fewer.
constexpr int64_t kManyBands = 4;
constexpr int64_t kBandColumns = 1024;
// Tokens of a band: of many, more codes of a column lie side by side, which take a page each else.
constexpr int64_t kBandTokens = 128;
constexpr int64_t kHighBandTokens = 256;

// The same call, with x such that the matrix lies where it would if all followed each other.
Transposition in_place_of(const Transposition& t, int64_t matrix) {
  const int64_t elements = t.masked.x_batch_stride - t.tokens * t.rows.x_token_stride;
  Transposition one = t;
  one.rows.x =
      static_cast<const uint8_t*>(t.rows.x) + matrix * elements * x_element_size(t.rows.x_type);
  return one;
}

// Quantizes a band's rows that exist, and its columns; scales of others, and their codes by
// columns, are 0.
void quantize_band(const InstructionSet& set, const Transposition& t, Band band) {
  const Problem& p = t.rows;
  const int64_t first = band.first_column / p.group_size;
  const int64_t last = band.last_column / p.group_size;
  const int64_t begin = band.first_group * p.group_size;
  const int64_t end = std::min(t.tokens, band.last_group * p.group_size);
  const int64_t existing = std::clamp(band.tokens, begin, end);
  const int64_t of_matrix = band.matrix * t.tokens;
  // Whole rows at once: each call waits for what it writes past the caches.
  if (last - first == p.num_groups) {
    set.quantize(p, (of_matrix + begin) * last, (of_matrix + existing) * last);
  } else {
    for (int64_t row = of_matrix + begin; row < of_matrix + existing; ++row) {
      set.quantize(p, row * p.num_groups + first, row * p.num_groups + last);
    }
  }
  for (int64_t row = of_matrix + existing; row < of_matrix + end; ++row) {
    for (int64_t group = first; group < last; ++group) store_scale(p, row, group, 0.0f);
  }
  const Problem& c = t.columns;
  const int64_t last_group = band.last_group;
  band.last_group = std::min(last_group, (band.tokens + p.group_size - 1) / p.group_size);
  set.quantize_transposed(t, band);
  for (int64_t group = std::max(band.first_group, band.last_group); group < last_group; ++group) {
    for (int64_t i = band.first_column; i < band.last_column; ++i) {
      const int64_t column = band.matrix * hidden_dim_of(t) + i;
      store_scale(c, column, group, 0.0f);
      std::memset(c.q + (column * c.num_groups + group) * c.group_size, 0, c.group_size);
    }
  }
}

}  // namespace

void quantize_transposed_cpu(const Transposition& t) {
  if (t.rows.num_tokens == 0) return;
  const InstructionSet& set = instruction_set();
  const Problem& p = t.rows;
  const int64_t matrices = p.num_tokens / t.tokens;
  const int64_t enough = kManyBands * torch::stable::get_num_threads();
  // Scales of columns lie side by side, group after group: a line takes several.
  const auto high_of = [&](int64_t tokens) { return std::max<int64_t>(1, tokens / p.group_size); };
  const auto bands = [&](int64_t high) { return (t.columns.num_groups + high - 1) / high; };
  int64_t high = high_of(kHighBandTokens);
  if (matrices * bands(high) < enough) high = high_of(kBandTokens);
  const int64_t down = bands(high);
  // Whole rows are read fastest, but a few bands would leave threads idle.
  const int64_t wide =
      matrices * down >= enough ? p.num_groups : std::max<int64_t>(1, kBandColumns / p.group_size);
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
      Band band{matrix, group, last_group, first * p.group_size, last * p.group_size, t.tokens};
      if (t.masked.counts == nullptr) {
        quantize_band(set, t, band);
      } else {
        band.tokens = existing_rows(t.masked, matrix);
        quantize_band(set, in_place_of(t, matrix), band);
      }
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
