"""From one scale format to another, and what is wrong with scales that are in none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import SupportsIndex

import torch

from ptgq.scales.formats import DTYPES, TILE, TMA_BYTES, ScaleFormat, check_format, check_in_format
from ptgq.scales.layouts import (
    check_memory,
    column_lengths,
    empty_scales,
    line_lengths,
    memory_of,
    rows_of_tiles,
    scale_strides,
    shape_of,
    store_scales,
)
from ptgq.scales.rows import check_rows
from ptgq.values import as_int, as_sizes, check_bool, check_tensor, shown

_NOT_EXPONENT = -0x7F800001  # 0x807FFFFF: the sign and the mantissa
_NAN = 0x7FC00000
_SMALLEST = 0x00400000  # 2^-127, the byte 0, is a subnormal float32


def to_float32(s: torch.Tensor, num_groups: SupportsIndex | None = None) -> torch.Tensor:
    """Return scales in any format as float32 ``[..., num_groups]``.

    Parameters
    ----------
    s : torch.Tensor
        float32, ``float8_e8m0fnu`` or int32 (packed), in any layout but tiles, which
        :func:`convert` takes.
    num_groups : int, optional
        Groups of a token. Needed for packed scales, whose last word does not tell how many of its
        bytes are padding.

    Raises
    ------
    TypeError
        If `s` has another dtype.
    ValueError
        If `num_groups` does not fit the last dimension of `s`, or is missing.
    """
    check_tensor("s", s, DTYPES)
    num_groups = _num_groups(s, num_groups)
    if s.dtype is torch.int32:
        return _floats_of(_bytes_of(s)[..., :num_groups])
    return s if s.dtype is torch.float32 else _floats_of(s.view(torch.uint8))


def _num_groups(s: torch.Tensor, given: SupportsIndex | None) -> int:
    size = s.shape[-1]
    num_groups = None if given is None else as_int("num_groups", given)
    if s.dtype is torch.int32:
        if num_groups is None or not max(0, 4 * size - 3) <= num_groups <= 4 * size:
            raise ValueError(
                f"num_groups must be given for packed s, between {4 * size - 3} and {4 * size} for "
                f"{size} words, got {shown(num_groups)}"
            )
        return num_groups
    if num_groups is not None and num_groups != size:
        raise ValueError(f"num_groups must be the last size of s, {size}, got {shown(num_groups)}")
    return size


def convert(
    s: torch.Tensor,
    source: ScaleFormat,
    target: ScaleFormat,
    num_groups: SupportsIndex | None = None,
    *,
    inexact: bool = False,
    shape: Sequence[SupportsIndex] | None = None,
) -> torch.Tensor:
    """Return scales in another format; all work is done on the device of `s`.

    Parameters
    ----------
    s : torch.Tensor
        Scales in the format `source`.
    source, target : ScaleFormat
        What `s` is in, and what is wanted.
    num_groups : int, optional
        Groups of a token, needed for packed `s`.
    shape : tuple of int, optional
        ``[..., num_groups]``, needed for `s` in tiles, whose shape does not tell.
    inexact : bool
        From float32 to powers of two: round up what is none, instead of raising. That changes the
        product ``q * s``, unless `q` is quantized again. It also spares the check, the one step
        for which the host waits.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or `s` not the dtype of `source`.
    ValueError
        If `num_groups` does not fit, if scales are no powers of two (or negative, or infinite)
        and `target` holds nothing else, or if both formats are for group sizes, and not the same.
    """
    check_format("source", source)
    check_format("target", target)
    check_in_format("s", s, source)
    check_bool("inexact", inexact)
    both = source.group_sizes and target.group_sizes
    if both and not {*source.group_sizes} & {*target.group_sizes}:
        raise ValueError(
            f"target must be for groups of {_sizes_of(source)}, as source is, got one for groups "
            f"of {_sizes_of(target)}"
        )
    if source.layout == "tiled":
        scales = _floats_of(_tiled_bytes(s, source, num_groups, shape))
    else:
        scales = to_float32(s, num_groups)
        if shape is not None and as_sizes("shape", shape) != tuple(scales.shape):
            raise ValueError(f"shape must be {tuple(scales.shape)}, as s says, got {tuple(shape)}")
    if target.power_of_two and not source.power_of_two:
        bits = scales.view(torch.int32)
        if inexact:
            bits = (bits + 0x7FFFFF) & 0x7F800000
            scales = bits.view(torch.float32).where(scales.isfinite(), torch.nan)
        else:
            wrong = _not_powers_of_two(scales)
            if wrong:
                raise ValueError(
                    f"s must hold powers of two to become {target.dtype} without a loss: "
                    f"{wrong}; inexact=True rounds up"
                )
    out_shape = tuple(scales.shape)
    if target.layout != "aligned_rows":
        out_shape = shape_of(out_shape, 1, replace(target, group_sizes=()))
    out = empty_scales(out_shape, target, s.device)
    store_scales(scales, out, target)
    return out


def _tiled_bytes(
    s: torch.Tensor,
    source: ScaleFormat,
    num_groups: SupportsIndex | None,
    shape: Sequence[SupportsIndex] | None,
) -> torch.Tensor:
    if shape is None:
        raise ValueError("shape must be given for s in tiles, got None")
    sizes = as_sizes("shape", shape)
    expected = shape_of(sizes, 1, replace(source, group_sizes=()))
    if tuple(s.shape) != expected:
        raise ValueError(
            f"s must have shape {expected} for scales of {sizes}, got {tuple(s.shape)}"
        )
    if num_groups is not None and as_int("num_groups", num_groups) != sizes[-1]:
        raise ValueError(f"num_groups must be {sizes[-1]}, as in shape, got {shown(num_groups)}")
    return rows_of_tiles(s, sizes, source)


def check_scales(
    s: torch.Tensor,
    scale_format: ScaleFormat,
    num_groups: SupportsIndex | None = None,
    *,
    check_finite: bool = True,
    masked_m: torch.Tensor | None = None,
) -> None:
    """Raise if a consumer of `scale_format` would read something else from `s`; say what.

    Reads all values, once or twice: on a GPU the host waits for them.

    Parameters
    ----------
    s : torch.Tensor
        The scales.
    scale_format : ScaleFormat
        What they should be in.
    num_groups : int, optional
        Groups of a token: with it, the padding bytes of packed scales are checked, too.
    check_finite : bool
        Whether a NaN or an infinity is wrong, too. ptgq marks groups with a NaN: the presets of
        :class:`ScaleFormat` say what that does to their consumers.
    masked_m : torch.Tensor, optional
        What `s` was quantized with. Rows past it do not exist: their scales are to be 0. Tiles of
        several batches need ``per_batch``.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or `s` the wrong dtype.
    ValueError
        For wrong strides or alignment, memory that ends before the padding does, padding other than
        0, values that are no powers of two, or not finite; with the first of them. Tensors without
        values (on meta) are refused.
    """
    check_in_format("s", s, scale_format)
    check_bool("check_finite", check_finite)
    if num_groups is not None:
        num_groups = as_int("num_groups", num_groups)
    if s.is_meta:
        raise ValueError("s must have values to check, got a tensor on meta")
    tiled = scale_format.layout == "tiled"
    if tiled and (s.dim() != 2 or s.shape[0] % TILE[0] or s.shape[1] % TILE[1]):
        raise ValueError(f"s must have two sizes, multiples of {TILE}, got {tuple(s.shape)}")
    want = scale_strides(s.shape, scale_format)
    # Consumers compare the stride between columns even of one column.
    last = (True,) if scale_format.tma_aligned else ()
    fixed = (*(size > 1 for size in s.shape[: s.dim() - len(last)]), *last)
    if s.numel() and any(f and a != b for f, a, b in zip(fixed, s.stride(), want, strict=True)):
        tokens, length = column_lengths(s.shape, scale_format)
        padding = f", {length - tokens} of padding" if length > tokens else ""
        columns = f": columns of {tokens} tokens{padding}" if scale_format.column_major else ""
        raise ValueError(
            f"s must be {scale_format.layout}, with strides {want}{columns}; got {s.stride()}"
        )
    if tiled:
        _check_tiles(s, num_groups)
        num_groups = None
    if scale_format.aligned and s.numel():
        check_memory(s, scale_format)
        used, length = line_lengths(s.shape, scale_format)
        lines = memory_of(s, scale_format).unflatten(0, (-1, length))
        if (lines[:, used:] != 0).any():
            of_line = "blocks of a row" if not scale_format.tma_aligned else "tokens of a column"
            raise ValueError(f"s must have 0 as padding behind the {of_line}, got others")
    if num_groups is not None:
        _num_groups(s, num_groups)
    if masked_m is not None:
        s = check_rows(s, scale_format, masked_m)
    values = s
    if scale_format.packed:
        values, beyond = _bytes_of(s).tensor_split((num_groups or 4 * s.shape[-1],), -1)
        if beyond.any():
            raise ValueError(
                f"s must have 0 as bytes past group {num_groups} in its last words, got others"
            )
    if scale_format.power_of_two and s.dtype is torch.float32:
        wrong = _not_powers_of_two(s)
        if wrong:
            raise ValueError(f"s must hold powers of two: {wrong}")
    if check_finite:
        is_float = s.dtype is torch.float32
        marked = ~values.isfinite() if is_float else values.view(torch.uint8) == 0xFF
        if marked.any():
            count, at = _count_and_first(marked)
            raise ValueError(
                f"s must be finite: {count} of {marked.numel()} are not, first that of group {at}; "
                "a group that held a NaN or an infinity has NaN"
            )


def _check_tiles(s: torch.Tensor, num_groups: int | None) -> None:
    if s.data_ptr() % TMA_BYTES:
        raise ValueError(f"s must start at a multiple of {TMA_BYTES} bytes, got {s.data_ptr():#x}")
    if num_groups is None or s.numel() == 0:
        return
    if not max(0, s.shape[1] - 3) <= num_groups <= s.shape[1]:
        raise ValueError(f"num_groups must fit the last size of s, {s.shape[1]}, got {num_groups}")
    # Of the last groups of each token, whichever tokens there are.
    ends = s.view(torch.uint8).reshape(-1, s.shape[1] // TILE[1], *TILE)[:, -1]
    if ends[..., num_groups - s.shape[1] + 4 :].any():
        raise ValueError(f"s must have 0 as bytes past group {num_groups}, got others")


def _floats_of(exponents: torch.Tensor) -> torch.Tensor:
    # float8_e8m0fnu's own conversion gives NaNs that depend on the device.
    bits = exponents.to(torch.int32) << 23
    bits = bits.masked_fill(exponents == 0, _SMALLEST).masked_fill(exponents == 0xFF, _NAN)
    return bits.view(torch.float32)


def _bytes_of(packed: torch.Tensor) -> torch.Tensor:
    # Not by view: torch's compiler lays out a copy as it likes, and can't view all of that.
    parts = [(packed >> bits & 0xFF).to(torch.uint8) for bits in (0, 8, 16, 24)]
    return torch.stack(parts, -1).flatten(-2)


def _sizes_of(f: ScaleFormat) -> str:
    sizes = " or ".join(map(str, f.group_sizes))
    return f"{sizes} ({f.preset})" if f.preset else sizes


def _not_powers_of_two(scales: torch.Tensor) -> str | None:
    bits = scales.view(torch.int32)
    right = ((bits & _NOT_EXPONENT) == 0) & (bits != 0) & (bits != 0x7F800000)
    wrong = ~(right | (bits == _SMALLEST) | scales.isnan())
    if not wrong.any():
        return None
    count, at = _count_and_first(wrong)
    return f"{count} of {scales.numel()} are none, first {scales[at].item()!r} at {at}"


def _count_and_first(mask: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    return int(mask.sum()), tuple(mask.nonzero()[0].tolist())
