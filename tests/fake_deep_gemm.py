"""DeepGEMM's FP8 GEMMs on Hopper: the package where it runs, or a stand-in, in float64.

The stand-in has the signatures of sgl-deep-gemm 0.1.5 and of DeepGEMM 2.6.1, and their checks of
what they are given, but takes only scales that they read without transposing them first.
"""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType

import pytest
import torch

BLOCK_M = 128


def read_x(q, s):
    """Return what x stands for, read as a TMA descriptor of its columns does."""
    *batches, rows, k = q.shape
    groups, aligned = -(-k // 128), -(-rows // 4) * 4
    assert q.dtype == torch.float8_e4m3fn
    assert q.is_contiguous()
    assert s.dtype == torch.float32
    assert s.shape == (*batches, rows, groups)
    assert s.stride() == (*((groups * aligned,) if batches else ()), 1, aligned)
    return q.double() * s.double().repeat_interleave(128, -1)[..., :k]


def read_w(q, s):
    *batches, n, k = q.shape
    assert q.dtype == torch.float8_e4m3fn
    assert q.is_contiguous()
    assert s.dtype == torch.float32
    assert s.shape == (*batches, -(-n // 128), -(-k // 128))
    assert s.is_contiguous()
    columns = s.double().repeat_interleave(128, -1)[..., :k]
    return q.double() * columns.repeat_interleave(128, -2)[..., :n, :]


def fp8_gemm_nt(
    a, b, d, c=None, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="",
    disable_ue8m0_cast=False,
):  # fmt: skip
    assert d.dtype == torch.bfloat16
    d.copy_(read_x(*a) @ read_w(*b).mT)


def m_grouped_fp8_fp4_gemm_nt_masked(
    a, b, d, masked_m, expected_m, recipe=None, recipe_a=None, recipe_b=None, compiled_dims="nk",
    disable_ue8m0_cast=False,
):  # fmt: skip
    assert d.dtype == torch.bfloat16
    assert d.is_contiguous()
    assert masked_m.dtype == torch.int32
    assert masked_m.is_contiguous()
    assert masked_m.shape == d.shape[:1]
    assert expected_m > 0
    x, w = read_x(*a), read_w(*b)
    for expert, count in enumerate(masked_m.tolist()):
        # Whole blocks: behind the tokens, what lies there times the zeros that are its scales.
        rows = -(-count // BLOCK_M) * BLOCK_M
        d[expert, :rows] = (x[expert, :rows] @ w[expert].mT).bfloat16()


def stand_in(monkeypatch) -> None:
    """Put the stand-in where DeepGEMM is imported from, on what passes for a Hopper."""
    module = ModuleType("deep_gemm")
    module.__spec__ = importlib.machinery.ModuleSpec("deep_gemm", None, origin="fake")
    vars(module).update({f.__name__: f for f in (fp8_gemm_nt, m_grouped_fp8_fp4_gemm_nt_masked)})
    monkeypatch.setitem(sys.modules, "deep_gemm", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def installed(monkeypatch=None) -> None:
    """Skip the test where DeepGEMM can't run."""
    pytest.importorskip("deep_gemm")
    if torch.cuda.get_device_capability() not in ((9, 0), (10, 0)):
        pytest.skip("DeepGEMM needs compute capability 9.0 or 10.0")


EITHER = pytest.mark.parametrize(
    "prepare", [stand_in, pytest.param(installed, marks=pytest.mark.gpu)]
)
