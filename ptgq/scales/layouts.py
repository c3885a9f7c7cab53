"""Where scales lie in memory: shapes, strides, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import SupportsIndex

import torch

from ptgq.scales.formats import TMA_BYTES, ScaleFormat, check_format, check_in_format
from ptgq.values import as_ints, as_sizes, check_group_size, check_tensor, shown


def scale_shape(
    shape: Sequence[SupportsIndex],
    group_size: SupportsIndex,
    scale_format: ScaleFormat | None = None,
) -> tuple[int, ...]:
    """Return the shape of the scales of a tensor of `shape` ``[..., hidden_dim]``.

    It is ``[..., hidden_dim // group_size]`` in every layout; packed, the last dimension is a
    quarter of that, rounded up. Of tiles it has two dimensions, of multiples of 128 and 4.

    Raises
    ------
    TypeError
        If an argument has a wrong type.
    ValueError
        If `group_size` does not divide ``hidden_dim``, or the format's consumer does not read it.
    """
    shape = as_sizes("shape", shape)
    group_size = check_group_size(group_size, shape, "shape")
    if scale_format is not None:
        check_format("scale_format", scale_format)
    return shape_of(shape, group_size, scale_format)


def shape_of(
    shape: tuple[int, ...], group_size: int, scale_format: ScaleFormat | None
) -> tuple[int, ...]:
    """The same of sizes that are checked, or tensors, as torch.jit.trace has them."""
    num_groups = shape[-1] // group_size
    if scale_format is not None:
        if scale_format.layout == "aligned_rows":
            raise ValueError(
                "scale_format must be of groups, got aligned_rows, which hold the scales of blocks"
            )
        accepted = scale_format.group_sizes
        if accepted and group_size not in accepted:
            reader = scale_format.preset or "the consumer of this scale_format"
            raise ValueError(
                f"group_size must be {' or '.join(map(str, accepted))}, as {reader} reads no "
                f"others, got {group_size}"
            )
        if scale_format.layout == "tiled":
            _, length = _column_lengths(shape, scale_format)
            batches = math.prod(shape[:-2]) if scale_format.per_batch else 1
            return batches * length, -(-num_groups // 4) * 4
        if scale_format.packed:
            num_groups = -(-num_groups // 4)
    return (*shape[:-1], num_groups)


def column_lengths(shape: Sequence[SupportsIndex], scale_format: ScaleFormat) -> tuple[int, int]:
    """Return the tokens of a column of scales of `shape`, without and with its padding."""
    check_format("scale_format", scale_format)
    return _column_lengths(as_sizes("shape", shape), scale_format)


def _column_lengths(shape: tuple[int, ...], scale_format: ScaleFormat) -> tuple[int, int]:
    tokens = math.prod(shape[-2:-1]) if scale_format.per_batch else math.prod(shape[:-1])
    return tokens, -(-tokens // scale_format.token_unit) * scale_format.token_unit


def _row_length(shape: tuple[int, ...], scale_format: ScaleFormat) -> int:
    """Return the elements from one row of scales to the next, where they are not columns."""
    if scale_format.layout != "aligned_rows":
        return shape[-1]
    unit = TMA_BYTES // scale_format.dtype.itemsize
    return -(-shape[-1] // unit) * unit


def line_lengths(shape: tuple[int, ...], scale_format: ScaleFormat) -> tuple[int, int]:
    """Return the scales of what is padded, a column or a row, without and with its padding."""
    if scale_format.layout == "aligned_rows":
        return shape[-1], _row_length(shape, scale_format)
    return _column_lengths(shape, scale_format)


def scale_strides(shape: Sequence[SupportsIndex], scale_format: ScaleFormat) -> tuple[int, ...]:
    """Return the strides, in elements, of scales of `shape`, see :func:`scale_shape`."""
    check_format("scale_format", scale_format)
    return strides_of(as_sizes("shape", shape), scale_format)


def strides_of(shape: tuple[int, ...], scale_format: ScaleFormat) -> tuple[int, ...]:
    """The same of arguments that are checked."""
    _, length = _column_lengths(shape, scale_format)
    strides = [length if scale_format.column_major else 1]
    stride = 1 if scale_format.column_major else _row_length(shape, scale_format)
    for dim in range(len(shape) - 2, -1, -1):
        strides.append(stride)
        stride *= shape[dim]
        if scale_format.per_batch and dim == len(shape) - 2:
            stride = shape[-1] * length
    return tuple(reversed(strides))


def num_elements(shape: Sequence[SupportsIndex], scale_format: ScaleFormat) -> int:
    """Return how many elements scales of `shape` take in memory, padding included."""
    check_format("scale_format", scale_format)
    return _num_elements(as_sizes("shape", shape), scale_format)


def _num_elements(shape: tuple[int, ...], scale_format: ScaleFormat) -> int:
    _, length = _column_lengths(shape, scale_format)
    batches = math.prod(shape[:-2]) if scale_format.per_batch else 1
    return batches * _row_length(shape, scale_format) * length


def empty_scales(
    shape: Sequence[SupportsIndex], scale_format: ScaleFormat, device: torch.device | str
) -> torch.Tensor:
    """Allocate scales of `shape`, see :func:`scale_shape`, with their padding, not initialized."""
    check_format("scale_format", scale_format)
    return allocate(as_sizes("shape", shape), scale_format, _device(device))


def allocate(
    shape: tuple[int, ...], scale_format: ScaleFormat, device: torch.device
) -> torch.Tensor:
    """The same of arguments that are checked."""
    if not scale_format.column_major and not scale_format.aligned:
        return torch.empty(shape, dtype=scale_format.dtype, device=device)
    strides = strides_of(shape, scale_format)
    if not scale_format.aligned:
        return torch.empty_strided(shape, strides, dtype=scale_format.dtype, device=device)
    # empty_strided's memory would end with the last scale.
    size = _num_elements(shape, scale_format)
    memory = torch.empty(size, dtype=scale_format.dtype, device=device)
    return memory.as_strided(shape, strides)


def _device(device: torch.device | str) -> torch.device:
    if isinstance(device, torch.device):
        return device
    if not isinstance(device, str):
        raise TypeError(f"device must be a torch.device or its name, got {shown(device)}")
    try:
        return torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be a torch.device or its name, got {device!r}") from None


def has_strides(tensor: torch.Tensor, strides: Sequence[SupportsIndex]) -> bool:
    """Whether `tensor` has these strides where they matter (sizes of 0 or 1 fix none)."""
    check_tensor("tensor", tensor, None)
    strides = as_ints("strides", strides)
    if len(strides) != tensor.dim():
        raise ValueError(f"strides must be as many as tensor's {tensor.dim()} sizes, got {strides}")
    return strides_match(tensor, strides)


def strides_match(tensor: torch.Tensor, strides: tuple[int, ...]) -> bool:
    """The same of arguments that are checked."""
    return tensor.numel() == 0 or all(
        size == 1 or have == want
        for size, have, want in zip(tensor.shape, tensor.stride(), strides, strict=True)
    )


def check_memory(s: torch.Tensor, scale_format: ScaleFormat, name: str = "s") -> None:
    """Raise unless aligned scales start at 16 bytes and own all their padding.

    `name` is what messages call `s`.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or `s` another dtype than the format.
    ValueError
        If the memory is not what the format asks for.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {shown(name)}")
    check_in_format(name, s, scale_format)
    if s.is_meta or s.numel() == 0 or not scale_format.aligned:
        return
    if s.data_ptr() % TMA_BYTES:
        raise ValueError(
            f"{name} must start at a multiple of {TMA_BYTES} bytes, got {s.data_ptr():#x}"
        )
    _memory_of(s, scale_format, name)


def memory_of(s: torch.Tensor, scale_format: ScaleFormat) -> torch.Tensor:
    """Return all memory of `s`, padding included, in the order of its addresses."""
    check_in_format("s", s, scale_format)
    return _memory_of(s, scale_format, "s")


def _memory_of(s: torch.Tensor, scale_format: ScaleFormat, name: str) -> torch.Tensor:
    size = _num_elements(s.shape, scale_format)
    line = "row" if scale_format.layout == "aligned_rows" else "column"
    if (s.storage_offset() + size) * s.element_size() > s.untyped_storage().nbytes():
        raise ValueError(
            f"{name} must own the padding of its last {line}, got memory that ends before it: "
            "allocate with ptgq.scales.empty_scales"
        )
    return s.as_strided((size,), (1,))


def store_scales(scales: torch.Tensor, s: torch.Tensor, scale_format: ScaleFormat) -> None:
    """Write float32 `scales` ``[..., num_groups]`` into `s`, all padding as 0.

    Powers of two where the format asks for them; the leading dimensions of both have as many
    elements, but for tiles, whose shape follows from that of `scales`.

    Raises
    ------
    TypeError
        If an argument has a wrong type or dtype.
    ValueError
        If the sizes of `scales` do not fit those of `s`, or `s` does not own its padding.
    """
    check_tensor("scales", scales, (torch.float32,))
    check_in_format("s", s, scale_format)
    num_groups = scales.shape[-1]
    if scale_format.layout == "tiled":
        fits = tuple(s.shape) == shape_of(
            tuple(scales.shape), 1, replace(scale_format, group_sizes=())
        )
    else:
        words = -(-num_groups // 4) if scale_format.packed else num_groups
        tokens, expected = math.prod(scales.shape[:-1]), math.prod(s.shape[:-1])
        fits = (tokens, words) == (expected, s.shape[-1])
    if not fits:
        raise ValueError(
            f"scales must have as many tokens and groups as s of shape {tuple(s.shape)}, got shape "
            f"{tuple(scales.shape)}"
        )
    if scale_format.layout == "tiled":
        _store_tiles(scales, s, scale_format)
        return
    if scale_format.aligned:
        memory_of(s, scale_format).zero_()
    scales = scales.reshape(*s.shape[:-1], num_groups)
    if scale_format.dtype is torch.float32:
        s.copy_(scales)
        return
    exponents = scales.view(torch.int32) >> 23
    if scale_format.packed:
        padding = 4 * s.shape[-1] - num_groups
        as_bytes = torch.nn.functional.pad(exponents, (0, padding)).to(torch.uint8).contiguous()
        s.copy_(as_bytes.view(torch.int32))
    else:
        s.view(torch.uint8).copy_(exponents)


def _store_tiles(scales: torch.Tensor, s: torch.Tensor, scale_format: ScaleFormat) -> None:
    if s.numel() == 0:
        return
    tokens, length = _column_lengths(tuple(scales.shape), scale_format)
    exponents = (scales.reshape(-1, tokens, scales.shape[-1]).view(torch.int32) >> 23).byte()
    padding = (0, s.shape[1] - scales.shape[-1], 0, length - tokens)
    tiles = torch.nn.functional.pad(exponents, padding).reshape(-1, 4, 32, s.shape[1] // 4, 4)
    s.view(torch.uint8).copy_(tiles.permute(0, 3, 2, 1, 4).reshape(s.shape))


def rows_of_tiles(
    s: torch.Tensor, shape: tuple[int, ...], scale_format: ScaleFormat
) -> torch.Tensor:
    """Return the bytes of tiles as `shape` ``[..., num_groups]``."""
    if s.numel() == 0:
        return s.view(torch.uint8).reshape(shape)
    tokens, length = _column_lengths(shape, scale_format)
    tiles = s.view(torch.uint8).reshape(-1, s.shape[1] // 4, 32, 4, 4)
    rows = tiles.permute(0, 3, 2, 1, 4).reshape(-1, length, s.shape[1])
    return rows[:, :tokens, : shape[-1]].reshape(shape)
