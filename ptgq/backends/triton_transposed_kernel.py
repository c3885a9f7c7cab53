"""The kernels that quantize rows and columns: a program has a tile, which it reads once."""

from __future__ import annotations

import triton
import triton.language as tl

from ptgq.backends.triton_codes import e4m3_codes
from ptgq.backends.triton_kernel import store_scales
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
    s_ptrs,
    inside,
    inside_s,
    eps,
    HALVED: tl.constexpr,
    IN_PLACE: tl.constexpr,
    QMAX: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    E8M0: tl.constexpr,
    MASKED: tl.constexpr,
    CAPABILITY: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """The codes of ``x`` ``[groups, group_size]``; ``s_ptrs`` and ``inside`` are ``[groups]``.

    MASKED: of groups that are in ``inside_s`` only, the scale is 0. HALVED, IN_PLACE: as in
    absmax_bits.
    """
    halved: tl.constexpr = HALVED if CAPABILITY >= 86 else 0
    absmax = absmax_bits(x, halved, SATURATE, INTERPRETED, IN_PLACE)
    scale = group_scale(absmax, eps, QMAX, POWER_OF_TWO, INTERPRETED)
    store_scales(s_ptrs, scale, inside, inside_s, MASKED, E8M0)
    return e4m3_codes(x, scale, QMAX, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED)


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
    TOKENS: tl.constexpr,
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
    of_side: tl.constexpr = SIDE // GROUP_SIZE
    groups: tl.constexpr = SIDE * of_side
    across = tl.cdiv(hidden_dim, SIDE)
    down = tl.cdiv(num_tokens, SIDE)
    program = tl.program_id(0)
    tile_row = program // across
    first_column = (program - tile_row * across) * SIDE
    first_token = tile_row % down * SIDE
    matrix = (tile_row // down).to(tl.int64)
    first_row = matrix * num_tokens + first_token
    first_row_t = matrix * hidden_dim + first_column
    tokens_left = num_tokens - first_token
    columns_left = hidden_dim - first_column
    existing = tokens_left
    x_ptr += first_row * x_token_stride + first_column
    if masked:
        existing = existing_tokens(masked_ptr, count_stride, matrix, num_tokens) - first_token
        # Then the matrix lies where it would if all followed each other.
        x_ptr += matrix * x_batch_stride - matrix * num_tokens * x_token_stride
    index = tl.arange(0, SIDE)
    # As many codes are stored together as elements loaded, or they would change threads.
    column = tl.max_contiguous(index, 8)
    # A thread reads TOKENS that follow each other: then its codes of a column do, too.
    token = index % (SIDE // TOKENS) * TOKENS + index // (SIDE // TOKENS)
    inside = (token < existing)[:, None] & (column < columns_left)[None, :]
    x_ptrs = x_ptr + token[:, None].to(tl.int64) * x_token_stride + column[None, :]
    x = tl.load(x_ptrs, mask=inside, other=0.0)

    first = tl.arange(0, of_side) * GROUP_SIZE
    place = scale_offset(
        (first_row + token)[:, None], ((first_column + first) // GROUP_SIZE)[None, :],
        column_tokens, column_length, s_groups, LAYOUT, PACKED,
    )  # fmt: skip
    exists = (token < existing)[:, None] & (first < columns_left)[None, :]
    stored = (token < tokens_left)[:, None] & (first < columns_left)[None, :]
    codes = quantize_groups(
        tl.reshape(x, [groups, GROUP_SIZE]),
        s_ptr + tl.reshape(place, [groups]),
        tl.reshape(exists, [groups]),
        tl.reshape(stored, [groups]),
        eps, 2, True, QMAX, POWER_OF_TWO, SATURATE, E8M0, masked, CAPABILITY, INTERPRETED,
    )  # fmt: skip
    q_ptr += first_row * hidden_dim + first_column
    q_ptrs = q_ptr + token[:, None].to(tl.int64) * hidden_dim + column[None, :]
    tl.store(q_ptrs, tl.reshape(codes, [SIDE, SIDE]), mask=inside)

    x = tl.permute(tl.reshape(x, [TOKENS, SIDE // TOKENS, SIDE]), [2, 1, 0])
    place = scale_offset(
        (first_row_t + index)[:, None], ((first_token + first) // GROUP_SIZE)[None, :],
        column_tokens_t, column_length_t, st_groups, LAYOUT, PACKED,
    )  # fmt: skip
    exists = (index < columns_left)[:, None] & (first < existing)[None, :]
    stored = (index < columns_left)[:, None] & (first < tokens_left)[None, :]
    codes = quantize_groups(
        tl.reshape(x, [groups, GROUP_SIZE]),
        st_ptr + tl.reshape(place, [groups]),
        tl.reshape(exists, [groups]),
        tl.reshape(stored, [groups]),
        eps, 2 if TOKENS == 8 else 1, False,
        QMAX, POWER_OF_TWO, SATURATE, E8M0, masked, CAPABILITY, INTERPRETED,
    )  # fmt: skip
    length = tl.cdiv(num_tokens, GROUP_SIZE) * GROUP_SIZE
    qt_ptr += first_row_t * length + first_token
    qt_ptrs = qt_ptr + index[:, None].to(tl.int64) * length + index[None, :]
    inside = (index < columns_left)[:, None] & (index < existing)[None, :]
    tl.store(qt_ptrs, tl.reshape(codes, [SIDE, SIDE]), mask=inside)
    if existing < SIDE:
        past = (index >= existing) & (index < length - first_token)
        past = (index < columns_left)[:, None] & past[None, :]
        tl.store(qt_ptrs, tl.zeros((SIDE, SIDE), tl.uint8), mask=past)


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
        codes = e4m3_codes(x, scale, QMAX, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED)
        tl.store(qt_ptrs, codes, mask=mask)
        past = exists[:, None] & ((place < GROUP_SIZE) & (token >= existing))[None, :]
        tl.store(qt_ptrs, tl.zeros((COLUMNS, BLOCK), tl.uint8), mask=past)
