// What the functions of the fast path share: which devices are served, and how a call ends.
#pragma once

#include <atomic>
#include <type_traits>

#include "bindings/tensors.h"

namespace ptgq {

// The devices that ptgq.backends lets this library serve: bit 0 is the CPU, bit 1 + i CUDA's i.
inline std::atomic<uint64_t> served{0};

inline bool is_served(int device) { return device <= 62 && served >> (1 + device) & 1; }

// Whether the backend of this name, if one is given, serves the device.
inline bool fits(PyObject* backend, int device) {
  if (backend == Py_None) return true;
  const char* name = device == kCpu ? "cpu" : "cuda";
  return PyUnicode_Check(backend) && PyUnicode_CompareWithASCIIString(backend, name) == 0;
}

template <typename Function>
void without_gil(Function function) {
  struct WithoutGil {
    PyThreadState* state = PyEval_SaveThread();
    ~WithoutGil() { PyEval_RestoreThread(state); }
  } released;
  function();
}

// A refusal is None; any other exception becomes Python's.
template <typename Function>
PyObject* in_python(Function function) {
  try {
    return function();
  } catch (const Refusal&) {
    PyErr_Clear();  // a number that doesn't fit is -1, which is refused
    Py_IncRef(Py_None);
    return Py_None;
  } catch (const PythonError&) {
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// A checked call that undoes quantization, with its result.
template <typename Call>
struct Dequantized {
  Owned y;
  Call call;
  int device;
};

// Reads q and s, and allocates y; `check` takes both and the type of y.
template <typename Check>
auto read_dequantization(PyObject* q_tensor, PyObject* s_tensor, PyObject* dtype, Check check) {
  refuse_unless(!is_intercepted());
  const TensorView q = view(q_tensor, true), s = view(s_tensor, true);
  // Negated views are views of complex numbers, so float32 alone can be one.
  refuse_unless(s.type != ElementType::kFloat32 || !is_negated(s_tensor));
  refuse_unless(q.type == ElementType::kInt8 || !requires_grad(q_tensor));
  refuse_unless(s.type == ElementType::kInt32 || !requires_grad(s_tensor));
  const auto call = check(q, s, float_type_of(dtype));
  Dequantized<std::remove_const_t<decltype(call)>> d{nullptr, call, device_of(q)};
  const int64_t width = q.sizes[q.dim - 1];
  d.y = empty(q, width, {1, width, 0}, dtype);
  d.call.y = view(d.y.get()).data;
  return d;
}

// The functions of module.cpp, for blocks.
PyObject* quantize_blocks(PyObject* module, PyObject* const* args, Py_ssize_t count);
PyObject* prepare_blocks(PyObject* module, PyObject* const* args, Py_ssize_t count);
PyObject* dequantize_blocks(PyObject* module, PyObject* const* args, Py_ssize_t count);
PyObject* prepare_dequantize_blocks(PyObject* module, PyObject* const* args, Py_ssize_t count);

}  // namespace ptgq
