"""torchao: what its quantized tensors and its blockwise and MX training call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from peers import Can

if TYPE_CHECKING:
    from measure.workloads import Workload

IMPORTS = "torchao.quantization"
_TRITON = "torchao.prototype.blockwise_fp8_training.kernels"
_MX = "torchao.prototype.mx_formats.mx_tensor"
CAN = Can(scales=("row_float32", "column_float32", "row_ue8m0"), int8=True, devices=("cuda", "cpu"))
OUT = False


def bind(workload: Workload, x: torch.Tensor, out: object) -> Callable[[], Any]:
    """Return a call of the function that serves a workload."""
    size = workload.group_size
    tensors = import_module(IMPORTS)
    if workload.dtype == "int8":
        return partial(tensors.Int8Tensor.from_hp, x, granularity=tensors.PerGroup(size))
    if workload.scales == "row_float32":
        blocks = tensors.PerBlock([1, size])
        return partial(tensors.Float8Tensor.from_hp, x, granularity=blocks)
    if workload.scales == "column_float32":
        if not x.is_cuda:
            raise NotImplementedError("column_float32 is by a Triton kernel, of a GPU")
        return partial(import_module(_TRITON).triton_fp8_blockwise_act_quant_lhs, x, size)
    mx = import_module(_MX)
    return partial(mx.to_mx, x, torch.float8_e4m3fn, size, mx.ScaleCalculationMode.RCEIL)


def results(workload: Workload, returned: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tensors in a quantized one, and those of MX in their order."""
    if workload.scales == "row_ue8m0":
        return returned[1], returned[0]
    if workload.scales == "column_float32":
        q, s = returned
        return q, s
    return returned.qdata, returned.scale
