"""Direct calls of dequantize_blocks: which there are, that the others get to the op, and bytes."""

from __future__ import annotations

import pytest
import torch
from every import every
from products import assert_same, codes_of, expected_of, strided
from test_direct import remember
from test_direct_triton import Compiled, needs_interpreter
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from values import DTYPES, random_input

import ptgq
from ptgq import blocks
from ptgq.backends import load

DEQUANTIZE = ptgq.dequantize_blocks
SIZE = (16, 32)
Q = codes_of((2, 3, 40, 72), torch.float8_e4m3fn)
S = random_input((2, 3, 3, 3), torch.float32)
BYTES = codes_of((2, 3, 3, 3), torch.float8_e8m0fnu)


def wanted(q, s, size=SIZE, dtype=torch.float32):
    of_rows = s.detach().resolve_neg().float().repeat_interleave(size[0], -2)[..., : q.shape[-2], :]
    of_elements = of_rows.repeat_interleave(size[1], -1)[..., : q.shape[-1]]
    return expected_of(q, of_elements, 1, dtype)


@pytest.fixture
def direct(monkeypatch):
    """Whether the calls so far were served directly, in order."""
    DEQUANTIZE(Q, S, SIZE)  # finds out what serves
    right, log = blocks.dequantize_directly, []

    def dequantize_directly(*call):
        y = right(*call)
        log.append(y is not None)
        return y

    monkeypatch.setattr(blocks, "dequantize_directly", dequantize_directly)
    return log


@every(
    call={
        "experts": (Q, S),
        "a matrix": (Q[0, 0], S[0, 0]),
        "bytes": (Q, BYTES),
        "parameters": tuple(torch.nn.Parameter(t, requires_grad=False) for t in (Q, S)),
        "padded rows": (Q, strided(S, (60, 20, 6, 1))),
        "columns": (Q, strided(BYTES, (27, 9, 1, 3))),
        "one for all": (Q, S[:1, :1, :1, :1].expand_as(S)),
        "misaligned": (Q.view(-1)[1:-71].view(239, 72), S.view(-1)[:45].view(15, 3)),
    },
    dtype=DTYPES,
)
def test_ordinary_calls_are_direct(direct, call, dtype):
    del direct[:]
    for backend in (None, "cpu"):
        y = DEQUANTIZE(*call, SIZE, dtype=dtype, backend=backend)
        assert_same(y, wanted(*call, dtype=dtype))
    with torch.device("meta"):
        assert_same(DEQUANTIZE(*call, list(SIZE), dtype=dtype), y)
    with torch.inference_mode():
        assert DEQUANTIZE(*call, SIZE, dtype=dtype).is_inference()
    assert (y.is_contiguous(), y.requires_grad, direct) == (True, False, [True] * 4)


def test_blocks_larger_than_the_matrix_are_direct(direct):
    for size in ((128, 128), (2**63 - 1, 2**40)):
        assert_same(DEQUANTIZE(Q, S[..., :1, :1], size), wanted(Q, S[..., :1, :1], (40, 72)))
    assert direct == [True, True]


@every(
    call={
        "columns of codes": (Q.mT.contiguous().mT, S),
        "some rows": (Q[..., :16, :], S[..., :1, :]),
        "experts of other strides": (Q, S.transpose(0, 1).contiguous().transpose(0, 1)),
        "negated": (Q, torch._neg_view(S)),
        "nothing": (Q[:0], S[:0]),
        "a parameter": (Q, torch.nn.Parameter(S)),
        "gradients of scales": (Q, S.clone().requires_grad_()),
        "gradients of codes": (Q.clone().requires_grad_(), S),
    }
)
def test_others_are_served_all_the_same(direct, call):
    del direct[:]
    y = DEQUANTIZE(*call, SIZE)
    assert y.requires_grad == any(t.requires_grad for t in call)
    with torch.no_grad():
        again = DEQUANTIZE(*call, SIZE)
    assert (direct, again.requires_grad) == ([False, False], False)
    for found in (y.detach(), again):
        assert_same(found, wanted(*(t.detach() for t in call)))


def test_sizes_that_are_no_ints(direct):
    numpy = pytest.importorskip("numpy")
    for size in ((numpy.int64(16), 32), torch.Size(SIZE)):
        assert_same(DEQUANTIZE(Q, S, size), wanted(Q, S))
    for size in ((True, 32), (16.0, 32), (torch.tensor(16), 32), (2**64, 32), (16,), None):
        with pytest.raises((TypeError, ValueError), match=r"block_size|s must have shape"):
            DEQUANTIZE(Q, S, size)
    assert direct == [False]  # the one past 64 bits


def test_backends_are_chosen_as_before(direct):
    with pytest.raises(RuntimeError, match="backend 'cuda' is not available for cpu tensors"):
        DEQUANTIZE(Q, S, SIZE, backend="cuda")
    with ptgq.use_backend("reference"):
        assert_same(DEQUANTIZE(Q, S, SIZE), wanted(Q, S))
        assert direct == [False, False]
        DEQUANTIZE(Q, S, SIZE, backend="cpu")
    assert direct == [False, False, True]
    assert DEQUANTIZE(Q.to("meta"), S.to("meta"), SIZE).shape == Q.shape


@pytest.mark.parametrize(
    ("mode", "method"),
    [(TorchDispatchMode, "__torch_dispatch__"), (TorchFunctionMode, "__torch_function__")],
)
def test_modes_see_the_op(direct, mode, method):
    with type("Mode", (mode,), {method: remember, "seen": []})() as active:
        DEQUANTIZE(Q, S, SIZE)
    assert direct == [False]
    assert any("ptgq.dequantize_blocks" in name for name in active.seen)


def test_what_follows_calls_sees_the_op(direct):
    def run(q, s):
        return DEQUANTIZE(q, s, SIZE)

    for tracing in ("real", "fake", "symbolic"):
        traced = make_fx(run, tracing_mode=tracing)(Q, S)
        op = torch.ops.ptgq.dequantize_blocks.default
        assert op in [node.target for node in traced.graph.nodes]
        assert_same(traced(Q, -S), wanted(Q, -S))
    assert not any(direct)
    torch._dynamo.reset()
    assert_same(torch.compile(run, fullgraph=True, backend="eager")(Q, S), wanted(Q, S))
    del direct[:]
    assert_same(torch.vmap(run)(Q, S), wanted(Q, S))
    ones = torch.ones_like(S)
    tangent = torch.func.jvp(lambda s: run(Q, s), (S,), (ones,))[1]
    with forward_ad.dual_level():
        y = forward_ad.unpack_dual(run(Q, forward_ad.make_dual(S, ones)))
        assert_same(y.tangent, wanted(Q, ones))
    assert_same(tangent, wanted(Q, ones))
    assert not any(direct)


@pytest.fixture
def compiled(monkeypatch):
    triton = load("triton_blocks")
    compiled = Compiled(list(triton.dequantize_blocks_kernel.arg_names))
    monkeypatch.setattr(triton, "_products", {})
    monkeypatch.setattr(triton, "dequantize_blocks_kernel", compiled)
    monkeypatch.setattr(triton, "_INTERPRETED", True)
    return compiled


# Alignment to 16 bytes is what kernels are told apart by: whole rows of experts.
WIDE = codes_of((4, 96, 80), torch.float8_e4m3fn)
OF_WIDE = random_input((4, 6, 16), torch.float32)


@needs_interpreter
@every(
    call={
        "experts": (WIDE, OF_WIDE[..., :3]),
        "padded rows": (WIDE[1:3], OF_WIDE[1:3, :, 4:7]),
        "some rows": (WIDE.view(-1, 80)[16:96], OF_WIDE[0, :5, :3].contiguous()),
        "bytes": (WIDE, OF_WIDE[..., :3].to(torch.float8_e8m0fnu)),
        "few": (WIDE.view(-1)[:34].view(2, 17, 1), OF_WIDE[:2, :2, :1]),
    },
    dtype=DTYPES,
)
def test_triton_is_launched_as_it_compiled_it(compiled, call, dtype):
    load("triton_blocks")._products.clear()
    del compiled.launches[:]
    for _ in range(2):
        y = DEQUANTIZE(*call, SIZE, dtype=dtype, backend="triton")
    first, direct = compiled.launches
    assert (direct[:3], direct[3], direct[4:]) == (first[:3], y.data_ptr(), first[4:])
    assert direct[1:3] == tuple(tensor.data_ptr() for tensor in call)
    assert (y.shape, y.dtype) == (call[0].shape, dtype)
    assert len(load("triton_blocks")._products) == 1


@needs_interpreter
def test_triton_s_kernels_are_told_apart(compiled, monkeypatch):
    triton = load("triton_blocks")
    right, ordinary = triton.dequantize, []
    monkeypatch.setattr(triton, "dequantize", lambda *call: (ordinary.append(1), right(*call))[1])
    few = OF_WIDE[..., :3].contiguous()
    calls = [
        (WIDE, few, SIZE, torch.float32),
        (WIDE, few, SIZE, torch.bfloat16),
        (WIDE, few.to(torch.float8_e8m0fnu), SIZE, torch.float32),
        (WIDE, few, (16, 30), torch.float32),
        (WIDE, OF_WIDE[:, :3, :3], (32, 32), torch.float32),
        (WIDE.view(-1)[: 4 * 96 * 72].view(4, 96, 72), few, SIZE, torch.float32),
        (WIDE.view(-1, 1), few.view(-1)[:1].expand(1920, 1), SIZE, torch.float32),
    ]
    rare = [
        (WIDE.view(-1)[1 : 1 + 80 * 16].view(16, 80), few[0, :1], SIZE, torch.float32),
        (WIDE, OF_WIDE[..., 1:4], SIZE, torch.float32),
        (WIDE, torch._neg_view(few), SIZE, torch.float32),
    ]
    for served in (len(calls) + len(rare), len(rare)):
        del ordinary[:]
        for q, s, size, dtype in (*calls, *rare):
            DEQUANTIZE(q, s, size, dtype=dtype, backend="triton")
        assert len(ordinary) == served
    # Fewer than kernels of 31 bits count.
    monkeypatch.setattr(triton, "_SMALL", 96)
    DEQUANTIZE(*calls[0][:3], backend="triton")
    assert len(ordinary) == len(rare) + 1


@pytest.mark.gpu
def test_triton_calls_are_direct_from_the_second_on(monkeypatch):
    triton = load("triton_blocks")
    for q, s in ((WIDE.cuda(), OF_WIDE[..., :3].cuda()), (Q.cuda(), BYTES.cuda())):
        first = DEQUANTIZE(q, s, SIZE, backend="triton")
        assert_same(first, wanted(q.cpu(), s.cpu()))
        with monkeypatch.context() as patch:
            patch.setattr(triton, "dequantize", None)
            for _ in range(2):
                assert_same(DEQUANTIZE(q, s, SIZE, backend="triton"), first.cpu())
            # Of another block size, a kernel is compiled.
            with pytest.raises(TypeError, match="not callable"):
                DEQUANTIZE(q, s[..., :1, :1], backend="triton")
