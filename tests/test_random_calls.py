"""Calls that nobody chose, on the fastest backend of each device: the reference's bytes."""

from __future__ import annotations

import random

import pytest
import torch
from numeric import assert_same_bytes, assert_same_results
from scale_cases import NAMED, TILED
from values import DTYPES, hard_input, random_input

import ptgq
from ptgq import ScaleFormat
from ptgq.scales import memory_of

DEVICES = (
    pytest.param("cpu", "cpu", 25),
    pytest.param("cuda", "cuda", 250, marks=pytest.mark.gpu),
)


def draw(rng: random.Random) -> tuple[torch.Tensor, int, ScaleFormat, bool, str, dict]:
    """Return an input, often in strided or misaligned rows, a group size, and what is asked for."""
    group_size = rng.choice([rng.randint(1, 20), rng.randint(1, 600), 2 ** rng.randint(0, 10)])
    shape = rng.randint(1, 80), rng.randint(1, 1 + 4000 // group_size) * group_size
    silu = rng.random() < 0.3
    dtype, seed = rng.choice(DTYPES), rng.randrange(2**32)
    width = (2 if silu else 1) * shape[1]
    x = hard_input(shape[0], width, group_size, dtype, seed)
    gap, offset = rng.choice([0, 0, 1, 8, 64]), rng.choice([0, 0, 1, 3, 8])
    storage = torch.empty(offset + shape[0] * (width + gap), dtype=dtype)
    rows = storage[offset:].view(shape[0], width + gap)[:, :width]
    rows.copy_(x)
    f = rng.choice([*NAMED.values(), TILED["all"]])
    code = rng.choice(["fp8", "int8"]) if f.dtype is torch.float32 else "fp8"
    options = {"swiglu_limit": rng.choice([None, 10, 0.3])} if silu else {}
    options["nonfinite"] = rng.choice(["mark", "saturate"])
    return rows, group_size, f, silu, code, options


def call(x, group_size, f, silu, code, options, backend):
    name = ("silu_and_mul_" if silu else "") + f"per_token_group_quant_{code}"
    return getattr(ptgq, name)(x, group_size, scale_format=f, backend=backend, **options)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("device", "backend", "count"), DEVICES)
def test_random_calls(device, backend, count, seed):
    rng = random.Random(seed)
    for number in range(count):
        x, *how = draw(rng)
        storage = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
        there = storage.to(device).as_strided(x.shape, x.stride(), x.storage_offset())
        actual, expected = call(there, *how, backend), call(x, *how, "reference")
        try:
            assert_same_results(actual, expected)
            memory = (memory_of(s, how[1]).cpu() for s in (actual[1], expected[1]))
            assert_same_bytes(*memory, "memory of s")
        except AssertionError as error:
            pytest.fail(f"call {number}: {tuple(x.shape)}, {x.stride()}, {x.dtype}, {how}: {error}")


@pytest.mark.parametrize("code", ["fp8", "int8"])
@pytest.mark.parametrize("f", [NAMED["row_float32"], NAMED["column_float32"]])
@pytest.mark.parametrize("group_size", [64, 128])
def test_what_no_cache_holds(group_size, f, code):
    # The CPU writes it past the caches: x and q are 33 MiB.
    x = random_input((4097, 2816), torch.bfloat16)
    actual = call(x, group_size, f, False, code, {}, "cpu")
    assert_same_results(actual, call(x, group_size, f, False, code, {}, "reference"))
