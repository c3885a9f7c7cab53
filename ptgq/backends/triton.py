"""The op in Triton: a program quantizes a tile of several groups.

Of an eager call, ``kernel[grid](...)`` takes the longest: it looks at each argument to find the
compiled kernel to launch. A direct call (see :mod:`ptgq.extension`) finds it by what the call is,
and launches it as a program does that compiled it itself, ``compiled[grid](...)``, by addresses:
hooks and profilers see the launch. The first launch of a kind is ordinary, and so is any of
pointers that 16 does not divide or sizes past 30 bits, for which Triton compiles kernels of their
own, and any while Triton instruments kernels.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from ptgq.backends.reference import QMAX
from ptgq.backends.triton_numerics import (
    absolute_bits,
    e4m3_code,
    group_scale,
    int8_code,
    quotient,
    rounded,
    silu_and_mul,
    to_float32,
)
from ptgq.extension import prepare
from ptgq.scales import ScaleFormat, column_lengths, memory_of

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Elements of a group that a program holds at a time; larger groups are read twice.
_MAX_BLOCK = 4096
# Elements a program quantizes: 32 for each of its 128 threads.
_TILE = 4096
_WARPS = 4
# Column-major, tokens of a tile: their scales of a group, a byte each, fill a sector of 32 bytes.
_TOKENS = 32
# What 31 bits count, with what tiles reach beyond.
_SMALL = 2**30


@triton.jit
def store_codes(
    q_ptrs,
    x,
    scale,
    inside,
    INT8: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    HARDWARE_E4M3: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Store the codes of a tile: ``x`` is ``[groups, BLOCK]`` float32, ``scale`` ``[groups]``."""
    y = quotient(x, scale, POWER_OF_TWO, INTERPRETED)
    if INT8:
        # Two stores, each of some groups: a selection would cost an instruction an element.
        finite = (scale == scale)[:, None]
        codes = int8_code(y)
        tl.store(q_ptrs, codes, mask=inside & finite)
        tl.store(q_ptrs, tl.zeros_like(codes), mask=inside & (finite == 0))
    elif HARDWARE_E4M3:
        tl.store(q_ptrs, y.to(tl.float8e4nv).to(tl.uint8, bitcast=True), mask=inside)
    else:
        tl.store(q_ptrs, e4m3_code(y), mask=inside)


@triton.jit
def store_scales(s_ptrs, scale, inside, inside_s, PADDED: tl.constexpr, E8M0: tl.constexpr):
    """Store the scales of a tile, before its codes: waiting for them is hidden behind those."""
    if PADDED:
        scale = tl.where(inside, scale, 0.0)
    if E8M0:
        tl.store(s_ptrs, (scale.to(tl.int32, bitcast=True) >> 23).to(tl.uint8), mask=inside_s)
    else:
        tl.store(s_ptrs, scale, mask=inside_s)


@triton.jit
def load_values(x_ptrs, up_offset, mask, SILU: tl.constexpr, INTERPRETED: tl.constexpr):
    """What is quantized, in float32: x, or SILU of it, rounded to its dtype."""
    x = tl.load(x_ptrs, mask=mask, other=0.0)
    values = to_float32(x, INTERPRETED)
    if SILU:
        up = to_float32(tl.load(x_ptrs + up_offset, mask=mask, other=0.0), INTERPRETED)
        values = rounded(silu_and_mul(values, up, INTERPRETED), x, INTERPRETED)
    return values


# Few variants to compile: no others for token or group counts that divide by 16 or equal 1.
@triton.jit(
    do_not_specialize=["num_tokens", "num_groups", "s_groups", "column_tokens", "column_length"]
)
def per_token_group_quant_kernel(
    x_ptr,
    q_ptr,
    s_ptr,
    num_tokens,
    num_groups,
    x_token_stride,
    s_groups,
    column_tokens,
    column_length,
    eps,
    GROUP_SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK: tl.constexpr,
    CONTIGUOUS: tl.constexpr,
    COLUMN_MAJOR: tl.constexpr,
    PACKED: tl.constexpr,
    PADDED: tl.constexpr,
    QMAX: tl.constexpr,
    INT8: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    E8M0: tl.constexpr,
    HARDWARE_E4M3: tl.constexpr,
    DEPENDENT: tl.constexpr,
    SILU: tl.constexpr,
    SMALL: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Quantize a tile of groups: neighbours in a row or, column-major, GROUPS of each of TOKENS.

    SMALL: 31 bits count the groups, padding included, and the elements of a token.
    PACKED: `s` is bytes, in columns the four of a word side by side. PADDED: tiles cover batches
    and the padding of `s`, where zeros go: `s_groups` and `column_length` count it.
    """
    if DEPENDENT:  # programmatic dependent launch: the next kernel may start, and waits in its turn
        gdc_launch_dependents()
    program = tl.program_id(0)
    if not SMALL:
        program = program.to(tl.int64)
    slot = tl.arange(0, TOKENS * GROUPS)
    if COLUMN_MAJOR:
        tiles = tl.cdiv(s_groups, GROUPS)
        row = program // tiles * TOKENS + slot % TOKENS
        group = program % tiles * GROUPS + slot // TOKENS
        token = row
        if PADDED:
            batch = row // column_length
            place = row - batch * column_length
            token = batch * column_tokens + place
            rows = num_tokens // column_tokens * column_length.to(row.dtype)
            inside_s = (row < rows) & (group < s_groups)
            inside = inside_s & (place < column_tokens) & (group < num_groups)
            row += batch * column_length * (s_groups // (4 if PACKED else 1) - 1)
        else:
            inside = (token < num_tokens) & (group < num_groups)
            inside_s = inside
        index = token * num_groups + group
        x_start = token.to(tl.int64) * x_token_stride + group * GROUP_SIZE
        if PACKED:
            s_ptrs = s_ptr + (group // 4 * column_length + row) * 4 + group % 4
        else:
            s_ptrs = s_ptr + group * column_length + row
    else:
        index = program * GROUPS + slot
        s_ptrs = s_ptr + index
        inside = index < num_tokens.to(index.dtype) * s_groups
        inside_s = inside
        if CONTIGUOUS:
            x_start = index.to(tl.int64) * GROUP_SIZE
        else:
            token = index // s_groups
            group = index - token * s_groups
            x_start = token.to(tl.int64) * x_token_stride + group * GROUP_SIZE
            if PADDED:
                index = token * num_groups + group
                inside = inside & (group < num_groups)
    columns = tl.arange(0, BLOCK)[None, :]
    x_ptrs = x_ptr + x_start[:, None] + columns
    q_ptrs = q_ptr + (index.to(tl.int64) * GROUP_SIZE)[:, None] + columns
    inside_tile = inside[:, None]
    up_offset = num_groups.to(tl.int64) * GROUP_SIZE

    if DEPENDENT:
        gdc_wait()
    if GROUP_SIZE <= BLOCK:
        if GROUP_SIZE < BLOCK:
            inside_tile = inside_tile & (columns < GROUP_SIZE)
        x = load_values(x_ptrs, up_offset, inside_tile, SILU, INTERPRETED)
        absmax_bits = tl.max(absolute_bits(x), 1)
        scale = group_scale(absmax_bits, eps, QMAX, POWER_OF_TWO, INTERPRETED)
        store_scales(s_ptrs, scale, inside, inside_s, PADDED, E8M0)
        store_codes(q_ptrs, x, scale, inside_tile, INT8, POWER_OF_TWO, HARDWARE_E4M3, INTERPRETED)
    else:
        running = tl.zeros((TOKENS * GROUPS, BLOCK), tl.int32)
        for start in range(0, GROUP_SIZE, BLOCK):
            mask = inside_tile & (start + columns < GROUP_SIZE)
            x = load_values(x_ptrs + start, up_offset, mask, SILU, INTERPRETED)
            running = tl.maximum(running, absolute_bits(x))
        scale = group_scale(tl.max(running, 1), eps, QMAX, POWER_OF_TWO, INTERPRETED)
        store_scales(s_ptrs, scale, inside, inside_s, PADDED, E8M0)
        for start in range(0, GROUP_SIZE, BLOCK):
            mask = inside_tile & (start + columns < GROUP_SIZE)
            x = load_values(x_ptrs + start, up_offset, mask, SILU, INTERPRETED)
            store_codes(
                q_ptrs + start, x, scale, mask, INT8, POWER_OF_TWO, HARDWARE_E4M3, INTERPRETED
            )


class Launch(NamedTuple):
    """A compiled kernel, and what its launches have in common."""

    kernel: Any
    tile: tuple[int, int]
    constants: tuple[Any, ...]


_launches: dict[tuple[Any, ...] | None, Launch] = {}


def _key(
    device: int,
    dtypes: tuple[torch.dtype, ...],
    pointers: tuple[int, int, int],
    sizes: tuple[int, int, int],
    group_size: int,
    column_major: bool,
    power_of_two: bool,
) -> tuple[Any, ...] | None:
    """Return what determines the compiled kernel, or None for the rare ones."""
    x, q, s = pointers
    num_tokens, num_groups, stride = sizes
    if (x | q | s) % 16 or stride >= 2**31 or max(num_tokens, group_size) * num_groups >= _SMALL:
        return None
    strides = stride == num_groups * group_size, stride == 1, stride % 16 == 0
    return device, dtypes, strides, group_size, column_major, power_of_two


def _tile(group_size: int, column_major: bool) -> tuple[int, int]:
    """The tokens, and the groups of each, that a program quantizes."""
    groups = max(1, _TILE // triton.next_power_of_2(group_size))
    tokens = min(_TOKENS, groups) if column_major else 1
    return tokens, groups // tokens


def _grid(rows: int, groups: int, tile: tuple[int, int], column_major: bool) -> tuple[int, ...]:
    if column_major:
        return -(-rows // tile[0]) * -(-groups // tile[1]), 1, 1
    return -(-rows * groups // tile[1]), 1, 1


def silu_and_mul_per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
) -> None:
    """Quantize silu_and_mul of `x`, of rows twice as long as those of `q`."""
    per_token_group_quant(x, q, s, group_size, eps, scale_format, silu=True)


def per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    silu: bool = False,
) -> None:
    """Quantize `x`, contiguous or ``[num_tokens, hidden_dim]``, into `q` and `s`."""
    num_groups = q.shape[-1] // group_size
    num_tokens = x.numel() // x.shape[-1]
    contiguous = x.is_contiguous()
    sizes = num_tokens, num_groups, x.shape[-1] if contiguous else x.stride(0)
    column_major, power_of_two = scale_format.column_major, scale_format.power_of_two
    int8 = q.dtype is torch.int8
    packed = scale_format.packed
    e8m0 = packed or s.dtype is torch.float8_e8m0fnu
    s_groups = triton.cdiv(num_groups, 4) * 4 if packed else num_groups
    column_tokens, column_length = column_lengths(s.shape, scale_format)
    s_sizes = s_groups, column_tokens, column_length
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
        "COLUMN_MAJOR": column_major,
        "PACKED": packed,
        "PADDED": padded,
        "QMAX": QMAX[q.dtype],
        "INT8": int8,
        "POWER_OF_TWO": power_of_two,
        "E8M0": e8m0,
        "HARDWARE_E4M3": capability >= (8, 9),
        "DEPENDENT": capability >= (9, 0),
        "SILU": silu,
        "SMALL": max(rows * s_groups, q.shape[-1]) < _SMALL,
        "INTERPRETED": _INTERPRETED,
    }
    with torch.cuda.device_of(x):
        compiled = per_token_group_quant_kernel[_grid(rows, s_groups, tile, column_major)](
            x,
            q if int8 else q.view(torch.uint8),
            memory_of(s, scale_format).view(torch.uint8) if e8m0 else s,
            *sizes,
            *s_sizes,
            float(eps),
            **constants,
            num_warps=_WARPS,
            enable_fp_fusion=False,
            launch_pdl=capability >= (9, 0),
        )
    pointers = x.data_ptr(), q.data_ptr(), s.data_ptr()
    dtypes = x.dtype, q.dtype, s.dtype
    key = _key(x.get_device(), dtypes, pointers, sizes, group_size, column_major, power_of_two)
    if compiled is not None and key is not None and not (packed or padded or silu):
        _launches[key] = Launch(compiled, tile, tuple(constants.values()))


def quantize_directly(
    x: torch.Tensor,
    group_size: int,
    q_dtype: torch.dtype,
    column_major: bool,
    use_ue8m0: bool,
    scale_dtype: torch.dtype | None,
    eps: float,
    out: tuple[torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Check, allocate and launch a kernel that an ordinary call compiled, or return None."""
    call = prepare(x, group_size, q_dtype, column_major, use_ue8m0, scale_dtype, eps, out)
    if call is None or triton.knobs.compilation.instrumentation_mode:
        return None
    results, pointers, sizes, device, stream = call
    dtypes = x.dtype, q_dtype, results[1].dtype
    key = _key(device, dtypes, pointers, sizes, group_size, column_major, use_ue8m0)
    launch = _launches.get(key)
    if launch is None:
        return None
    grid = _grid(sizes[0], sizes[1], launch.tile, column_major)
    s_sizes = sizes[1], sizes[0], sizes[0]
    launch.kernel[grid](*pointers, *sizes, *s_sizes, eps, *launch.constants, stream=stream)
    return results
