"""The Triton backend's kernel: a program quantizes a tile of several groups."""

from __future__ import annotations

import triton
import triton.language as tl

from ptgq.backends.triton_numerics import (
    absmax_bits,
    e4m3_code,
    group_scale,
    hardware_e4m3_code,
    int8_code,
    quotient,
    rounded,
    saturated,
    silu_and_mul,
    to_float32,
)


@triton.jit
def store_codes(
    q_ptrs,
    x,
    scale,
    inside,
    QMAX: tl.constexpr,
    INT8: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    CAPABILITY: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Store the codes of a tile: ``x`` is ``[groups, BLOCK]``, ``scale`` ``[groups]``."""
    x = to_float32(x, INTERPRETED)
    y = quotient(x, scale, POWER_OF_TWO, INTERPRETED)
    if SATURATE:
        y = saturated(x, y, QMAX, INT8)
    if INT8 and SATURATE:
        tl.store(q_ptrs, int8_code(y), mask=inside)
    elif INT8:
        # Two stores, each of some groups: a selection would cost an instruction an element.
        finite = (scale == scale)[:, None]
        codes = int8_code(y)
        tl.store(q_ptrs, codes, mask=inside & finite)
        tl.store(q_ptrs, tl.zeros_like(codes), mask=inside & (finite == 0))
    elif CAPABILITY >= 89:
        tl.store(q_ptrs, hardware_e4m3_code(y), mask=inside)
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
def load(x_ptrs, mask, WHOLE: tl.constexpr):
    """Load elements; those masked count as 0. WHOLE: all are there."""
    if WHOLE:
        return tl.load(x_ptrs)
    else:
        return tl.load(x_ptrs, mask=mask, other=0.0)


@triton.jit
def load_values(
    x_ptrs,
    up_offset,
    mask,
    limit,
    SILU: tl.constexpr,
    LIMITED: tl.constexpr,
    WHOLE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """What is quantized, in the dtype of x: x, or SILU of it, LIMITED or not."""
    x = load(x_ptrs, mask, WHOLE)
    if SILU:
        gate = to_float32(x, INTERPRETED)
        up = to_float32(load(x_ptrs + up_offset, mask, WHOLE), INTERPRETED)
        y = silu_and_mul(gate, up, limit, LIMITED, INTERPRETED)
        x = rounded(y, x, INTERPRETED)
    return x


@triton.jit
def quantize_tile(
    x_ptrs,
    q_ptrs,
    s_ptrs,
    columns,
    inside,
    inside_s,
    up_offset,
    eps,
    limit,
    GROUP_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PADDED: tl.constexpr,
    QMAX: tl.constexpr,
    INT8: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    E8M0: tl.constexpr,
    CAPABILITY: tl.constexpr,
    SILU: tl.constexpr,
    LIMITED: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Quantize the groups of a tile that are `inside`, and store scales where `inside_s`."""
    whole: tl.constexpr = GROUP_SIZE % BLOCK == 0
    halved: tl.constexpr = 3 if GROUP_SIZE % 16 == 0 and CAPABILITY >= 86 else 0
    inside_tile = inside[:, None]
    if GROUP_SIZE <= BLOCK:
        if not whole:
            inside_tile = inside_tile & (columns < GROUP_SIZE)
        x = load_values(x_ptrs, up_offset, inside_tile, limit, SILU, LIMITED, whole, INTERPRETED)
        absmax = absmax_bits(x, halved, SATURATE, INTERPRETED)
        scale = group_scale(absmax, eps, QMAX, POWER_OF_TWO, INTERPRETED)
        store_scales(s_ptrs, scale, inside, inside_s, PADDED, E8M0)
        store_codes(
            q_ptrs, x, scale, inside_tile,
            QMAX, INT8, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED,
        )  # fmt: skip
    else:
        absmax = tl.zeros((inside.shape[0],), tl.int32)
        for start in range(0, GROUP_SIZE, BLOCK):
            mask = inside_tile & (start + columns < GROUP_SIZE)
            x = load_values(
                x_ptrs + start, up_offset, mask, limit, SILU, LIMITED, whole, INTERPRETED
            )
            absmax = tl.maximum(absmax, absmax_bits(x, halved, SATURATE, INTERPRETED))
        scale = group_scale(absmax, eps, QMAX, POWER_OF_TWO, INTERPRETED)
        store_scales(s_ptrs, scale, inside, inside_s, PADDED, E8M0)
        for start in range(0, GROUP_SIZE, BLOCK):
            mask = inside_tile & (start + columns < GROUP_SIZE)
            x = load_values(
                x_ptrs + start, up_offset, mask, limit, SILU, LIMITED, whole, INTERPRETED
            )
            store_codes(
                q_ptrs + start, x, scale, mask,
                QMAX, INT8, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED,
            )  # fmt: skip


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
    limit,
    GROUP_SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK: tl.constexpr,
    CONTIGUOUS: tl.constexpr,
    LAYOUT: tl.constexpr,
    PACKED: tl.constexpr,
    PADDED: tl.constexpr,
    QMAX: tl.constexpr,
    INT8: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    E8M0: tl.constexpr,
    CAPABILITY: tl.constexpr,
    SILU: tl.constexpr,
    LIMITED: tl.constexpr,
    SMALL: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Quantize a tile of groups: neighbours in a row or, LAYOUT > 0, GROUPS of each of TOKENS.

    SMALL: 31 bits count the groups, padding included, and the elements of a token.
    PACKED: `s` is bytes, in columns the four of a word side by side; LAYOUT 3: in tiles, as in
    csrc/contract/scales.h. PADDED: programs cover batches and the padding of `s`, where zeros go:
    `s_groups` and `column_length` count it.
    """
    program = tl.program_id(0)
    if not SMALL:
        program = program.to(tl.int64)
    slot = tl.arange(0, TOKENS * GROUPS)
    if LAYOUT > 0:
        tiles = tl.cdiv(s_groups, GROUPS)
        # Of small groups, neighbours of a token side by side, or a warp would read parts of lines;
        # no more than four, or it would store parts of sectors of scales. Of groups that are not
        # whole vectors, as many would get slower as faster.
        vectors: tl.constexpr = GROUP_SIZE % (8 if BLOCK > 8 else BLOCK) == 0
        adjacent: tl.constexpr = 1 if BLOCK > 32 or not vectors else 2 if BLOCK == 32 else 4
        row = program // tiles * TOKENS + slot // adjacent % TOKENS
        group = program % tiles * GROUPS + slot // (adjacent * TOKENS) * adjacent + slot % adjacent
        token = row
        if PADDED:
            batch = row // column_length
            place = row - batch * column_length
            token = batch * column_tokens + place
            rows = num_tokens // column_tokens * column_length.to(row.dtype)
            inside_s = (row < rows) & (group < s_groups)
            inside = inside_s & (place < column_tokens) & (group < num_groups)
            if LAYOUT != 3:
                row += batch * column_length * (s_groups // (4 if PACKED else 1) - 1)
        else:
            inside = (token < num_tokens) & (group < num_groups)
            inside_s = inside
        index = token * num_groups + group
        x_start = token.to(tl.int64) * x_token_stride + group * GROUP_SIZE
        if LAYOUT == 3:
            tile = row // 128 * (s_groups // 4) + group // 4
            s_ptrs = s_ptr + tile * 512 + row % 32 * 16 + row // 32 % 4 * 4 + group % 4
        elif PACKED:
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
    whole: tl.constexpr = GROUP_SIZE % BLOCK == 0
    if whole:
        # The first group is read for those that are none: a mask would take more instructions.
        x_start = tl.where(inside, x_start, 0)
    x_ptrs = x_ptr + x_start[:, None] + columns
    q_ptrs = q_ptr + (index.to(tl.int64) * GROUP_SIZE)[:, None] + columns
    up_offset = num_groups.to(tl.int64) * GROUP_SIZE
    quantize_tile(
        x_ptrs, q_ptrs, s_ptrs, columns, inside, inside_s, up_offset, eps, limit,
        GROUP_SIZE, BLOCK, PADDED, QMAX, INT8, POWER_OF_TWO, SATURATE, E8M0, CAPABILITY, SILU,
        LIMITED, INTERPRETED,
    )  # fmt: skip
