"""How kernels of blocks are launched: Triton's by addresses; on a device, in graphs and large."""

from __future__ import annotations

import pytest
import torch
from numeric import assert_same_results
from test_blocks import NAMED, QUANT, weight
from test_direct_triton import Compiled
from test_gpu import programmatic_edges
from values import random_input

import ptgq
from ptgq.backends import load


@pytest.fixture
def compiled(monkeypatch):
    triton = load("triton_blocks")
    compiled = Compiled(list(triton.per_block_quant_kernel.arg_names))
    monkeypatch.setattr(triton, "_launches", {})
    monkeypatch.setattr(triton, "per_block_quant_kernel", compiled)
    monkeypatch.setattr(triton, "_INTERPRETED", True)
    return compiled


def launches(compiled, w, size=(128, 128), **options):
    """Return the launch of an ordinary call and, where there is one, of the same call again."""
    out = QUANT(w, size, **options, backend="reference")
    before = len(compiled.launches)
    for _ in range(2):
        q, s = QUANT(w, size, out=out, backend="triton", **options)
        assert (q is out[0], s is out[1]) == (True, True)
    return compiled.launches[before:]


W = torch.zeros(3, 256, 384, dtype=torch.bfloat16)


@pytest.mark.parametrize("fmt", NAMED.values(), ids=NAMED)
def test_a_direct_launch_is_that_of_the_ordinary_call(compiled, fmt):
    options = {"scale_format": fmt.scales}
    options["nonfinite"] = "saturate" if fmt.saturate else "mark"
    for w in (W, W[:, :200], W[1:, 128:], W[..., :200], W[0], W.float(), W[:1, :1]):
        first, second = launches(compiled, w, **options)
        assert first == second
    before = dict(load("triton_blocks")._launches)
    for w in (W, W[1:, 128:], W[..., :200]):
        launches(compiled, w, **options)
    assert load("triton_blocks")._launches == before


def test_what_triton_compiles_otherwise_is_not_launched_directly(compiled):
    triton = load("triton_blocks")
    launches(compiled, W)
    for w in (W[..., 8:], W.flatten()[1:-383].view(-1, 384), W[..., :1].contiguous()):
        keys = set(triton._launches)
        launches(compiled, w)
        # A kernel of its own, or none that is kept.
        assert set(triton._launches) != keys or w.data_ptr() % 16


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_graph_replay_follows_changed_inputs(backend):
    w = weight((2, 300, 520), torch.bfloat16).cuda()
    out = QUANT(w, backend=backend)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        QUANT(w, out=out, backend=backend)
        y = ptgq.dequantize_blocks(*out, backend=backend)
    for seed in range(3):
        w.copy_(weight(tuple(w.shape), torch.bfloat16, seed))
        graph.replay()
        assert_same_results(out, QUANT(w, backend="reference"))
        wanted = ptgq.dequantize_blocks(*out, backend="reference")
        assert torch.equal(y.nan_to_num(), wanted.nan_to_num())


@pytest.mark.gpu
@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (9, 0),
    reason="programmatic dependent launch is of 9.0 and later",
)
def test_kernels_of_blocks_launch_dependently():
    w = random_input((256, 512), torch.bfloat16).cuda()
    cases = [(w, (128, 128)), (w, (32, 32)), (w, (256, 256)), (w[:, :500], (128, 128))]
    outs = [QUANT(*case) for case in cases]
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        for _ in range(2):
            for case, out in zip(cases, outs, strict=True):
                QUANT(*case, out=out)
                ptgq.dequantize_blocks(*out, case[1])
    assert programmatic_edges(graph)[1] == 2 * 2 * len(cases) - 1
    for _ in range(20):
        graph.replay()
    for case, out in zip(cases, outs, strict=True):
        assert_same_results(out, QUANT(*case, backend="reference"))


@pytest.mark.gpu
@pytest.mark.large
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_experts_past_2_to_the_31(backend):
    w = torch.empty(160, 2048, 7168, dtype=torch.bfloat16, device="cuda").normal_()
    q, s = QUANT(w, backend=backend)
    for expert in (0, 145, 147, 159):
        assert_same_results((q[expert], s[expert]), QUANT(w[expert], backend="reference"))
    y = ptgq.dequantize_blocks(q, s, dtype=torch.bfloat16, backend=backend)
    wanted = ptgq.dequantize_blocks(q[159], s[159], dtype=torch.bfloat16, backend="reference")
    assert torch.equal(y[159], wanted)


@pytest.mark.gpu
def test_rows_far_apart():
    # Offsets past 2^31 elements of few rows.
    w = torch.empty(2**31 + 512, dtype=torch.bfloat16, device="cuda").as_strided(
        (2, 512), (2**31, 1)
    )
    w.normal_()
    expected = QUANT(w.contiguous(), backend="reference")
    for backend in ("cuda", "triton"):
        assert_same_results(QUANT(w, backend=backend), expected)
