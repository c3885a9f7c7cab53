"""The reference against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

import ptgq

FP8 = ptgq.per_token_group_quant_fp8
INT8 = ptgq.per_token_group_quant_int8


def codes(q: torch.Tensor) -> list[int]:
    return q.view(torch.uint8).flatten().tolist()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (448.0, 0x7E),  # 1.75 * 2^8
        (1.0, 0x38),
        (-1.0, 0xB8),
        (17.0, 0x58),  # half-way between 16 and 18: to even, 16
        (19.0, 0x5A),  # half-way between 18 and 20: to even, 20
        (0.015625, 0x08),  # 2^-6, the smallest normal
        (0.001953125, 0x01),  # 2^-9, the smallest subnormal
        (0.0009765625, 0x00),  # half of it: to even, 0
        (0.00146484375, 0x01),  # three quarters
        (-0.0, 0x80),
    ],
)
def test_fp8_codes_with_scale_one(value, code):
    q, s = FP8(torch.tensor([448.0, value]), 2, backend="reference")
    assert s.tolist() == [1.0]
    assert codes(q) == [0x7E, code]


@pytest.mark.parametrize(
    ("value", "code"),
    [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (126.5, 126), (127, 127)],
)
def test_int8_rounds_half_to_even(value, code):
    q, s = INT8(torch.tensor([127.0, value]), 2, backend="reference")
    assert s.tolist() == [1.0]
    assert q.tolist() == [127, code]


def test_scale_is_the_ieee_quotient():
    # 1 / 448 and 1 / 127 have no finite binary form: nearest float32, by exact rational arithmetic.
    _, s = FP8(torch.tensor([1.0]), 1, backend="reference")
    assert s.view(torch.int32).item() == 0x3B124925
    _, s = INT8(torch.tensor([1.0]), 1, backend="reference")
    assert s.view(torch.int32).item() == 0x3C010204


@pytest.mark.parametrize(
    ("absmax", "byte"),
    [(448.0, 127), (448.5, 128), (896.0, 128), (1.0, 119), (7 / 4, 119), (0.0, 85)],
)
def test_ue8m0_rounds_up(absmax, byte):
    # 1 / 448 = 2^-8.8 -> 2^-8; 1.75 / 448 = 2^-8 exactly; 1e-10 / 448 = 2^-42.03 -> 2^-42.
    x = torch.tensor([absmax])
    _, s = FP8(x, 1, use_ue8m0=True, backend="reference")
    assert s.dtype == torch.float8_e8m0fnu
    assert codes(s) == [byte]
    _, as_float = FP8(x, 1, use_ue8m0=True, scale_dtype=torch.float32, backend="reference")
    assert as_float.item() == 2.0 ** (byte - 127)


def test_zero_group_has_the_floor_as_scale_and_codes_zero():
    q, s = FP8(torch.zeros(4), 4, backend="reference")
    assert s.item() == pytest.approx(1e-10 / 448, rel=1e-7)
    assert codes(q) == [0] * 4
    _, s = FP8(torch.zeros(4), 4, eps=448.0, backend="reference")
    assert s.item() == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_group_is_marked_and_others_untouched(bad):
    x = torch.tensor([448.0, bad, 448.0, -448.0])
    q, s = FP8(x, 2, backend="reference")
    assert s.view(torch.int32).tolist() == [0x7FC00000, 0x3F800000]
    assert codes(q) == [0x7F, 0x7F, 0x7E, 0xFE]
    _, s = FP8(x, 2, use_ue8m0=True, backend="reference")
    assert codes(s) == [0xFF, 127]
    q, s = INT8(torch.tensor([1.0, bad, 127.0, -127.0]), 2, backend="reference")
    assert s.view(torch.int32).tolist() == [0x7FC00000, 0x3F800000]
    assert q.tolist() == [0, 0, 127, -127]


def test_dequantize_inverts_up_to_rounding():
    x = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(0))
    for column_major in (False, True):
        for ue8m0 in (False, True):
            q, s = FP8(x, 16, column_major, ue8m0)
            error = (ptgq.dequantize(q, s, 16) - x).norm() / x.norm()
            assert error < 0.04
    q, s = INT8(x, 16)
    assert (ptgq.dequantize(q, s, 16) - x).norm() / x.norm() < 0.006
    assert ptgq.dequantize(q, s, 16, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_dequantize_shows_marked_groups_as_nan():
    x = torch.tensor([1.0, math.nan, 1.0, 2.0])
    for quantized in (FP8(x, 2), INT8(x, 2)):
        assert ptgq.dequantize(*quantized, 2).isnan().tolist() == [True, True, False, False]
