// What the functions of the fast path share: which devices are served, and how a call ends.
#pragma once

#include <atomic>

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

// quantize and prepare of module.cpp, for blocks.
PyObject* quantize_blocks(PyObject* module, PyObject* const* args, Py_ssize_t count);
PyObject* prepare_blocks(PyObject* module, PyObject* const* args, Py_ssize_t count);

}  // namespace ptgq
