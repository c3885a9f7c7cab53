"""The kernels of blocks in Triton."""

from __future__ import annotations

import triton
import triton.language as tl

from ptgq.backends.triton_codes import e4m3_codes
from ptgq.backends.triton_dequantize import (
    float_of_e4m3,
    hardware_float_of_e4m3,
    scale_of_byte,
)
from ptgq.backends.triton_kernel import load
from ptgq.backends.triton_numerics import absmax_bits, group_scale, rounded


@triton.jit
def tile_mask(row, column, rows, columns):
    """Which elements of a tile are in the block: [ROWS, COLUMNS]."""
    return (row < rows)[:, None] & (column < columns)[None, :]


# Few variants to compile, as of triton_kernel.py; K and the strides say what 16-byte accesses are.
@triton.jit(do_not_specialize=["batches", "rows", "s_row_stride"])
def per_block_quant_kernel(
    w_ptr,
    q_ptr,
    s_ptr,
    batches,
    rows,
    columns,
    w_batch_stride,
    w_row_stride,
    s_row_stride,
    eps,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WHOLE: tl.constexpr,
    PADDED: tl.constexpr,
    QMAX: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    E8M0: tl.constexpr,
    CAPABILITY: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Quantize a block of ``[batches, rows, columns]``, in tiles of ROWS x COLUMNS.

    WHOLE: every block is a tile. PADDED: zeros go behind the scales of a row of blocks.
    """
    row_blocks = tl.cdiv(rows, BLOCK_ROWS)
    column_blocks = tl.cdiv(columns, BLOCK_COLUMNS)
    index = tl.program_id(0)
    s_row = index // column_blocks
    column_block = index - s_row * column_blocks
    batch = (s_row // row_blocks).to(tl.int64)
    row_block = s_row % row_blocks
    first_row = row_block.to(tl.int64) * BLOCK_ROWS
    first_column = column_block.to(tl.int64) * BLOCK_COLUMNS
    w_ptr += batch * w_batch_stride + first_row * w_row_stride + first_column
    q_ptr += (batch * rows + first_row) * columns + first_column
    rows_left = tl.minimum(rows - first_row, BLOCK_ROWS)
    columns_left = tl.minimum(columns - first_column, BLOCK_COLUMNS)
    row = tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    s_start = s_row.to(tl.int64) * s_row_stride + column_block
    if PADDED:
        behind = 1 + tl.arange(0, 4)
        padding = tl.where(column_block == column_blocks - 1, s_row_stride - column_blocks, 0)
        tl.store(s_ptr + s_start + behind, tl.zeros((4,), tl.float32), mask=behind <= padding)

    halved: tl.constexpr = 3 if COLUMNS % 16 == 0 and CAPABILITY >= 86 else 0
    if ROWS >= BLOCK_ROWS and COLUMNS >= BLOCK_COLUMNS:
        w_ptrs = w_ptr + row[:, None].to(tl.int64) * w_row_stride + column[None, :]
        q_ptrs = q_ptr + row[:, None].to(tl.int64) * columns + column[None, :]
        mask = tile_mask(row, column, rows_left, columns_left)
        x = load(w_ptrs, mask, WHOLE)
        largest = tl.max(absmax_bits(x, halved, SATURATE, INTERPRETED), 0)
        # The same for each row, as the functions of groups take it.
        scale = group_scale(
            tl.zeros((ROWS,), tl.int32) + largest, eps, QMAX, POWER_OF_TWO, INTERPRETED
        )
        store_scale(s_ptr + s_start, scale, row, E8M0)
        codes = e4m3_codes(x, scale, QMAX, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED)
        if WHOLE:
            mask = tl.full((1, 1), True, tl.int1)
        tl.store(q_ptrs, codes, mask=mask)
    else:
        largest = tl.zeros((ROWS,), tl.int32)
        for down in range(0, BLOCK_ROWS, ROWS):
            for right in range(0, BLOCK_COLUMNS, COLUMNS):
                mask = tile_mask(row + down, column + right, rows_left, columns_left)
                w_ptrs = w_ptr + (row + down)[:, None].to(tl.int64) * w_row_stride
                x = load(w_ptrs + (column + right)[None, :], mask, False)
                largest = tl.maximum(largest, absmax_bits(x, halved, SATURATE, INTERPRETED))
        scale = group_scale(
            tl.zeros((ROWS,), tl.int32) + tl.max(largest, 0), eps, QMAX, POWER_OF_TWO, INTERPRETED
        )
        store_scale(s_ptr + s_start, scale, row, E8M0)
        for down in range(0, BLOCK_ROWS, ROWS):
            for right in range(0, BLOCK_COLUMNS, COLUMNS):
                mask = tile_mask(row + down, column + right, rows_left, columns_left)
                w_ptrs = w_ptr + (row + down)[:, None].to(tl.int64) * w_row_stride
                q_ptrs = q_ptr + (row + down)[:, None].to(tl.int64) * columns
                x = load(w_ptrs + (column + right)[None, :], mask, False)
                codes = e4m3_codes(x, scale, QMAX, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED)
                tl.store(q_ptrs + (column + right)[None, :], codes, mask=mask)


@triton.jit
def store_scale(s_ptr, scale, row, E8M0: tl.constexpr):
    """Store a scale that each row of a tile has."""
    if E8M0:
        byte = (scale.to(tl.int32, bitcast=True) >> 23).to(tl.uint8)
        tl.store(s_ptr + row * 0, byte, mask=row == 0)
    else:
        tl.store(s_ptr + row * 0, scale, mask=row == 0)


@triton.jit(do_not_specialize=["rows", "s_batch_stride", "s_row_stride", "s_column_stride"])
def dequantize_blocks_kernel(
    q_ptr,
    s_ptr,
    y_ptr,
    rows,
    columns,
    s_batch_stride,
    s_row_stride,
    s_column_stride,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    E8M0: tl.constexpr,
    HARDWARE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Dequantize a tile of ROWS x COLUMNS of a matrix, wherever blocks begin in it.

    CHUNK: elements that 16 bytes of `y` hold.
    """
    across = tl.cdiv(columns, COLUMNS)
    down = tl.cdiv(rows, ROWS)
    index = tl.program_id(0)
    tile_row = index // across
    batch = (tile_row // down).to(tl.int64)
    row = (tile_row % down).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    if COLUMNS >= CHUNK:
        # As many codes are loaded together as results are stored, or they would change threads.
        column = tl.max_contiguous(column, CHUNK)
    column += (index % across).to(tl.int64) * COLUMNS
    mask = tile_mask(row, column, rows, columns)
    at = (batch * s_batch_stride + row // BLOCK_ROWS * s_row_stride)[:, None]
    if BLOCK_COLUMNS % COLUMNS == 0:
        # A row of the tile has one scale.
        first = (index % across).to(tl.int64) * COLUMNS
        at += first // BLOCK_COLUMNS * s_column_stride
        scale = tl.load(s_ptr + at, mask=(row < rows)[:, None], other=0)
    else:
        at += (column // BLOCK_COLUMNS * s_column_stride)[None, :]
        scale = tl.load(s_ptr + at, mask=mask, other=0)
    if E8M0:
        scale = scale_of_byte(scale)
    offsets = ((batch * rows + row) * columns)[:, None] + column[None, :]
    codes = tl.load(q_ptr + offsets, mask=mask, other=0)
    x = hardware_float_of_e4m3(codes) if HARDWARE else float_of_e4m3(codes)
    y = x * scale
    like = tl.zeros(y.shape, y_ptr.dtype.element_ty)
    tl.store(y_ptr + offsets, rounded(y, like, INTERPRETED), mask=mask)
