"""Plain PyTorch, operation by operation: what an engine without a kernel of its own pays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from peers import Can, plain
from peers.plain import results as results

if TYPE_CHECKING:
    import torch
    from measure.workloads import Workload

IMPORTS = "torch"
CAN = Can(
    scales=plain.SCALES,
    int8=True,
    int8_scales=plain.INT8_SCALES,
    silu=plain.SCALES,
    silu_int8=True,
    devices=("cuda", "cpu"),
)
OUT = False


def bind(workload: Workload, x: torch.Tensor, out: object) -> Callable[[], object]:
    """Return a call of the plain function."""
    form = workload.group_size, workload.dtype, workload.scales, workload.silu_and_mul
    return partial(plain.quantizer(*form), x)
