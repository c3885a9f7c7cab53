// The Python module ptgq._C: calls that pass torch's dispatcher by. What is unusual or wrong is
// refused (None), not raised: ptgq.api then says what is wrong with it, or serves it through the
// dispatcher (op.cpp).
#include <atomic>

#include "stream.h"
#include "tensors.h"

namespace ptgq {
namespace {

// The devices that ptgq.backends has this library serve: bit 0 is the CPU, bit 1 + i CUDA's i.
std::atomic<uint64_t> served{0};

struct Arguments {
  PyObject *x, *group_size, *q_dtype, *column_major_scales, *use_ue8m0, *scale_dtype, *eps, *out;
};
constexpr Py_ssize_t kArguments = sizeof(Arguments) / sizeof(PyObject*);

Arguments arguments(PyObject* const* args) {
  return {args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7]};
}

struct Input {
  TensorView x;
  int device;
  Options options;
  Problem problem;
};

bool flag(PyObject* object) {
  refuse_unless(object == Py_True || object == Py_False);
  return object == Py_True;
}

Input read_input(const Arguments& a) {
  refuse_unless(!is_intercepted());
  const TensorView x = view(a.x);
  refuse_unless(!is_negated(a.x) && PyLong_CheckExact(a.group_size) && PyFloat_CheckExact(a.eps));
  const Options options{PyLong_AsLongLong(a.group_size), PyFloat_AsDouble(a.eps),
                        flag(a.column_major_scales), flag(a.use_ue8m0)};
  PyErr_Clear();  // a group_size that doesn't fit is -1
  const Problem problem = check_input(x, options);
  refuse_unless(problem.num_tokens > 0);
  return {x, device_of(x), options, problem};
}

int64_t element_size(ElementType type) {
  if (type == ElementType::kFloat32) return 4;
  return type == ElementType::kBfloat16 || type == ElementType::kFloat16 ? 2 : 1;
}

bool overlap(const TensorView& a, const TensorView& b) {
  const auto end = [](const TensorView& t) {
    int64_t last = 0;
    for (int64_t i = 0; i < t.dim; ++i) last += (t.sizes[i] - 1) * t.strides[i];
    return static_cast<char*>(t.data) + (last + 1) * element_size(t.type);
  };
  return a.data < end(b) && b.data < end(a);
}

Owned given_outputs(PyObject* out) {
  refuse_unless(PyTuple_CheckExact(out) && PyTuple_Size(out) == 2);
  Py_IncRef(out);
  return Owned(out);
}

// Completes the problem; returns (q, s).
Owned read_outputs(const Arguments& a, Input& in) {
  const TensorView& x = in.x;
  Problem& problem = in.problem;
  const bool given = a.out != Py_None;
  PyObject* s_dtype =
      a.scale_dtype == Py_None ? default_scale_dtype(problem.power_of_two) : a.scale_dtype;
  const ElementType s_type = output_type(s_dtype);  // refuses what torch.empty would raise for
  Owned outputs;
  if (given) {
    outputs = given_outputs(a.out);
  } else {
    const Owned q = empty(x, x.sizes[x.dim - 1], false, a.q_dtype);
    const Owned s = empty(x, problem.num_groups, problem.column_major, s_dtype);
    outputs = owned(PyTuple_Pack(2, q.get(), s.get()));
  }
  PyObject* q_object = PyTuple_GetItem(outputs.get(), 0);
  PyObject* s_object = PyTuple_GetItem(outputs.get(), 1);
  const TensorView q = view(q_object), s = view(s_object);
  refuse_unless(q.type == output_type(a.q_dtype) && s.type == s_type);
  problem = check_outputs(problem, in.options, x, q, s);
  if (given) {
    refuse_unless(!overlap(q, x) && !overlap(s, x) && !overlap(s, q));
    refuse_unless(may_be_written(q_object, s_object));
    // Of the outputs' types, float32 alone can be negated or require gradients.
    refuse_unless(s.type != ElementType::kFloat32 ||
                  (!is_negated(s_object) && !requires_grad(s_object)));
  }
  return outputs;
}

bool is_served(int device) { return device <= 62 && served >> (1 + device) & 1; }

// Whether a device is one that the backend of this name serves, if a name is given.
bool fits(PyObject* backend, int device) {
  if (backend == Py_None) return true;
  const char* name = device == kCpu ? "cpu" : "cuda";
  return PyUnicode_Check(backend) && PyUnicode_CompareWithASCIIString(backend, name) == 0;
}

void run(const Problem& problem, int device) {
  struct WithoutGil {
    PyThreadState* state = PyEval_SaveThread();
    ~WithoutGil() { PyEval_RestoreThread(state); }
  } without_gil;
#ifdef PTGQ_WITH_CUDA
  if (device != kCpu) return quantize_cuda(problem, device, current_stream(device));
#endif
  quantize_cpu(problem);
}

// A refusal is None; any other exception becomes Python's.
template <typename Function>
PyObject* in_python(Function function) {
  try {
    return function();
  } catch (const Refusal&) {
    Py_IncRef(Py_None);
    return Py_None;
  } catch (const PythonError&) {
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyObject* quantize(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == 1 + kArguments);
    const Arguments a = arguments(args + 1);
    Input in = read_input(a);
    refuse_unless(is_served(in.device) && fits(args[0], in.device));
    Owned outputs = read_outputs(a, in);
    run(in.problem, in.device);
    if (a.out != Py_None) count_writes(outputs.get());
    return outputs.release();
  });
}

// For kernels that Python launches: (outputs, addresses, sizes, device, stream).
PyObject* prepare(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return in_python([&] {
    refuse_unless(count == kArguments);
    const Arguments a = arguments(args);
    Input in = read_input(a);
    const Owned outputs = read_outputs(a, in);
    const Problem& p = in.problem;
    using Address = unsigned long long;
    void* stream = in.device == kCpu ? nullptr : current_stream(in.device);
    return Py_BuildValue("O(KKK)(LLL)iK", outputs.get(), Address(p.x), Address(p.q), Address(p.s),
                         p.num_tokens, p.num_groups, p.x_token_stride, in.device, Address(stream));
  });
}

PyObject* instruction_set(PyObject*, PyObject*) {
  return in_python([] { return PyUnicode_FromString(cpu_instruction_set()); });
}

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
    {"serve", serve, METH_O, nullptr},
    {"quantize", function(quantize), METH_FASTCALL, nullptr},
    {"prepare", function(prepare), METH_FASTCALL, nullptr},
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
  // What calls share is `served` and what connect() took, which is written at import alone.
  if (PyUnstable_Module_SetGIL(module, Py_MOD_GIL_NOT_USED) < 0) return nullptr;
#endif
  return module;
}
