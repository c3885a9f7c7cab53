"""Where outputs may lie, and what the op itself refuses; other arguments are in test_bad_input."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch

import ptgq
from ptgq import scales

FP8 = ptgq.per_token_group_quant_fp8
X = torch.ones(4, 256)
Q = torch.empty(4, 256, dtype=torch.float8_e4m3fn)
S = torch.empty(4, 2)
COLUMNS = ptgq.ScaleFormat("float32", torch.float32, "column_major").code


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


def test_meta_tensors_give_shapes():
    q, s = FP8(X.to("meta"), 64, True, True)
    assert (q.shape, q.dtype, q.is_meta) == ((4, 256), torch.float8_e4m3fn, True)
    assert (s.shape, s.stride(), s.dtype) == ((4, 4), (1, 4), torch.float8_e8m0fnu)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X.double()}, "x must be bfloat16, float16 or float32"),
        ({"q": Q[:3]}, "q must have the shape of x"),
        ({"q": X}, "q must be float8_e4m3fn, its bytes"),
        ({"q": Q.t().contiguous().t()}, "q must be contiguous"),
        ({"s": S[:, :1]}, "s must have the shape of x, with a last dimension of 2"),
        ({"s": S.t().contiguous().t()}, "s must have the strides of scale_format"),
        ({"scale_format": COLUMNS}, "s must have the strides of scale_format"),
        ({"s": S.to(torch.float8_e8m0fnu)}, "s must have the dtype of scale_format"),
        ({"scale_format": 2}, "scale_format must be the code of a ptgq.ScaleFormat, got 2"),
        ({"group_size": 0}, "group_size must divide"),
        ({"group_size": 100}, "group_size must divide"),
        ({"eps": math.nan}, "eps must lie between"),
        ({"x": X.t().contiguous().t()}, "x must have contiguous rows"),
    ],
)
def test_the_op_itself_refuses(change, message):
    arguments = {
        "x": X,
        "q": Q,
        "s": S,
        "group_size": 128,
        "eps": 1e-10,
        "scale_format": 0,
    }
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ptgq.per_token_group_quant(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": Q[:3]}, r"q and s must have shapes \(4, 256\) and \(4, 2\), got \(3, 256\)"),
        ({"q": Q.t().contiguous().t()}, "q must be contiguous"),
        ({"s": S[:, :1]}, "q and s must have shapes"),
        ({"s": S.t().contiguous().t()}, "s row_major, got strides"),
        ({"scale_format": COLUMNS}, "s column_major, got strides"),
        ({"scale_format": 99}, "scale_format must be the code of a ptgq.ScaleFormat, got 99"),
        ({"group_size": 0}, "group_size must be at least 1"),
        ({"group_size": 100}, "group_size must divide"),
    ],
)
def test_the_ops_of_python_backends_refuse(change, message):
    arguments = {
        "x": X,
        "q": torch.zeros_like(Q),
        "s": torch.zeros_like(S),
        "group_size": 128,
        "eps": 1e-10,
        "scale_format": 0,
    }
    for backend in ("triton", "reference"):
        op = getattr(torch.ops.ptgq, f"per_token_group_quant_{backend}")
        with pytest.raises(ValueError, match=message):
            op(**{**arguments, **change})
    assert not arguments["q"].view(torch.uint8).any()
    assert not arguments["s"].any()


@pytest.mark.parametrize("function", [FP8, ptgq.per_token_group_quant_int8])
def test_a_refused_combination_names_an_argument_that_was_given_first(function):
    names = ("column_major_scales", "use_ue8m0", "scale_dtype", "tma_aligned_scales")
    choices = ((None, True), (None, True), (None, *scales.formats.DTYPES), (None, True))
    messages = {}
    for values in itertools.product(*choices):
        given = {name: value for name, value in zip(names, values, strict=True) if value}
        try:
            function(torch.ones(4, 128), 128, **given)
        except ValueError as error:
            messages[tuple(given)] = str(error)
    assert len(messages) > 5
    for given, message in messages.items():
        assert re.findall(r"\A[a-z_0-9]+", message)[0] in given
        assert "scale_format" not in message
