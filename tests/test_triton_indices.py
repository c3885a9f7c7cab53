"""Triton's kernels for more groups than 31 bits count, without the gigabytes."""

from __future__ import annotations

import pytest
import torch
from numeric import assert_same_bytes, assert_same_results
from scale_cases import NAMED
from values import random_input

import ptgq
from ptgq.backends import load
from ptgq.scales import memory_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def one_group_is_too_many(monkeypatch):
    monkeypatch.setattr(load("triton"), "_SMALL", 1)


@pytest.mark.parametrize(("tokens", "group_size"), [((2, 7), 64), ((2, 7), 96), ((1, 3), 8192)])
@pytest.mark.parametrize("name", NAMED)
def test_same_bytes(name, tokens, group_size):
    x = random_input((*tokens, 3 * group_size), torch.bfloat16)
    results = [
        ptgq.per_token_group_quant_fp8(
            x.to(device), group_size, scale_format=NAMED[name], backend=b
        )
        for b, device in (("triton", DEVICE), ("reference", "cpu"))
    ]
    assert_same_results(*results)
    memory = (memory_of(s, NAMED[name]).cpu() for _, s in results)
    assert_same_bytes(*memory, "memory of s")


@pytest.mark.parametrize("name", ["row_float32", "tma_packed"])
def test_same_bytes_of_silu_and_mul(name):
    x = random_input((7, 2 * 5 * 64), torch.bfloat16)
    function = ptgq.silu_and_mul_per_token_group_quant_fp8
    assert_same_results(
        *(
            function(x.to(device), 64, scale_format=NAMED[name], backend=b)
            for b, device in (("triton", DEVICE), ("reference", "cpu"))
        )
    )
