"""The kernels that quantize rows and columns: a program has a tile, which it reads once."""

from __future__ import annotations

import triton
import triton.language as tl

from ptgq.backends.triton_kernel import store_codes, store_scales
from ptgq.backends.triton_numerics import absmax_bits, group_scale


@triton.jit
def scale_offset(
    token, group, column_tokens, column_length, s_groups, LAYOUT: tl.constexpr, PACKED: tl.constexpr
):
    """Where a scale lies, in elements or, of PACKED, bytes: as in csrc/contract/scales.h."""
    batch = token // column_tokens
    place = token - batch * column_tokens
    if LAYOUT == 0:
        return token * s_groups + group
    elif LAYOUT == 3:
        row = batch * column_length + place
        tile = row // 128 * (s_groups // 4) + group // 4
        return tile * 512 + row % 32 * 16 + row // 32 % 4 * 4 + group % 4
    elif PACKED:
        return ((batch * (s_groups // 4) + group // 4) * column_length + place) * 4 + group % 4
    else:
        return (batch * s_groups + group) * column_length + place


@triton.jit
def existing_tokens(masked_ptr, count_stride, matrix, num_tokens):
    """How many tokens of a matrix exist: a count below 0 is 0, one above all is all."""
    count = tl.load(masked_ptr + matrix * count_stride)
    return tl.minimum(tl.maximum(count, 0), num_tokens)


@triton.jit
def quantize_groups(
    x,
    q_ptrs,
    s_ptrs,
    inside,
    inside_s,
    inside_codes,
    eps,
    QMAX: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    E8M0: tl.constexpr,
    MASKED: tl.constexpr,
    CAPABILITY: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Quantize ``x`` ``[groups, group_size]``; ``s_ptrs`` and ``inside`` are ``[groups]``.

    MASKED: of groups that are in ``inside_s`` only, the scale is 0.
    """
    halved: tl.constexpr = 3 if x.shape[1] % 16 == 0 and CAPABILITY >= 86 else 0
    absmax = absmax_bits(x, halved, SATURATE, INTERPRETED)
    scale = group_scale(absmax, eps, QMAX, POWER_OF_TWO, INTERPRETED)
    store_scales(s_ptrs, scale, inside, inside_s, MASKED, E8M0)
    store_codes(
        q_ptrs, x, scale, inside_codes,
        QMAX, False, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED,
    )  # fmt: skip


@triton.jit
def per_token_group_quant_transposed_kernel(
    x_ptr,
    q_ptr,
    s_ptr,
    qt_ptr,
    st_ptr,
    num_tokens,
    hidden_dim,
    x_token_stride,
    s_groups,
    column_tokens,
    column_length,
    st_groups,
    column_tokens_t,
    column_length_t,
    masked_ptr,
    count_stride,
    x_batch_stride,
    eps,
    GROUP_SIZE: tl.constexpr,
    SIDE: tl.constexpr,
    LAYOUT: tl.constexpr,
    PACKED: tl.constexpr,
    QMAX: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    E8M0: tl.constexpr,
    CAPABILITY: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Quantize the groups of rows and of columns of a tile of SIDE tokens and columns.

    Without counts of rows, ``masked_ptr`` and what belongs to it are None: no argument is left.
    """
    masked: tl.constexpr = masked_ptr is not None
    across = tl.cdiv(hidden_dim, SIDE)
    down = tl.cdiv(num_tokens, SIDE)
    program = tl.program_id(0)
    matrix = (program // across // down).to(tl.int64)
    token = program // across % down * SIDE + tl.arange(0, SIDE)
    column = program % across * SIDE + tl.arange(0, SIDE)
    row = matrix * num_tokens + token
    row_t = matrix * hidden_dim + column
    existing = num_tokens
    if masked:
        existing = existing_tokens(masked_ptr, count_stride, matrix, num_tokens)
        # Then the matrix lies where it would if all followed each other.
        x_ptr += matrix * x_batch_stride - matrix * num_tokens * x_token_stride
    inside = (token < existing)[:, None] & (column < hidden_dim)[None, :]
    x = tl.load(x_ptr + row[:, None] * x_token_stride + column[None, :], mask=inside, other=0.0)
    of_side: tl.constexpr = SIDE // GROUP_SIZE
    groups: tl.constexpr = SIDE * of_side

    first = program % across * of_side + tl.arange(0, of_side)
    place = scale_offset(
        row[:, None], first[None, :], column_tokens, column_length, s_groups, LAYOUT, PACKED
    )
    exists = (token < existing)[:, None] & (first * GROUP_SIZE < hidden_dim)[None, :]
    stored = (token < num_tokens)[:, None] & (first * GROUP_SIZE < hidden_dim)[None, :]
    q_place = row[:, None] * hidden_dim + column[None, :]
    quantize_groups(
        tl.reshape(x, [groups, GROUP_SIZE]),
        q_ptr + tl.reshape(q_place, [groups, GROUP_SIZE]),
        s_ptr + tl.reshape(place, [groups]),
        tl.reshape(exists, [groups]),
        tl.reshape(stored, [groups]),
        tl.reshape(inside, [groups, GROUP_SIZE]),
        eps, QMAX, POWER_OF_TWO, SATURATE, E8M0, masked, CAPABILITY, INTERPRETED,
    )  # fmt: skip

    first = program // across % down * of_side + tl.arange(0, of_side)
    place = scale_offset(
        row_t[:, None], first[None, :], column_tokens_t, column_length_t, st_groups, LAYOUT, PACKED
    )
    exists = (column < hidden_dim)[:, None] & (first * GROUP_SIZE < existing)[None, :]
    stored = (column < hidden_dim)[:, None] & (first * GROUP_SIZE < num_tokens)[None, :]
    length = tl.cdiv(num_tokens, GROUP_SIZE) * GROUP_SIZE
    q_place = row_t[:, None] * length + token[None, :]
    qt_ptrs = qt_ptr + tl.reshape(q_place, [groups, GROUP_SIZE])
    quantize_groups(
        tl.reshape(tl.trans(x), [groups, GROUP_SIZE]),
        qt_ptrs,
        st_ptr + tl.reshape(place, [groups]),
        tl.reshape(exists, [groups]),
        tl.reshape(stored, [groups]),
        tl.reshape(tl.trans(inside), [groups, GROUP_SIZE]),
        eps, QMAX, POWER_OF_TWO, SATURATE, E8M0, masked, CAPABILITY, INTERPRETED,
    )  # fmt: skip
    past = (token >= existing) & (token < length)
    past = (column < hidden_dim)[:, None] & past[None, :]
    zeros = tl.zeros((groups, GROUP_SIZE), tl.uint8)
    tl.store(qt_ptrs, zeros, mask=tl.reshape(past, [groups, GROUP_SIZE]))


@triton.jit
def per_token_group_quant_transposed_columns_kernel(
    x_ptr,
    qt_ptr,
    st_ptr,
    num_tokens,
    hidden_dim,
    x_token_stride,
    st_groups,
    column_tokens_t,
    column_length_t,
    masked_ptr,
    count_stride,
    x_batch_stride,
    eps,
    GROUP_SIZE: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    LAYOUT: tl.constexpr,
    PACKED: tl.constexpr,
    QMAX: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    E8M0: tl.constexpr,
    CAPABILITY: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Quantize COLUMNS columns of a group of tokens, BLOCK tokens at a time: of any size."""
    masked: tl.constexpr = masked_ptr is not None
    across = tl.cdiv(hidden_dim, COLUMNS)
    down = tl.cdiv(num_tokens, GROUP_SIZE)
    program = tl.program_id(0)
    matrix = (program // across // down).to(tl.int64)
    group = program // across % down
    column = program % across * COLUMNS + tl.arange(0, COLUMNS)
    exists = column < hidden_dim
    row_t = matrix * hidden_dim + column
    existing = num_tokens
    if masked:
        existing = existing_tokens(masked_ptr, count_stride, matrix, num_tokens)
        # Then the matrix lies where it would if all followed each other.
        x_ptr += matrix * x_batch_stride - matrix * num_tokens * x_token_stride
    absmax = tl.zeros((COLUMNS,), tl.int32)
    for start in range(0, GROUP_SIZE, BLOCK):
        place = start + tl.arange(0, BLOCK)
        token = group * GROUP_SIZE + place
        mask = exists[:, None] & ((place < GROUP_SIZE) & (token < existing))[None, :]
        at = (matrix * num_tokens + token)[None, :] * x_token_stride + column[:, None]
        x = tl.load(x_ptr + at, mask=mask, other=0.0)
        absmax = tl.maximum(absmax, absmax_bits(x, 0, SATURATE, INTERPRETED))
    scale = group_scale(absmax, eps, QMAX, POWER_OF_TWO, INTERPRETED)
    s_at = scale_offset(row_t, group, column_tokens_t, column_length_t, st_groups, LAYOUT, PACKED)
    inside = exists & (group * GROUP_SIZE < existing)
    store_scales(st_ptr + s_at, scale, inside, exists, masked, E8M0)
    for start in range(0, GROUP_SIZE, BLOCK):
        place = start + tl.arange(0, BLOCK)
        token = group * GROUP_SIZE + place
        mask = exists[:, None] & ((place < GROUP_SIZE) & (token < existing))[None, :]
        at = (matrix * num_tokens + token)[None, :] * x_token_stride + column[:, None]
        x = tl.load(x_ptr + at, mask=mask, other=0.0)
        qt_ptrs = qt_ptr + row_t[:, None] * (down * GROUP_SIZE) + token[None, :]
        store_codes(
            qt_ptrs, x, scale, mask,
            QMAX, False, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED,
        )  # fmt: skip
        past = exists[:, None] & ((place < GROUP_SIZE) & (token >= existing))[None, :]
        tl.store(qt_ptrs, tl.zeros((COLUMNS, BLOCK), tl.uint8), mask=past)
