"""GEMMs that read the scales give the product of the dequantized operands: torch's own."""

from __future__ import annotations

import pytest
import torch
from values import random_input

import ptgq
from ptgq import ScaleFormat

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0),
        reason="torch._scaled_mm has these recipes on compute capability 9.0",
    ),
]
M, N, K = 1024, 512, 2048
# Of a result that is rounded to bfloat16: 2^-9 / sqrt(3) if all else is exact.
LIMITS = {torch.float32: 1e-3, torch.bfloat16: 3e-3}


def operands(group_size, scale_format):
    """Return x and w ``[rows, K]`` quantized, and the product of what they stand for."""
    # Groups of different magnitude: a scale that is read for another group shows.
    spread = 2.0 ** (torch.arange(K) // 128 % 7)
    tensors = [(random_input((rows, K), torch.float32, rows) * spread).cuda() for rows in (M, N)]
    tensors = [(t * 2.0 ** (torch.arange(len(t), device="cuda") % 5)[:, None]) for t in tensors]
    pairs = [
        ptgq.per_token_group_quant_fp8(t.bfloat16(), group_size, scale_format=scale_format)
        for t in tensors
    ]
    x, w = (ptgq.dequantize(q, s, group_size).double() for q, s in pairs)
    return *pairs, x @ w.T


def error(actual, expected):
    return ((actual.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("dtype", LIMITS)
def test_groups_of_128(dtype):
    (x, x_s), (w, w_s), expected = operands(128, ScaleFormat.torch_scaled_mm())
    product = torch._scaled_mm(x, w.t(), x_s, w_s.t(), out_dtype=dtype)
    assert error(product, expected) < LIMITS[dtype]
    # The same numbers in rows, where columns are read: this test would see it.
    misread = x_s.contiguous().view(-1).as_strided(x_s.shape, x_s.stride())
    product = torch._scaled_mm(x, w.t(), misread, w_s.t(), out_dtype=dtype)
    assert error(product, expected) > 0.1


def test_a_marked_group_is_a_row_of_nan():
    x, w = (random_input((rows, K), torch.bfloat16, rows).cuda() for rows in (M, N))
    f = ScaleFormat.torch_scaled_mm()
    w, w_s = ptgq.per_token_group_quant_fp8(w, 128, scale_format=f)

    def product(x):
        x, x_s = ptgq.per_token_group_quant_fp8(x, 128, scale_format=f)
        return torch._scaled_mm(x, w.t(), x_s, w_s.t(), out_dtype=torch.bfloat16)

    expected = product(x)
    x[5, 300] = torch.nan
    actual = product(x)
    assert actual[5].isnan().all()
    others = torch.arange(M, device="cuda") != 5
    assert actual[others].equal(expected[others])


def test_whole_rows():
    (x, x_s), (w, w_s), expected = operands(K, None)
    product = torch._scaled_mm(x, w.t(), x_s, w_s.t(), out_dtype=torch.bfloat16)
    assert error(product, expected) < LIMITS[torch.bfloat16]
