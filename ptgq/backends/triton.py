"""The op in Triton: choice of the kernel, and its launch.

Of an eager call, ``kernel[grid](...)`` takes the longest: it looks at each argument to find the
compiled kernel to launch. A direct call (see :mod:`ptgq.extension`) finds it by what the call is,
and launches it as a program does that compiled it itself, ``compiled[grid](...)``, by addresses:
hooks and profilers see the launch. The first launch of a kind is ordinary, and so is any of
pointers that 16 does not divide or sizes past 30 bits, for which Triton compiles kernels of their
own, and any while Triton instruments kernels.
"""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import torch
import triton

from ptgq.backends.reference import QMAX
from ptgq.backends.triton_kernel import per_token_group_quant_kernel
from ptgq.backends.triton_masked_kernel import per_token_group_quant_masked_kernel
from ptgq.backends.triton_rms_norm import rms_norm_directly as rms_norm_directly
from ptgq.backends.triton_rms_norm import (
    rms_norm_per_token_group_quant as rms_norm_per_token_group_quant,
)
from ptgq.extension import increment_version, prepare
from ptgq.scales import ScaleFormat, column_lengths, memory_of
from ptgq.scales.formats import encode_format

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Elements of a group that a program holds at a time; larger groups are read twice.
_MAX_BLOCK = 4096
# Elements a program quantizes: 32 for each of its 128 threads.
_TILE = 4096
_WARPS = 4
# Column-major, tokens of a tile: their scales of a group, a byte each, fill a sector of 32 bytes.
_TOKENS = 32
# Programs of masked rows: a multiprocessor holds about eight, a few times over. The zeros that one
# stores at a time.
_PROGRAMS = 4 * 8
_ZEROS = 1024
# What 31 bits count, with what tiles reach beyond.
_SMALL = 2**30


class Launch(NamedTuple):
    """A compiled kernel, and what its launches have in common."""

    kernel: Any
    tile: tuple[int, int]
    column_major: bool
    constants: tuple[Any, ...]


class Masked(NamedTuple):
    """Where the counts of rows lie, and the batches."""

    address: int  # 0: all rows exist
    count_stride: int
    batches: int
    batch_tokens: int
    x_batch_stride: int


_launches: dict[tuple[Any, ...] | None, Launch] = {}


def _key(
    device: int,
    dtypes: tuple[torch.dtype, ...],
    pointers: tuple[int, int, int],
    sizes: tuple[int, int, int, int, int, int],
    group_size: int,
    code: int,
    silu: bool,
    limited: bool,
    saturate: bool,
    masked: Masked | None = None,
    counts: torch.dtype | None = None,
) -> tuple[Any, ...] | None:
    """Return what determines the compiled kernel, or None for the rare ones."""
    x, q, s = pointers
    num_tokens, num_groups, stride, s_groups, column_tokens, column_length = sizes
    rows = num_tokens // column_tokens * column_length
    if (x | q | s) % 16 or stride >= 2**31 or max(rows, group_size) * s_groups >= _SMALL:
        return None
    strides = stride == num_groups * group_size, stride == 1, stride % 16 == 0
    padded = rows > column_tokens or s_groups > num_groups
    rule = None
    if masked is not None:
        if masked.x_batch_stride >= 2**31 or masked.count_stride >= 2**31:
            return None
        own_columns = column_tokens < num_tokens
        rule = counts, masked.x_batch_stride == 1, masked.x_batch_stride % 16 == 0, own_columns
    return device, dtypes, strides, group_size, code, silu, limited, saturate, padded, rule


def specialized(*sizes: int) -> tuple[int, ...]:
    """Return what Triton compiles others for: sizes of 1, and those that 16 divides."""
    return tuple(n == 1 or (n % 16 == 0) * 16 for n in sizes)


def _tile(group_size: int, column_major: bool) -> tuple[int, int]:
    """The tokens, and the groups of each, that a program quantizes."""
    groups = max(1, _TILE // triton.next_power_of_2(group_size))
    tokens = min(_TOKENS, groups) if column_major else 1
    return tokens, groups // tokens


def _grid(rows: int, groups: int, tile: tuple[int, int], column_major: bool) -> tuple[int, ...]:
    if column_major:
        return -(-rows // tile[0]) * -(-groups // tile[1]), 1, 1
    return -(-rows * groups // tile[1]), 1, 1


def _chunks(masked: Masked, s_groups: int, tile: tuple[int, int], device: int) -> int:
    """Return the programs of a batch."""
    tiles = -(-masked.batch_tokens // tile[0]) * -(-s_groups // tile[1])
    wanted = -(-_PROGRAMS * _multiprocessors(device) // masked.batches)
    return max(1, min(tiles, wanted))


@functools.cache
def _multiprocessors(device: int) -> int:
    if device < 0:  # the interpreter's: few programs, each of several tiles
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def _masked_sizes(sizes: tuple[int, ...], masked: Masked, chunks: int) -> tuple[int, ...]:
    """Return the sizes that the kernel of masked rows takes."""
    _, num_groups, x_token_stride, s_groups, _, column_length = sizes
    _, count_stride, batches, batch_tokens, x_batch_stride = masked
    return (
        num_groups, x_token_stride, x_batch_stride, s_groups, batches, batch_tokens, column_length,
        count_stride, chunks,
    )  # fmt: skip


def _limit(swiglu_limit: float | None) -> float:
    return 0.0 if swiglu_limit is None else float(swiglu_limit)


def silu_and_mul_per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    swiglu_limit: float | None = None,
    saturate: bool = False,
    masked_m: torch.Tensor | None = None,
) -> None:
    """Quantize silu_and_mul of `x`, of rows twice as long as those of `q`."""
    options = group_size, eps, scale_format, saturate, masked_m, True, swiglu_limit
    per_token_group_quant(x, q, s, *options)


def per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    saturate: bool = False,
    masked_m: torch.Tensor | None = None,
    silu: bool = False,
    swiglu_limit: float | None = None,
) -> None:
    """Quantize `x`, contiguous or ``[num_tokens, hidden_dim]``, into `q` and `s`.

    Masked, it is ``[batch, tokens, hidden_dim]``.
    """
    num_groups = q.shape[-1] // group_size
    num_tokens = x.numel() // x.shape[-1]
    contiguous = x.is_contiguous()
    x_token_stride = x.shape[-1] if contiguous or x.shape[-2] == 1 else x.stride(-2)
    layout = encode_format(scale_format) >> 3 & 3
    column_major = layout > 0
    int8 = q.dtype is torch.int8
    packed = scale_format.group_unit == 4
    e8m0 = packed or s.dtype is torch.float8_e8m0fnu
    s_groups = triton.cdiv(num_groups, 4) * 4 if packed else num_groups
    column_tokens, column_length = column_lengths(q.shape, scale_format)
    sizes = num_tokens, num_groups, x_token_stride, s_groups, column_tokens, column_length
    rows = num_tokens // column_tokens * column_length
    padded = rows > column_tokens or s_groups > num_groups
    block = min(triton.next_power_of_2(group_size), _MAX_BLOCK)
    tile = _tile(group_size, column_major)
    capability = (0, 0) if _INTERPRETED else torch.cuda.get_device_capability(x.device)
    constants = {
        "GROUP_SIZE": group_size,
        "TOKENS": tile[0],
        "GROUPS": tile[1],
        "BLOCK": block,
        "CONTIGUOUS": contiguous and s_groups == num_groups and not silu,
        "LAYOUT": layout,
        "PACKED": packed,
        "PADDED": padded,
        "QMAX": QMAX[q.dtype],
        "INT8": int8,
        "POWER_OF_TWO": scale_format.power_of_two,
        "SATURATE": saturate,
        "E8M0": e8m0,
        "CAPABILITY": 10 * capability[0] + capability[1],
        "SILU": silu,
        "LIMITED": swiglu_limit is not None,
        "SMALL": max(rows * s_groups, q.shape[-1]) < _SMALL,
        "INTERPRETED": _INTERPRETED,
    }
    results = (
        q if int8 else q.view(torch.uint8),
        memory_of(s, scale_format).view(torch.uint8) if e8m0 else s,
    )
    kernel, masked = per_token_group_quant_kernel, None
    arguments: tuple[Any, ...] = (*results, *sizes)
    grid = _grid(rows, s_groups, tile, column_major)
    if masked_m is not None:
        batches, batch_tokens = x.shape[:2]
        x_batch_stride = x.stride(0) if batches > 1 else 0
        start = masked_m.data_ptr()
        masked = Masked(start, masked_m.stride(0), batches, batch_tokens, x_batch_stride)
        chunks = _chunks(masked, s_groups, tile, x.get_device())
        kernel = per_token_group_quant_masked_kernel
        arguments = (*results, masked_m, *_masked_sizes(sizes, masked, chunks))
        grid = (chunks * batches, 1, 1)
        del constants["CONTIGUOUS"], constants["PADDED"]
        constants["OWN_COLUMNS"] = column_tokens < num_tokens
        constants["ZEROS"] = _ZEROS
    with torch.cuda.device_of(x):
        compiled = kernel[grid](
            x,
            *arguments,
            float(eps),
            _limit(swiglu_limit),
            **constants,
            num_warps=_WARPS,
            enable_fp_fusion=False,
        )
    pointers = x.data_ptr(), q.data_ptr(), s.data_ptr()
    options = group_size, scale_format.code, silu, swiglu_limit is not None, saturate, masked
    counts = None if masked_m is None else masked_m.dtype
    key = _key(x.get_device(), (x.dtype, q.dtype), pointers, sizes, *options, counts)
    if compiled is not None and key is not None:
        _launches[key] = Launch(compiled, tile, column_major, tuple(constants.values()))


def quantize_directly(
    x: torch.Tensor,
    group_size: int,
    q_dtype: torch.dtype,
    code: int,
    silu: bool,
    swiglu_limit: float | None,
    saturate: bool,
    masked_m: torch.Tensor | None,
    eps: float,
    out: tuple[torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Check, allocate and launch a kernel that an ordinary call compiled, or return None."""
    call = prepare(x, group_size, q_dtype, code, silu, swiglu_limit, saturate, masked_m, eps, out)
    if call is None or triton.knobs.compilation.instrumentation_mode:
        return None
    results, pointers, sizes, places, device, stream = call
    masked = None if masked_m is None else Masked(*places)
    counts = None if masked_m is None else masked_m.dtype
    options = group_size, code, silu, swiglu_limit is not None, saturate, masked, counts
    key = _key(device, (x.dtype, q_dtype), pointers, sizes, *options)
    launch = _launches.get(key)
    if launch is None:
        return None
    num_tokens, _, _, s_groups, column_tokens, column_length = sizes
    if masked is None:
        rows = num_tokens // column_tokens * column_length
        grid = _grid(rows, s_groups, launch.tile, launch.column_major)
    else:
        chunks = _chunks(masked, s_groups, launch.tile, device)
        grid = (chunks * masked.batches, 1, 1)
        pointers = (*pointers, masked.address)
        sizes = _masked_sizes(sizes, masked, chunks)
    limit = _limit(swiglu_limit)
    launch.kernel[grid](*pointers, *sizes, eps, limit, *launch.constants, stream=stream)
    if out is not None:
        increment_version(results)
    return results
