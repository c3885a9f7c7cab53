// The fast path of blocks: as module.cpp, of a BlockProblem.
#include "contract/blocks.h"

#include <vector>

#include "bindings/fast_path.h"
#include "bindings/stream.h"

namespace ptgq {
namespace {

struct Arguments {
  PyObject *w, *block_rows, *block_columns, *format, *saturate, *eps, *out;
};
constexpr Py_ssize_t kArguments = sizeof(Arguments) / sizeof(PyObject*);

Arguments arguments(PyObject* const* args) {
  return {args[0], args[1], args[2], args[3], args[4], args[5], args[6]};
}

struct Input {
  TensorView w;
  int device;
  BlockOptions options;
  BlockProblem problem;
};

Input read_input(const Arguments& a) {
  refuse_unless(!is_intercepted());
  const TensorView w = view(a.w, true);
  refuse_unless(!is_negated(a.w) && PyLong_CheckExact(a.block_rows) &&
                PyLong_CheckExact(a.block_columns) && PyFloat_CheckExact(a.eps));
  const BlockOptions options =
      block_options(PyLong_AsLongLong(a.block_rows), PyLong_AsLongLong(a.block_columns),
                    PyFloat_AsDouble(a.eps), PyLong_AsLongLong(a.format), a.saturate == Py_True);
  const BlockProblem problem = check_block_input(w, options);
  refuse_unless(problem.batches * problem.rows * problem.columns > 0);
  return {w, device_of(w), options, problem};
}

bool is_padded(const BlockProblem& p) { return p.s_row_stride > p.column_blocks; }

Owned allocate(const Arguments& a, Input& in) {
  BlockProblem& p = in.problem;
  const TensorView& w = in.w;
  std::vector<int64_t> sizes(w.sizes, w.sizes + w.dim);
  sizes[w.dim - 2] = p.row_blocks;
  TensorView like = w;  // of s, but for its columns
  like.sizes = sizes.data();
  const Owned q = empty(w, p.columns, {1, p.columns, 0}, code_dtype(Code::kE4m3));
  const Owned s = empty(like, p.column_blocks, {1, p.s_row_stride, 0},
                        scale_dtype(in.options.storage), is_padded(p) ? scale_elements(p) : 0);
  p.q = static_cast<uint8_t*>(view(q.get()).data);
  p.s = view(s.get()).data;
  return owned(PyTuple_Pack(2, q.get(), s.get()));
}

Owned take_given(const Arguments& a, Input& in) {
  refuse_unless(PyTuple_CheckExact(a.out) && PyTuple_Size(a.out) == 2);
  PyObject* q_tensor = PyTuple_GetItem(a.out, 0);
  PyObject* s_tensor = PyTuple_GetItem(a.out, 1);
  BlockProblem& p = in.problem;
  p = check_block_outputs(p, in.options, in.w, view(q_tensor), view(s_tensor));
  refuse_unless(!overlap(p) && may_be_written(q_tensor, s_tensor));
  refuse_unless(!requires_grad(q_tensor) && !requires_grad(s_tensor) && !is_negated(s_tensor));
  refuse_unless(!is_padded(p) || bytes_from(s_tensor) >= 4 * scale_elements(p));
  Py_IncRef(a.out);
  return Owned(a.out);
}

// Completes the problem; returns (q, s).
Owned read_outputs(const Arguments& a, Input& in) {
  return a.out == Py_None ? allocate(a, in) : take_given(a, in);
}

// Reads (q, s, block_rows, block_columns, dtype), and allocates y.
Dequantized<BlockDequantization> read_products(PyObject* const* args) {
  refuse_unless(PyLong_CheckExact(args[2]) && PyLong_CheckExact(args[3]));
  return read_dequantization(
      args[0], args[1], args[4], [&](const TensorView& q, const TensorView& s, ElementType y_type) {
        const BlockDequantization d = check_dequantize_blocks(q, s, PyLong_AsLongLong(args[2]),
                                                              PyLong_AsLongLong(args[3]), y_type);
        refuse_unless(d.batches * d.rows * d.columns > 0);
        return d;
      });
}

}  // namespace

PyObject* quantize_blocks(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == 1 + kArguments);
    const Arguments a = arguments(args + 1);
    Input in = read_input(a);
    refuse_unless(is_served(in.device) && fits(args[0], in.device));
    Owned outputs = read_outputs(a, in);
    without_gil([&] {
#ifdef PTGQ_WITH_CUDA
      if (in.device != kCpu) {
        return quantize_blocks_cuda(in.problem, in.device, current_stream(in.device));
      }
#endif
      quantize_blocks_cpu(in.problem);
    });
    if (a.out != Py_None) count_writes(outputs.get());
    return outputs.release();
  });
}

// For kernels that Python launches: (outputs, addresses, sizes, device, stream).
PyObject* prepare_blocks(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == kArguments);
    const Arguments a = arguments(args);
    Input in = read_input(a);
    const Owned outputs = read_outputs(a, in);
    const BlockProblem& p = in.problem;
    using Address = unsigned long long;
    void* stream = in.device == kCpu ? nullptr : current_stream(in.device);
    return Py_BuildValue("O(KKK)(LLLLLL)iK", outputs.get(), Address(p.w), Address(p.q),
                         Address(p.s), p.batches, p.rows, p.columns, p.w_batch_stride,
                         p.w_row_stride, p.s_row_stride, in.device, Address(stream));
  });
}

PyObject* dequantize_blocks(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == 6);
    auto d = read_products(args + 1);
    refuse_unless(is_served(d.device) && fits(args[0], d.device));
    without_gil([&] {
#ifdef PTGQ_WITH_CUDA
      if (d.device != kCpu) {
        return dequantize_blocks_cuda(d.call, d.device, current_stream(d.device));
      }
#endif
      dequantize_blocks_cpu(d.call);
    });
    return d.y.release();
  });
}

// For kernels that Python launches: (y, addresses, sizes, device, stream).
PyObject* prepare_dequantize_blocks(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == 5);
    const auto d = read_products(args);
    const BlockDequantization& c = d.call;
    using Address = unsigned long long;
    void* stream = d.device == kCpu ? nullptr : current_stream(d.device);
    return Py_BuildValue("O(KKK)(LLLLLL)iK", d.y.get(), Address(c.q), Address(c.s), Address(c.y),
                         c.batches, c.rows, c.columns, c.s_batch_stride, c.s_row_stride,
                         c.s_column_stride, d.device, Address(stream));
  });
}

}  // namespace ptgq
