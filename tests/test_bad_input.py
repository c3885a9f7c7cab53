"""Every argument of every public function, given what it does not take.

One exception that names the argument and the value, and nothing written.
"""

from __future__ import annotations

import inspect

import numeric
import pytest
import torch
from bad_values import (
    FP8,
    GROUP,
    HIDDEN,
    ROWS,
    TABLE,
    X,
    normal,
    q_of,
    quietly,
    s_of,
)

import ptgq

CASES = [
    pytest.param(function, good, argument, *case, id=f"{function.__name__}-{argument}-{number}")
    for function, (good, bad) in TABLE.items()
    for argument, cases in bad.items()
    for number, case in enumerate(cases)
]


def test_every_argument_of_every_function_is_in_the_table():
    public = {getattr(ptgq, name) for name in ptgq.__all__}
    assert {function for function in public if inspect.isfunction(function)} == set(TABLE)
    for function, (_, bad) in TABLE.items():
        assert set(inspect.signature(function).parameters) == set(bad)


def contents(arguments: dict) -> list[bytes]:
    """The bytes of every tensor among the arguments that has some."""
    given = [*arguments.values()]
    given += [part for value in given if isinstance(value, tuple) for part in value]
    dense = [t for t in given if isinstance(t, torch.Tensor) and not (t.is_nested or t.is_meta)]
    return [numeric.memory(t) for t in dense if t.layout is torch.strided and not t.is_quantized]


@pytest.mark.parametrize(("function", "good", "argument", "value", "error", "message"), CASES)
def test_refused(function, good, argument, value, error, message):
    arguments = {**good, argument: value}
    before = contents(arguments)
    without_out = {name: given for name, given in arguments.items() if name != "out"}
    for given in [arguments] if argument == "out" else [arguments, without_out]:
        with pytest.raises(error, match=message) as caught:
            function(**given)
        assert type(caught.value) is error
        assert argument in str(caught.value)
    assert contents(arguments) == before


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
