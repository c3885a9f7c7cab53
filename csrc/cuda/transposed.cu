// per_token_group_quant_transposed on a CUDA device: choice of the kernels.
#include "cuda/transposed_columns_kernel.cuh"

namespace ptgq {
namespace {

template <typename T>
void launch_transposed(const Transposition& t, int device, cudaStream_t stream) {
  const Problem& rows = t.rows;
  const int64_t hidden_dim = hidden_dim_of(t);
  const int64_t matrices = rows.num_tokens / t.tokens;
  const int64_t size = rows.group_size;
  const bool whole = size >= kMinTransposedGroup && size <= kSide && (size & (size - 1)) == 0;
  const int64_t column_tiles = ceil_div(hidden_dim, kSide);
  const int64_t token_tiles = ceil_div(t.tokens, kSide);
  const int64_t blocks = matrices * token_tiles * column_tiles;
  const bool masked = t.masked.counts != nullptr;
  const bool aligned = is_aligned<T, kChunk>(rows) &&
                       reinterpret_cast<uintptr_t>(t.columns.q) % sizeof(uint4) == 0 &&
                       (matrices == 1 || t.masked.x_batch_stride * sizeof(T) % kWord == 0);
  if (whole && aligned && !rows.saturate && blocks <= kMaxIndex && hidden_dim <= kMaxIndex) {
    const Launch how = launch_on(device, stream);
    const auto divisor = [](int64_t by) { return divisor_of(static_cast<uint32_t>(by)); };
    const TransposedArguments a{rows,
                                t.columns,
                                static_cast<uint32_t>(t.tokens),
                                static_cast<uint32_t>(hidden_dim),
                                divisor(column_tiles),
                                divisor(token_tiles),
                                static_cast<uint32_t>(size / kChunk)};
    const auto launch = [&](auto lanes) {
      if (masked) {
        return launch_kernel(per_token_group_quant_transposed_kernel<T, lanes, true>, blocks,
                             kTransposedThreads, WithRows<TransposedArguments>{a, t.masked}, how);
      }
      launch_kernel(per_token_group_quant_transposed_kernel<T, lanes, false>, blocks,
                    kTransposedThreads, a, how);
    };
    return size == kSide ? launch(std::integral_constant<int, kPieces>{})
                         : launch(std::integral_constant<int, 0>{});
  }
  quantize_cuda(rows, t.masked, device, stream);
  const int64_t of_columns = ceil_div(hidden_dim, kThreads);
  const int64_t all = matrices * t.columns.num_groups * of_columns;
  if (all > kMaxIndex) throw std::runtime_error("x has too many groups for one launch");
  const Launch how = launch_on(device, stream);
  const ColumnArguments a{t.columns, rows.x, rows.x_token_stride, t.tokens, hidden_dim, of_columns};
  if (masked) {
    return launch_kernel(per_token_group_quant_transposed_columns_kernel<T, true>, all, kThreads,
                         WithRows<ColumnArguments>{a, t.masked}, how);
  }
  launch_kernel(per_token_group_quant_transposed_columns_kernel<T, false>, all, kThreads, a, how);
}

}  // namespace

void quantize_transposed_cuda(const Transposition& t, int device, void* stream) {
  if (t.rows.num_tokens == 0) return;
  const auto on = static_cast<cudaStream_t>(stream);
  switch (t.rows.x_type) {
    case ElementType::kBfloat16:
      return launch_transposed<__nv_bfloat16>(t, device, on);
    case ElementType::kFloat16:
      return launch_transposed<__half>(t, device, on);
    default:
      return launch_transposed<float>(t, device, on);
  }
}

}  // namespace ptgq
