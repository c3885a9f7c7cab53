"""What Triton emits of the kernels that hold large tiles: few registers, and no detours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Of the installed package, and in a process of its own: here kernels are interpreted.
COMPILE = """
import json, os, sys
os.environ.pop("TRITON_INTERPRET", None)
from importlib import import_module
import torch
sys.path.append(sys.argv[1])
from benchmarks.suite import triton_offline
from ptgq.scales import scale_format
blocks = import_module("ptgq.backends.triton_blocks").per_block_quant
transposed = import_module("ptgq.backends.triton_transposed").per_token_group_quant_transposed
def empty(*shape, dtype=torch.float8_e4m3fn):
    return torch.empty(shape, dtype=dtype)
def call(dtype, group):
    x, float32 = empty(256, 256, dtype=dtype), torch.float32
    if group < 0:
        s = empty(1, 256, 256 // -group, dtype=float32)
        return blocks(x[None], empty(1, 256, 256), s, (1, -group), 1e-10, scale_format())
    if group == 0:
        s = empty(1, 2, 2, dtype=float32)
        blocks(x[None], empty(1, 256, 256), s, (128, 128), 1e-10, scale_format())
    else:
        s = empty(256, 256 // group, dtype=float32)
        transposed(x, empty(256, 256), s, empty(256, 256), s.clone(), group, 1e-10, scale_format())
for capability, dtype, group in json.loads(sys.argv[2]):
    dtype = getattr(torch, dtype)
    kernel = triton_offline.kernel_of(capability, lambda: call(dtype, group))
    ptx = kernel.asm["ptx"]
    counts = triton_offline.float_instructions(ptx)
    for name in ("bar.sync", "st.global.b8", "st.global.v2.b32", "st.global.v4.b32"):
        counts[name] = ptx.count(name)
    counts["registers"] = triton_offline.metrics_of(kernel)["registers"]
    print(json.dumps(counts))
"""
# Blocks of a row: of fewer elements than instructions take of a warp's threads at once.
SMALL = [(90, dtype, -size) for dtype in ("bfloat16", "float16", "float32") for size in (1, 2, 8)]
if not os.environ.get("PTGQ_EVERY_CASE"):
    # Each dtype and each size; nox -s oldest_triton has all of them.
    SMALL = [SMALL[0], SMALL[4], SMALL[8]]
# Group 0: blocks. Codes of a thread; most registers; most barriers, of Triton 3.9 more than of 3.6.
CASES = {
    (90, "bfloat16", 0): (32, 48, 2),
    (89, "float16", 0): (32, 48, 2),
    (90, "bfloat16", 128): (2 * 64, 80, 13),
    (89, "float16", 128): (2 * 64, 80, 13),
    (90, "bfloat16", 32): (2 * 32, 72, 13),
}
EXACT = {"abs", "max", "min", "neg", "selp", "setp"}
ARITHMETIC = {"mul.rn.f32", "fma.rn.f32", "rcp.approx.ftz.f32", "cvt.rn.satfinite.e4m3x2.f32"}


@pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton here")
def test_tiles_are_quantized_in_few_registers(tmp_path):
    command = [sys.executable, "-c", COMPILE, str(ROOT), json.dumps(SMALL + list(CASES))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()[len(SMALL) :]
    for (case, (codes, registers, barriers)), line in zip(CASES.items(), lines, strict=True):
        counts = json.loads(line)
        assert counts.pop("registers") <= registers, case
        assert counts.pop("bar.sync") <= barriers, case
        # Codes are stored 8 or 16 at a time, and zeros where a tile's tokens don't exist.
        wide = 8 * counts.pop("st.global.v2.b32") + 16 * counts.pop("st.global.v4.b32")
        assert wide == (codes if case[2] == 0 else codes + codes // 2), case
        assert counts.pop("st.global.b8") == 0, case
        # A product, its residual and the correction a code; of two codes, one conversion.
        scales = counts["rcp.approx.ftz.f32"]
        assert counts["cvt.rn.satfinite.e4m3x2.f32"] == codes // 2, case
        assert counts["mul.rn.f32"] - codes in range(1, scales + 1), case
        assert counts["fma.rn.f32"] - 2 * codes - 2 * scales in range(2, 2 * scales + 1, 2), case
        others = {name for name in counts if name.partition(".")[0] not in EXACT} - ARITHMETIC
        assert others == ({"cvt.f32.f16"} if case[1] == "float16" else set()), case
