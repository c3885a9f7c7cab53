"""Blocks in plain PyTorch: the numerics contract with a block in place of a group."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from ptgq.backends.reference import _CHUNK, QMAX, _codes_of, _scales_of
from ptgq.scales import ScaleFormat, store_scales, to_float32
from ptgq.scales.blocks import of_elements


@torch.no_grad()
def per_block_quant(
    w: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    block_size: tuple[int, int],
    eps: float,
    scale_format: ScaleFormat,
    saturate: bool = False,
) -> None:
    """Quantize `w` ``[batches, N, K]`` in blocks into `q` and `s`."""
    # Larger blocks than the matrix are the matrix.
    rows, columns = (min(size, n) for size, n in zip(block_size, w.shape[1:], strict=True))
    codes = q.view(w.shape)
    scales = torch.empty(len(w), *s.shape[-2:], dtype=torch.float32, device=w.device)
    step = max(1, _CHUNK // (rows * w.shape[2]))
    for batch, first in ((b, i) for b in range(len(w)) for i in range(0, s.shape[-2], step)):
        part = w[batch, first * rows : (first + step) * rows].float()
        # What a block at an edge lacks counts as 0, which changes no absmax.
        missing = (0, -part.shape[1] % columns, 0, -part.shape[0] % rows)
        blocks = pad(part, missing).unflatten(1, (-1, columns)).unflatten(0, (-1, rows))
        blocks = blocks.transpose(1, 2).flatten(-2)
        counted = blocks.where(blocks.isfinite(), 0) if saturate else blocks
        scale = _scales_of(counted, QMAX[q.dtype], eps, scale_format.power_of_two)
        scales[batch, first : first + step] = scale
        padded = _codes_of(blocks, scale, q.dtype).unflatten(-1, (rows, columns)).transpose(1, 2)
        padded = padded.reshape(-1, scale.shape[1] * columns)
        codes[batch, first * rows : (first + step) * rows] = padded[: len(part), : part.shape[1]]
    store_scales(scales.view(s.shape), s, scale_format)


def dequantize(
    q: torch.Tensor, s: torch.Tensor, block_size: tuple[int, int], dtype: torch.dtype
) -> torch.Tensor:
    """Return ``q * s`` block by block, in float32, rounded once; autograd follows it."""
    return (q.float() * of_elements(to_float32(s), q.shape, block_size)).to(dtype)
