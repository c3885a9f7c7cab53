"""Elements that are not finite: nonfinite="saturate", on every backend; "mark" is elsewhere."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from every import every
from numeric import assert_same_results, bits
from scale_cases import NAMED, OF_INT8, memory
from values import DTYPES, hard_input, random_input

import ptgq
from ptgq import scales
from ptgq.backends import activation

FP8, INT8 = ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8
SILU = ptgq.silu_and_mul_per_token_group_quant_fp8
SILU_INT8 = ptgq.silu_and_mul_per_token_group_quant_int8
FUNCTIONS = (FP8, INT8, SILU, SILU_INT8)
# The interpreter's arithmetic is numpy's, which warns of what gives NaN or infinity.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def sparse_input(tokens, groups, group_size, dtype, silu=False):
    """Hard groups, and groups of some or of nothing but NaN and infinities of both signs."""
    width = groups * group_size * (2 if silu else 1)
    x = hard_input(tokens, width, group_size, dtype)
    flat = x.view(-1)
    flat[::37], flat[5::41], flat[11::43] = torch.inf, -torch.inf, torch.nan
    flat[17::101] = -torch.tensor(torch.nan)
    x[0, :group_size], x[-1, :] = torch.nan, -torch.inf
    x[1, : 2 * group_size] = torch.tensor([torch.inf, -torch.inf] * group_size)
    return x


def expected_of(x, group_size, q_dtype, power_of_two=False, eps=1e-10):
    """What the docstring says, by other means: sorting instead of a maximum, a loop of groups."""
    qmax, nan = (127, 0) if q_dtype is torch.int8 else (448, math.nan)
    groups = x.double().reshape(-1, group_size)
    codes, found = torch.empty_like(groups), []
    for row, group in zip(codes, groups, strict=True):
        finite = sorted(abs(v) for v in group.tolist() if math.isfinite(v))
        absmax = torch.tensor(max([eps, *finite[-1:]]), dtype=torch.float32)
        scale = absmax / torch.tensor(float(qmax))
        if power_of_two:
            scale = torch.tensor(2.0) ** math.ceil(math.log2(scale.item()))
        found.append(scale)
        y = (group.float() / scale).tolist()
        row[:] = torch.tensor([nan if math.isnan(v) else max(-qmax, min(qmax, v)) for v in y])
    codes = codes.round() if q_dtype is torch.int8 else codes.float()
    q = codes.to(q_dtype).reshape(x.shape)
    return q, torch.stack(found).reshape(*x.shape[:-1], -1)


@every(dtype=DTYPES, power_of_two=[False, True])
def test_the_reference_is_what_is_said(dtype, power_of_two):
    x = sparse_input(9, 4, 32, dtype)
    for function, q_dtype in ((FP8, torch.float8_e4m3fn), (INT8, torch.int8)):
        options = {"use_ue8m0": power_of_two, "scale_dtype": torch.float32}
        results = function(x, 32, nonfinite="saturate", backend="reference", **options)
        q, s = expected_of(x, 32, q_dtype, power_of_two)
        assert torch.equal(bits(results[0]), bits(q))
        assert torch.equal(results[1], s)
        scales.check_scales(results[1], NAMED["row_float32"])


def test_codes_of_what_is_not_finite(backend_on):
    backend, device = backend_on
    x = torch.tensor([[torch.inf, -torch.inf, torch.nan, 1.0, -2.0, 0.0, -0.0, 0.5] * 4])
    q, s = FP8(x.to(device), 32, nonfinite="saturate", backend=backend)
    assert bits(q)[0, :8].tolist() == [0x7E, 0xFE, 0x7F, 0x76, 0xFE, 0x00, 0x80, 0x6E]
    assert s.tolist() == [[torch.tensor(2 / 448).item()]]
    q, s = INT8(x.to(device), 32, nonfinite="saturate", backend=backend)
    assert q[0, :8].tolist() == [127, -127, 0, 64, -127, 0, 0, 32]
    for value in (torch.nan, torch.inf, -torch.inf):
        nothing = torch.full((2, 64), value, device=device)
        _, s = FP8(nothing, 64, nonfinite="saturate", backend=backend)
        # Of no finite element, the absolute maximum is eps.
        assert s.tolist() == [[(torch.tensor(1e-10) / torch.tensor(448.0)).item()]] * 2


# Every kernel, and lanes of these that have no work.
@every(
    group_size=[2, 7, 16, 20, 48, 64, 128, 300, 512, 1024, 1053, 4112],
    dtype=DTYPES,
    f=["row_float32", "column_float32", "row_ue8m0", "tma_packed", "tma_float32"],
)
def test_bytes_are_those_of_the_reference(backend_on, group_size, dtype, f):
    backend, device = backend_on
    f = NAMED[f]
    functions = FUNCTIONS if f in OF_INT8.values() else (FP8, SILU)
    if backend == "triton":
        functions = functions[:2] if group_size % 3 else functions[-2:]
        # It compiles a kernel for each.
        if device == "cuda" and dtype is not torch.bfloat16 and f != NAMED["row_float32"]:
            return
    for function in functions:
        silu = function in (SILU, SILU_INT8)
        x = sparse_input(7, 3, group_size, dtype, silu)
        if backend_on == ("triton", "cpu"):
            # The interpreter takes subnormal bfloat16 for 0, of which infinity makes NaN.
            x.masked_fill_(x.abs() < torch.finfo(dtype).tiny, 0)
        options = {"scale_format": f, "nonfinite": "saturate"}
        actual = function(x.to(device), group_size, backend=backend, **options)
        expected = function(x, group_size, backend="reference", **options)
        assert_same_results(actual, expected)
        assert memory(actual[1], f).equal(memory(expected[1], f))
        scales.check_scales(actual[1], f, 3)
        if silu:
            unfused = (FP8, INT8)[function is SILU_INT8]
            activated = activation.silu_and_mul(x)
            composed = unfused(activated, group_size, backend="reference", **options)
            assert_same_results(expected, composed)


# As the CPU's vectors hold neighbours, and ends of groups that are none.
# None: NaN with all bits.
@every(group_size=[64, 128, 173], dtype=DTYPES, value=[torch.inf, -torch.inf, torch.nan, None])
def test_neighbours_are_left_alone(backend_on, group_size, dtype, value):
    if backend_on == ("triton", "cpu") and group_size != 64:
        return
    backend, device = backend_on
    x = random_input((group_size, group_size), dtype)
    if value is None:
        x.view(torch.int16 if dtype.itemsize == 2 else torch.int32).fill_diagonal_(-1)
    else:
        x.fill_diagonal_(value)
    for function in (FP8, INT8):
        options = {"nonfinite": "saturate"}
        actual = function(x.to(device), group_size, backend=backend, **options)
        assert_same_results(actual, function(x, group_size, backend="reference", **options))


@every(dtype=DTYPES, group_size=[7, 64])
def test_finite_elements_are_quantized_as_without(backend_on, dtype, group_size):
    backend, device = backend_on
    x = random_input((9, 2 * 4 * group_size), dtype).to(device)
    for function in FUNCTIONS:
        saturated = function(x, group_size, nonfinite="saturate", backend=backend)
        assert_same_results(saturated, function(x, group_size, backend=backend))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_direct_calls(served, function):
    x = sparse_input(9, 4, 64, torch.bfloat16, silu=function in (SILU, SILU_INT8))
    expected = function(x, 64, nonfinite="saturate", backend="reference")
    # Another object than the literal: it is compared by value.
    for nonfinite in ("saturate", "".join(["satur", "ate"])):
        del served[:]
        results = function(x, 64, nonfinite=nonfinite)
        assert_same_results(results, expected)
        for tensor in results:
            tensor.untyped_storage().fill_(0xA5)
        assert_same_results(function(x, 64, nonfinite=nonfinite, out=results), expected)
        assert served == [True, True]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_compiled(backend_on, function):
    backend, device = backend_on
    torch._dynamo.reset()
    x = sparse_input(9, 4, 64, torch.bfloat16, silu=function in (SILU, SILU_INT8)).to(device)
    for nonfinite in ("saturate", "mark"):
        call = partial(function, group_size=64, nonfinite=nonfinite, backend=backend)
        run = torch.compile(lambda x, call=call: call(x), fullgraph=True)
        assert_same_results(run(x), call(x))


@pytest.mark.parametrize("suffix", ["", "_reference"])
@pytest.mark.parametrize("silu", [False, True])
def test_opcheck(suffix, silu):
    prologue = "silu_and_mul_" if silu else ""
    op = getattr(torch.ops.ptgq, f"{prologue}per_token_group_quant{suffix}").default
    x = sparse_input(6, 2, 32, torch.bfloat16, silu)
    # As bytes: opcheck compares tensors, which torch does not do for 8-bit floating point.
    q, s = torch.zeros(6, 64, dtype=torch.uint8), torch.zeros(6, 2)
    options = (None, True) if silu else (True,)
    torch.library.opcheck(op, (x, q, s, 32, 1e-10, 0, *options))


def test_codes_written_past_the_caches():
    x = sparse_input(64, 56, 128, torch.bfloat16)
    expected = FP8(x, 128, nonfinite="saturate", backend="reference")
    actual = FP8(x.repeat(30, 1), 128, nonfinite="saturate", backend="cpu")
    for name, have, rows in zip("qs", actual, expected, strict=True):
        assert torch.equal(bits(have), bits(rows).repeat(30, 1)), name
