"""dequantize in compiled, exported and differentiated code."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from values import DTYPES, random_input

import ptgq
from ptgq import ScaleFormat
from ptgq.backends import as_bytes
from ptgq.backends.reference import dequantize as reference

X = random_input((6, 256), torch.bfloat16)
FORMATS = (None, ScaleFormat.ocp_mx(), ScaleFormat.deep_gemm_blackwell())


def quantized(device="cpu", f=None):
    return ptgq.per_token_group_quant_fp8(X.to(device), 32, scale_format=f)


@pytest.fixture(autouse=True)
def _anew():
    torch._dynamo.reset()


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("f", FORMATS, ids=["row", "ocp_mx", "packed"])
def test_compiled(backend_on, f, compiler):
    backend, device = backend_on
    q, s = quantized(device, f)

    def run(q, s):
        # What follows is exact: torch's compiler rounds y once, with what it fuses.
        return -ptgq.dequantize(q, s, 32, dtype=torch.bfloat16, backend=backend)

    compiled = torch.compile(run, fullgraph=True, backend=compiler)
    for rows in (6, 4, 2):
        assert torch.equal(compiled(q[:rows], s[:rows]), run(q[:rows], s[:rows]))


class Layer(torch.nn.Module):
    """Dequantizes what it is given."""

    def forward(self, q, s):
        return ptgq.dequantize(q, s, 32, dtype=torch.float16)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("f", FORMATS, ids=["row", "ocp_mx", "packed"])
def test_exported(f, strict):
    tokens = torch.export.Dim("tokens")
    shapes = {"q": {0: tokens}, "s": {0: tokens}}
    call = quantized(f=f)
    program = torch.export.export(Layer(), call, dynamic_shapes=shapes, strict=strict)
    targets = [node.target for node in program.graph.nodes]
    assert torch.ops.ptgq.dequantize.default in targets
    for rows in (6, 1):
        part = call[0][:rows], call[1][:rows]
        assert torch.equal(program.module()(*part), Layer()(*part))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("f", FORMATS, ids=["row", "ocp_mx", "packed"])
def test_the_registered_op(backend_on, f, dtype):
    backend, device = backend_on
    if backend == "reference":
        pytest.skip("no op of its own")
    op = torch.ops.ptgq.dequantize_triton if backend == "triton" else torch.ops.ptgq.dequantize
    # As bytes: opcheck compares tensors, which torch does not do for 8-bit floating point.
    q, s = map(as_bytes, quantized(device, f))
    torch.library.opcheck(op.default, (q, s, 32, dtype))
    # What lies as no kernel reads it.
    torch.library.opcheck(op.default, (q.t().contiguous().t(), s, 32, dtype))
    q, s = (t.view(2, 3, -1).transpose(0, 1) for t in (q, s))
    expected = reference(
        *(t.view(2, 3, -1).transpose(0, 1) for t in quantized(device, f)), 32, dtype
    )
    assert torch.equal(op(q, s, 32, dtype), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": X}, "q must be float8_e4m3fn, its bytes .* or int8"),
        ({"s": X[:, :8]}, "s must be float32, int32, float8_e8m0fnu or its bytes"),
        ({"s": torch.ones(6, 7)}, "s must have a last dimension of 8, got 7"),
        ({"s": torch.ones(5, 8)}, "s must have the shape of q but for the last dimension"),
        ({"s": torch.ones(8)}, "s must have as many dimensions as q"),
        ({"group_size": 0}, "group_size must divide the last dimension of q, 256, got 0"),
        ({"group_size": 3}, "group_size must divide the last dimension of q, 256, got 3"),
        ({"dtype": torch.float64}, "dtype must be bfloat16, float16 or float32"),
    ],
)
def test_wrong_arguments_of_the_op(change, message):
    q, s = quantized()
    arguments = {"q": q, "s": s, "group_size": 32, "dtype": torch.float32, **change}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ptgq.dequantize(**arguments)


def test_modes_and_make_fx_see_the_op():
    class Mode(TorchDispatchMode):
        seen = ()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.seen += (func,)
            return func(*args, **kwargs or {})

    q, s = quantized()
    with Mode() as mode:
        ptgq.dequantize(q, s, 32)
    op = torch.ops.ptgq.dequantize.default
    assert mode.seen == (op,)
    for tracing in ("real", "fake", "symbolic"):
        traced = make_fx(lambda q, s: ptgq.dequantize(q, s, 32), tracing_mode=tracing)(q, s)
        assert op in [node.target for node in traced.graph.nodes]
        assert torch.equal(traced(q, s), ptgq.dequantize(q, s, 32))


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_of_float32_scales(backend_on, compiled):
    backend, device = backend_on
    q, s = quantized(device)
    s = s.requires_grad_()
    weight = random_input((6, 256), torch.float32).to(device)

    def run(q, s):
        return ptgq.dequantize(q, s, 32, backend=backend) * weight

    function = torch.compile(run, fullgraph=True, backend="aot_eager") if compiled else run
    function(q, s).sum().backward()
    expected = (q.float() * weight).view(6, 8, 32).sum(-1)
    assert torch.allclose(s.grad, expected)
    with torch.no_grad():
        assert not ptgq.dequantize(q, s, 32, backend=backend).requires_grad


def test_forward_mode(backend_on):
    backend, device = backend_on
    q, s = quantized(device)

    def run(s):
        return ptgq.dequantize(q, s, 32, backend=backend)

    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(run(forward_ad.make_dual(s, torch.ones_like(s))))
        assert torch.equal(y.tangent, q.float())
    value, tangent = torch.func.jvp(run, (s,), (torch.ones_like(s),))
    assert torch.equal(tangent, q.float())
    assert torch.equal(value, run(s))


def test_transforms(backend_on):
    backend, device = backend_on
    q, s = quantized(device)

    def run(q, s):
        return ptgq.dequantize(q, s, 32, backend=backend)

    expected = run(q, s)
    assert torch.equal(torch.vmap(run)(q, s), expected)
    assert torch.equal(torch.vmap(run, (None, 0))(q[0], s)[0], expected[0])
    gradient = torch.func.grad(lambda s: run(q, s).sum())(s)
    assert torch.allclose(gradient, q.float().view(6, 8, 32).sum(-1))
    assert torch.equal(torch.func.functionalize(run)(q, s), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_gradients_of_what_was_exported_without_them(strict):
    q, s = quantized()
    program = torch.export.export(Layer(), (q, s), strict=strict).module()
    s = s.requires_grad_()
    program(q, s).sum().backward()
    assert torch.allclose(s.grad, q.float().view(6, 8, 32).sum(-1))


@pytest.mark.parametrize("form", ["as it is", "bytes", "transposed"])
def test_gradients_of_the_op(form):
    q, s = quantized()
    expected = q.float().view(6, 8, 32).sum(-1)
    given = {"as it is": q, "bytes": q.view(torch.uint8), "transposed": q.t().contiguous().t()}
    s = s.requires_grad_()
    torch.ops.ptgq.dequantize(given[form], s, 32, torch.float32).sum().backward()
    assert torch.allclose(s.grad, expected)


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_transforms_in_compiled_code(compiler):
    q, s = quantized()

    def run(s):
        return ptgq.dequantize(q, s, 32)

    def derived(s):
        gradient = torch.func.grad(lambda s: run(s).sum())(s)
        tangent = torch.func.jvp(run, (s,), (torch.ones_like(s),))[1]
        return gradient, tangent, torch.vmap(run_row)(q, s)

    def run_row(q, s):
        return ptgq.dequantize(q, s, 32)

    gradient, tangent, rows = torch.compile(derived, fullgraph=True, backend=compiler)(s)
    assert torch.allclose(gradient, q.float().view(6, 8, 32).sum(-1))
    assert torch.equal(tangent, q.float())
    assert torch.equal(rows, run(s))
