"""The CUDA kernels without a GPU: an emulator runs their source on the CPU."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import torch
from building import ROOT, load_setup
from emulated_calls import TYPES as NUMBERED
from emulated_calls import Call, calls_of, checked, masked_calls, torch_includes
from every import every
from products import assert_same, codes_of, expected_of, strided
from values import DTYPES, hard_input, padded_rows

from ptgq import scales

NVCC = load_setup().find_nvcc()
pytestmark = pytest.mark.skipif(
    not (NVCC and platform.machine() == "x86_64"), reason="needs nvcc and x86-64"
)
HERE = ROOT / "tests" / "cuda_on_cpu"
TYPES = {"bfloat16": "__nv_bfloat16", "float16": "__half", "float32": "float"}


# The emulator's launch.cuh is found before the kernels'. To nvcc it is C++: nothing is compiled for
# a device.
FLAGS = ["-x=c++", "-std=c++20", "-Xcompiler=-Og,-w", "-DPTGQ_WITH_CUDA"]
FLAGS += [f"-I{path}" for path in (HERE, ROOT / "csrc", *torch_includes())]


def compile_sources(*options):
    done = subprocess.run([NVCC, *FLAGS, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def program(made_once):
    """Build what reads calls and runs the kernels."""
    return made_once("cuda_on_cpu", build_program) / "program"


def build_program(folder):
    sources = {
        "calls": (ROOT / "proofs" / "cpu_calls.cpp",),
        "check": (ROOT / "csrc" / "contract" / "check.cpp",),
        "quantize": (HERE / "quantize.cpp",),
    }
    for name, type_ in TYPES.items():
        sources[name] = (HERE / "kernels.cpp", f"-DTYPE={type_}", f"-DFUNCTION=quantize_{name}")

    def compiled(name):
        path = folder / f"{name}.o"
        compile_sources("-c", "-o", path, *sources[name])
        return path

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compiled, sources))
    subprocess.run([NVCC, "-o", folder / "program", *objects], check=True)


# Of each kernel, with a warp's and a block's last groups missing, and lanes that have no work.
SHAPES = {
    "whole lanes": (37, 640, 128),
    "idle lanes": (37, 288, 48),
    "most lanes": (5, 1024, 512),
    "one lane": (37, 80, 16),
    "few elements": (37, 99, 3),
    "tiles": (37, 100, 20),
    "a block a group": (3, 2048, 1024),
    "any": (3, 1053, 1053),
    "one row": (1, 4096, 64),
}


@functools.cache
def calls_of_every_shape():
    calls = []
    cases = product(SHAPES.values(), DTYPES)
    for number, ((tokens, hidden_dim, group_size), dtype) in enumerate(cases):
        x = hard_input(tokens, hidden_dim, group_size, dtype)
        fused = hard_input(tokens, 2 * hidden_dim, group_size, dtype)
        calls += calls_of(x, fused, group_size, number)
    return calls


@every(first_wave=("1", "4", "1000"))
def test_calls_return_the_bytes_of_the_reference(program, first_wave):
    # Each other launch is a dependent one: with one more, the same calls are that are not.
    calls = calls_of_every_shape()
    checked([*calls, calls[0], *calls], [program], {"FIRST_WAVE": first_wave})


# Batches, tokens of each, and groups of each: of one and of several lanes, and those of any size.
MASKED = [(3, 7, 12, 128), (1, 9, 5, 48), (40, 3, 3, 16), (5, 4, 2, 512), (3, 5, 3, 20)]
MASKED += [(300, 2, 2, 16), (2, 3, 2, 2064)]


@functools.cache
def masked_calls_of_every_shape():
    calls = []
    cases = [(MASKED[0], dtype) for dtype in DTYPES]
    cases += [(shape, DTYPES[number % 3]) for number, shape in enumerate(MASKED[1:])]
    if os.environ.get("PTGQ_EVERY_CASE"):
        cases = [*product(MASKED, DTYPES)]
    for number, (shape, dtype) in enumerate(cases):
        x, fused = (padded_rows(*shape, dtype, silu) for silu in (False, True))
        calls += masked_calls(x, fused, shape[-1], number)
    return calls


@every(first_wave=("1", "1000"))
def test_masked_rows(program, first_wave):
    checked(masked_calls_of_every_shape(), [program], {"FIRST_WAVE": first_wave})


def test_every_bfloat16_gate(program):
    patterns = torch.arange(2**16).to(torch.int16).view(torch.bfloat16).view(16, 4096)
    x = torch.cat([patterns, torch.ones_like(patterns)], -1)
    swapped = x.roll(4096, -1)
    f = scales.scale_format()
    calls = [
        Call(values, 16, f, silu_and_mul=True, limit=limit)
        for values in (x, swapped)
        for limit in (None, 0.3, 10, 88.5)
    ]
    checked(calls, [program], {"FIRST_WAVE": "4"})


@pytest.fixture(scope="session")
def library(made_once):
    """Build the kernels of dequantize, and of blocks."""

    def build(folder):
        names = ("check.cpp", "dequantize.cpp", "blocks.cpp")
        sources = [ROOT / "csrc" / "contract" / name for name in names]
        options = ("-shared", "-Xcompiler=-fPIC", "-o", folder / "library.so")
        compile_sources(*options, HERE / "dequantize.cpp", HERE / "blocks.cpp", *sources)

    return ctypes.CDLL(str(made_once("dequantize_on_cpu", build) / "library.so"))


@pytest.fixture(scope="session")
def dequantize(library):
    """Return what runs the kernels of dequantize."""
    library.run.restype = ctypes.c_bool

    def run(q, s, group_size, dtype):
        y = torch.full(q.shape, 7.0, dtype=dtype)
        places = [*q.shape, *q.stride(), *s.shape, *s.stride()]
        types = [NUMBERED.index(d) for d in (q.dtype, s.dtype, dtype)]
        assert library.run(
            *(ctypes.c_void_p(t.data_ptr()) for t in (q, s, y)),
            *((ctypes.c_int64 * len(places))(*places), ctypes.c_int64(q.dim())),
            *((ctypes.c_int * 3)(*types), ctypes.c_int64(group_size)),
        )
        return y

    return run


# Tokens of a batch, groups of a token and their size. Where FIRST_WAVE is 1, a thread has four
# chunks of the larger ones; chunks hold several groups, and the last one is cut off.
DEQUANTIZED = [(5, 9, 128), (70, 9, 32), (1, 40, 8), (3, 11, 7), (9, 33, 1), (5, 3, 100)]


@pytest.mark.parametrize("first_wave", [1, 1000])
@pytest.mark.parametrize("s_dtype", [torch.float32, torch.float8_e8m0fnu, torch.int32], ids=str)
@pytest.mark.parametrize("q_dtype", [torch.float8_e4m3fn, torch.int8], ids=str)
def test_products(dequantize, q_dtype, s_dtype, first_wave, monkeypatch):
    monkeypatch.setenv("FIRST_WAVE", str(first_wave))
    for (tokens, groups, group_size), dtype in product(DEQUANTIZED, DTYPES):
        width, columns = groups * group_size, groups
        if s_dtype is torch.int32:
            columns = -(-groups // 4)
        q = codes_of((2, tokens, width), q_dtype)
        s = codes_of((2, tokens, columns * s_dtype.itemsize), s_dtype, seed=1)
        by_columns = strided(s, (columns * (tokens + 3) + 5, 1, tokens + 3))
        apart = strided(q, (tokens * (width + 1), width + 1, 1))
        cases = [(q, s), (q, by_columns), (apart, s)]
        if s_dtype is not torch.int32:
            cases.append((apart[..., group_size:], by_columns[..., 1:]))
        for codes, scales_ in cases:
            y = dequantize(codes, scales_, group_size, dtype)
            assert_same(y, expected_of(codes, scales_, group_size, dtype))
