"""The CUDA kernels without a GPU: an emulator runs their source on the CPU."""

from __future__ import annotations

import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import torch
from building import ROOT, load_setup
from emulated_calls import Call, checked, torch_includes
from scale_cases import FORMATS
from values import DTYPES, hard_input

from ptgq import scales

NVCC = load_setup().find_nvcc()
pytestmark = pytest.mark.skipif(
    not (NVCC and platform.machine() == "x86_64"), reason="needs nvcc and x86-64"
)
HERE = ROOT / "tests" / "cuda_on_cpu"
TYPES = {"bfloat16": "__nv_bfloat16", "float16": "__half", "float32": "float"}


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Build what reads calls and runs the kernels."""
    folder = tmp_path_factory.mktemp("cuda_on_cpu")
    # The emulator's launch.cuh is found before the kernels'.
    includes = [f"-I{path}" for path in (HERE, ROOT / "csrc", *torch_includes())]
    # To nvcc it is C++: nothing is compiled for a device.
    flags = ["-x=c++", "-std=c++20", "-O1", "-Xcompiler=-w", "-DPTGQ_WITH_CUDA", *includes]
    sources = {
        "calls": (ROOT / "proofs" / "cpu_calls.cpp",),
        "check": (ROOT / "csrc" / "contract" / "check.cpp",),
        "quantize": (HERE / "quantize.cpp",),
    }
    for name, type_ in TYPES.items():
        sources[name] = (HERE / "kernels.cpp", f"-DTYPE={type_}", f"-DFUNCTION=quantize_{name}")

    def compiled(name):
        path = folder / f"{name}.o"
        command = [NVCC, *flags, "-c", "-o", path, *sources[name]]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return path

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compiled, sources))
    subprocess.run([NVCC, "-o", folder / "program", *objects], check=True)
    return folder / "program"


# Of each kernel, with a warp's and a block's last groups missing, and lanes that have no work.
SHAPES = {
    "whole lanes": (37, 1536, 128),
    "idle lanes": (37, 288, 48),
    "most lanes": (5, 1024, 512),
    "one lane": (37, 80, 16),
    "few elements": (37, 99, 3),
    "tiles": (37, 100, 20),
    "a block a group": (3, 2048, 1024),
    "any": (3, 1053, 1053),
    "one row": (1, 4096, 64),
}


@pytest.mark.parametrize("first_wave", [1, 4, 1000])
def test_calls_return_the_bytes_of_the_reference(program, first_wave):
    calls = []
    for (tokens, hidden_dim, group_size), dtype in product(SHAPES.values(), DTYPES):
        x = hard_input(tokens, hidden_dim, group_size, dtype)
        fused = hard_input(tokens, 2 * hidden_dim, group_size, dtype)
        # Twice: every other launch is a dependent one.
        for _ in range(2):
            calls.append(Call(x, group_size, scales.scale_format(), int8=True))
        for f in FORMATS.values():
            if not f.per_batch:
                calls += [Call(x, group_size, f), Call(x, group_size, f)]
                calls.append(Call(fused, group_size, f, silu_and_mul=True))
    checked(calls, [program], {"FIRST_WAVE": str(first_wave)})


def test_every_bfloat16_gate(program):
    patterns = torch.arange(2**16).to(torch.int16).view(torch.bfloat16).view(16, 4096)
    x = torch.cat([patterns, torch.ones_like(patterns)], -1)
    call = Call(x, 16, scales.scale_format(), silu_and_mul=True)
    checked([call], [program], {"FIRST_WAVE": "4"})
