"""SGLang: ``per_token_group_quant``, compiled at its first call, under all of its fp8 and int8."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from peers import Can

if TYPE_CHECKING:
    from measure.workloads import Workload

IMPORTS = "sglang.kernels.ops.quantization.per_token_group_quant"
_SCALES = ("row_float32", "column_float32", "tma_float32", "row_packed", "tma_packed")
CAN = Can(
    scales=_SCALES,
    int8=True,
    silu=_SCALES,
    group_sizes=(16, 32, 64, 128, 256),
    masked={False: "tma_float32", True: "tma_float32"},
)
OUT = True


def bind(
    workload: Workload, x: torch.Tensor, out: tuple[torch.Tensor, torch.Tensor] | None
) -> Callable[[], Any]:
    """Return a call; the layout of scales is that of the tensor for them."""
    quantize = partial(
        import_module(IMPORTS).per_token_group_quant,
        group_size=workload.group_size,
        scale_ue8m0="packed" in workload.scales,
        fuse_silu_and_mul=workload.silu_and_mul,
    )
    if out is not None:
        return partial(quantize, x, *out)
    code = torch.int8 if workload.dtype == "int8" else torch.float8_e4m3fn
    # Its own columns are TMA-aligned: behind another number of tokens than a multiple of 4, padded.
    columns = not workload.scales.startswith("row")
    return partial(quantize, x, out_dtype=code, column_major_scales=columns)


def bind_masked(
    silu: bool, x: torch.Tensor, masked_m: torch.Tensor, out: tuple[torch.Tensor, torch.Tensor]
) -> Callable[[], Any]:
    """Return a call of masked rows; scales of others stay as they are."""
    quantize = import_module(IMPORTS).per_token_group_quant
    return partial(quantize, x, *out, group_size=128, fuse_silu_and_mul=silu, masked_m=masked_m)
