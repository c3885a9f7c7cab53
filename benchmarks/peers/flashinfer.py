"""FlashInfer: ``per_token_group_quant_8bit``, and its quantization to MXFP8 on Blackwell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from peers import Can

if TYPE_CHECKING:
    from measure.workloads import Workload

IMPORTS = "flashinfer"
_ARGUMENTS: dict[str, dict[str, bool]] = {
    "row_float32": {},
    "column_float32": {"column_major_scales": True},
    "tma_float32": {"column_major_scales": True, "scale_tma_aligned": True},
    "column_ue8m0_float32": {"column_major_scales": True, "scale_ue8m0": True},
    "tma_ue8m0_float32": {
        "column_major_scales": True,
        "scale_tma_aligned": True,
        "scale_ue8m0": True,
    },
}
CAN = Can(
    scales=(*_ARGUMENTS, "row_ue8m0"),
    int8=True,
    silu=("row_ue8m0",),
    one_size={"row_ue8m0": 32},
    inputs=("bfloat16", "float16"),
    masked={False: "tiled_ue8m0", True: "tiled_ue8m0"},
)
OUT = False


def bind(workload: Workload, x: torch.Tensor, out: object) -> Callable[[], Any]:
    """Return a call of the function that serves a workload, by CUDA where that has the form."""
    flashinfer = import_module(IMPORTS)
    if workload.silu_and_mul:
        return partial(flashinfer.silu_and_mul_mxfp8_quantize, x)
    if workload.scales == "row_ue8m0":
        return partial(flashinfer.mxfp8_quantize, x, is_sf_swizzled_layout=False)
    if workload.group_size != 128 and not find_spec("cuda.tile"):
        raise NotImplementedError("by CUDA groups of 128 alone; others by cuda.tile, not installed")
    return partial(
        import_module("flashinfer.quantization").per_token_group_quant_8bit,
        x,
        workload.group_size,
        dst_dtype=torch.int8 if workload.dtype == "int8" else torch.float8_e4m3fn,
        **_ARGUMENTS[workload.scales],
        # The only group size of CUDA's; the other is CUDA's tile language.
        backend="cuda" if workload.group_size == 128 else "cutile",
    )


def results(workload: Workload, returned: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return q, and the bytes of MXFP8's scales with their shape and type."""
    if workload.scales != "row_ue8m0":
        q, s = returned
        return q, s
    q, s = (returned[0], returned[2]) if workload.silu_and_mul else returned
    s = s.view(workload.tokens, -1).view(torch.float8_e8m0fnu)
    return q.view(torch.float8_e4m3fn), s
