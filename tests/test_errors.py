"""Bad arguments: one exception that names the argument and its value, before anything runs."""

from __future__ import annotations

import math

import pytest
import torch

import ptgq

FP8 = ptgq.per_token_group_quant_fp8
INT8 = ptgq.per_token_group_quant_int8
X = torch.ones(4, 256)
Q = torch.empty(4, 256, dtype=torch.float8_e4m3fn)
S = torch.empty(4, 2)


@pytest.mark.parametrize("function", [FP8, INT8])
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([1.0], TypeError, "x must be a torch.Tensor, got list"),
        (None, TypeError, "x must be a torch.Tensor, got NoneType"),
        (X.double(), TypeError, "x must have a dtype of .*, got torch.float64"),
        (X.int(), TypeError, "x must have a dtype of .*, got torch.int32"),
        (X.to(torch.complex64), TypeError, "x must have a dtype of .*, got torch.complex64"),
        (X.to_sparse(), TypeError, "x must be a dense .*, got a torch.sparse_coo one"),
        (torch.tensor(1.0), ValueError, r"x must have at least one dimension, got shape \(\)"),
        (X.t(), ValueError, r"x must be contiguous in its last dimension, got strides \(1, 256\)"),
        (X[:, ::2], ValueError, "x must be contiguous in its last dimension"),
        (X[:, :255], ValueError, "group_size must divide the last dimension of x, 255, got 128"),
    ],
)
def test_x(function, x, error, message):
    if isinstance(x, torch.Tensor) and x.dim() == 2 and x.shape[-1] == 4:
        x = torch.ones(256, 128).t()
        message = message.replace("256", "128")
    with pytest.raises(error, match=message):
        function(x, 128)


@pytest.mark.parametrize("function", [FP8, INT8])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"group_size": 128.0}, TypeError, "group_size must be an int, got 128.0"),
        ({"group_size": True}, TypeError, "group_size must be an int, got True"),
        ({"group_size": 0}, ValueError, "group_size must be at least 1, got 0"),
        ({"group_size": -128}, ValueError, "group_size must be at least 1, got -128"),
        ({"group_size": 100}, ValueError, "group_size must divide .* 256, got 100"),
        ({"eps": "1e-10"}, TypeError, "eps must be a float, got '1e-10'"),
        ({"eps": 0.0}, ValueError, "eps must lie between 1e-24 and .*, got 0.0"),
        ({"eps": -1.0}, ValueError, "eps must lie between .*, got -1.0"),
        ({"eps": math.nan}, ValueError, "eps must lie between .*, got nan"),
        ({"eps": math.inf}, ValueError, "eps must lie between .*, got inf"),
        ({"backend": "vulkan"}, ValueError, "backend must be None or one of .*, got 'vulkan'"),
        ({"backend": 1}, TypeError, "backend must be None or one of .*, got 1"),
        ({"backend": "cuda"}, RuntimeError, "backend 'cuda' is not available for cpu tensors"),
        ({"out": Q}, TypeError, r"out must be a tuple \(q, s\), got tensor"),
        ({"out": (Q,)}, TypeError, r"out must be a tuple \(q, s\)"),
        ({"out": (None, S)}, TypeError, r"out\[0\] must be a torch.Tensor, got NoneType"),
    ],
)
def test_options(function, options, error, message):
    with pytest.raises(error, match=message):
        function(X, **{"group_size": 128, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"column_major_scales": 1}, TypeError, "column_major_scales must be a bool, got 1"),
        ({"use_ue8m0": None}, TypeError, "use_ue8m0 must be a bool, got None"),
        ({"scale_dtype": torch.float16}, TypeError, "scale_dtype must be .*, got torch.float16"),
        ({"scale_dtype": torch.float8_e8m0fnu}, ValueError, "it needs use_ue8m0=True"),
    ],
)
def test_fp8_options(options, error, message):
    with pytest.raises(error, match=message):
        FP8(X, 128, **options)


@pytest.mark.parametrize(
    ("q", "s", "error", "message"),
    [
        (Q.view(torch.int8), S, TypeError, r"out\[0\] must have a dtype of torch.float8_e4m3fn"),
        (Q, S.half(), TypeError, r"out\[1\] must have a dtype of torch.float32, got torch.float16"),
        (Q[:3], S, ValueError, r"out\[0\] must have shape \(4, 256\), got \(3, 256\)"),
        (Q, S[:, :1], ValueError, r"out\[1\] must have shape \(4, 2\), got \(4, 1\)"),
        (Q.t().contiguous().t(), S, ValueError, r"out\[0\] must have strides \(256, 1\)"),
        (Q, S.t().contiguous().t(), ValueError, r"out\[1\] must have strides \(2, 1\)"),
        (Q.to("meta"), S, ValueError, r"out\[0\] must be on x's device cpu, got meta"),
        (Q, S.clone().requires_grad_(), ValueError, r"out\[1\] must not require gradients"),
    ],
)
def test_out(q, s, error, message):
    before = S.clone()
    with pytest.raises(error, match=message):
        FP8(X, 128, out=(q, s))
    assert torch.equal(S, before)


def test_out_layout_is_the_stated_one():
    s = S.t().contiguous().t()
    assert FP8(X, 128, True, out=(Q, s))[1] is s
    with pytest.raises(ValueError, match=r"out\[1\] must have strides \(1, 4\), got \(2, 1\)"):
        FP8(X, 128, True, out=(Q, S))


def test_out_must_not_overlap():
    storage = torch.zeros(8192, dtype=torch.uint8)
    x = storage[:4096].view(torch.float32).view(4, 256)
    q = storage[4096:5120].view(torch.float8_e4m3fn).view(4, 256)
    s = torch.empty(4, 2)
    FP8(x, 128, out=(q, s))
    inside_x = storage[3072:4096].view(torch.float8_e4m3fn).view(4, 256)
    with pytest.raises(ValueError, match=r"out\[0\] must not overlap x"):
        FP8(x, 128, out=(inside_x, s))
    inside_q = storage[4096:4128].view(torch.float32).view(4, 2)
    with pytest.raises(ValueError, match=r"out\[1\] must not overlap out\[0\]"):
        FP8(x, 128, out=(q, inside_q))


@pytest.mark.parametrize(
    ("q", "s", "group_size", "options", "error", "message"),
    [
        (X, S, 128, {}, TypeError, "q must have a dtype of .*, got torch.float32"),
        (Q, S.half(), 128, {}, TypeError, "s must have a dtype of .*, got torch.float16"),
        (Q, S, 64, {}, ValueError, r"s must have shape \(4, 4\), got \(4, 2\)"),
        (Q, S, 100, {}, ValueError, "group_size must divide the last dimension of q, 256, got 100"),
        (Q, S.to("meta"), 128, {}, ValueError, "s must be on q's device cpu, got meta"),
        (Q, S, 128, {"dtype": torch.int8}, TypeError, "dtype must be one of .*, got torch.int8"),
    ],
)
def test_dequantize(q, s, group_size, options, error, message):
    with pytest.raises(error, match=message):
        ptgq.dequantize(q, s, group_size, **options)


def test_nested_is_refused():
    with pytest.warns(UserWarning, match="nested tensors"):
        nested = torch.nested.nested_tensor([torch.ones(2, 128), torch.ones(3, 128)])
    with pytest.raises(TypeError, match=r"x must be a dense .*, got a nested one"):
        FP8(nested, 128)


def test_meta_tensors_give_shapes():
    q, s = FP8(X.to("meta"), 64, True, True)
    assert (q.shape, q.dtype, q.is_meta) == ((4, 256), torch.float8_e4m3fn, True)
    assert (s.shape, s.stride(), s.dtype) == ((4, 4), (1, 4), torch.float8_e8m0fnu)


def test_results_do_not_require_gradients():
    for backend in ("reference", "cpu"):
        q, s = FP8(X.clone().requires_grad_(), 128, backend=backend)
        assert not q.requires_grad
        assert not s.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X.double()}, "x must be bfloat16, float16 or float32"),
        ({"q": Q[:3]}, "q must have the shape of x"),
        ({"q": X}, "q must be float8_e4m3fn, its bytes"),
        ({"q": Q.t().contiguous().t()}, "q must be contiguous"),
        ({"s": S[:, :1]}, "s must have the shape of x, with a last dimension of 2"),
        ({"s": S.t().contiguous().t()}, "s must be contiguous"),
        ({"column_major_scales": True}, "or its transpose with column_major_scales"),
        ({"s": S.to(torch.float8_e8m0fnu)}, "float8_e8m0fnu scales need use_ue8m0"),
        ({"group_size": 0}, "group_size must divide"),
        ({"group_size": 100}, "group_size must divide"),
        ({"eps": math.nan}, "eps must lie between"),
        ({"x": X.unflatten(0, (2, 2)).transpose(0, 1)}, "x must be contiguous, or two-dim"),
    ],
)
def test_the_op_itself_refuses(change, message):
    arguments = {
        "x": X,
        "q": Q,
        "s": S,
        "group_size": 128,
        "eps": 1e-10,
        "column_major_scales": False,
        "use_ue8m0": False,
    }
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ptgq.per_token_group_quant(**{**arguments, **change})
