"""What a type checker says of calls of the installed package."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed")

# What calls name of torch: all that it imports would take mypy ten seconds.
CONFIG = """
[mypy]
strict = true
[mypy-torch.*]
follow_imports = skip
[mypy-torch,torch._C.*,torch._tensor]
follow_imports = normal
"""

# Each line is checked: what stands behind #: is a part of its error, nothing means right.
CALLS = """
import numpy
import torch
import ptgq
from ptgq import ScaleFormat, scales

x = torch.ones(4, 256)
x.untyped  #: "Tensor" has no attribute
torch.int8.untyped  #: "dtype" has no attribute
q: torch.Tensor
s: torch.Tensor
q, s = ptgq.per_token_group_quant_fp8(x, 128)
q, s = ptgq.per_token_group_quant_int8(x, numpy.int64(128), out=(q, s), backend="cpu")
q, s = ptgq.silu_and_mul_per_token_group_quant_fp8(x, 64, True, scale_dtype=torch.float32)
q, s = ptgq.per_token_group_quant_fp8(x, 128, scale_format=ScaleFormat.ocp_mx(), eps=1e-8)
ptgq.per_token_group_quant_fp8(x, 128, backend="tritn")  #: "Literal['tritn']"
ptgq.per_token_group_quant_int8(x, 128, backend="tritn")  #: "Literal['tritn']"
ptgq.silu_and_mul_per_token_group_quant_fp8(x, 128, backend="tritn")  #: "Literal['tritn']"
ptgq.per_token_group_quant_fp8(x, 128.0)  #: "float"; expected "SupportsIndex"
ptgq.per_token_group_quant_fp8(x, 128, use_ue8m0="yes")  #: "str"; expected "bool"
ptgq.per_token_group_quant_fp8(x, 128, scale_dtype="float32")  #: "str"; expected "dtype | None"
ptgq.per_token_group_quant_fp8(x, 128, scale_format="hopper")  #: expected "ScaleFormat | None"
ptgq.per_token_group_quant_fp8(x, 128, out=q)  #: expected "tuple[Tensor, Tensor] | None"
ptgq.per_token_group_quant_fp8(x, 128, out=(q, s, s))  #: expected "tuple[Tensor, Tensor] | None"
q, s = ptgq.silu_and_mul_per_token_group_quant_int8(x, 64, column_major_scales=True)
q, s = ptgq.silu_and_mul_per_token_group_quant_int8(x, 64, swiglu_limit=10)
ptgq.silu_and_mul_per_token_group_quant_fp8(x, 64, swiglu_limit="10")  #: "float | None"
ptgq.per_token_group_quant_fp8(x, 64, swiglu_limit=10.0)  #: Unexpected keyword argument
q, s = ptgq.per_token_group_quant_fp8(x, 64, nonfinite="saturate")
ptgq.per_token_group_quant_int8(x, 64, nonfinite="clamp")  #: "Literal['clamp']"
ptgq.per_token_group_quant_int8(x, 128, scales="row")  #: Unexpected keyword argument
q, s = ptgq.rms_norm_per_token_group_quant_fp8(x, x[0], 128, norm_eps=1e-6, residual=x, norm_out=x)
ptgq.rms_norm_per_token_group_quant_int8(x, x[0], 128)  #: Missing named argument "norm_eps"
one: torch.Tensor = ptgq.per_token_group_quant_fp8(x, 128)  #: Incompatible types in assignment
y: torch.Tensor = ptgq.dequantize(q, s, 128, dtype=torch.bfloat16)
ptgq.dequantize(q, s, 128, dtype="bfloat16")  #: "str"; expected "dtype"
with ptgq.use_backend("triton"):
    pass
with ptgq.use_backend("typo"):  #: "Literal['typo']"
    pass
@ptgq.use_backend("reference")
def decorated(value: int) -> int:
    return value
decorated("one")  #: "str"; expected "int"
for name, status in ptgq.backends().items():
    if status.available:
        ptgq.per_token_group_quant_fp8(x, 128, backend=name)
    status.reson  #: has no attribute "reson"
def wrapper(backend: ptgq.Backend | None = None, nonfinite: ptgq.Nonfinite = "mark") -> None:
    ptgq.per_token_group_quant_fp8(x, 128, backend=backend, nonfinite=nonfinite)
def untyped_wrapper(backend: str) -> None:
    ptgq.per_token_group_quant_fp8(x, 128, backend=backend)  #: "str"; expected "Literal[
f = ScaleFormat("power_of_two", torch.int32, "tma_aligned", group_sizes=(128,))
ScaleFormat("power_of_tw", torch.int32)  #: expected "Literal['float32', 'power_of_two']"
ScaleFormat("float32", torch.float32, "columns")  #: "Literal['columns']"
f.layout = "row_major"  #: is read-only
shape: tuple[int, ...] = scales.scale_shape(x.shape, 128, f)
scales.scale_shape(4, 128)  #: "int"; expected "Sequence[SupportsIndex]"
scales.check_scales(scales.empty_scales(shape, f, "cpu"), f, check_finite=False)
scales.check_scales(s, "hopper")  #: "str"; expected "ScaleFormat"
"""


def test_a_type_checker_finds_wrong_calls(tmp_path):
    # Not in the checkout, whose ptgq would be found before the installed one.
    Path(tmp_path, "calls.py").write_text(CALLS)
    Path(tmp_path, "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "calls.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    said: dict[int, str] = {}
    for number, text in re.findall(r"^calls\.py:(\d+): error: (.*)$", done.stdout, re.M):
        said[int(number)] = said.get(int(number), "") + text
    for number, line in enumerate(CALLS.splitlines(), 1):
        _, wrong, expected = line.partition("  #: ")
        if wrong:
            assert expected in said.pop(number, ""), line
    assert not said, done.stdout + done.stderr
