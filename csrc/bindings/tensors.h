// torch's tensors as Python passes them, read and allocated without the dispatcher.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <memory>

#include "contract/check.h"

namespace ptgq {

struct PythonError {};  // thrown when a Python exception is set

struct Release {
  void operator()(PyObject* object) const { Py_DecRef(object); }
};
using Owned = std::unique_ptr<PyObject, Release>;

inline Owned owned(PyObject* result) {
  if (result == nullptr) throw PythonError{};
  return Owned(result);
}

inline void refuse_unless(bool condition) {
  if (!condition) throw Refusal("");
}

// Takes what ptgq.extension hands over at import; everything below refuses until then.
PyObject* connect(PyObject* module, PyObject* arguments);

// Whether a mode or a tracer has to see the calls of torch.
bool is_intercepted();

// Subclasses are refused, as a call may mean something else to them, and tensors without memory,
// as torch.func's transforms have them. A torch.nn.Parameter is none to a call that reads it.
TensorView view(PyObject* tensor, bool or_parameter = false);
bool is_negated(PyObject* tensor);
bool requires_grad(PyObject* tensor);
// Whether torch allows writing them in place: inference tensors in inference mode only.
bool may_be_written(PyObject* q, PyObject* s);
// The bytes of a tensor's memory from its first element on.
int64_t bytes_from(PyObject* tensor);
// Tells autograd that the tensors of a tuple were written.
void count_writes(PyObject* tensors);

constexpr int kCpu = -1;

// The CUDA device of x, which must be the current one, or kCpu.
int device_of(const TensorView& x);

Code code_of(PyObject* q_dtype);
ElementType float_type_of(PyObject* dtype);
PyObject* code_dtype(Code code);
PyObject* scale_dtype(Storage storage);

// Allocates [..., last] with the leading dimensions of x, on its device. `elements`: how many its
// memory holds, where that is more than its last one needs; else 0.
Owned empty(const TensorView& x, int64_t last, const Strides& strides, PyObject* dtype,
            int64_t elements = 0);

}  // namespace ptgq
