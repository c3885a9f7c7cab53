"""Masked rows: of each batch the first exist, on every backend."""

from __future__ import annotations

import pytest
import torch
from every import every
from masked import assert_as_expected
from scale_cases import FORMATS, OF_INT8, TILED
from values import DTYPES, hard_input, padded_rows

import ptgq
from ptgq import scales
from ptgq.backends import load

FP8, INT8 = ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8
SILU = ptgq.silu_and_mul_per_token_group_quant_fp8
SILU_INT8 = ptgq.silu_and_mul_per_token_group_quant_int8
FUNCTIONS = (FP8, SILU, INT8, SILU_INT8)
ALL = FORMATS | {f"tiled {name}": f for name, f in TILED.items()}
# The interpreter's arithmetic is numpy's, which warns of what gives NaN or infinity.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


COUNTS = {
    "some": [3, 0, 5, 1],
    "none": [0, -1, -(2**31), 0],
    "all": [5, 6, 2**31 - 1, 5],
    "one": [0, 0, 2, 0],
}


@every(f=ALL, function=FUNCTIONS, counts=COUNTS)
def test_every_format(backend_on, f, function, counts):
    backend, device = backend_on
    if function in (INT8, SILU_INT8) and f not in OF_INT8.values():
        return
    if backend == "triton" and device == "cuda" and function in (SILU, INT8):
        return  # each is compiled
    x = padded_rows(4, 5, 5, 32, torch.bfloat16, function in (SILU, SILU_INT8)).to(device)
    masked_m = torch.tensor(counts, dtype=torch.int32, device=device)
    assert_as_expected(function, x, 32, f, masked_m, backend)


def test_the_reference_in_every_format():
    test_every_format(backend_on=("reference", "cpu"))


# Fast kernels with whole, idle and few lanes, and those for the rest.
@every(dtype=DTYPES, group_size=[7, 16, 48, 128, 512, 2064], options=["mark", "saturate", "limit"])
def test_every_kernel(backend_on, dtype, group_size, options):
    backend, device = backend_on
    silu = options == "limit" or (options == "mark" and group_size % 32 == 0)
    function = SILU if silu else FP8
    if backend_on == ("triton", "cpu") and group_size > 512:
        return
    options = {
        "mark": {},
        "saturate": {"nonfinite": "saturate"},
        "limit": {"swiglu_limit": 7.77},
    }[options]
    x = padded_rows(3, 9, 3, group_size, dtype, silu)
    if backend_on == ("triton", "cpu"):
        # The interpreter takes subnormal bfloat16 for 0, of which infinity makes NaN.
        x.masked_fill_(x.abs() < torch.finfo(dtype).tiny, 0)
    masked_m = torch.tensor([[4, 0], [9, 0], [0, 0]], device=device)[:, 0]
    f = FORMATS["float32 float32 tma_aligned per_batch"]
    assert_as_expected(function, x.to(device), group_size, f, masked_m, backend, **options)


@every(dtype=[torch.int32, torch.int64], stride=[0, 1, 3])
def test_counts_of_any_stride(backend_on, dtype, stride):
    backend, device = backend_on
    x = hard_input(4 * 6, 128, 64, torch.bfloat16).view(4, 6, 128).to(device)
    memory = torch.tensor([2, 9, -3, 6, 1, 0, 3, 8, 8, 5, 1, 1], dtype=dtype, device=device)
    masked_m = memory.as_strided((4,), (stride,))
    f = FORMATS["float32 float32 row_major"]
    assert_as_expected(FP8, x, 64, f, masked_m, backend)
    # Between the batches, and none between them, too.
    assert_as_expected(FP8, x.transpose(0, 1), 64, f, memory[:6], backend)
    assert_as_expected(FP8, x[:1].expand(4, 6, 128), 64, f, masked_m, backend)


def test_one_batch_of_two_dimensions(backend_on):
    backend, device = backend_on
    x = hard_input(16, 256, 128, torch.bfloat16)[:, :128].to(device)
    for count in (0, 5, 16):
        for f in (FORMATS["float32 float32 column_major"], TILED["all"]):
            masked_m = torch.tensor([count], device=device)
            assert_as_expected(FP8, x, 32, f, masked_m, backend)


def test_more_batches_than_a_block_sums(backend_on):
    backend, device = backend_on
    generator = torch.Generator().manual_seed(0)
    for batches in (300, 5000):
        if backend_on == ("triton", "cpu"):
            batches //= 100
        x = hard_input(batches * 2, 32, 16, torch.bfloat16).view(batches, 2, 32).to(device)
        masked_m = torch.randint(0, 3, (batches,), generator=generator).to(device)
        for name in ("float32 float32 row_major", "float32 float32 column_major per_batch"):
            assert_as_expected(FP8, x, 16, FORMATS[name], masked_m, backend)


@pytest.mark.parametrize("shape", [(0, 4, 64), (3, 0, 64), (0, 64), (3, 4, 0)], ids=str)
def test_nothing(backend_on, shape):
    backend, device = backend_on
    x = torch.empty(shape, dtype=torch.bfloat16, device=device)
    batches = shape[0] if len(shape) == 3 else 1
    masked_m = torch.full((batches,), 2, device=device)
    for f in (FORMATS["float32 float32 tma_aligned"], TILED["all"]):
        q, s = FP8(x, 32, masked_m=masked_m, scale_format=f, backend=backend)
        assert (q.shape, s.shape) == (shape, scales.scale_shape(shape, 32, f))


def test_triton_counts_in_64_bits(backend_on, monkeypatch):
    backend, device = backend_on
    if backend != "triton":
        pytest.skip("the others count in 64 bits in kernels of other tests")
    # What 31 bits count, of which these have more: as if they were large.
    monkeypatch.setattr(load("triton"), "_SMALL", 24)
    x = padded_rows(3, 5, 5, 32, torch.bfloat16).to(device)
    masked_m = torch.tensor([2, 5, 0], device=device)
    formats = ("float32 float32 row_major", "float32 float32 tma_aligned per_batch", "tiled all")
    for name in formats:
        assert_as_expected(FP8, x, 32, ALL[name], masked_m, backend)
