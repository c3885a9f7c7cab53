"""``torch.compile`` of the plain function: what Inductor makes of it, with any number of tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

import torch

from peers import Can, plain
from peers.plain import results as results

if TYPE_CHECKING:
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
    """Return a call of the compiled function, which another one of the same form shares."""
    form = workload.group_size, workload.dtype, workload.scales, workload.silu_and_mul
    if x.shape[0] > 1:
        torch._dynamo.mark_dynamic(x, 0)
    return partial(_compiled(*form, x.dtype, x.shape[-1], x.shape[0] > 1), x)


@cache
def _compiled(size: int, dtype: str, scales: str, silu: bool, *_: object) -> Callable[..., object]:
    function = plain.quantizer(size, dtype, scales, silu)
    # Dynamo counts recompilations by code object, and gives up after some.
    function.__code__ = function.__code__.replace()
    return torch.compile(function, fullgraph=True)
