"""The functions of blocks in compiled, exported and differentiated code, and their ops."""

from __future__ import annotations

import pytest
import torch
from numeric import assert_same_results
from test_blocks import QUANT, weight

import ptgq
from ptgq import ScaleFormat, scales
from ptgq.backends import as_bytes

W = weight((2, 40, 72), torch.bfloat16)
SIZE = (16, 32)
ALIGNED = ScaleFormat("float32", torch.float32, "aligned_rows")
FORMATS = {"ue8m0": scales.scale_format(False, True), "aligned": ALIGNED}


@pytest.fixture(autouse=True)
def _anew():
    torch._dynamo.reset()


def there_and_back(w, f, backend):
    q, s = QUANT(w, SIZE, scale_format=f, backend=backend)
    y = ptgq.dequantize_blocks(q, s, SIZE, dtype=torch.bfloat16, backend=backend)
    return q, s, -y


def test_compiled(backend_on):
    backend, device = backend_on
    w, f = W.to(device), FORMATS["ue8m0"]
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    for part in (w[:, :24], w[:1, 3:]):
        results, expected = compiled(part, f, backend), there_and_back(part, f, backend)
        assert_same_results(results[:2], expected[:2])
        assert torch.equal(results[2].nan_to_num(), expected[2].nan_to_num())


@pytest.mark.gpu
def test_compiled_by_inductor():
    w = W.cuda()
    out = tuple(map(torch.empty_like, QUANT(w, SIZE)))

    def run(w, out):
        return QUANT(w, SIZE, out=out)

    assert_same_results(torch.compile(run, fullgraph=True)(w, out), QUANT(w, SIZE))


class Layer(torch.nn.Module):
    """Quantizes a weight and goes back."""

    def forward(self, w):
        q, s = QUANT(w, SIZE, use_ue8m0=True)
        return q, s, ptgq.dequantize_blocks(q, s, SIZE)


def test_exported():
    sizes = {"w": {0: torch.export.Dim("experts"), 1: torch.export.Dim("n", min=17)}}
    # One row of blocks would be compiled by itself.
    program = torch.export.export(Layer(), (W,), dynamic_shapes=sizes)
    targets = {node.target for node in program.graph.nodes}
    ops = torch.ops.ptgq
    assert {ops.per_block_quant.default, ops.dequantize_blocks.default} <= targets
    for part in (W, W[:1, :17].contiguous()):
        assert_same_results(program.module()(part)[:2], QUANT(part, SIZE, use_ue8m0=True))


@pytest.mark.parametrize("f", FORMATS.values(), ids=FORMATS)
def test_the_registered_ops(backend_on, f):
    backend, device = backend_on
    suffix = {"triton": "_triton", "reference": "_reference"}.get(backend, "")
    op = getattr(torch.ops.ptgq, f"per_block_quant{suffix}").default
    # Rows of four blocks: opcheck's copies have no padding. Few, as it calls often.
    w, size = weight((2, 10, 32), torch.bfloat16).to(device), (8, 8)
    # As bytes: opcheck compares tensors, which torch does not do for 8-bit floating point.
    q, s = map(as_bytes, QUANT(w.nan_to_num(1, 1, 1), size, scale_format=f))
    w = w.transpose(0, 1).contiguous().transpose(0, 1)
    torch.library.opcheck(op, (w, q, s, *size, 1e-10, f.code), {"saturate": True})
    if backend == "reference":
        return
    op = getattr(torch.ops.ptgq, f"dequantize_blocks{suffix}").default
    torch.library.opcheck(op, (q[:, ::2], s[:, ::2], *size, torch.float16))


WRONG = {
    "w": (W[0], "q must have the shape of w|q and s must have shapes"),
    "q": (torch.empty(2, 40, 71, dtype=torch.uint8), "q must have the shape of w|must have shapes"),
    "s": (torch.empty(2, 3, 4), "s must have the shape of w|q and s must have shapes"),
    "block_rows": (0, "block_size must be"),
    "scale_format": (8, "ScaleFormat of blocks|must be row_major or aligned_rows"),
}
STRIDED = {
    "q": (torch.empty(2, 72, 40, dtype=torch.uint8).mT, "q must be contiguous"),
    "s": (torch.empty(2, 3, 3).mT, "s must have the strides of scale_format|and s row_major"),
}


@pytest.mark.parametrize("wrong", [WRONG, STRIDED], ids=["shapes", "strides"])
@pytest.mark.parametrize("suffix", ["", "_reference"])
def test_wrong_arguments_of_the_op(suffix, wrong):
    q, s = QUANT(W, SIZE)
    right = {"w": W, "q": q, "s": s, "block_rows": 16, "block_columns": 32, "eps": 1e-10}
    right["scale_format"] = 0
    for name, (value, message) in wrong.items():
        with pytest.raises((RuntimeError, ValueError), match=message):
            getattr(torch.ops.ptgq, f"per_block_quant{suffix}")(**{**right, name: value})
    short = q, torch.empty(23).as_strided((2, 3, 3), (12, 4, 1))
    with pytest.raises((RuntimeError, ValueError), match="own the padding of its last row"):
        torch.ops.ptgq.per_block_quant(W, *short, *SIZE, 1e-10, 64)


def test_autograd_counts_what_ops_write():
    q, s = QUANT(W, SIZE)
    versions = q._version, s._version
    torch.ops.ptgq.per_block_quant(W, q, s, *SIZE, 1e-10, 0)
    assert (q._version > versions[0], s._version > versions[1]) == (True, True)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_of_products(compiled):
    q, s = QUANT(weight((2, 33, 70), torch.float32).nan_to_num(1, 1, 1), SIZE)
    s.requires_grad_()

    def run(s):
        return ptgq.dequantize_blocks(q, s, SIZE)

    function = torch.compile(run, backend="aot_eager") if compiled else run
    grad = torch.randn(q.shape, generator=torch.Generator().manual_seed(0))
    (of_s,) = torch.autograd.grad(function(s), s, grad)
    expected = torch.zeros_like(s)
    product = grad * q.float()
    for row in range(3):
        for column in range(3):
            block = product[:, 16 * row : 16 * row + 16, 32 * column : 32 * column + 32]
            expected[:, row, column] = block.sum((1, 2))
    torch.testing.assert_close(of_s, expected)


def test_the_op_s_own_gradients():
    q, s = QUANT(weight((2, 33, 70), torch.float32).nan_to_num(1, 1, 1), SIZE)
    s.requires_grad_()
    grad = torch.randn(q.shape, generator=torch.Generator().manual_seed(0))
    of_op = torch.ops.ptgq.dequantize_blocks(q, s, *SIZE, torch.float32)
    plain = ptgq.dequantize_blocks(q, s, SIZE)
    torch.testing.assert_close(*(torch.autograd.grad(y, s, grad)[0] for y in (of_op, plain)))


def test_gradients_of_blocks_past_the_matrix():
    q, s = QUANT(weight((33, 70), torch.float32).nan_to_num(1, 1, 1), (2**40, 2**40))
    s.requires_grad_()
    y = torch.ops.ptgq.dequantize_blocks(q, s, 2**40, 2**40, torch.float32)
    (of_s,) = torch.autograd.grad(y.sum(), s)
    torch.testing.assert_close(of_s, q.float().sum().view(1, 1))
