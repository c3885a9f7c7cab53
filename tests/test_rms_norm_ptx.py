"""What Triton emits of the fused RMSNorm for GPUs that are not here."""

from __future__ import annotations

import json
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
backend = import_module("ptgq.backends.triton")
for rows, hidden_dim in json.loads(sys.argv[2]):
    x = torch.empty(rows, hidden_dim, dtype=torch.bfloat16)
    q = torch.empty(x.shape, dtype=torch.float8_e4m3fn)
    s = torch.empty(rows, hidden_dim // 128)
    call = x, q, s, 128, 1e-10, scale_format(False, True, torch.float32), x[0], 1e-6, x + x, x
    kernel = triton_offline.kernel_of(90, lambda: backend.rms_norm_per_token_group_quant(*call))
    ptx = kernel.asm["ptx"]
    counts = triton_offline.float_instructions(ptx)
    for name in ("bar.sync", "st.global"):
        counts[name] = ptx.count(name)
    print(json.dumps(counts))
"""
# Few rows, whose threads have fewer elements each; many.
ELEMENTS = {(4, 2048): 8, (4, 7168): 16, (512, 2048): 32, (512, 7168): 32}


# One test: another process would import torch and Triton again.
@pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton here")
def test_nothing_is_contracted_nor_moved_twice(tmp_path):
    command = [sys.executable, "-c", COMPILE, str(ROOT), json.dumps(list(ELEMENTS))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    for (shape, elements), line in zip(ELEMENTS.items(), lines, strict=True):
        counts = json.loads(line)
        # By a power of two a product is the quotient: each fused multiply-add is of a scale, or of
        # its reciprocal.
        scales = counts["rcp.approx.ftz.f32"]
        assert counts["fma.rn.f32"] == 4 * scales, shape
        # Squares, two products of y, that with the reciprocal; absmax / qmax.
        assert counts["mul.rn.f32"] == 4 * elements + scales, shape
        assert (counts["div.rn.f32"], counts["sqrt.rn.f32"]) == (2, 1), shape
        approximate = ("rsqrt", "sqrt.approx", "div.full")
        assert not [name for name in counts if name.startswith(approximate)], shape
        # Threads exchange sums once, behind one barrier, and the scales behind two.
        assert counts["bar.sync"] == 3, shape
        # Stores are of 8 elements each: the residual, y and the codes; one of scales.
        assert counts["st.global"] == 3 * elements // 8 + 1, shape
