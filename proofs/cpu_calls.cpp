// Calls of the CPU code without torch or Python, so that it runs under an emulator: reads calls
// from stdin, writes the memory of q and s of each to stdout.
#include <cmath>
#include <cstdio>
#include <exception>
#include <type_traits>
#include <vector>

#include "contract/check.h"

using namespace ptgq;

// In chunks one after the other, none of a whole row: what threads would get.
extern "C" int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t,
                                      void (*run)(int64_t, int64_t, void*), void* context) {
  const int64_t chunk = (end - begin) * 2 / 5 + 1;
  for (; begin < end; begin += chunk)
    run(begin, begin + chunk < end ? begin + chunk : end, context);
  return 0;
}
extern "C" int32_t torch_get_num_threads(uint32_t* threads) {
  *threads = 2;
  return 0;
}

namespace {

// As tests/emulated_calls.py writes it, followed by the elements of x and of the counts.
struct Call {
  int64_t x_type, q_type, s_type, counts_type;  // ElementType
  int64_t x_dim, s_dim;                         // q has that of x
  int64_t x_sizes[3], x_strides[3], q_sizes[3], s_sizes[3], s_strides[3];
  int64_t x_bytes, s_bytes, counts_bytes;  // of no counts: all rows exist
  int64_t batches, count_stride;
  int64_t group_size, int8, format, silu_and_mul, saturate;  // format: ptgq.ScaleFormat.code
  double eps, swiglu_limit;                                  // infinity: none
};
static_assert(sizeof(Call) == 33 * 8 && std::is_trivially_copyable_v<Call>);

TensorView view(std::vector<uint8_t>& memory, const int64_t* sizes, const int64_t* strides,
                int64_t dim, int64_t type) {
  return {memory.data(), sizes, strides, dim, 0, 0, static_cast<ElementType>(type)};
}

void run(const Call& call, std::vector<uint8_t>& x, std::vector<uint8_t>& counts) {
  const bool three = call.x_dim == 3;
  std::vector<uint8_t> q(call.q_sizes[0] * call.q_sizes[1] * (three ? call.q_sizes[2] : 1), 0xEE);
  std::vector<uint8_t> s(call.s_bytes, 0xEE);  // padding is to be written, too
  const int64_t width = call.q_sizes[call.x_dim - 1];
  const int64_t q_strides[] = {three ? call.q_sizes[1] * width : width, three ? width : 1, 1};
  const auto limit =
      std::isinf(call.swiglu_limit) ? std::nullopt : std::optional(call.swiglu_limit);
  std::optional<TensorView> masked_m;
  if (!counts.empty()) {
    masked_m = view(counts, &call.batches, &call.count_stride, 1, call.counts_type);
  }
  const Options options{call.group_size,
                        call.eps,
                        call.int8 != 0 ? Code::kInt8 : Code::kE4m3,
                        decode_format(call.format),
                        call.silu_and_mul != 0 ? Prologue::kSiluAndMul : Prologue::kNone,
                        limit,
                        call.saturate != 0,
                        masked_m};
  const TensorView x_view = view(x, call.x_sizes, call.x_strides, call.x_dim, call.x_type);
  const Problem input = check_input(x_view, options);
  quantize_cpu(check_outputs(input, options, x_view,
                             view(q, call.q_sizes, q_strides, call.x_dim, call.q_type),
                             view(s, call.s_sizes, call.s_strides, call.s_dim, call.s_type)),
               check_rows(input, x_view, options));
  std::fwrite(q.data(), 1, q.size(), stdout);
  std::fwrite(s.data(), 1, s.size(), stdout);
}

}  // namespace

int main() {
  try {
    Call call;
    while (std::fread(&call, sizeof call, 1, stdin) == 1) {
      std::vector<uint8_t> x(call.x_bytes), counts(call.counts_bytes);
      if (std::fread(x.data(), 1, x.size(), stdin) != x.size()) return 1;
      if (std::fread(counts.data(), 1, counts.size(), stdin) != counts.size()) return 1;
      run(call, x, counts);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
