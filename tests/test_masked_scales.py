"""What consumers of masked rows' scales would read, as check_scales sees it."""

from __future__ import annotations

import pytest
import torch
from scale_cases import FORMATS, TILED
from values import padded_rows

import ptgq
from ptgq import scales

FP8 = ptgq.per_token_group_quant_fp8


def test_check_scales():
    x = padded_rows(3, 5, 5, 32, torch.float32).nan_to_num(0, 1, -1)
    masked_m = torch.tensor([2, 9, -1])
    for f in (*FORMATS.values(), *TILED.values()):
        _, s = FP8(x, 32, scale_format=f, masked_m=masked_m)
        if f.layout == "tiled" and not f.per_batch:
            with pytest.raises(ValueError, match=r"masked_m needs .*per_batch"):
                scales.check_scales(s, f, 5, masked_m=masked_m)
            continue
        scales.check_scales(s, f, 5, masked_m=masked_m)
        elements = s.view(torch.uint8 if s.itemsize == 1 else torch.int32)
        if f.layout == "tiled":
            elements.view(-1)[2 * 16] = 1  # of row 2
        else:
            elements[0, 2, 0] = 1
        with pytest.raises(ValueError, match="s must be 0 in rows past masked_m"):
            scales.check_scales(s, f, 5, masked_m=masked_m)
    _, s = FP8(x[0], 32, masked_m=masked_m[:1])
    scales.check_scales(s, scales.ScaleFormat("float32", torch.float32), masked_m=masked_m[:1])
    power = scales.ScaleFormat("power_of_two", torch.float32)
    with pytest.raises(ValueError, match="powers of two"):
        scales.check_scales(torch.zeros(3, 5, 2), power)
    for wrong, error in (([1], TypeError), (torch.ones(2), TypeError), (masked_m[:2], ValueError)):
        with pytest.raises(error, match="masked_m must"):
            scales.check_scales(torch.zeros(3, 5, 2), power, masked_m=wrong)
