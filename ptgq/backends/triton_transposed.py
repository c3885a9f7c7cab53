"""The op that quantizes rows and columns, in Triton: choice of the kernel, and its launch."""

from __future__ import annotations

import torch
import triton

from ptgq.backends.reference import QMAX
from ptgq.backends.triton import _INTERPRETED, per_token_group_quant
from ptgq.backends.triton_transposed_kernel import (
    per_token_group_quant_transposed_columns_kernel,
    per_token_group_quant_transposed_kernel,
)
from ptgq.extension import rows_of
from ptgq.scales import ScaleFormat, column_lengths, memory_of
from ptgq.scales.formats import encode_format

# The sides of a tile of smaller groups, and the largest group that rows share with columns.
_SIDE = 64
_MAX_SIDE = 128
# Elements of a column that a program of columns alone holds at a time, and such columns.
_MAX_BLOCK = 1024
_ELEMENTS = 4096


def per_token_group_quant_transposed(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    q_t: torch.Tensor,
    s_t: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    saturate: bool = False,
) -> None:
    """Quantize `x` ``[..., num_tokens, hidden_dim]`` into (q, s), and its transpose."""
    num_tokens, hidden_dim = x.shape[-2:]
    matrices = x.numel() // (num_tokens * hidden_dim)
    rows = rows_of(x)
    stride = hidden_dim if rows.is_contiguous() else rows.stride(0)
    packed = scale_format.group_unit == 4
    e8m0 = packed or s.dtype is torch.float8_e8m0fnu

    def stored(q: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Return the memory of scales, padded with zeros, and the sizes that say where one lies."""
        memory = memory_of(s, scale_format)
        memory = memory.view(torch.uint8) if e8m0 else memory
        groups = q.shape[-1] // group_size
        tokens, length = column_lengths(q.shape, scale_format)
        stored_groups = triton.cdiv(groups, 4) * 4 if packed else groups
        if length > tokens or stored_groups > groups:
            memory.zero_()
        return memory, (stored_groups, tokens, length)

    capability = (0, 0) if _INTERPRETED else torch.cuda.get_device_capability(x.device)
    constants = {
        "GROUP_SIZE": group_size,
        "LAYOUT": encode_format(scale_format) >> 3 & 3,
        "PACKED": packed,
        "QMAX": QMAX[torch.float8_e4m3fn],
        "POWER_OF_TWO": scale_format.power_of_two,
        "SATURATE": saturate,
        "E8M0": e8m0,
        "CAPABILITY": 10 * capability[0] + capability[1],
        "INTERPRETED": _INTERPRETED,
        "enable_fp_fusion": False,
    }
    sizes = num_tokens, hidden_dim, stride
    st, st_sizes = stored(q_t, s_t)
    codes_t = q_t.view(torch.uint8)
    with torch.cuda.device_of(x):
        if 16 <= group_size <= _MAX_SIDE and group_size & (group_size - 1) == 0:
            side = max(_SIDE, group_size)
            grid = (matrices * triton.cdiv(num_tokens, side) * triton.cdiv(hidden_dim, side),)
            st_rows, s_sizes = stored(q, s)
            per_token_group_quant_transposed_kernel[grid](
                rows, q.view(torch.uint8), st_rows, codes_t, st, *sizes, *s_sizes, *st_sizes,
                float(eps), SIDE=side, num_warps=side // 16, **constants,
            )  # fmt: skip
            return
        per_token_group_quant(rows, q, s, group_size, eps, scale_format, saturate)
        block = min(triton.next_power_of_2(group_size), _MAX_BLOCK)
        columns = _ELEMENTS // block
        across = triton.cdiv(hidden_dim, columns)
        per_token_group_quant_transposed_columns_kernel[
            (matrices * triton.cdiv(num_tokens, group_size) * across,)
        ](
            rows, codes_t, st, *sizes, *st_sizes, float(eps), COLUMNS=columns, BLOCK=block,
            **constants,
        )  # fmt: skip
