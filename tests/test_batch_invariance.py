"""A row's bytes depend on that row alone: whatever the others, their number, strides and layout."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from numeric import assert_same_bytes
from scale_cases import every_format, interpret_few
from values import DTYPES, hard_input, random_input

import ptgq
from ptgq import scales

# The interpreter's arithmetic is numpy's, which warns of what gives NaN or infinity.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
GROUP_SIZE = 16
HIDDEN_DIM = 160
FP8 = ptgq.per_token_group_quant_fp8
FUNCTIONS = {
    "fp8": FP8,
    "silu": ptgq.silu_and_mul_per_token_group_quant_fp8,
    "int8": ptgq.per_token_group_quant_int8,
    "saturated": partial(FP8, nonfinite="saturate"),
    "silu_int8": ptgq.silu_and_mul_per_token_group_quant_int8,
}


def rows_and_others(dtype, count):
    """Five rows, three of hard groups, and as many other rows, of NaN, infinities and zeros too."""
    rows = torch.cat(
        [hard_input(3, HIDDEN_DIM, GROUP_SIZE, dtype), random_input((2, HIDDEN_DIM), dtype)]
    )
    others = random_input((count, HIDDEN_DIM), dtype, seed=7)
    others[1::4], others[2::4], others[3::4] = torch.nan, torch.inf, 0
    return rows, others


def quantize(function, x, options):
    """Codes, and scales ``[rows, groups]`` as float32, of each row."""
    q, s = function(x, GROUP_SIZE, **options)
    groups = q.shape[-1] // GROUP_SIZE
    return q.reshape(-1, q.shape[-1]), scales.to_float32(s, groups).reshape(-1, groups)


def assert_rows(actual, expected, at):
    """Compare the rows `at` with all of `expected`."""
    for name, have, want in zip("qs", actual, expected, strict=True):
        assert_same_bytes(have[at].contiguous(), want.contiguous(), name)


def check(function, dtype, backend_on, options, counts):
    backend, device = backend_on
    options = {**options, "backend": backend}
    generator = torch.Generator().manual_seed(3)
    for count in counts:
        rows, others = (x.to(device) for x in rows_and_others(dtype, count))
        alone = [quantize(function, row[None], options) for row in rows]
        expected = [torch.cat(parts) for parts in zip(*alone, strict=True)]
        # Among others, in any order.
        order = torch.randperm(len(rows) + count, generator=generator).to(device)
        mixed = torch.cat([rows, others])[order]
        at = torch.argsort(order)[: len(rows)]
        assert_rows(quantize(function, mixed, options), expected, at)
        # Some of them, and each row twice.
        assert_rows(
            quantize(function, rows[[4, 1]], options), [t[[4, 1]] for t in expected], [0, 1]
        )
        twice = quantize(function, torch.cat([rows, rows]), options)
        assert_rows(twice, expected, slice(5))
        assert_rows(twice, expected, slice(5, 10))
        # With other strides, off 16 bytes, and in batches.
        wide = torch.full((len(mixed), HIDDEN_DIM + 3), torch.nan, dtype=dtype, device=device)
        wide[:, 3:] = mixed
        assert_rows(quantize(function, wide[:, 3:], options), expected, at)
        if len(mixed) % 2 == 0:
            batches = mixed.view(2, -1, HIDDEN_DIM)
            assert_rows(quantize(function, batches, options), expected, at)
            swapped = quantize(function, batches.transpose(0, 1), options)
            assert_rows(swapped, expected, at % (len(mixed) // 2) * 2 + at // (len(mixed) // 2))
            # Beside rows that don't exist.
            part = len(mixed) // 2
            masked_m = torch.tensor([part // 2, part], device=device)
            masked = {**options, "masked_m": masked_m}
            exist = at % part < masked_m[at // part]
            found = [t[exist] for t in expected]
            assert_rows(quantize(function, batches, masked), found, at[exist])


def counts_on(backend_on):
    # Triton's interpreter takes as long for some rows as a GPU for a thousand.
    return (7,) if backend_on == ("triton", "cpu") else (1, 7, 1024, 4096 + 1)


@every_format
@pytest.mark.parametrize("name", ["fp8", "silu"])
def test_every_layout(backend_on, name, f):
    interpret_few(backend_on, f)
    check(FUNCTIONS[name], torch.bfloat16, backend_on, {"scale_format": f}, counts_on(backend_on))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_and_dtype(backend_on, name, dtype):
    check(FUNCTIONS[name], dtype, backend_on, {}, counts_on(backend_on))


@pytest.mark.parametrize("group_size", [1, 5, 32, 128, 640, 1024, 5120])
def test_every_kernel(backend_on, group_size):
    backend, device = backend_on
    shape = (1033, 5120) if backend_on != ("triton", "cpu") else (5, max(group_size, 640))
    x = random_input(shape, torch.bfloat16).to(device)
    x[2::5] = torch.nan
    for column_major in (False, True):
        among_all = FP8(x, group_size, column_major, backend=backend)
        for part in (slice(1), slice(3, 10), slice(1, None), slice(None, None, 5)):
            of_part = FP8(x[part], group_size, column_major, backend=backend)
            for name, have, want in zip("qs", of_part, among_all, strict=True):
                assert_same_bytes(have.contiguous(), want[part].contiguous(), name)
