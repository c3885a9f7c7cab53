"""vLLM: ``per_token_group_quant_fp8`` and its like, which its linear and MoE layers call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from peers import Can

if TYPE_CHECKING:
    import torch
    from measure.workloads import Workload

_UTILS = "vllm.model_executor.layers.quantization.utils"
_MASKED = "vllm.model_executor.layers.fused_moe.experts.batched_deep_gemm_moe"
IMPORTS = f"{_UTILS}.fp8_utils"
_ARGUMENTS: dict[str, dict[str, bool]] = {
    "row_float32": {},
    "column_float32": {"column_major_scales": True},
    "tma_float32": {"column_major_scales": True, "tma_aligned_scales": True},
    "row_ue8m0_float32": {},
    "column_ue8m0_float32": {"column_major_scales": True},
    "tma_ue8m0_float32": {"column_major_scales": True, "tma_aligned_scales": True},
}
CAN = Can(
    scales=(*_ARGUMENTS, "tma_packed"),
    int8=True,
    silu=("row_float32", "column_float32"),
    inputs=("bfloat16", "float16", "float32"),
    masked={True: "tma_float32"},
)
# It takes a tensor for the codes, none for the scales.
OUT = False


def bind(workload: Workload, x: torch.Tensor, out: object) -> Callable[[], Any]:
    """Return a call of the function that serves a workload."""
    size, scales = workload.group_size, workload.scales
    if workload.dtype == "int8":
        return partial(import_module(f"{_UTILS}.int8_utils").per_token_group_quant_int8, x, size)
    if workload.silu_and_mul:
        import torch

        fused = import_module("vllm._custom_ops").silu_and_mul_per_block_quant
        transposed = scales == "column_float32"
        return partial(fused, x, size, torch.float8_e4m3fn, None, transposed)
    utils = import_module(IMPORTS)
    if scales == "tma_packed":
        packed = utils.per_token_group_quant_fp8_packed_for_deepgemm
        return partial(packed, x, size, use_ue8m0=True)
    quantize = utils.per_token_group_quant_fp8
    return partial(quantize, x, size, use_ue8m0="ue8m0" in scales, **_ARGUMENTS[scales])


def bind_masked(
    silu: bool, x: torch.Tensor, masked_m: torch.Tensor, out: object
) -> Callable[[], Any]:
    """Return a call of masked rows, with the fused SiLU; scales of others are zeros."""
    return partial(import_module(_MASKED).persistent_masked_m_silu_mul_quant, x, masked_m)
