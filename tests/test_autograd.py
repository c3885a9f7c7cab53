"""Autograd sees what is written through ``out=`` and by the ops, as it sees torch's own writes."""

from __future__ import annotations

import pytest
import torch
from every import every
from numeric import assert_same_results, memory
from values import random_input

import ptgq
from ptgq.backends import as_bytes

FP8 = ptgq.per_token_group_quant_fp8
REFUSED = "Inplace update to inference tensor outside InferenceMode is not allowed"
PACKED = {"scale_format": ptgq.ScaleFormat.deep_gemm_blackwell()}
CALLS = {
    "fp8": (FP8, {}),
    "fp8 columns of bytes": (FP8, {"column_major_scales": True, "use_ue8m0": True}),
    "fp8 packed": (FP8, PACKED),
    "int8": (ptgq.per_token_group_quant_int8, {}),
    "silu": (ptgq.silu_and_mul_per_token_group_quant_fp8, {}),
    "silu int8": (ptgq.silu_and_mul_per_token_group_quant_int8, {}),
}
# What is called directly, and what is checked first.
CONTAINERS = {"direct": tuple, "checked": list}
OPS = [
    op + suffix
    for op in ("per_token_group_quant", "silu_and_mul_per_token_group_quant")
    for suffix in ("", "_triton", "_reference")
]
gpu = pytest.mark.gpu
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="triton runs on the GPU here")


@pytest.fixture(
    params=[
        *(pytest.param((name, "cuda"), marks=gpu) for name in ("cuda", "triton", "reference")),
        pytest.param(("triton", "cpu"), marks=interpreted),
        ("cpu", "cpu"),
        ("reference", "cpu"),
    ],
    ids="-".join,
)
def backend_on(request):
    """Every backend, the reference on the CPU too, and the device type it runs on."""
    return request.param


@pytest.fixture(params=OPS)
def op_on(request):
    """An op, and the device type it runs on."""
    device = "cuda" if torch.cuda.is_available() and "triton" in request.param else "cpu"
    return getattr(torch.ops.ptgq, request.param), device


def call_op(op, x, q, s):
    hidden_dim = 2 * q.shape[-1] if "silu" in str(op) else q.shape[-1]
    op(x[:, :hidden_dim], q, s, 64, 1e-10, 0)


def versions(*tensors):
    return [tensor._version for tensor in tensors]


def inside(tensor):
    """A view of a larger tensor that is like this one."""
    arena = torch.zeros(tensor.untyped_storage().nbytes() + 64, dtype=torch.uint8)
    arena = arena.to(tensor.device)
    return arena, arena.view(tensor.dtype).as_strided(
        tensor.shape, tensor.stride(), 32 // tensor.element_size()
    )


@every(call=CALLS, container=CONTAINERS)
def test_writes_through_out_are_counted(backend_on, call, container):
    function, options = call
    backend, device = backend_on
    x = random_input((6, 256), torch.bfloat16).to(device)
    expected = function(x, 32, backend=backend, **options)
    bases, out = zip(*map(inside, expected), strict=True)
    beside = [base[:4] for base in bases]
    for _ in range(2):  # the first call of a kind on Triton is not direct
        before = versions(*out)
        function(x, 32, backend=backend, out=container(out), **options)
        after = versions(*out)
        assert all(a > b for a, b in zip(after, before, strict=True))
        assert versions(*bases) == versions(*beside) == after
    assert_same_results(out, expected)


def test_writes_of_the_ops_are_counted(op_on):
    op, device = op_on
    x = random_input((6, 256), torch.bfloat16).to(device)
    q, s = FP8(x[:, :128], 64)
    (q_base, q), (s_base, s) = inside(q), inside(s)
    before = versions(q, s)
    call_op(op, x, q, s)
    after = versions(q, s)
    assert all(a > b for a, b in zip(after, before, strict=True))
    assert versions(q_base, s_base) == after


def inference_copy(tensor):
    with torch.inference_mode():
        return tensor.clone(memory_format=torch.preserve_format)


WHICH = {"q": (True, False), "s": (False, True), "both": (True, True)}


@every(call=CALLS, container=CONTAINERS, which=WHICH)
def test_inference_outputs(backend_on, call, container, which):
    function, options = call
    backend, device = backend_on
    x = random_input((6, 256), torch.bfloat16).to(device)
    expected = function(x, 32, backend=backend, **options)
    poison = [torch.zeros_like(memory_like(tensor)) for tensor in expected]
    tensors = [
        (inference_copy(p) if inference else p).as_strided(t.shape, t.stride())
        for p, t, inference in zip(poison, expected, which, strict=True)
    ]
    assert [tensor.is_inference() for tensor in tensors] == list(which)
    normal = [tensor for tensor in tensors if not tensor.is_inference()]
    before = versions(*normal), [memory(tensor.cpu()) for tensor in tensors]
    for mode in (torch.no_grad, torch.enable_grad):
        with mode(), pytest.raises(RuntimeError, match=REFUSED):
            function(x, 32, backend=backend, out=container(tensors), **options)
    assert (versions(*normal), [memory(tensor.cpu()) for tensor in tensors]) == before
    with torch.inference_mode():
        for _ in range(2):
            function(x, 32, backend=backend, out=container(tensors), **options)
    assert_same_results(tensors, expected)
    assert all(a > b for a, b in zip(versions(*normal), before[0], strict=True))


def memory_like(tensor):
    return torch.empty(
        tensor.untyped_storage().nbytes() // tensor.element_size(),
        dtype=tensor.dtype,
        device=tensor.device,
    )


@every(which=WHICH)
def test_inference_tensors_are_refused_by_the_ops(op_on, which):
    op, device = op_on
    x = random_input((6, 256), torch.bfloat16).to(device)
    outputs = [torch.zeros_like(tensor) for tensor in FP8(x[:, :128], 64)]
    q, s = (inference_copy(t) if w else t for t, w in zip(outputs, which, strict=True))
    before = memory(q.cpu()), memory(s.cpu())
    with pytest.raises(RuntimeError, match=REFUSED):
        call_op(op, x, q, s)
    assert (memory(q.cpu()), memory(s.cpu())) == before
    with torch.inference_mode():
        call_op(op, x, q, s)
    assert (memory(q.cpu()), memory(s.cpu())) != before


def test_a_leaf_that_requires_gradients_is_refused_by_the_ops(op_on):
    op, device = op_on
    x = random_input((6, 256), torch.bfloat16).to(device)
    q, s = (torch.zeros_like(tensor) for tensor in FP8(x[:, :128], 64))
    with pytest.raises(RuntimeError, match="a leaf "):
        call_op(op, x, q, s.requires_grad_())
    assert versions(q, s) == [0, 0]
    assert not as_bytes(q).any()
    assert not s.any()


@pytest.mark.parametrize("container", [tuple, list], ids=["direct", "checked"])
def test_refused_calls_are_not_counted(backend_on, container):
    backend, device = backend_on
    x = random_input((6, 256), torch.bfloat16).to(device)
    q, s = (torch.zeros_like(tensor) for tensor in FP8(x, 64, backend=backend))
    for wrong in ((q, s[:, :3]), (q[:5], s), (q, s.double()), (q, q)):
        with pytest.raises((TypeError, ValueError)):
            FP8(x, 64, backend=backend, out=container(wrong))
    for options in ({"eps": -1.0}, {"use_ue8m0": True}, {"backend": "none"}):
        with pytest.raises((TypeError, ValueError)):
            FP8(x, 64, out=container((q, s)), **{"backend": backend, **options})
    with pytest.raises(RuntimeError, match="s must have the shape of x"):
        torch.ops.ptgq.per_token_group_quant(x, as_bytes(q), s[:5], 64, 1e-10, 0)
    assert versions(q, s) == [0, 0]


class Quantized(torch.autograd.Function):
    """A layer that keeps what it quantized for its backward."""

    @staticmethod
    def forward(ctx, x, w, out, backend):
        q, s = FP8(x, 128, out=out, backend=backend)
        ctx.save_for_backward(q, s, w)
        return ptgq.dequantize(q, s, 128) @ w

    @staticmethod
    def backward(ctx, g):
        q, s, w = ctx.saved_tensors
        return g @ w.t(), ptgq.dequantize(q, s, 128).t() @ g, None, None


def test_a_saved_tensor_that_is_overwritten_raises(backend_on):
    backend, device = backend_on
    x, *weights = (random_input((256, 256), torch.float32, seed).to(device) for seed in range(3))
    for weight in weights:
        weight.requires_grad_()
    one, other = (FP8(x, 128, backend=backend) for _ in range(2))

    def two_layers(out):
        y = Quantized.apply(x, weights[0], one, backend)
        return Quantized.apply(y, weights[1], out, backend).sum()

    two_layers(other).backward()
    wrong = two_layers(one)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        wrong.backward()


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
def test_writes_of_compiled_code_are_counted(backend_on, compiler):
    backend, device = backend_on
    torch._dynamo.reset()
    x = random_input((6, 256), torch.bfloat16).to(device)
    out = FP8(x, 64, True, backend=backend)
    expected = FP8(-x, 64, True, backend=backend)
    run = torch.compile(
        lambda x, q, s: FP8(-x, 64, True, out=(q, s), backend=backend),
        fullgraph=True,
        backend=compiler,
    )
    for _ in range(2):
        before = versions(*out)
        assert_same_results(run(x, *out), expected)
        assert_same_results(out, expected)
        assert all(a > b for a, b in zip(versions(*out), before, strict=True))
