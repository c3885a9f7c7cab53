"""What Triton emits for GPUs that are not here: each kernel rounds as the contract says.

With the oldest Triton, too: ``nox -s oldest_triton``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
from covering_design import covering_design

from benchmarks.suite import machine_code, triton_offline

ROOT = Path(__file__).resolve().parents[1]
# Of the installed package, and in a process of its own: here kernels are interpreted.
COMPILE = """
import json, sys
sys.path.append(sys.argv[1])
from benchmarks.suite import triton_offline
triton_offline.print_instructions(json.loads(sys.argv[2]))
"""

EXACT = {"abs", "max", "min", "neg", "selp", "setp"}
ARITHMETIC = {"add.rn.f32", "sub.rn.f32", "mul.rn.f32", "fma.rn.f32", "rcp.approx.ftz.f32"}
PROLOGUE = {"bfloat16": {"cvt.rn.bf16x2.f32"}, "float16": {"cvt.rn.f16x2.f32"}, "float32": set()}
# A thread's.
ELEMENTS = 32


def faults_of(capability, scale_format, prologue, dtype, counts) -> set[str]:
    """What in a kernel's instructions on floating-point numbers is not as it should be."""
    silu, fp8 = prologue == "silu", scale_format != "int8"
    hardware = fp8 and tuple(map(int, capability.split("."))) >= (8, 9)
    conversions = {"cvt.f32.f16"} if dtype == "float16" else set()
    conversions |= PROLOGUE[dtype] if silu else set()
    conversions |= {"cvt.rn.satfinite.e4m3x2.f32"} if hardware else set()
    rounding = {name for name in counts if name.partition(".")[0] not in EXACT}
    # The same arithmetic two at a time ends in x2.
    others = {name for name in rounding if name.removesuffix("x2") not in ARITHMETIC}
    faults = {f"no {name}" for name in conversions - others}
    faults |= {f"a {name}" for name in others - conversions}
    # A conversion in integers, to either code, adds a constant to each element, and SiLU does.
    additions = counts["add.rn.f32"] + 2 * counts["add.rn.f32x2"]
    if additions != ELEMENTS * (silu + (not hardware)):
        faults.add(f"{additions} additions")
    return faults


def cases():
    """Every two of a capability, a prologue and a dtype; each kernel with and without hardware."""
    targets = [int(one.replace(".", "")) for one in machine_code.CAPABILITIES]
    if os.environ.get("PTGQ_EVERY_CASE"):
        return [*product(targets, triton_offline.KERNELS)]
    pairs = covering_design((len(targets), 3, 3))
    chosen = [(targets[t], triton_offline.KERNELS[3 * prologue + d]) for t, prologue, d in pairs]
    return [*dict.fromkeys([*chosen, *product(targets[:1], triton_offline.KERNELS)])]


@pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton here")
def test_kernels_round_once(tmp_path):
    chosen = cases()
    assert {kernel for target, kernel in chosen if target >= 89} == {*triton_offline.KERNELS}
    command = [sys.executable, "-c", COMPILE, str(ROOT), json.dumps(chosen)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    version, *lines = run.stdout.splitlines()
    assert len(lines) == len(chosen) >= 27
    faults = {}
    for line in lines:
        kernel, _, instructions = line.partition(": ")
        pairs = (pair.split("=") for pair in instructions.split())
        counts = Counter({name: int(number) for name, number in pairs})
        if found := faults_of(*kernel.split(), counts):
            faults[kernel] = found
    assert faults == {}, version


COMPILE_OPTIONS = """
import os, sys
os.environ.pop("TRITON_INTERPRET", None)
from importlib import import_module
import torch
sys.path.append(sys.argv[1])
from benchmarks.suite import triton_offline
from ptgq.scales import scale_format
backend = import_module("ptgq.backends.triton")
for name in sys.argv[2].split():
    x = torch.empty(64, 2048, dtype=getattr(torch, name))
    q, s = torch.empty(64, 1024, dtype=torch.float8_e4m3fn), torch.empty(64, 8)
    for limit, saturate in ((10.0, False), (None, True)):
        options = x, q, s, 128, 1e-10, scale_format(), limit, saturate
        kernel = triton_offline.kernel_of(
            90, lambda: backend.silu_and_mul_per_token_group_quant(*options)
        )
        counts = triton_offline.float_instructions(kernel.asm["ptx"])
        print(" ".join(f"{name}={number}" for name, number in counts.items()))
x, q, s = torch.empty(2, 9, 1024).bfloat16(), q.view(2, 32, 1024)[:, :9], torch.empty(2, 9, 8)
options = x, q.contiguous(), s, 128, 1e-10, scale_format(), False, torch.empty(2).int()
kernel = triton_offline.kernel_of(90, lambda: backend.per_token_group_quant(*options))
counts = triton_offline.float_instructions(kernel.asm["ptx"])
print(" ".join(f"{name}={number}" for name, number in counts.items()))
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton here")
def test_a_limit_is_three_instructions_an_element_saturating_and_masked_rows_none(tmp_path):
    command = [sys.executable, "-c", COMPILE_OPTIONS, str(ROOT), " ".join(PROLOGUE)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    cases = [(dtype, limited) for dtype in PROLOGUE for limited in (True, False)]
    *lines, masked = run.stdout.splitlines()
    pairs = (pair.split("=") for pair in masked.split())
    counts = Counter({name: int(number) for name, number in pairs})
    assert faults_of("9.0", "fp8_row_float32", "plain", "bfloat16", counts) == set()
    for (dtype, limited), line in zip(cases, lines, strict=True):
        pairs = (pair.split("=") for pair in line.split())
        counts = Counter({name: int(number) for name, number in pairs})
        assert faults_of("9.0", "fp8_row_float32", "silu", dtype, counts) == set()
        clamps = counts["min.NaN.f32"], counts["max.NaN.f32"]
        assert clamps == ((2 * ELEMENTS, ELEMENTS) if limited else (0, 0))


def test_another_rounding_is_found():
    kernel = ("fp8_row_ue8m0", "silu", "bfloat16")
    right = {"cvt.rn.bf16x2.f32": 16, "cvt.rn.satfinite.e4m3x2.f32": 16, "add.rn.f32x2": 16}
    right = Counter({**right, "mul.rn.f32": 98, "setp.nan.f32": 2})
    assert faults_of("8.9", *kernel, right) == set()
    # What Triton 3.6 makes of its own conversion.
    twice = right + Counter({"cvt.rz.f16.f32": 32, "cvt.rn.satfinite.e4m3x2.f16x2": 16})
    del twice["cvt.rn.satfinite.e4m3x2.f32"]
    assert faults_of("8.9", *kernel, twice) == {
        "a cvt.rn.satfinite.e4m3x2.f16x2",
        "a cvt.rz.f16.f32",
        "no cvt.rn.satfinite.e4m3x2.f32",
    }
    assert faults_of("8.6", *kernel, right) == {"a cvt.rn.satfinite.e4m3x2.f32", "32 additions"}
    divides = right + Counter({"div.full.f32": 1})
    assert faults_of("9.0", *kernel, divides) == {"a div.full.f32"}


def test_instructions_on_floating_point_numbers_are_counted():
    ptx = """
    {.reg .f32 n; neg.f32 n, %f1; fma.rn.f32 %f2, %f3, %f4, n;}
    @%p1 cvt.rn.satfinite.e4m3x2.f32 %rs1, %f2, %f1;
    cvt.u16.u32 %rs2, %r1;
    ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
    setp.nan.f32 %p2, %f1, %f1;
    """
    assert triton_offline.float_instructions(ptx) == {
        "neg.f32": 1,
        "fma.rn.f32": 1,
        "cvt.rn.satfinite.e4m3x2.f32": 1,
        "setp.nan.f32": 1,
    }


@pytest.mark.parametrize("capability", ["89", "x", "8.9+PTX", "sm_89"])
def test_what_is_no_capability_is_refused(capability, capsys):
    with pytest.raises(SystemExit) as stopped:
        triton_offline.main(["--ptx", capability])
    assert stopped.value.code == 2
    assert repr(capability) in capsys.readouterr().err
