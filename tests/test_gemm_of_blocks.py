"""From two bfloat16 matrices to a product: the example, and GEMMs that read scales of blocks."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from building import ROOT
from fake_deep_gemm import EITHER

import ptgq
from ptgq import ScaleFormat, scales

sys.path.append(str(ROOT / "examples"))
import block_scaled_gemm as example

HOPPER = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0),
    reason="torch._scaled_mm has this recipe on compute capability 9.0",
)
# Of two operands with 3 bits behind the point, rounded: 2 * (2^-4 / sqrt(3))^2, under the root, for
# numbers that are spread evenly.
FROM_EXACT = 0.04
# The error of a product that is rounded to bfloat16.
FROM_DEQUANTIZED = 3e-3


def test_the_example_says_how_far_each_product_is(capsys):
    runpy = importlib.util.spec_from_file_location("__main__", example.__file__)
    runpy.loader.exec_module(importlib.util.module_from_spec(runpy))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(example.products())
    for line in lines:
        assert 0.02 < float(line.split()[-1]) < FROM_EXACT


def test_a_scale_of_another_block_would_show():
    x, w = example.matrices()
    exact = x.double() @ w.double().T
    q, s = ptgq.per_block_quant_fp8(w)
    for misread in (s.flip(0), s.roll(1, 1), s.view(s.shape[::-1]).t()):
        of_w = ptgq.dequantize_blocks(q, misread).double()
        assert example.error(x.double() @ of_w.T, exact) > 0.1


@pytest.mark.parametrize("k", [1536, 1280])
def test_torch_accepts_shape_and_strides(k):
    # What it checks before it calls cuBLAS, without values.
    x, w = (t.to("meta") for t in example.matrices(k=k))
    x_q, x_s = ptgq.per_token_group_quant_fp8(x, 128, scale_format=ScaleFormat.torch_scaled_mm())
    f = ScaleFormat.torch_scaled_mm_blocks()
    w_q, w_s = ptgq.per_block_quant_fp8(w, scale_format=f)
    assert w_s.t().stride() == (1, 12)
    product = torch._scaled_mm(x_q, w_q.t(), x_s, w_s.t(), out_dtype=torch.bfloat16)
    assert product.shape == (len(x), len(w))
    functional = torch.nn.functional
    if not hasattr(functional, "scaled_mm"):
        pytest.skip("this torch has no torch.nn.functional.scaled_mm")
    kind, none = functional.ScalingType, functional.SwizzleType.NO_SWIZZLE
    product = functional.scaled_mm(
        x_q, w_q.t(), x_s, kind.BlockWise1x128, scales.memory_of(w_s, f).view(len(w_s), -1).t(),
        kind.BlockWise128x128, none, none, output_dtype=torch.bfloat16,
    )  # fmt: skip
    assert product.shape == (len(x), len(w))


@pytest.mark.gpu
@HOPPER
@pytest.mark.parametrize("k", [1536, 1280, 128])
def test_torch_s_product(k):
    if k % 512 and torch.__version__ < "2.12":
        pytest.skip("this torch refuses rows that are padded")
    x, w = example.matrices(k=k)
    dequantized = example.dequantized(x, w)
    assert example.error(example.by_torch(x, w), dequantized) < FROM_DEQUANTIZED
    if k > 128:
        # Rows without padding, where it is read, are none that torch or the test would miss.
        f = ScaleFormat.torch_scaled_mm()
        x_q, x_s = ptgq.per_token_group_quant_fp8(x, 128, scale_format=f)
        w_q, w_s = ptgq.per_block_quant_fp8(w, scale_format=ScaleFormat.torch_scaled_mm_blocks())
        rolled = w_s.roll(1, 1).as_strided(w_s.shape, (w_s.shape[1], 1))
        padded = scales.convert(rolled, scales.scale_format(), ScaleFormat.torch_scaled_mm_blocks())
        product = torch._scaled_mm(x_q, w_q.t(), x_s, padded.t(), out_dtype=torch.bfloat16)
        assert example.error(product, dequantized) > 0.1


@EITHER
def test_deep_gemm_s_product(prepare, monkeypatch):
    prepare(monkeypatch)
    x, w = example.matrices()
    product = example.by_deep_gemm(x, w)
    assert 0.02 < example.error(product, x.double() @ w.double().T) < FROM_EXACT
    if example.capability()[0] != 10:
        assert example.error(product, example.dequantized(x, w)) < FROM_DEQUANTIZED
