"""Masked rows: what they are quantized to, from what all rows are."""

from __future__ import annotations

import contextlib
import warnings

import torch
from numeric import assert_same_results
from scale_cases import memory

from ptgq import scales
from ptgq.scales import ScaleFormat


@contextlib.contextmanager
def no_waiting():
    """Let torch raise where the host waits for the device."""
    with warnings.catch_warnings():
        # That it does not see every wait.
        warnings.filterwarnings("ignore", "Synchronization debug mode", UserWarning)
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def written(x, q_dtype, f, group_size, silu=False):
    """Results that hold other bytes than zero."""
    q_shape = (*x.shape[:-1], x.shape[-1] // (2 if silu else 1))
    q = torch.full(q_shape, 0x55, dtype=torch.uint8, device=x.device).view(q_dtype)
    s = scales.empty_scales(scales.scale_shape(q_shape, group_size, f), f, x.device)
    scales.memory_of(s, f).view(torch.uint8).fill_(0xA5)
    return q, s


def expected_of(function, x, group_size, f, masked_m, **options):
    """What all rows give, without those that are none."""
    plain = ScaleFormat(f.kind, torch.float32)
    options = {"scale_format": plain, "backend": "reference", **options}
    codes, found = function(x.cpu().contiguous(), group_size, **options)
    tokens = x.shape[-2]
    row = torch.arange(tokens)
    exist = (row < masked_m.cpu().unsqueeze(-1)).view(*x.shape[:-1], 1)
    q, s = written(x.cpu(), codes.dtype, f, group_size, silu="silu" in function.__name__)
    kept = q.view(torch.uint8)
    q = codes.view(torch.uint8).where(exist, kept).view(codes.dtype)
    scales.store_scales(found.where(exist, 0), s, f)
    return q, s


def assert_as_expected(function, x, group_size, f, masked_m, backend, **options):
    expected = expected_of(function, x, group_size, f, masked_m, **options)
    given = written(x, expected[0].dtype, f, group_size, silu="silu" in function.__name__)
    options = {"scale_format": f, "backend": backend, "masked_m": masked_m, **options}
    actual = function(x, group_size, out=given, **options)
    assert_same_results(actual, expected)
    assert memory(actual[1], f).equal(memory(expected[1], f))
    _, s = function(x, group_size, **options)  # allocated
    assert memory(s, f).equal(memory(expected[1], f))
