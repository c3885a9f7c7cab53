"""Quotients that are nearly where float32 begins to round to the middle of two codes.

Only there can the bytes tell IEEE division from a product by a reciprocal in two parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

import ptgq

FP8, INT8 = ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8


def hard_cases(middle: int) -> Iterator[tuple[int, int]]:
    """Yield 24-bit x and scale; x / scale is within 2^-43 of such a bound beside odd `middle`."""
    bounds = 25  # bits of a value half-way between two float32
    even = middle << (bounds - middle.bit_length())
    for bound in (even + 1, even - 1 if middle > 1 else 2 * even - 1):
        for shift in (24, 25):
            inverse = pow(bound, -1, 1 << shift)
            for distance in range(-64, 65):
                # x * 2^shift = bound * scale + distance
                scale = -distance * inverse % (1 << shift)
                x = (bound * scale + distance) >> shift
                if 1 << 23 <= scale < 1 << 24 and 1 << 23 <= x < 1 << 24:
                    yield x, scale


def groups(middles: dict[int, float], qmax: float, exponent: int) -> torch.Tensor:
    """Return groups whose scale and one value are a hard case; `middles` says at which quotient."""
    rows = []
    for middle, quotient in middles.items():
        for x, scale in hard_cases(middle):
            scale = math.ldexp(scale, exponent - 23)
            x = math.ldexp(x, round(math.log2(quotient * scale / x)))
            rows.append((scale * qmax, x, scale))
    absmax, x, scale = torch.tensor(rows, dtype=torch.float64).float().unbind(1)
    # Not every scale is that of a float32 absmax; where two are, both round alike.
    reached = (absmax / torch.tensor(qmax) == scale) & absmax.isfinite()
    assert reached.any()
    return torch.stack((absmax, x, -x, torch.zeros_like(x)), 1)[reached]


E4M3_MIDDLES = {m: m * (2.0**-10 if m < 16 else 8.0) for m in range(1, 32, 2)}
INT8_MIDDLES = {m: m / 2 for m in range(1, 254, 2)}


@pytest.mark.parametrize("flush", [False, True], ids=["subnormals", "flushed"])
@pytest.mark.parametrize("exponent", [-80, 0, 118, 119])
@pytest.mark.parametrize("quantize", [FP8, INT8], ids=["fp8", "int8"])
def test_quotients_are_those_of_ieee_division(quantize, exponent, flush):
    middles, qmax = (E4M3_MIDDLES, 448.0) if quantize is FP8 else (INT8_MIDDLES, 127.0)
    x = groups(middles, qmax, exponent)
    expected = quantize(x, 4, eps=1e-24, backend="reference")
    try:
        torch.set_flush_denormal(flush)
        q, s = quantize(x, 4, eps=1e-24, backend="cpu")
    finally:
        torch.set_flush_denormal(False)
    torch.testing.assert_close(s, expected[1], rtol=0, atol=0)
    torch.testing.assert_close(q.view(torch.uint8), expected[0].view(torch.uint8), rtol=0, atol=0)
