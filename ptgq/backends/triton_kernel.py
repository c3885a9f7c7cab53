"""The Triton backend's kernel: a program quantizes a tile of several groups."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

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
