"""The Triton backend's kernel of masked rows."""

from __future__ import annotations

import triton
import triton.language as tl

from ptgq.backends.triton_kernel import quantize_tile


@triton.jit
def element_of_scales(
    batch,
    row,
    column,
    columns,
    batch_tokens,
    column_length,
    LAYOUT: tl.constexpr,
    OWN_COLUMNS: tl.constexpr,
):
    """Where an element of `s`, a word where it is packed, lies: as in csrc/contract/rows.h."""
    start = batch * 0
    if LAYOUT == 3 and OWN_COLUMNS:
        row += batch * column_length
    elif OWN_COLUMNS:
        start = batch * column_length * columns
    else:
        row += batch * batch_tokens
    if LAYOUT == 3:
        return (row // 128 * columns + column) * 128 + row % 32 * 4 + row // 32 % 4
    elif LAYOUT > 0:
        return start + column * column_length + row
    else:
        return row * columns + column


# Few variants to compile, as of the usual kernel; counts may begin anywhere.
@triton.jit(
    do_not_specialize=[
        "num_groups",
        "s_groups",
        "batches",
        "batch_tokens",
        "column_length",
        "count_stride",
        "chunks",
    ],
    do_not_specialize_on_alignment=["masked_ptr"],
)
def per_token_group_quant_masked_kernel(
    x_ptr,
    q_ptr,
    s_ptr,
    masked_ptr,
    num_groups,
    x_token_stride,
    x_batch_stride,
    s_groups,
    batches,
    batch_tokens,
    column_length,
    count_stride,
    chunks,
    eps,
    limit,
    GROUP_SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK: tl.constexpr,
    LAYOUT: tl.constexpr,
    PACKED: tl.constexpr,
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
    OWN_COLUMNS: tl.constexpr,
    ZEROS: tl.constexpr,
):
    """Quantize every `chunks`-th tile of the rows of a batch that exist, then zero other scales.

    Tiles are those of the usual kernel, within a batch. Programs are a few times as many as the
    device holds, so that those of full batches take the place of those that have nothing to do.
    OWN_COLUMNS: each batch has columns of scales of its own; else the last one has all padding.
    """
    program = tl.program_id(0)
    batch = program // chunks
    chunk = program - batch * chunks
    count = tl.load(masked_ptr + batch.to(tl.int64) * count_stride)
    count = tl.minimum(tl.maximum(count, 0), batch_tokens).to(tl.int32)
    if not SMALL:
        batch, chunk, count = batch.to(tl.int64), chunk.to(tl.int64), count.to(tl.int64)
    end = batch_tokens.to(batch.dtype)
    if OWN_COLUMNS:
        end = column_length.to(batch.dtype)
    elif batch == batches - 1:
        end = (column_length - batch * batch_tokens).to(batch.dtype)
    columns = num_groups
    if PACKED:
        columns = s_groups // 4
    slot = tl.arange(0, TOKENS * GROUPS)
    elements = tl.arange(0, BLOCK)[None, :]
    x_batch = x_ptr + batch.to(tl.int64) * x_batch_stride
    up_offset = num_groups.to(tl.int64) * GROUP_SIZE

    if LAYOUT > 0:
        across = tl.cdiv(s_groups, GROUPS)
        tiles = tl.cdiv(count, TOKENS) * across
    else:
        across = s_groups
        tiles = tl.cdiv(count * s_groups, GROUPS)
    for tile in range(chunk, tiles, chunks):
        if LAYOUT > 0:
            # As in the usual kernel.
            vectors: tl.constexpr = GROUP_SIZE % (8 if BLOCK > 8 else BLOCK) == 0
            adjacent: tl.constexpr = 1 if BLOCK > 32 or not vectors else 2 if BLOCK == 32 else 4
            row = tile // across * TOKENS + slot // adjacent % TOKENS
            group = tile % across * GROUPS + slot // (adjacent * TOKENS) * adjacent
            group += slot % adjacent
        else:
            index = tile * GROUPS + slot
            row = index // across
            group = index - row * across
        inside_s = (row < count) & (group < s_groups)
        inside = inside_s & (group < num_groups)
        column = group // 4 if PACKED else group
        at = element_of_scales(
            batch, row, column, columns, batch_tokens, column_length, LAYOUT, OWN_COLUMNS
        )
        s_ptrs = s_ptr + (at * 4 + group % 4 if PACKED else at)
        x_start = row.to(tl.int64) * x_token_stride + group * GROUP_SIZE
        if GROUP_SIZE % BLOCK == 0:
            # The first group is read for those that are none: it exists.
            x_start = tl.where(inside, x_start, 0)
        q_start = ((batch * batch_tokens + row).to(tl.int64) * num_groups + group) * GROUP_SIZE
        quantize_tile(
            x_batch + x_start[:, None] + elements, q_ptr + q_start[:, None] + elements, s_ptrs,
            elements, inside, inside_s, up_offset, eps, limit,
            GROUP_SIZE, BLOCK, PACKED, QMAX, INT8, POWER_OF_TWO, SATURATE, E8M0, CAPABILITY, SILU,
            LIMITED, INTERPRETED,
        )  # fmt: skip

    missing = end - count
    words = s_ptr
    if PACKED:
        words = s_ptr.to(tl.pointer_type(tl.int32), bitcast=True)
    for first in range(chunk * ZEROS, missing * columns, chunks * ZEROS):
        number = first + tl.arange(0, ZEROS)
        # Neighbouring threads store neighbours.
        if LAYOUT > 0:
            column = number // missing
            row = number - column * missing
        else:
            row = number // columns
            column = number - row * columns
        at = element_of_scales(
            batch, count + row, column, columns, batch_tokens, column_length, LAYOUT, OWN_COLUMNS
        )
        zeros = tl.zeros((ZEROS,), words.dtype.element_ty)
        tl.store(words + at, zeros, mask=number < missing * columns)
