"""The CUDA kernels of the fused RMSNorm without a GPU: an emulator runs their source."""

from __future__ import annotations

import ctypes

import pytest
import torch
from building import ROOT
from emulated_calls import TYPES as NUMBERED
from every import every
from scale_cases import FORMATS, TILED, memory
from test_cuda_on_cpu import HERE, compile_sources, pytestmark  # noqa: F401
from test_rms_norm import (
    DTYPE_SETS,
    FUSED,
    FUSED_INT8,
    NORM_EPS,
    Case,
    assert_same_values,
    hard_rows,
)

from ptgq import scales


@pytest.fixture(scope="session")
def run(made_once):
    """Build the kernels, and return what runs them."""

    def build(folder):
        names = ("check.cpp", "dequantize.cpp", "rms_norm.cpp")
        contract = (ROOT / "csrc" / "contract" / name for name in names)
        options = ("-shared", "-Xcompiler=-fPIC", "-o", folder / "library.so")
        compile_sources(*options, HERE / "rms_norm.cpp", *contract)

    library = ctypes.CDLL(str(made_once("rms_norm_on_cpu", build) / "library.so"))
    library.run.restype = ctypes.c_bool

    def run(x, weight, group_size, q_dtype, f, residual, norm_out, saturate):
        q = torch.full(x.shape, 85, dtype=torch.uint8).view(q_dtype)
        shape = scales.scale_shape(x.shape, group_size, f)
        s = scales.empty_scales(shape, f, "cpu")
        scales.memory_of(s, f).view(torch.uint8).fill_(0xEE)
        tensors = (x, q, s, weight.view(1, -1), residual, norm_out)
        places, types = [], []
        for tensor in tensors:
            t = x if tensor is None else tensor
            places += [*t.shape, *t.stride()]
            types.append(NUMBERED.index(t.dtype))
        data = [None if t is None else t.data_ptr() for t in tensors]
        assert library.run(
            (ctypes.c_void_p * 6)(*data),
            (ctypes.c_int64 * 24)(*places),
            (ctypes.c_int * 6)(*types),
            *(ctypes.c_int64(group_size), ctypes.c_int64(f.code), ctypes.c_bool(saturate)),
            ctypes.c_double(NORM_EPS),
        )
        return q, s

    return run


def check(run, case, group_size, f, function=FUSED, saturate=False, in_place=False, offset=0):
    """Compare with the reference; offset: of the rows of norm_out, in elements."""
    x = case.x.clone() if in_place else case.x
    residual = None if case.residual is None else case.residual.clone()
    if in_place:
        norm_out = x
    else:
        wide = torch.full((x.shape[0], x.shape[1] + 8 + offset), 7, dtype=x.dtype)
        norm_out = wide[:, offset : offset + x.shape[1]]
    nonfinite = "saturate" if saturate else "mark"
    expected, y, r = case.expected(function, group_size, scale_format=f, nonfinite=nonfinite)
    q, s = run(x, case.weight, group_size, expected[0].dtype, f, residual, norm_out, saturate)
    assert torch.equal(memory(s, f), memory(expected[1], f))
    assert torch.equal(q.view(torch.uint8), expected[0].view(torch.uint8))
    assert_same_values(norm_out, y, "norm_out")
    if r is not None:
        assert_same_values(residual, r, "residual")


# Rows of one vector to four of each thread of the largest blocks; groups of a lane, of lanes and of
# warps; what goes to the kernel of any size.
SHAPES = [
    ((5, 64), 8),
    ((3, 256), 256),
    ((3, 640), 32),
    ((3, 1536), 64),
    ((2, 7168), 128),
    ((2, 7168), 512),
    ((2, 3072), 768),
    ((2, 4096), 4096),
    ((1, 16384), 16),
    ((2, 1440), 48),
    ((2, 63), 7),
    ((2, 2500), 2500),
    ((1, 20480), 128),
]
# One wave holds all rows with many threads each, or none.
WAVES = ("1", "1000")
OF_EVERY_KIND = [
    FORMATS["float32 float32 row_major"],
    FORMATS["power_of_two float8_e8m0fnu column_major"],
    FORMATS["power_of_two int32 tma_aligned"],
    TILED["all"],
]


@every(shape_and_group_size=SHAPES, wave=WAVES)
def test_every_shape(run, monkeypatch, shape_and_group_size, wave):
    shape, group_size = shape_and_group_size
    monkeypatch.setenv("FIRST_WAVE", wave)
    for number, dtypes in enumerate(DTYPE_SETS.values()):
        case = Case(shape, *dtypes)
        f = OF_EVERY_KIND[(number + len(wave)) % 4]
        check(run, case, group_size, f, in_place=number % 2 == 1)


HARD = [(1280, 64, FUSED), (512, 512, FUSED_INT8), (100, 20, FUSED), (2100, 2100, FUSED_INT8)]


@every(wave=WAVES, dtypes=DTYPE_SETS, saturate=[False, True])
def test_hard_rows(run, monkeypatch, wave, dtypes, saturate):
    monkeypatch.setenv("FIRST_WAVE", wave)
    dtype, *others = dtypes
    for hidden_dim, group_size, function in HARD:
        case = Case((10, hidden_dim), dtype, *others, hard_rows(hidden_dim, dtype))
        check(run, case, group_size, OF_EVERY_KIND[0], function, saturate)


def test_every_format(run, monkeypatch):
    monkeypatch.setenv("FIRST_WAVE", "1")
    case = Case((7, 320), *DTYPE_SETS["bfloat16, residual"])
    for f in (*FORMATS.values(), TILED["all"]):
        if not f.per_batch:
            for group_size in (32, 20):
                check(run, case, group_size, f)


@every(offset=[0, 1, 2, 4, 8])
def test_rows_of_any_alignment(run, monkeypatch, offset):
    monkeypatch.setenv("FIRST_WAVE", "1")
    for dtypes in DTYPE_SETS.values():
        check(run, Case((3, 320), *dtypes), 64, OF_EVERY_KIND[0], offset=offset)
