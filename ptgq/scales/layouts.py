"""Where scales lie in memory: shapes, strides, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ptgq.scales.formats import TMA_BYTES, ScaleFormat


def scale_shape(
    shape: Sequence[int], group_size: int, scale_format: ScaleFormat | None = None
) -> tuple[int, ...]:
    """Return the shape of the scales of a tensor of `shape` ``[..., hidden_dim]``.

    It is ``[..., hidden_dim // group_size]`` in every layout; packed, the last dimension is a
    quarter of that, rounded up.
    """
    num_groups = shape[-1] // group_size
    if scale_format is not None and scale_format.packed:
        num_groups = -(-num_groups // 4)
    return (*shape[:-1], num_groups)


def column_lengths(shape: Sequence[int], scale_format: ScaleFormat) -> tuple[int, int]:
    """Return the tokens of a column of scales of `shape`, without and with its padding."""
    tokens = math.prod(shape[-2:-1]) if scale_format.per_batch else math.prod(shape[:-1])
    unit = TMA_BYTES // scale_format.dtype.itemsize if scale_format.tma_aligned else 1
    return tokens, -(-tokens // unit) * unit


def scale_strides(shape: Sequence[int], scale_format: ScaleFormat) -> tuple[int, ...]:
    """Return the strides, in elements, of scales of `shape`, see :func:`scale_shape`."""
    _, length = column_lengths(shape, scale_format)
    strides = [length if scale_format.column_major else 1]
    stride = 1 if scale_format.column_major else shape[-1]
    for dim in range(len(shape) - 2, -1, -1):
        strides.append(stride)
        stride *= shape[dim]
        if scale_format.per_batch and dim == len(shape) - 2:
            stride = shape[-1] * length
    return tuple(reversed(strides))


def num_elements(shape: Sequence[int], scale_format: ScaleFormat) -> int:
    """Return how many elements scales of `shape` take in memory, padding included."""
    tokens, length = column_lengths(shape, scale_format)
    return math.prod(shape) // max(1, tokens) * length


def empty_scales(
    shape: Sequence[int], scale_format: ScaleFormat, device: torch.device
) -> torch.Tensor:
    """Allocate scales of `shape`, see :func:`scale_shape`, with their padding, not initialized."""
    if not scale_format.column_major:
        return torch.empty(shape, dtype=scale_format.dtype, device=device)
    strides = scale_strides(shape, scale_format)
    if not scale_format.tma_aligned:
        return torch.empty_strided(shape, strides, dtype=scale_format.dtype, device=device)
    # Not empty_strided: its memory would end with the last token of the last column.
    memory = torch.empty(num_elements(shape, scale_format), dtype=scale_format.dtype, device=device)
    return memory.as_strided(shape, strides)


def has_strides(tensor: torch.Tensor, strides: Sequence[int]) -> bool:
    """Whether `tensor` has these strides where they matter (sizes of 0 or 1 fix none)."""
    return tensor.numel() == 0 or all(
        size == 1 or have == want
        for size, have, want in zip(tensor.shape, tensor.stride(), strides, strict=True)
    )


def check_memory(s: torch.Tensor, scale_format: ScaleFormat, name: str = "s") -> None:
    """Raise ValueError unless TMA-aligned scales start at 16 bytes and own all their padding."""
    if s.is_meta or s.numel() == 0:
        return
    if s.data_ptr() % TMA_BYTES:
        raise ValueError(
            f"{name} must start at a multiple of {TMA_BYTES} bytes, got {s.data_ptr():#x}"
        )
    end = (s.storage_offset() + num_elements(s.shape, scale_format)) * s.element_size()
    if end > s.untyped_storage().nbytes():
        raise ValueError(
            f"{name} must own the padding of its last column, got memory that ends before it: "
            "allocate with ptgq.scales.empty_scales"
        )


def memory_of(s: torch.Tensor, scale_format: ScaleFormat) -> torch.Tensor:
    """Return all memory of `s`, padding included, in the order of its addresses."""
    return s.as_strided((num_elements(s.shape, scale_format),), (1,))


def store_scales(scales: torch.Tensor, s: torch.Tensor, scale_format: ScaleFormat) -> None:
    """Write float32 `scales` ``[..., num_groups]`` into `s`, all padding as 0.

    Powers of two where the format asks for them; the leading dimensions of both have as many
    elements.
    """
    if scale_format.tma_aligned:
        memory_of(s, scale_format).zero_()
    scales = scales.reshape(*s.shape[:-1], scales.shape[-1])
    if scale_format.dtype is torch.float32:
        s.copy_(scales)
        return
    exponents = scales.view(torch.int32) >> 23
    if scale_format.packed:
        padding = 4 * s.shape[-1] - exponents.shape[-1]
        as_bytes = torch.nn.functional.pad(exponents, (0, padding)).to(torch.uint8).contiguous()
        s.copy_(as_bytes.view(torch.int32))
    else:
        s.view(torch.uint8).copy_(exponents)
