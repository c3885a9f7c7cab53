"""Every argument of every public function, given what it does not take.

One exception that names the argument and the value, and nothing written.
"""

from __future__ import annotations

import inspect

import bad_blocks
import bad_norms
import bad_scales
import bad_transposed
import bad_values
import numeric
import numpy
import pytest
import torch
from bad_values import FP8, GROUP, HIDDEN, ROWS, X, normal, q_of, quietly, s_of

import ptgq
from ptgq import ScaleFormat, scales

TABLE = bad_values.TABLE | bad_scales.TABLE
TABLE |= bad_blocks.TABLE | bad_norms.TABLE | bad_transposed.TABLE
ARGUMENTS = [
    pytest.param(function, good, argument, cases, id=f"{function.__name__}-{argument}")
    for function, (good, bad) in TABLE.items()
    for argument, cases in bad.items()
]


def test_every_argument_of_every_function_is_in_the_table():
    exported = [getattr(module, name) for module in (ptgq, scales) for name in module.__all__]
    # Users get a status and a warning, and make none.
    exported = {e for e in exported if inspect.isroutine(e) or inspect.isclass(e)}
    exported -= {ptgq.BackendStatus, ptgq.PerformanceWarning}
    presets = {preset for name, preset in inspect.getmembers(ScaleFormat, inspect.ismethod)
               if not name.startswith("_")}  # fmt: skip
    assert exported | presets == set(TABLE)
    for function, (_, bad) in TABLE.items():
        assert set(inspect.signature(function).parameters) == set(bad)


def contents(arguments: dict) -> list[bytes]:
    """The bytes of every tensor among the arguments that has some."""
    given = [*arguments.values()]
    given += [part for value in given if isinstance(value, tuple) for part in value]
    dense = [t for t in given if isinstance(t, torch.Tensor) and not (t.is_nested or t.is_meta)]
    return [numeric.memory(t) for t in dense if t.layout is torch.strided and not t.is_quantized]


def check_refused(function, good, argument, value, error, message):
    arguments = {**good, argument: value}
    before = contents(arguments)
    without_out = {name: given for name, given in arguments.items() if name != "out"}
    both = argument != "out" and "out" in arguments
    for given in [arguments, without_out] if both else [arguments]:
        with pytest.raises(error, match=message) as caught:
            function(**given)
        assert type(caught.value) is error
        assert argument in str(caught.value)
    assert contents(arguments) == before


# A test an argument, not a value: of so small ones most is pytest's.
@pytest.mark.parametrize(("function", "good", "argument", "cases"), ARGUMENTS)
def test_refused(function, good, argument, cases):
    for case in cases:
        check_refused(function, good, argument, *case)


# What reads their values, on a GPU waits for it: on meta it raises.
SECRET = torch.full((3,), 1234567.0)
HIDING = [SECRET, SECRET.to("meta"), [SECRET], (SECRET, SECRET, SECRET), {"a": SECRET}]
HIDING += [SECRET.max(0), numpy.full(3, 1234567.0)]
TENSORS = ("x", "w", "q", "s", "tensor", "scales", "weight", "residual", "norm_out")


@pytest.mark.parametrize(("function", "good", "argument", "cases"), ARGUMENTS)
def test_no_message_reads_a_tensor(function, good, argument, cases):
    for value in HIDING:
        if argument in TENSORS and isinstance(value, torch.Tensor):
            continue
        with pytest.raises((TypeError, ValueError)) as caught:
            function(**{**good, argument: value})
        message = str(caught.value)
        assert argument in message
        assert "1234567" not in message
        assert len(message) < 250
        assert "\n" not in message


def test_no_message_reads_a_tensor_beside_a_format():
    f = ScaleFormat.ocp_mx()
    for name in ("column_major_scales", "use_ue8m0", "scale_dtype", "tma_aligned_scales"):
        for value in HIDING:
            with pytest.raises(ValueError, match=rf"left out, got {name}=.*") as caught:
                ptgq.per_token_group_quant_fp8(X, 32, scale_format=f, **{name: value})
            assert "1234567" not in str(caught.value)


class Index:
    """No int, but what counts as one."""

    def __index__(self) -> int:
        return GROUP


@pytest.mark.parametrize(
    "group", [numpy.int64(GROUP), numpy.uint8(GROUP), numpy.array(GROUP), Index()], ids=type
)
def test_what_is_an_index_is_an_int(group, backend_on):
    backend, device = backend_on
    x = X.to(device)
    for function in (ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8):
        results = function(x, group, eps=numpy.float32(1e-6), backend=backend)
        expected = function(X, GROUP, eps=float(numpy.float32(1e-6)), backend="reference")
        numeric.assert_same_results(results, expected)
        assert ptgq.dequantize(*results, group).equal(ptgq.dequantize(*results, GROUP))
    f = ScaleFormat.deep_gemm_hopper()
    shape = scales.scale_shape((numpy.int64(ROWS), HIDDEN), group, f)
    assert shape == (ROWS, HIDDEN // GROUP)
    assert {type(size) for size in shape} == {int}
    _, s = ptgq.per_token_group_quant_fp8(x, group, scale_format=f, backend=backend)
    scales.check_scales(s, f, numpy.int64(HIDDEN // GROUP))


def test_a_group_size_that_a_tracer_made():
    class Halves(torch.nn.Module):
        def forward(self, x):
            return ptgq.per_token_group_quant_fp8(x, x.shape[-1] // 2)

    sizes = {"x": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}}
    exported = torch.export.export(Halves(), (X,), dynamic_shapes=sizes, strict=False)
    expected = ptgq.per_token_group_quant_fp8(X, HIDDEN // 2)
    numeric.assert_same_results(exported.module()(X), expected)


TAKEN = {
    "a negated view": lambda: torch._neg_view(X),
    "a real view of complex numbers": lambda: torch.view_as_real(
        normal(ROWS, 128).to(torch.complex64)
    ).flatten(1),
    "gradients required": lambda: X.clone().requires_grad_(),
    "a result with a gradient": lambda: X.clone().requires_grad_() * 2,
    "a parameter": lambda: torch.nn.Parameter(X.clone()),
    "repeated rows": lambda: normal(1, HIDDEN).expand(ROWS, -1),
    "rows that share elements": lambda: normal(1000).as_strided((ROWS, HIDDEN), (3, 1)),
    "a storage offset of one element": lambda: normal(1025)[1:].view(ROWS, HIDDEN),
    "one dimension": lambda: normal(HIDDEN),
    "sixty-two dimensions": lambda: normal(*[1] * 60, ROWS, HIDDEN),
    "no rows": lambda: normal(0, HIDDEN),
    "no columns": lambda: normal(ROWS, 0),
    "read-only memory": lambda: quietly(
        lambda: torch.frombuffer(bytes(1024), dtype=torch.float32).view(1, HIDDEN)
    ),
}


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("what", TAKEN)
def test_taken(what, backend):
    x = TAKEN[what]()
    plain = x.detach().clone(memory_format=torch.contiguous_format).resolve_neg()
    for function in (ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8):
        q, s = function(x, GROUP, backend=backend)
        expected_q, expected_s = function(plain, GROUP, backend="reference")
        assert torch.equal(q.view(torch.uint8), expected_q.view(torch.uint8))
        assert torch.equal(s, expected_s)
        assert [q.requires_grad, s.requires_grad] == [False, False]


def test_a_gradient_of_what_is_quantized_is_zero():
    def scales(x):
        return ptgq.per_token_group_quant_fp8(x, GROUP)[1].sum()

    assert not torch.func.grad(scales)(X).any()


def test_fake_and_real_tensors_do_not_mix():
    from torch._subclasses.fake_tensor import FakeTensorMode

    q, s = q_of(FP8), s_of()
    before = contents({"out": (q, s)})
    mode = FakeTensorMode()
    fake_s = mode.from_tensor(s)
    for x, out in ((mode.from_tensor(X), (q, s)), (X, (q, fake_s))):
        with pytest.raises(AssertionError, match="convert all Tensors to FakeTensors"):
            ptgq.per_token_group_quant_fp8(x, GROUP, out=out)
    assert contents({"out": (q, s)}) == before


def test_more_memory_than_there_is():
    x = normal(1, HIDDEN).expand(2**50, -1)
    for backend in ("cpu", "reference"):
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            ptgq.per_token_group_quant_fp8(x, GROUP, backend=backend)
    q, _ = ptgq.per_token_group_quant_fp8(X, GROUP)
    assert q.shape == X.shape
