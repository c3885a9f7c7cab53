"""Measures the rows of ``limits`` of results that are transposed, too: x is read once for both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import limits_measure
import torch
from measure.beside_gemm import TransposedWorkload
from measure.calls import bind

DEVICE = BACKEND = "cuda"


def transposed(available: Sequence[str]) -> limits_measure.Values:
    """Kernels that quantize rows and columns, relative to a copy of as many bytes, cold."""
    workload = TransposedWorkload(*limits_measure.ROWS_OF_7168, 128)
    return limits_measure.of_both("transposed", [workload], available)


def transposed_calls(available: Sequence[str]) -> limits_measure.Values:
    """Eager calls, relative to ``torch.abs`` of their x."""
    found = {}
    for name, out in (("allocating", False), ("out=", True)):
        call, x = bind("transposed_row_float32", DEVICE, BACKEND, out)
        both = [limits_measure.loop(one) for one in (call, partial(torch.abs, x))]
        found[name] = limits_measure.median_ratio(*limits_measure.rounds(both))
    return {"call_transposed": found}
