"""Scales of blocks: their sizes, and which formats have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex

import torch

from ptgq.scales.formats import ScaleFormat, check_format
from ptgq.values import as_ints, as_sizes, shown

_LARGEST = 2**63 - 1


def block_scale_shape(
    shape: Sequence[SupportsIndex],
    block_size: Sequence[SupportsIndex],
    scale_format: ScaleFormat | None = None,
) -> tuple[int, ...]:
    """Return the shape of the scales of blocks of a tensor of `shape` ``[..., N, K]``.

    It is ``[..., ceil(N / rows), ceil(K / columns)]`` for a `block_size` of (rows, columns).

    Raises
    ------
    TypeError
        If an argument has a wrong type.
    ValueError
        If `shape` or `block_size` is none, or the format is not of blocks, or not of this size.
    """
    shape = as_sizes("shape", shape)
    if len(shape) < 2:
        raise ValueError(f"shape must have at least two dimensions, got {shape}")
    if scale_format is not None:
        check_format("scale_format", scale_format)
    return block_shape_of(shape, check_block_size(block_size), scale_format)


def check_block_size(block_size: Sequence[SupportsIndex]) -> tuple[int, int]:
    """Return it as two ints; raise unless it is a tuple of two that are at least 1."""
    size = as_ints("block_size", block_size)
    if len(size) != 2 or min(size) < 1:
        shown_size = f"({', '.join(map(shown, size))})" if len(size) < 5 else shown(size)
        raise ValueError(f"block_size must be two sizes of at least 1, got {shown_size}")
    # Sizes that no op takes cut no matrix off either.
    return min(size[0], _LARGEST), min(size[1], _LARGEST)


def block_shape_of(
    shape: tuple[int, ...], block_size: tuple[int, int], scale_format: ScaleFormat | None
) -> tuple[int, ...]:
    """The same of arguments that are checked."""
    if scale_format is not None:
        accepted = scale_format.group_sizes
        if accepted and block_size not in accepted:
            reader = scale_format.preset or "the consumer of this scale_format"
            raise ValueError(
                f"block_size must be {' or '.join(map(str, accepted))}, as {reader} reads no "
                f"others, got {block_size}"
            )
        if scale_format.layout not in ("row_major", "aligned_rows") or scale_format.packed:
            raise ValueError(
                "scale_format must be row_major or aligned_rows, of an element a block, got "
                f"{scale_format.layout} of {scale_format.dtype}"
            )
    rows, columns = block_size
    return (*shape[:-2], -(-shape[-2] // rows), -(-shape[-1] // columns))


def sides_inside(shape: tuple[int, ...], block_size: tuple[int, int]) -> tuple[int, int]:
    """Return the sizes of a block as far as it is inside a `shape` ``[..., N, K]``."""
    rows, columns = (min(size, max(1, n)) for size, n in zip(block_size, shape[-2:], strict=True))
    return rows, columns


def of_elements(
    scales: torch.Tensor, shape: tuple[int, ...], block_size: tuple[int, int]
) -> torch.Tensor:
    """Return the scale of each element of a `shape` ``[..., N, K]``."""
    rows, columns = sides_inside(shape, block_size)
    down = scales.repeat_interleave(rows, -2)[..., : shape[-2], :]
    return down.repeat_interleave(columns, -1)[..., : shape[-1]]
