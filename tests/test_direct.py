"""Direct calls: which calls pass the dispatcher by, and that every other one still gets there."""

from __future__ import annotations

import pytest
import torch
from numeric import assert_same_results
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from values import hard_input

import ptgq
from ptgq import extension

FP8 = ptgq.per_token_group_quant_fp8
INT8 = ptgq.per_token_group_quant_int8
X = hard_input(6, 256, 64, torch.bfloat16)
POWERS = {"use_ue8m0": True, "scale_dtype": torch.float32}


def through_the_op(monkeypatch, function, *arguments, **options):
    with monkeypatch.context() as patch:
        patch.setattr(extension, "quantize_directly", lambda *call: None)
        return function(*arguments, **options)


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (X, {}),
        (X, {"column_major_scales": True}),
        (X, {"use_ue8m0": True}),
        (X, {"column_major_scales": True, **POWERS}),
        (X, {"eps": 1.0}),
        (X, {"backend": "cpu"}),
        (X.float(), {}),
        (X.half().requires_grad_(), {}),
        (torch.nn.Parameter(X.float()), {}),
        (X[:, :128], {}),
        (X[:1, :192].expand(5, 192), {}),
        (X.view(2, 1, 3, 4, 64), {"column_major_scales": True, "use_ue8m0": True}),
        (X[0], {"column_major_scales": True}),
    ],
    ids=str,
)
def test_ordinary_calls_are_direct(served, monkeypatch, x, options):
    expected = through_the_op(monkeypatch, FP8, x, 64, **options)
    assert_same_results(FP8(x, 64, **options), expected)
    out = tuple(torch.empty_like(tensor) for tensor in expected)
    results = FP8(x, 64, out=out, **options)
    assert (results[0] is out[0], results[1] is out[1]) == (True, True)
    assert_same_results(results, expected)
    assert_same_results(INT8(x, 32), through_the_op(monkeypatch, INT8, x, 32))
    assert served == [True, True, True]


def rows_of_two_strides():
    return hard_input(6, 256, 64, torch.float32).view(2, 3, 256).transpose(0, 1)


@pytest.mark.parametrize(
    ("x", "options"),
    [
        (torch._neg_view(X.float()), {}),
        (torch.randn(4, 64, dtype=torch.complex64).conj().imag.as_strided((4, 32), (64, 1)), {}),
        (X[:0], {}),
        (X[:, :0], {}),
        (rows_of_two_strides(), {}),
        (X, {"eps": 1}),
        (X, {"backend": "reference"}),
    ],
    ids=lambda value: f"{type(value).__name__}{getattr(value, 'shape', value)}",
)
def test_others_are_served_all_the_same(served, x, options):
    results = FP8(x, 32, **options)
    assert served == [False]
    expected = FP8(x.detach().clone(), 32, **{**options, "backend": "reference"})
    assert_same_results(results, expected)


def test_out_that_the_op_has_to_see(served):
    q, s = FP8(X, 64)
    assert_same_results(FP8(X, 64, out=[q, s]), (q, s))
    with pytest.raises(ValueError, match="must not require gradients"):
        FP8(X, 64, out=(q, s.clone().requires_grad_()))
    x = X.float()
    with pytest.raises(ValueError, match="must not overlap x"):
        FP8(x, 64, out=(q, x.view(-1)[:24].view(6, 4)))
    assert served == [True, False, False, False]


def remember(self, func, types, args=(), kwargs=None):
    self.seen.append(str(func))
    return func(*args, **kwargs or {})


@pytest.mark.parametrize(
    ("mode", "method"),
    [(TorchDispatchMode, "__torch_dispatch__"), (TorchFunctionMode, "__torch_function__")],
)
def test_modes_see_the_op(served, mode, method):
    with type("Mode", (mode,), {method: remember, "seen": []})() as active:
        FP8(X, 64)
    assert served == [False]
    assert any("ptgq.per_token_group_quant" in name for name in active.seen)


def test_a_default_device_is_no_matter(served):
    expected = FP8(X, 64)
    with torch.device("meta"):
        assert_same_results(FP8(X, 64), expected)
    assert served == [True, True]


@pytest.mark.parametrize("tracing", ["real", "fake", "symbolic", "before_dispatch"])
def test_make_fx_records_the_op(served, tracing):
    if tracing == "before_dispatch":
        traced = make_fx(lambda x: FP8(x, 64), pre_dispatch=True)(X)
    else:
        traced = make_fx(lambda x: FP8(x, 64), tracing_mode=tracing)(X)
    assert served == [False]
    assert torch.ops.ptgq.per_token_group_quant.default in [n.target for n in traced.graph.nodes]
    assert_same_results(traced(-X), FP8(-X, 64))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_jit_trace_records_the_op(served):
    traced = torch.jit.trace(lambda x: FP8(x, 64), (X,), check_trace=False)
    assert served == [False]
    assert_same_results(traced(-X), FP8(-X, 64))


def test_export_records_the_op():
    class Module(torch.nn.Module):
        def forward(self, x):
            return FP8(x, 64)

    for strict in (False, True):
        program = torch.export.export(Module(), (X,), strict=strict)
        assert_same_results(program.module()(-X), FP8(-X, 64))


def test_compiled_code_never_asks(served):
    compiled = torch.compile(lambda x: FP8(x, 64), fullgraph=True, backend="eager")
    assert_same_results(compiled(X), FP8(X, 64, backend="reference"))
    assert served == [False]


def test_transforms_are_refused(served):
    x = X.float()
    grad = torch.func.grad(lambda x: x.sum() + FP8(x, 64)[1].sum())(x)
    assert torch.equal(grad, torch.ones_like(x))
    for transform in (torch.func.functionalize, torch.vmap):
        # torch's own answer: they know no op that writes its inputs.
        with pytest.raises(RuntimeError, match="ptgq::per_token_group_quant"):
            transform(lambda x: FP8(x, 64))(x)
    assert served == [False, False, False]


def test_results_are_those_of_the_mode():
    with torch.inference_mode():
        assert [tensor.is_inference() for tensor in FP8(X, 64)] == [True, True]
    for tensor in FP8(X.float().requires_grad_(), 64):
        assert (tensor.is_inference(), tensor.requires_grad) == (False, False)


def test_a_torch_without_the_fast_allocator(monkeypatch):
    fast = extension._allocator("cpu")
    monkeypatch.delattr(torch._C._dynamo.guards, "_empty_strided_cpu")
    slow = extension._allocator("cpu")
    for allocate in (fast, slow):
        tensor = allocate((3, 4), (1, 3), torch.float8_e8m0fnu)
        assert (tensor.shape, tensor.stride()) == ((3, 4), (1, 3))
        assert tensor.dtype is torch.float8_e8m0fnu
    assert fast is not slow


def test_a_failing_allocation_raises():
    huge = torch.zeros(1, 1, dtype=torch.bfloat16).expand(2**46, 1)
    with pytest.raises(RuntimeError, match="memory"):
        FP8(huge, 1)
