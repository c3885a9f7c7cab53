"""The Triton backend's kernel of RMSNorm before quantization: a program a row, read once."""

from __future__ import annotations

import triton
import triton.language as tl

from ptgq.backends.triton_kernel import store_codes, store_scales
from ptgq.backends.triton_numerics import absmax_bits, group_scale, rounded, to_float32


@triton.jit
def by_halves(sums, END: tl.constexpr):
    """The sums of the last dimension, a power of two, END of them: each is of two, by halves."""
    rows: tl.constexpr = sums.shape[0]
    size: tl.constexpr = sums.shape[1]
    if size == END:
        return sums
    else:
        return by_halves(tl.sum(tl.reshape(sums, [rows, 2, size // 2]), 1), END)


@triton.jit
def by_halves_in_threads(sums):
    """As by_halves, over the first of two dimensions: threads exchange elements once for all."""
    size: tl.constexpr = sums.shape[0]
    lanes: tl.constexpr = sums.shape[1]
    if size == 1:
        return sums
    else:
        a, b = tl.split(tl.permute(tl.reshape(sums, [2, size // 2, lanes]), [1, 2, 0]))
        return by_halves_in_threads(a + b)


@triton.jit
def sum_of(squares, SIZE: tl.constexpr, WARPS: tl.constexpr):
    """The sum of SIZE squares by the tree of csrc/contract/rms_norm.h: ``[1]``."""
    vectors: tl.constexpr = SIZE // 8
    sums = tl.reshape(by_halves(tl.reshape(squares, [vectors, 8]), 1), [1, vectors])
    if WARPS > 1:
        # A warp's 32 threads then add up what those of all warps have.
        sums = by_halves(sums, 32 * WARPS)
        sums = by_halves_in_threads(tl.reshape(sums, [WARPS, 32]))
    return tl.reshape(by_halves(sums, 1), [1])


@triton.jit
def rstd_of(total, hidden_dim, norm_eps):
    """1 / sqrt(total / hidden_dim + norm_eps), NaN unless the total is finite."""
    root = tl.sqrt_rn(tl.div_rn(total, hidden_dim) + norm_eps)
    rstd = tl.div_rn(tl.full(root.shape, 1.0, tl.float32), root)
    finite = (total.to(tl.int32, bitcast=True) & 0x7FFFFFFF) < 0x7F800000
    return tl.where(finite, rstd, float("nan"))


@triton.jit
def normalized(
    x_ptr,
    weight_ptr,
    residual_ptr,
    columns,
    hidden_dim,
    norm_eps,
    HIDDEN_DIM: tl.constexpr,
    RESIDUAL: tl.constexpr,
    WARPS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """The RMSNorm of a row in the type of x; the residual becomes the sum."""
    mask = columns < HIDDEN_DIM
    x = tl.load(x_ptr + columns, mask=mask, other=0.0)
    weight = tl.load(weight_ptr + columns, mask=mask, other=0.0)
    r = to_float32(x, INTERPRETED)
    if RESIDUAL:
        before = tl.load(residual_ptr + columns, mask=mask, other=0.0)
        after = rounded(to_float32(before, INTERPRETED) + r, before, INTERPRETED)
        tl.store(residual_ptr + columns, after, mask=mask)
        r = to_float32(after, INTERPRETED)
    size: tl.constexpr = columns.shape[0] * columns.shape[1]
    rstd = rstd_of(sum_of(r * r, size, WARPS), hidden_dim, norm_eps)
    y = r * rstd[:, None] * to_float32(weight, INTERPRETED)
    return rounded(y, x, INTERPRETED)


# Few variants to compile: no others for counts of tokens that divide by 16 or equal 1.
@triton.jit(do_not_specialize=["column_tokens", "column_length"])
def rms_norm_per_token_group_quant_kernel(
    x_ptr,
    weight_ptr,
    residual_ptr,
    norm_out_ptr,
    q_ptr,
    s_ptr,
    x_stride,
    residual_stride,
    norm_out_stride,
    column_tokens,
    column_length,
    hidden_dim,
    norm_eps,
    eps,
    HIDDEN_DIM: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    S_GROUPS: tl.constexpr,
    S_BLOCK: tl.constexpr,
    RESIDUAL: tl.constexpr,
    NORM_OUT: tl.constexpr,
    QUANTIZE: tl.constexpr,
    LAYOUT: tl.constexpr,
    PACKED: tl.constexpr,
    PADDED: tl.constexpr,
    QMAX: tl.constexpr,
    INT8: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    E8M0: tl.constexpr,
    CAPABILITY: tl.constexpr,
    WARPS: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Normalize a row and, QUANTIZE, quantize its groups, GROUP_BLOCK elements with padding each.

    LAYOUT, PACKED and PADDED are as in triton_kernel: programs cover the rows of padding, too.
    """
    row = tl.program_id(0).to(tl.int64)
    token = row
    batch = row - row
    exists = True
    if PADDED:
        batch = row // column_length
        place = row - batch * column_length
        token = batch * column_tokens + place
        exists = place < column_tokens
    if exists:
        # In two dimensions from the start: of a reshaped one, Triton does not see neighbours, and
        # each code would be a store of its own.
        groups: tl.constexpr = BLOCK // GROUP_BLOCK
        # As many codes are stored together as elements loaded, or they would change threads.
        column = tl.max_contiguous(tl.arange(0, GROUP_BLOCK), min(8, GROUP_BLOCK))
        columns = tl.arange(0, groups)[:, None] * GROUP_BLOCK + column[None, :]
        y = normalized(
            x_ptr + token * x_stride,
            weight_ptr,
            residual_ptr + token * residual_stride,
            columns,
            hidden_dim,
            norm_eps,
            HIDDEN_DIM,
            RESIDUAL,
            WARPS,
            INTERPRETED,
        )
        if NORM_OUT:
            norm_out_ptrs = norm_out_ptr + token * norm_out_stride + columns
            tl.store(norm_out_ptrs, y, mask=columns < HIDDEN_DIM)
        if QUANTIZE:
            # Pairs are not compared: a thread has too few of a group to gain by it.
            absmax = absmax_bits(y, 0, SATURATE, INTERPRETED)
            scale = group_scale(absmax, eps, QMAX, POWER_OF_TWO, INTERPRETED)
            store_row(
                s_ptr, scale, row, batch, column_length, 0, HIDDEN_DIM // GROUP_SIZE,
                S_GROUPS, LAYOUT, PACKED, PADDED, E8M0,
            )  # fmt: skip
            if groups < S_GROUPS:
                # Padding beyond the groups of the tile: three at most.
                store_row(
                    s_ptr, tl.zeros([4], tl.float32), row, batch, column_length, groups, 0,
                    S_GROUPS, LAYOUT, PACKED, PADDED, E8M0,
                )  # fmt: skip
            store_codes(
                q_ptr + token * HIDDEN_DIM + columns, y, scale, columns < HIDDEN_DIM,
                QMAX, INT8, POWER_OF_TWO, SATURATE, CAPABILITY, INTERPRETED,
            )  # fmt: skip
    else:
        store_row(
            s_ptr, tl.zeros([S_BLOCK], tl.float32), row, batch, column_length, 0, 0,
            S_GROUPS, LAYOUT, PACKED, PADDED, E8M0,
        )  # fmt: skip


@triton.jit
def store_row(
    s_ptr,
    scale,
    row,
    batch,
    column_length,
    FIRST: tl.constexpr,
    END: tl.constexpr,
    S_GROUPS: tl.constexpr,
    LAYOUT: tl.constexpr,
    PACKED: tl.constexpr,
    PADDED: tl.constexpr,
    E8M0: tl.constexpr,
):
    """Store the scales of a row from FIRST on, zeros from END on, placed as in triton_kernel."""
    group = FIRST + tl.arange(0, scale.shape[0])
    if LAYOUT == 3:
        tile = row // 128 * (S_GROUPS // 4) + group // 4
        s_ptrs = s_ptr + tile * 512 + row % 32 * 16 + row // 32 % 4 * 4 + group % 4
    elif LAYOUT > 0:
        columns: tl.constexpr = S_GROUPS // 4 if PACKED else S_GROUPS
        at = row + batch * column_length * (columns - 1)
        if PACKED:
            s_ptrs = s_ptr + (group // 4 * column_length.to(tl.int64) + at) * 4 + group % 4
        else:
            s_ptrs = s_ptr + group * column_length.to(tl.int64) + at
    else:
        s_ptrs = s_ptr + row * S_GROUPS + group
    store_scales(s_ptrs, scale, group < END, group < S_GROUPS, PADDED, E8M0)
