// The Python module ptgq._C: the fast path, without torch's dispatcher. Calls that are unusual or
// wrong are refused (None), not raised: ptgq.quantization then raises, or calls the op (op.cpp).
#include "bindings/fast_path.h"
#include "bindings/stream.h"
#include "contract/dequantize.h"
#include "contract/rms_norm.h"
#include "contract/scales.h"
#include "contract/transposed.h"

namespace ptgq {
namespace {

struct Arguments {
  PyObject *x, *group_size, *q_dtype, *format, *silu_and_mul, *swiglu_limit, *saturate, *masked_m,
      *eps, *out;
};
constexpr Py_ssize_t kArguments = sizeof(Arguments) / sizeof(PyObject*);

Arguments arguments(PyObject* const* args) {
  return {args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7], args[8], args[9]};
}

std::optional<double> limit_of(PyObject* swiglu_limit) {
  if (swiglu_limit == Py_None) return std::nullopt;
  refuse_unless(PyFloat_CheckExact(swiglu_limit) || PyLong_CheckExact(swiglu_limit));
  return PyFloat_AsDouble(swiglu_limit);
}

std::optional<TensorView> given(PyObject* tensor) {
  if (tensor == Py_None) return std::nullopt;
  return view(tensor);
}

struct Input {
  TensorView x;
  int device;
  Options options;
  Problem problem;
  MaskedRows rows;
};

Input read_input(const Arguments& a) {
  refuse_unless(!is_intercepted());
  const TensorView x = view(a.x, true);
  refuse_unless(!is_negated(a.x) && PyLong_CheckExact(a.group_size) && PyFloat_CheckExact(a.eps));
  const Options options{PyLong_AsLongLong(a.group_size),
                        PyFloat_AsDouble(a.eps),
                        code_of(a.q_dtype),
                        decode_format(PyLong_AsLongLong(a.format)),
                        a.silu_and_mul == Py_True ? Prologue::kSiluAndMul : Prologue::kNone,
                        limit_of(a.swiglu_limit),
                        a.saturate == Py_True,
                        given(a.masked_m)};
  const Problem problem = check_input(x, options);
  refuse_unless(problem.num_tokens > 0);
  return {x, device_of(x), options, problem, check_rows(problem, x, options)};
}

Owned allocate(const Arguments& a, Input& in) {
  const TensorView& x = in.x;
  Problem& p = in.problem;
  const ScaleFormat& format = in.options.format;
  const int64_t width = p.num_groups * p.group_size;
  const ScaleShape shape = lay_out_scales(p, format, x);
  const bool own = shape.rows != ScaleShape::kOfX;
  const int64_t rows[] = {shape.rows, shape.columns};
  TensorView like = x;  // of s, but for its columns
  if (own) {
    like.dim = 2;
    like.sizes = rows;
  }
  const bool padded = !own && p.column_length > p.column_tokens;
  const Owned q = empty(x, width, {1, width, 0}, a.q_dtype);
  const Owned s = empty(like, shape.columns, shape.strides, scale_dtype(format.storage),
                        padded ? scale_elements(p) : 0);
  p.q = static_cast<uint8_t*>(view(q.get()).data);
  p.s = view(s.get()).data;
  return owned(PyTuple_Pack(2, q.get(), s.get()));
}

Owned take_given(const Arguments& a, Input& in) {
  refuse_unless(PyTuple_CheckExact(a.out) && PyTuple_Size(a.out) == 2);
  PyObject* q_tensor = PyTuple_GetItem(a.out, 0);
  PyObject* s_tensor = PyTuple_GetItem(a.out, 1);
  const TensorView q = view(q_tensor), s = view(s_tensor);
  const ScaleFormat& format = in.options.format;
  refuse_unless(code_of(q.type) == in.options.code);
  Problem& p = in.problem;
  p = check_outputs(p, in.options, in.x, q, s);
  refuse_unless(!overlap(p, in.rows) && may_be_written(q_tensor, s_tensor));
  // Negated views are views of complex numbers, so float32 alone can be one.
  refuse_unless(in.options.code == Code::kInt8 || !requires_grad(q_tensor));
  refuse_unless(format.storage == Storage::kPacked || !requires_grad(s_tensor));
  refuse_unless(format.storage != Storage::kFloat32 || !is_negated(s_tensor));
  if (format.layout == Layout::kTmaAligned) {
    refuse_unless(reinterpret_cast<uintptr_t>(p.s) % 16 == 0);
    refuse_unless(p.column_length == p.column_tokens ||
                  bytes_from(s_tensor) >= 4 * scale_elements(p));
  }
  Py_IncRef(a.out);
  return Owned(a.out);
}

// Completes the problem; returns (q, s).
Owned read_outputs(const Arguments& a, Input& in) {
  return a.out == Py_None ? allocate(a, in) : take_given(a, in);
}

void run(const Input& in) {
  without_gil([&] {
#ifdef PTGQ_WITH_CUDA
    if (in.device != kCpu) {
      return quantize_cuda(in.problem, in.rows, in.device, current_stream(in.device));
    }
#endif
    quantize_cpu(in.problem, in.rows);
  });
}

PyObject* quantize(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == 1 + kArguments);
    const Arguments a = arguments(args + 1);
    Input in = read_input(a);
    refuse_unless(is_served(in.device) && fits(args[0], in.device));
    Owned outputs = read_outputs(a, in);
    run(in);
    if (a.out != Py_None) count_writes(outputs.get());
    return outputs.release();
  });
}

// For kernels that Python launches: (outputs, addresses, sizes, masked rows, device, stream).
PyObject* prepare(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == kArguments);
    const Arguments a = arguments(args);
    Input in = read_input(a);
    const Owned outputs = read_outputs(a, in);
    const Problem& p = in.problem;
    using Address = unsigned long long;
    void* stream = in.device == kCpu ? nullptr : current_stream(in.device);
    const MaskedRows& m = in.rows;
    return Py_BuildValue("O(KKK)(LLLLLL)(KLLLL)iK", outputs.get(), Address(p.x), Address(p.q),
                         Address(p.s), p.num_tokens, p.num_groups, p.x_token_stride,
                         stored_groups(p), p.column_tokens, p.column_length, Address(m.counts),
                         m.count_stride, m.batches, m.batch_tokens, m.x_batch_stride, in.device,
                         Address(stream));
  });
}

// Reads (q, s, group_size, dtype), and allocates y.
Dequantized<Dequantization> read_products(PyObject* const* args) {
  refuse_unless(PyLong_CheckExact(args[2]));
  return read_dequantization(
      args[0], args[1], args[3], [&](const TensorView& q, const TensorView& s, ElementType y_type) {
        const Dequantization d = check_dequantize(q, s, PyLong_AsLongLong(args[2]), y_type);
        refuse_unless(d.num_tokens > 0);
        return d;
      });
}

PyObject* dequantize(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == 5);
    auto d = read_products(args + 1);
    refuse_unless(is_served(d.device) && fits(args[0], d.device));
    without_gil([&] {
#ifdef PTGQ_WITH_CUDA
      if (d.device != kCpu) return dequantize_cuda(d.call, d.device, current_stream(d.device));
#endif
      dequantize_cpu(d.call);
    });
    return d.y.release();
  });
}

// For kernels that Python launches: (y, addresses, sizes, device, stream).
PyObject* prepare_dequantize(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == 4);
    const auto d = read_products(args);
    const Dequantization& c = d.call;
    refuse_unless(c.q_token_stride == c.num_groups * c.group_size);
    using Address = unsigned long long;
    void* stream = d.device == kCpu ? nullptr : current_stream(d.device);
    return Py_BuildValue("O(KKK)(LLLLLL)iK", d.y.get(), Address(c.q), Address(c.s), Address(c.y),
                         c.num_tokens, c.num_groups, c.batch_tokens, c.s_batch_stride,
                         c.s_token_stride, c.s_group_stride, d.device, Address(stream));
  });
}

#include "bindings/rms_norm.inc"
#include "bindings/transposed.inc"

PyObject* instruction_set(PyObject*, PyObject*) {
  return in_python([] { return PyUnicode_FromString(cpu_instruction_set()); });
}

#ifdef PTGQ_WITH_CUDA
PyObject* dependent_launch(PyObject*, PyObject*) {
  return in_python([] { return PyBool_FromLong(allows_dependent_launch()); });
}
#endif

PyObject* serve(PyObject*, PyObject* device) {
  const long index = PyLong_AsLong(device);
  if (index == -1 && PyErr_Occurred()) return nullptr;
  if (index <= 62) served |= uint64_t{1} << (1 + index);
  Py_IncRef(Py_None);
  return Py_None;
}

template <typename Function>
PyCFunction function(Function* f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

PyMethodDef methods[] = {
    {"connect", connect, METH_VARARGS, nullptr},
    {"instruction_set", instruction_set, METH_NOARGS, nullptr},
#ifdef PTGQ_WITH_CUDA
    {"dependent_launch", dependent_launch, METH_NOARGS, nullptr},
#endif
    {"serve", serve, METH_O, nullptr},
    {"quantize", function(quantize), METH_FASTCALL, nullptr},
    {"prepare", function(prepare), METH_FASTCALL, nullptr},
    {"dequantize", function(dequantize), METH_FASTCALL, nullptr},
    {"rms_norm", function(rms_norm), METH_FASTCALL, nullptr},
    {"prepare_rms_norm", function(prepare_rms_norm), METH_FASTCALL, nullptr},
    {"quantize_transposed", function(quantize_transposed), METH_FASTCALL, nullptr},
    {"prepare_transposed", function(prepare_transposed), METH_FASTCALL, nullptr},
    {"prepare_dequantize", function(prepare_dequantize), METH_FASTCALL, nullptr},
    {"quantize_blocks", function(quantize_blocks), METH_FASTCALL, nullptr},
    {"prepare_blocks", function(prepare_blocks), METH_FASTCALL, nullptr},
    {"dequantize_blocks", function(dequantize_blocks), METH_FASTCALL, nullptr},
    {"prepare_dequantize_blocks", function(prepare_dequantize_blocks), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "ptgq._C", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace
}  // namespace ptgq

PyMODINIT_FUNC PyInit__C() {
  PyObject* module = PyModule_Create(&ptgq::definition);
  if (module == nullptr ||
      PyModule_AddStringConstant(module, "cuda_architectures", PTGQ_CUDA_ARCHITECTURES) < 0) {
    return nullptr;
  }
#ifdef Py_GIL_DISABLED
  // Calls share `served`, which is atomic, and what connect() took, which is written at import.
  if (PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED) < 0) return nullptr;
#endif
  return module;
}
