"""``x @ w.T`` in FP8 of two bfloat16 matrices, and how far that is from float64.

x gets a scale for every 128 elements of a row, w one for each block of 128 x 128. On a GPU of
compute capability 9.0 ``torch._scaled_mm`` multiplies and, where it is installed, DeepGEMM, there
and on 10.0; everywhere the operands, dequantized, are multiplied in float64: what such a GEMM would
give if it were exact. Needs nothing but torch and ptgq: ``python examples/block_scaled_gemm.py``.
"""

from __future__ import annotations

import importlib.util

import torch

import ptgq
from ptgq import ScaleFormat


def by_torch(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the product by cuBLAS."""
    x_q, x_s = ptgq.per_token_group_quant_fp8(x, 128, scale_format=ScaleFormat.torch_scaled_mm())
    w_q, w_s = ptgq.per_block_quant_fp8(w, scale_format=ScaleFormat.torch_scaled_mm_blocks())
    return torch._scaled_mm(x_q, w_q.t(), x_s, w_s.t(), out_dtype=torch.bfloat16)


def deep_gemm_formats(*, per_batch: bool = False) -> tuple[ScaleFormat, ScaleFormat]:
    """Return what DeepGEMM reads x's and w's scales in: on Hopper, unless there is a Blackwell."""
    if capability()[0] == 10:
        f = ScaleFormat.deep_gemm_blackwell(per_batch=per_batch)
        return f, ScaleFormat.deep_gemm_blackwell_blocks()
    return ScaleFormat.deep_gemm_hopper(per_batch=per_batch), ScaleFormat.deep_gemm_hopper_blocks()


def by_deep_gemm(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the product by DeepGEMM."""
    import deep_gemm

    of_x, of_w = deep_gemm_formats()
    operands = (
        ptgq.per_token_group_quant_fp8(x, 128, scale_format=of_x),
        ptgq.per_block_quant_fp8(w, scale_format=of_w),
    )
    product = torch.empty(len(x), len(w), dtype=torch.bfloat16, device=x.device)
    deep_gemm.fp8_gemm_nt(*operands, product)
    return product


def dequantized(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return the product of what the operands stand for, in float64."""
    x_q, x_s = ptgq.per_token_group_quant_fp8(x, 128)
    w_q, w_s = ptgq.per_block_quant_fp8(w)
    return ptgq.dequantize(x_q, x_s, 128).double() @ ptgq.dequantize_blocks(w_q, w_s).double().T


def capability() -> tuple[int, int]:
    """Return the GPU's compute capability, or zeros without one."""
    return torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)


def deep_gemm_runs() -> bool:
    """Return whether DeepGEMM is installed and the GPU one of its."""
    return capability() in ((9, 0), (10, 0)) and importlib.util.find_spec("deep_gemm") is not None


def products() -> dict:
    """Return what can multiply here, by its name."""
    found = {"dequantized, float64": dequantized}
    if capability() == (9, 0):
        found["torch._scaled_mm"] = by_torch
    if deep_gemm_runs():
        found["DeepGEMM"] = by_deep_gemm
    return found


def error(actual: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the relative error of a product, all elements together."""
    return ((actual.double() - exact).norm() / exact.norm()).item()


def matrices(m: int = 256, n: int = 768, k: int = 1536) -> tuple[torch.Tensor, torch.Tensor]:
    """Return activations ``[m, k]`` and a weight ``[n, k]``, whose blocks differ in size."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(rows, k, generator=generator) for rows in (m, n))
    w *= 2.0 ** (torch.arange(k) // 128 % 5) * 2.0 ** (torch.arange(n) // 128 % 3)[:, None]
    return x.bfloat16().to(device), w.bfloat16().to(device)


if __name__ == "__main__":
    x, w = matrices()
    exact = x.double() @ w.double().T
    for name, multiply in products().items():
        print(f"{name:22} relative error {error(multiply(x, w), exact):.4f}")
