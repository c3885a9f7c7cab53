"""``x[e] @ w[e].T`` in FP8 of the tokens that each expert has, and how far that is from float64.

Of expert e's rows of x the first ``counts[e]`` are tokens, and the host never learns how many. On a
GPU of compute capability 9.0 or 10.0 DeepGEMM's masked grouped GEMM multiplies, where it is
installed; everywhere the operands, dequantized, are multiplied in float64, as in
``block_scaled_gemm.py`` beside it: ``python examples/masked_grouped_gemm.py``.
"""

from __future__ import annotations

import torch
from block_scaled_gemm import deep_gemm_formats, deep_gemm_runs, error

import ptgq

Quantized = tuple[torch.Tensor, torch.Tensor]


def quantize(x: torch.Tensor, w: torch.Tensor, counts: torch.Tensor) -> tuple[Quantized, Quantized]:
    """Return the operands as DeepGEMM reads them; x's rows that are no tokens are not read."""
    of_x, of_w = deep_gemm_formats(per_batch=True)
    return (
        ptgq.per_token_group_quant_fp8(x, 128, scale_format=of_x, masked_m=counts),
        ptgq.per_block_quant_fp8(w, scale_format=of_w),
    )


def by_deep_gemm(x: Quantized, w: Quantized, counts: torch.Tensor) -> torch.Tensor:
    """Return the product by DeepGEMM, whose rows that are no tokens hold anything.

    It writes whole blocks, of up to 128 rows: unless their number is a multiple of 128, an expert's
    last block would reach into the next expert's rows.
    """
    import deep_gemm

    experts, rows, _ = x[0].shape
    shape = experts, rows, w[0].shape[1]
    product = torch.empty(shape, dtype=torch.bfloat16, device=counts.device)
    # As many tokens as an expert is expected to have: all that may be, as a captured graph must.
    deep_gemm.m_grouped_fp8_fp4_gemm_nt_masked(x, w, product, counts, rows)
    return product


def dequantized(x: Quantized, w: Quantized) -> torch.Tensor:
    """Return the product of what the operands stand for, in float64."""
    return ptgq.dequantize(*x, 128).double() @ ptgq.dequantize_blocks(*w).double().mT


def are_tokens(counts: torch.Tensor, rows: int) -> torch.Tensor:
    """Return which rows are tokens, ``[experts, rows]``."""
    return torch.arange(rows, device=counts.device) < counts[:, None]


def tensors(
    rows: int = 256, n: int = 768, k: int = 1536
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return x ``[experts, rows, k]``, w ``[experts, n, k]`` and counts; groups differ in size."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    counts = torch.tensor([0, 1, rows, 77, rows // 2, rows - 1], dtype=torch.int32)
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(len(counts), size, k, generator=generator) for size in (rows, n))
    x *= 2.0 ** (torch.arange(k) // 128 % 3) * 2.0 ** (torch.arange(rows) % 4)[:, None]
    w *= 2.0 ** (torch.arange(k) // 128 % 5) * 2.0 ** (torch.arange(n) // 128 % 3)[:, None]
    w *= 2.0 ** (torch.arange(len(counts)) % 3)[:, None, None]
    return x.bfloat16().to(device), w.bfloat16().to(device), counts.to(device)


if __name__ == "__main__":
    x, w, counts = tensors()
    exact = x.double() @ w.double().mT
    operands = quantize(x, w, counts)
    products = {"dequantized, float64": dequantized(*operands)}
    if deep_gemm_runs():
        products["DeepGEMM, masked"] = by_deep_gemm(*operands, counts)
    tokens = are_tokens(counts, x.shape[1])
    for name, product in products.items():
        print(f"{name:22} relative error {error(product[tokens], exact[tokens]):.4f}")
