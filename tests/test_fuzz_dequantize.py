"""Arguments that nobody chose, as in ``test_fuzz``: dequantize."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from test_fuzz import DTYPES, any_of, for_seconds, group_sizes, tensors

import ptgq


@st.composite
def dequantize_arguments(draw):
    q = draw(tensors(dtypes=(torch.int8, torch.float8_e4m3fn)))
    group_size = draw(group_sizes)
    fits = q.dim() > 0 and group_size > 0 and q.shape[-1] % group_size == 0
    s = draw(tensors((*q.shape[:-1], q.shape[-1] // group_size) if fits else None))
    return q, s, group_size, draw(any_of(DTYPES[:3]))


def run_dequantize(arguments):
    q, s, group_size, dtype = arguments
    try:
        x = ptgq.dequantize(q, s, group_size, dtype=dtype)
    except (TypeError, ValueError) as error:
        return type(error).__name__
    if q.numel() == 0:
        assert (x.shape, x.dtype) == (q.shape, dtype)
        return "empty"
    if s.dtype is torch.int32:
        packed = torch.empty(s.shape, dtype=s.dtype).copy_(s)
        s = packed.view(torch.float8_e8m0fnu)[..., : q.shape[-1] // group_size]
    expected = (q.float() * s.float().repeat_interleave(group_size, -1)).to(dtype)
    assert torch.equal(x.nan_to_num(), expected.nan_to_num())
    return "dequantized"


def test_dequantize():
    endings = {"TypeError", "ValueError", "dequantized", "empty"}
    for_seconds(run_dequantize, dequantize_arguments(), endings)
