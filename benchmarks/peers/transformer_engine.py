"""Transformer Engine: the quantizers of its recipes Float8BlockScaling and MXFP8BlockScaling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from peers import Can

if TYPE_CHECKING:
    from measure.workloads import Workload

IMPORTS = "transformer_engine.pytorch"
_GROUPS = {"tma_float32": 128, "tma_ue8m0_float32": 128, "row_ue8m0": 32}
CAN = Can(scales=tuple(_GROUPS), one_size=_GROUPS, capability=(9, 0))
# Into one of its own tensors alone.
OUT = False


def bind(workload: Workload, x: torch.Tensor, out: object) -> Callable[[], Any]:
    """Return a call of a quantizer, for rows alone."""
    engine = import_module(IMPORTS)
    e4m3 = engine.DType.kFloat8E4M3
    rows = {"rowwise": True, "columnwise": False}
    if workload.scales == "row_ue8m0":
        return partial(engine.MXFP8Quantizer(e4m3, **rows), x)
    powers = workload.scales != "tma_float32"
    quantizer = engine.Float8BlockQuantizer(
        e4m3, **rows, force_pow_2_scales=powers, block_scaling_dim=1
    )
    return partial(quantizer, x)


def results(workload: Workload, returned: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return views of its codes, and of its scales without their padding."""
    q = returned._rowwise_data.view(torch.float8_e4m3fn)
    s = returned._rowwise_scale_inv
    if workload.scales == "row_ue8m0":
        groups = workload.hidden // workload.group_size
        return q, s[: workload.tokens, :groups].view(torch.float8_e8m0fnu)
    return q, s[:, : workload.tokens].t()
