#include "bindings/tensors.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
// torch's copy of dlpack.h, a C ABI of its own, can't be included with this.
#undef TORCH_TARGET_VERSION
#include <ATen/dlpack.h>

#include <algorithm>
#include <iterator>

namespace ptgq {
namespace {

struct Torch {
  PyObject *tensor_type, *parameter_type;
  const DLPackExchangeAPI* dlpack;
  PyObject *empty_cpu, *empty_cuda;  // (size, stride, dtype)
  PyObject* reinterpret;             // (tensor, size, stride, offset)
  PyObject *e4m3, *int8;
  PyObject* float_dtypes[3];  // by ElementType
  PyObject* scale_dtypes[3];  // by Storage
  PyObject* signs;            // functions that are quick: may something follow the calls?
  PyObject* is_followed;      // does it?
  PyObject *is_neg, *requires_grad;
  PyObject *is_inference, *is_inference_mode;
  PyObject* bytes_from;         // (tensor)
  PyObject* increment_version;  // (tensors)
};
Torch torch{};

bool is_true(const Owned& object) {
  const int truth = PyObject_IsTrue(object.get());
  if (truth < 0) throw PythonError{};
  return truth == 1;
}

ElementType element_type(DLDataType type) {
  switch (type.code << 8 | type.bits) {
    case kDLBfloat << 8 | 16:
      return ElementType::kBfloat16;
    case kDLFloat << 8 | 16:
      return ElementType::kFloat16;
    case kDLFloat << 8 | 32:
      return ElementType::kFloat32;
    case kDLFloat8_e4m3fn << 8 | 8:
      return ElementType::kE4m3;
    case kDLFloat8_e8m0fnu << 8 | 8:
      return ElementType::kE8m0;
    case kDLInt << 8 | 8:
      return ElementType::kInt8;
    case kDLInt << 8 | 32:
      return ElementType::kInt32;
    case kDLInt << 8 | 64:
      return ElementType::kInt64;
    default:
      return ElementType::kOther;
  }
}

// The tuple holds value(0), value(1), ...
template <typename Value>
Owned tuple_of(int64_t size, const Value& value) {
  Owned tuple = owned(PyTuple_New(size));
  for (int64_t i = 0; i < size; ++i) {
    PyTuple_SetItem(tuple.get(), i, owned(PyLong_FromLongLong(value(i))).release());
  }
  return tuple;
}

template <typename... Arguments>
Owned call(PyObject* function, Arguments*... arguments) {
  return owned(PyObject_CallFunctionObjArgs(function, arguments..., nullptr));
}

}  // namespace

PyObject* connect(PyObject*, PyObject* arguments) {
  Torch t{};
  PyObject* api;
  if (!PyArg_ParseTuple(
          arguments, "(OO)O(OOO)(OO)(OOO)(OOO)O!OOO(OO)OO", &t.tensor_type, &t.parameter_type, &api,
          &t.empty_cpu, &t.empty_cuda, &t.reinterpret, &t.e4m3, &t.int8, &t.float_dtypes[0],
          &t.float_dtypes[1], &t.float_dtypes[2], &t.scale_dtypes[0], &t.scale_dtypes[1],
          &t.scale_dtypes[2], &PyTuple_Type, &t.signs, &t.is_followed, &t.is_neg, &t.requires_grad,
          &t.is_inference, &t.is_inference_mode, &t.bytes_from, &t.increment_version)) {
    return nullptr;
  }
  t.dlpack =
      static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(api, "dlpack_exchange_api"));
  if (t.dlpack == nullptr) return nullptr;
  if (t.dlpack->header.version.major != DLPACK_MAJOR_VERSION) {
    PyErr_SetString(PyExc_ValueError, "torch exchanges tensors by another DLPack");
    return nullptr;
  }
  Py_IncRef(arguments);  // never released
  torch = t;
  Py_IncRef(Py_None);
  return Py_None;
}

bool is_intercepted() {
  refuse_unless(torch.signs != nullptr);
  const Py_ssize_t count = PyTuple_Size(torch.signs);
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (is_true(owned(PyObject_CallNoArgs(PyTuple_GetItem(torch.signs, i))))) {
      return is_true(owned(PyObject_CallNoArgs(torch.is_followed)));
    }
  }
  return false;
}

TensorView view(PyObject* tensor, bool or_parameter) {
  auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(tensor));
  refuse_unless(type == torch.tensor_type || (or_parameter && type == torch.parameter_type));
  DLTensor t;
  refuse_unless(torch.dlpack->dltensor_from_py_object_no_sync(tensor, &t) == 0);
  refuse_unless(t.data != nullptr);
  return {t.data,
          t.shape,
          t.strides,
          t.ndim,
          static_cast<int>(t.device.device_type),
          t.device.device_id,
          element_type(t.dtype)};
}

bool is_negated(PyObject* tensor) { return is_true(call(torch.is_neg, tensor)); }

bool requires_grad(PyObject* tensor) {
  return is_true(owned(PyObject_GetAttr(tensor, torch.requires_grad)));
}

bool may_be_written(PyObject* q, PyObject* s) {
  return !(is_true(call(torch.is_inference, q)) || is_true(call(torch.is_inference, s))) ||
         is_true(call(torch.is_inference_mode));
}

int64_t bytes_from(PyObject* tensor) {
  return PyLong_AsLongLong(call(torch.bytes_from, tensor).get());
}

void count_writes(PyObject* tensors) { call(torch.increment_version, tensors); }

int device_of(const TensorView& x) {
  if (x.device_type == kDLCPU) return kCpu;
  int32_t current = kCpu;
  refuse_unless(x.device_type == kDLCUDA &&
                aoti_torch_get_current_device_index(&current) == AOTI_TORCH_SUCCESS &&
                current == x.device_index);
  return current;
}

Code code_of(PyObject* q_dtype) {
  refuse_unless(q_dtype == torch.e4m3 || q_dtype == torch.int8);
  return q_dtype == torch.int8 ? Code::kInt8 : Code::kE4m3;
}

ElementType float_type_of(PyObject* dtype) {
  const auto found = std::find(std::begin(torch.float_dtypes), std::end(torch.float_dtypes), dtype);
  refuse_unless(found != std::end(torch.float_dtypes));
  return static_cast<ElementType>(found - std::begin(torch.float_dtypes));
}

PyObject* code_dtype(Code code) { return code == Code::kInt8 ? torch.int8 : torch.e4m3; }

PyObject* scale_dtype(Storage storage) { return torch.scale_dtypes[static_cast<int>(storage)]; }

Owned empty(const TensorView& x, int64_t last, const Strides& strides, PyObject* dtype,
            int64_t elements) {
  PyObject* allocate = x.device_type == kDLCPU ? torch.empty_cpu : torch.empty_cuda;
  const Owned sizes =
      tuple_of(x.dim, [&](int64_t i) { return i == x.dim - 1 ? last : x.sizes[i]; });
  const Owned steps = tuple_of(x.dim, [&](int64_t i) { return strides.of(i, x.sizes, x.dim); });
  if (elements == 0) return call(allocate, sizes.get(), steps.get(), dtype);
  const Owned size = tuple_of(1, [&](int64_t) { return elements; });
  const Owned one = tuple_of(1, [](int64_t) { return 1; });
  const Owned memory = call(allocate, size.get(), one.get(), dtype);
  const Owned offset = owned(PyLong_FromLong(0));
  return call(torch.reinterpret, memory.get(), sizes.get(), steps.get(), offset.get());
}

}  // namespace ptgq
