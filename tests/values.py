"""Inputs whose groups are the hard cases, one after the other, among random ones."""

from __future__ import annotations

import torch

from ptgq.scales.known import INPUT_DTYPES

DTYPES = tuple(getattr(torch, name) for name in INPUT_DTYPES)


def random_input(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 42) -> torch.Tensor:
    """``randn * 8``, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * 8).to(dtype)


def hard_input(
    num_tokens: int, hidden_dim: int, group_size: int, dtype: torch.dtype, seed: int = 0
) -> torch.Tensor:
    """``[num_tokens, hidden_dim]``: each group is one of the cases below, in turn."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_tokens * hidden_dim // group_size, group_size)
    x = torch.randn(shape, generator=generator)
    info = torch.finfo(dtype)
    half_steps = torch.arange(group_size) + 0.5
    cases = [
        lambda g: g * 8,
        lambda g: g * 0,
        lambda g: g * 0 * -1,
        lambda g: g.clamp(-1, 1).index_fill(-1, torch.tensor([0]), 448.0 * 2**-6),
        lambda g: g.clamp(-1, 1).index_fill(-1, torch.tensor([0]), 4 * (1 + info.eps)),
        lambda g: g.sign() * info.max,
        lambda g: g * info.max / 8,
        lambda g: g * info.tiny * info.eps * 4,
        lambda g: g * info.tiny,
        # Ties: with absmax = qmax the scale is 1, and each x is half-way between two codes.
        lambda g: (half_steps % 127).index_fill(0, torch.tensor([0]), 127.0) * g.sign(),
        lambda g: (16 + half_steps % 15 * 2).index_fill(0, torch.tensor([0]), 448.0) * g.sign(),
        lambda g: (half_steps % 16 * 2**-9).index_fill(0, torch.tensor([0]), 448.0) * g.sign(),
        lambda g: g.index_fill(-1, torch.tensor([group_size // 2]), torch.nan),
        lambda g: g.index_fill(-1, torch.tensor([group_size - 1]), torch.inf),
        lambda g: g.index_fill(-1, torch.tensor([0]), -torch.inf),
        lambda g: g * torch.logspace(-9, 1, group_size),
    ]
    for case, make in enumerate(cases):
        x[case :: len(cases)] = make(x[case :: len(cases)])
    return x.to(dtype).reshape(num_tokens, hidden_dim)


def padded_rows(batches, tokens, groups, group_size, dtype, silu=False):
    """Rows of which each batch has more memory than tokens, as has each row than elements."""
    width = groups * group_size * (2 if silu else 1)
    rows = hard_input(batches * (tokens + 2), width, group_size, dtype)
    # Rows begin at 16 bytes, as those of the fast kernels do.
    memory = torch.full((batches, tokens + 2, width + 16), torch.nan, dtype=dtype)
    memory[..., :width] = rows.view(batches, tokens + 2, width)
    return memory[:, 1 : tokens + 1, :width]
