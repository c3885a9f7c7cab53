"""What Triton emits of dequantize for GPUs that are not here: one product, rounded once."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.suite import machine_code

ROOT = Path(__file__).resolve().parents[1]
# A vector of several groups, rows of less than a tile, of more, and groups that are no vectors.
CASES = [
    ("float8_e4m3fn", "float32", "bfloat16", 128),
    ("float8_e4m3fn", "float32", "float32", 8192),
    ("float8_e4m3fn", "int32", "float16", 32),
    ("int8", "float8_e8m0fnu", "bfloat16", 7),
]
COMPILE = """
import json, os, sys
os.environ.pop("TRITON_INTERPRET", None)
from importlib import import_module
import torch
sys.path.append(sys.argv[1])
from benchmarks.suite import triton_offline
backend = import_module("ptgq.backends.triton_dequantize")
for capability in sys.argv[3:]:
    for *dtypes, group_size in json.loads(sys.argv[2]):
        q_dtype, s_dtype, dtype = (getattr(torch, name) for name in dtypes)
        q = torch.zeros(64, 2 * group_size, dtype=torch.uint8).view(q_dtype)
        s = torch.ones(64, 1 if s_dtype is torch.int32 else 2).to(s_dtype)
        kernel = triton_offline.kernel_of(
            int(capability.replace(".", "")), lambda: backend.dequantize(q, s, group_size, dtype)
        )
        print(json.dumps(triton_offline.float_instructions(kernel.asm["ptx"])))
"""
# A thread's.
ELEMENTS = 32
ROUNDING = {
    "bfloat16": {"cvt.rn.bf16x2.f32": ELEMENTS // 2},
    "float16": {"cvt.rn.f16x2.f32": ELEMENTS // 2},
    "float32": {},
}
HARDWARE = {"cvt.rn.f16x2.e4m3x2": ELEMENTS // 2, "cvt.f32.f16": ELEMENTS}


@pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton here")
def test_products_are_rounded_once(tmp_path):
    command = [sys.executable, "-c", COMPILE, str(ROOT), json.dumps(CASES)]
    run = subprocess.run(
        [*command, *machine_code.CAPABILITIES],
        capture_output=True, text=True, timeout=500, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = iter(run.stdout.splitlines())
    for capability in machine_code.CAPABILITIES:
        for q_dtype, s_dtype, dtype, group_size in CASES:
            counts = json.loads(next(lines))
            hardware = tuple(map(int, capability.split("."))) >= (8, 9)
            expected = dict(ROUNDING[dtype])
            if q_dtype == "int8":
                expected["cvt.rn.f32.s8"] = ELEMENTS
            elif hardware:
                expected |= HARDWARE
            found = {name: n for name, n in counts.items() if name.startswith("cvt")}
            case = capability, q_dtype, s_dtype, dtype, group_size, counts
            # An integer may be converted by way of a wider one.
            assert {name.replace("s16", "s8").replace("s32", "s8"): n
                    for name, n in found.items()} == expected, case  # fmt: skip
            products = sum(n * (2 if name.endswith("x2") else 1)
                           for name, n in counts.items() if name.startswith("mul"))  # fmt: skip
            assert products == ELEMENTS, case
            assert not any(name.startswith("fma") for name in counts), case
    assert next(lines, None) is None
