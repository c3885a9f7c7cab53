"""A masked grouped GEMM of what was quantized masked: DeepGEMM's, and the example that calls it."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from building import ROOT
from fake_deep_gemm import EITHER, installed, stand_in
from test_gemm_of_blocks import FROM_DEQUANTIZED, FROM_EXACT, HOPPER

import ptgq
from ptgq import ScaleFormat

sys.path.append(str(ROOT / "examples"))
import masked_grouped_gemm as example
from block_scaled_gemm import error

NAN_CODE = 0x7F


def poisoned(x, w, counts):
    """Return the operands, with NaN wherever no token is: in x, and in the codes that stay."""
    tokens = example.are_tokens(counts, x.shape[1])
    x.masked_fill_(~tokens.unsqueeze(-1), torch.nan)
    (q, s), of_w = example.quantize(x, w, counts)
    q.view(torch.uint8).masked_fill_(~tokens.unsqueeze(-1), NAN_CODE)
    return tokens, (q, s), of_w


def check(product, tokens, x, w, operands):
    """Check all tokens together; each expert's alone too, of the operands as they are."""
    exact, dequantized = x.double() @ w.double().mT, example.dequantized(*operands)
    assert 0.02 < error(product[tokens], exact[tokens]) < FROM_EXACT
    assert error(product[tokens], dequantized[tokens]) < FROM_DEQUANTIZED
    for expert, rows in enumerate(tokens):
        if rows.any():
            assert error(product[expert, rows], dequantized[expert, rows]) < FROM_DEQUANTIZED


def test_the_example_says_how_far_each_product_is(capsys):
    spec = importlib.util.spec_from_file_location("__main__", example.__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + example.deep_gemm_runs()
    for line in lines:
        assert 0.02 < float(line.split()[-1]) < FROM_EXACT


@EITHER
def test_deep_gemm_s_product(prepare, monkeypatch):
    prepare(monkeypatch)
    x, w, counts = example.tensors()
    tokens, *operands = poisoned(x, w, counts)
    assert sorted(counts.tolist()) == [0, 1, 77, 128, 255, 256]
    check(example.by_deep_gemm(*operands, counts), tokens, x, w, operands)


@EITHER
@pytest.mark.parametrize("dim", [0, 1, 2], ids=["expert", "token", "group"])
def test_another_s_scales_would_show(prepare, monkeypatch, dim):
    prepare(monkeypatch)
    x, w, counts = example.tensors()
    (q, s), of_w = example.quantize(x, w, counts.fill_(x.shape[1]))
    dequantized = example.dequantized((q, s), of_w)
    s.copy_(s.roll(1, dim))
    assert error(example.by_deep_gemm((q, s), of_w, counts), dequantized) > 0.1


def test_the_stand_in_takes_only_scales_that_are_read_as_they_are(monkeypatch):
    stand_in(monkeypatch)
    x, w, counts = example.tensors()
    (q, s), of_w = example.quantize(x, w, counts)
    _, flat = ptgq.per_token_group_quant_fp8(x, 128, scale_format=ScaleFormat.deep_gemm_hopper())
    for wrong in (s.contiguous(), flat, s[:, :128]):
        with pytest.raises(AssertionError):
            example.by_deep_gemm((q, wrong), of_w, counts)
    with pytest.raises(AssertionError):
        example.by_deep_gemm((q, s), of_w, counts.long())


@pytest.mark.gpu
@HOPPER
@pytest.mark.parametrize("rows", [256, 250])
def test_deep_gemm_takes_scales_as_they_are(rows):
    installed()
    import deep_gemm

    x, w, counts = example.tensors(rows)
    (_, s), (_, of_w) = example.quantize(x, w, counts)

    def memory(scales, size, **kind):
        read = deep_gemm.transform_sf_into_required_layout(
            scales, size, x.shape[-1], (1, 128, 128), num_groups=len(x), **kind
        )
        return read.data_ptr(), read.shape, read.stride()

    assert memory(s, rows, is_sfa=True) == (s.data_ptr(), s.shape, s.stride())
    assert memory(of_w, w.shape[1], is_sfa=False) == (of_w.data_ptr(), of_w.shape, of_w.stride())
    in_rows = s.contiguous()
    assert memory(in_rows, rows, is_sfa=True)[0] != in_rows.data_ptr()


@pytest.mark.gpu
def test_a_captured_step_takes_the_counts_of_each_replay():
    installed()
    x, w, counts = example.tensors()
    operands = example.quantize(x, w, counts)
    example.by_deep_gemm(*operands, counts)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        operands = example.quantize(x, w, counts)
        product = example.by_deep_gemm(*operands, counts)
    for now in (counts.flip(0), counts.roll(1), torch.full_like(counts, x.shape[1])):
        counts.copy_(now)
        graph.replay()
        check(product, example.are_tokens(counts, x.shape[1]), x, w, operands)
