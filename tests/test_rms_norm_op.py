"""The fused RMSNorm on the fast path and by its ops, and what autograd sees."""

from __future__ import annotations

from functools import partial
from importlib import import_module

import pytest
import torch
from numeric import assert_same_results, memory
from scale_cases import FORMATS, TILED
from test_direct_triton import Compiled, needs_interpreter
from values import random_input

import ptgq
from ptgq import rms_norm
from ptgq.backends import as_bytes

FUSED = ptgq.rms_norm_per_token_group_quant_fp8
FUSED_INT8 = ptgq.rms_norm_per_token_group_quant_int8
REFUSED = "Inplace update to inference tensor outside InferenceMode is not allowed"
OPS = ["", "_triton", "_reference"]
HIDDEN, GROUP = 256, 32


def operands(device="cpu", dtype=torch.bfloat16, rows=6):
    """x, weight, residual and norm_out."""
    x = random_input((rows, HIDDEN), dtype).to(device)
    weight = random_input((HIDDEN,), dtype, seed=1).to(device)
    return x, weight, random_input((rows, HIDDEN), dtype, seed=2).to(device), torch.zeros_like(x)


def call(function, x, weight, residual, norm_out, **options):
    options = {"norm_eps": 1e-6, "residual": residual, "norm_out": norm_out, **options}
    return function(x, weight, GROUP, **options)


def expected_of(x, weight, residual, norm_out, function=FUSED, **options):
    """What the reference writes: (q, s), and copies of what it was given."""
    given = x.clone(), weight, residual.clone(), torch.zeros_like(x)
    return call(function, *given, backend="reference", **options), given


@pytest.fixture
def direct(monkeypatch):
    """Whether the calls so far were served directly, in order."""
    call(FUSED, *operands())  # the first call of a process is not
    right, log = rms_norm.quantize_directly, []

    def quantize_directly(*call):
        results = right(*call)
        log.append(results is not None)
        return results

    monkeypatch.setattr(rms_norm, "quantize_directly", quantize_directly)
    return log


def test_ordinary_calls_are_direct(direct):
    x, weight, residual, norm_out = operands()
    parameter = torch.nn.Parameter(weight)
    for function in (FUSED, FUSED_INT8):
        for w in (weight, weight.float(), parameter, parameter.detach()):
            for r in (None, residual.clone(), residual.float()):
                for y in (None, norm_out, x.clone()):
                    call(function, x, w, r, y)
        same = x.clone()
        call(function, same, weight, residual.clone(), same)
        results = call(function, x, weight, None, None)
        call(function, x, weight, None, None, out=results, nonfinite="saturate")
    assert all(direct)
    direct.clear()
    strided = torch.zeros(2, 6, HIDDEN + 8, dtype=x.dtype)[..., :HIDDEN]
    call(FUSED, x, weight, *strided)
    call(FUSED, x.view(2, 3, HIDDEN), weight, residual.view(2, 3, HIDDEN), None)
    assert all(direct)


def test_unusual_calls_are_not(direct):
    x, weight, residual, norm_out = operands(dtype=torch.float32)
    negated = torch._neg_view(weight)
    expected, _ = expected_of(x, -weight, residual, norm_out)
    assert_same_results(call(FUSED, x, negated, residual.clone(), None), expected)
    turned = x.view(2, 3, HIDDEN).transpose(0, 1)
    expected = call(FUSED, turned.contiguous(), weight, None, None, backend="reference")
    assert_same_results(call(FUSED, turned, weight, None, None), expected)
    assert not any(direct)


def test_writes_are_counted(backend_on):
    backend, device = backend_on
    for container in (tuple, list):  # called directly, and checked first
        x, weight, residual, norm_out = operands(device)
        results, given = expected_of(x, weight, residual, norm_out)
        out = [torch.zeros_like(t) for t in results]
        out = [t.to(device) for t in out]
        written = [*out, residual, norm_out]
        for _ in range(2):  # the first call of a kind on Triton is not direct
            before = [t._version for t in written]
            residual.copy_(operands()[2])
            actual = call(FUSED, x, weight, residual, norm_out, out=container(out), backend=backend)
            assert all(t._version > v for t, v in zip(written, before, strict=True))
            assert_same_results(actual, results)
            assert torch.equal(residual, given[2].to(device))
            assert torch.equal(norm_out, given[3].to(device))
        assert (x._version, weight._version) == (0, 0)


@needs_interpreter
def test_triton_is_launched_as_it_compiled_it(monkeypatch):
    module = import_module("ptgq.backends.triton_rms_norm")
    name = "rms_norm_per_token_group_quant_kernel"
    compiled = Compiled(list(getattr(module, name).arg_names))
    call(FUSED, *operands(), backend="triton")
    monkeypatch.setattr(module, name, compiled)
    monkeypatch.setattr(module, "_launches", {})
    x, weight, residual, _ = operands()
    calls = [
        (function, (x, w, r, y), {"scale_format": f})
        for function, formats in ((FUSED, [*FORMATS.values(), TILED["all"]]), (FUSED_INT8, [None]))
        for f in formats
        for w, r, y in ((weight, None, None), (weight, residual, x), (weight.float(), x + x, None))
    ]
    calls.append((FUSED, (x, weight, None, None), {"nonfinite": "saturate"}))
    # Of many rows, threads have more elements.
    calls.append((FUSED, (x.repeat(300, 1), weight, None, None), {}))
    calls.append((FUSED, (x.view(2, 3, HIDDEN), weight, None, None), {"column_major_scales": True}))
    for number, (function, given, options) in enumerate(calls):
        del compiled.launches[:]
        out = call(function, *given, backend="triton", **options)
        versions = [t._version for t in (*out, *given[2:]) if t is not None]
        assert call(function, *given, backend="triton", out=out, **options) is out
        assert [t._version for t in (*out, *given[2:]) if t is not None] == [
            version + 1 for version in versions
        ]
        first, last = compiled.launches
        assert first[1:] == last[1:]
        assert (first[0][0], 1, 1) == last[0]
        # The last call is of a kind that was launched before.
        assert len(module._launches) == min(number + 1, len(calls) - 1)


@pytest.mark.parametrize("which", [0, 1])
def test_inference_tensors(backend_on, which):
    backend, device = backend_on
    x, weight, *written = operands(device)
    results, given = expected_of(x, weight, *written)
    with torch.inference_mode():
        written[which] = written[which].clone()
    before = [memory(t.cpu()) for t in written]
    with pytest.raises(RuntimeError, match=REFUSED):
        call(FUSED, x, weight, *written, backend=backend)
    assert [memory(t.cpu()) for t in written] == before
    with torch.inference_mode():
        assert_same_results(call(FUSED, x, weight, *written, backend=backend), results)
    for tensor, wanted in zip(written, given[2:], strict=True):
        assert torch.equal(tensor, wanted.to(device))


def op_of(suffix):
    device = "cuda" if torch.cuda.is_available() and suffix == "_triton" else "cpu"
    return getattr(torch.ops.ptgq, "rms_norm_per_token_group_quant" + suffix), device


@pytest.mark.parametrize("suffix", OPS)
def test_the_ops_refuse_what_may_not_be_written(suffix):
    op, device = op_of(suffix)
    for which in (0, 1):
        x, weight, *written = operands(device, torch.float32)
        q, s = torch.zeros(6, HIDDEN, dtype=torch.int8), torch.zeros(6, HIDDEN // GROUP)
        q, s = q.to(device), s.to(device)
        leaf = [t.clone() for t in written]
        leaf[which].requires_grad_()
        with torch.inference_mode():
            inference = [t.clone() if i == which else t for i, t in enumerate(written)]
        for given, message in ((leaf, "a leaf "), (inference, REFUSED)):
            with pytest.raises(RuntimeError, match=message):
                op(x, q, s, GROUP, 1e-10, 0, weight, 1e-6, *given)
        assert not q.any()
        assert not s.any()


BAD_OPERANDS = {
    "weight must have": lambda x, w, r, y: (x, w[:-1], r, y),
    "weight must have ": lambda x, w, r, y: (x, w.half(), r, y),
    "residual must have": lambda x, w, r, y: (x, w, r[:-1], y),
    "residual must have ": lambda x, w, r, y: (x, w, r.t().contiguous().t(), y),
    "norm_out must have": lambda x, w, r, y: (x, w, r, y.double()),
    "norm_out must have ": lambda x, w, r, y: (x, w, r, y[:1].expand(6, -1)),
}


@pytest.mark.parametrize("suffix", OPS)
def test_the_ops_refuse_operands(suffix):
    op, device = op_of(suffix)
    for message, change in BAD_OPERANDS.items():
        x, *others = change(*operands(device))
        q = torch.zeros(6, HIDDEN, dtype=torch.int8, device=device)
        s = torch.zeros(6, HIDDEN // GROUP, device=device)
        weight, *written = others
        with pytest.raises((RuntimeError, TypeError, ValueError), match=message.strip()):
            op(x, q, s, GROUP, 1e-10, 0, weight, 1e-6, *written)
        assert not q.any()


@pytest.mark.parametrize("norm_eps", [0.0, -1.0, 1e-25, 1e39, float("nan")])
def test_the_op_refuses_an_epsilon(norm_eps):
    x, weight, *_ = operands()
    q, s = torch.zeros(6, HIDDEN, dtype=torch.int8), torch.zeros(6, HIDDEN // GROUP)
    op = torch.ops.ptgq.rms_norm_per_token_group_quant
    with pytest.raises(RuntimeError, match="norm_eps must lie between 1e-24 and"):
        op(x, q, s, GROUP, 1e-10, 0, weight, norm_eps)


def test_what_requires_gradients():
    x, weight, residual, norm_out = operands()
    expected, _ = expected_of(x, weight, residual, norm_out)
    x.requires_grad_()
    weight.requires_grad_()
    q, s = call(FUSED, x, weight, residual, norm_out)
    assert_same_results((q, s), expected)
    assert not any(t.requires_grad for t in (q, s, residual, norm_out))
    with pytest.raises(ValueError, match="norm_out must not require gradients"):
        call(FUSED, x, weight, residual, x)


def test_fake_and_meta_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    for backend in ("cpu", "reference"):
        with FakeTensorMode():
            q, s = call(FUSED, *operands(), backend=backend, use_ue8m0=True)
            assert (q.shape, s.shape) == ((6, HIDDEN), (6, HIDDEN // GROUP))
    q, s = call(FUSED, *operands("meta"))
    assert (q.shape, s.shape, q.device.type) == ((6, HIDDEN), (6, HIDDEN // GROUP), "meta")


def test_in_place_and_alone():
    x, weight, residual, norm_out = operands()
    (q, s), given = expected_of(x, weight, residual, norm_out)
    quantized = ptgq.per_token_group_quant_fp8(given[3], GROUP)
    assert_same_results((q, s), quantized)
    run = partial(call, FUSED, x, weight)
    assert_same_results(run(residual.clone(), None), (q, s))
    assert_same_results(run(residual, x), (q, s))
    assert torch.equal(as_bytes(x), as_bytes(given[3]))


@pytest.mark.parametrize("backend", ["cpu", "triton", "reference"])
def test_another_object_with_the_elements_of_x_is_x(monkeypatch, backend):
    if backend == "triton" and torch.cuda.is_available():
        pytest.skip("triton runs on the GPU here")
    monkeypatch.setattr(rms_norm, "quantize_directly", lambda *call: None)
    x, weight, *_ = operands()
    wide = x.repeat(1, 2)
    # A parameter's tensor, and a row with another stride, which one row has not.
    for given, same in (
        (parameter := torch.nn.Parameter(x.clone()), parameter.detach()),
        (one := wide[:1, :HIDDEN], one.view(1, HIDDEN)),
    ):
        y = torch.zeros_like(same)
        expected = call(FUSED, same.clone(), weight, None, y, backend="reference")
        results = call(FUSED, given, weight, None, same, backend=backend)
        assert_same_results(results, expected)
        assert torch.equal(same, y)
