"""The op that quantizes rows and columns, in Triton: choice of the kernel, and its launch."""

from __future__ import annotations

from typing import Any

import torch
import triton

from ptgq.backends.reference import QMAX
from ptgq.backends.triton import _INTERPRETED, per_token_group_quant, specialized
from ptgq.backends.triton_transposed_kernel import (
    per_token_group_quant_transposed_columns_kernel,
    per_token_group_quant_transposed_kernel,
)
from ptgq.extension import increment_version, rows_of
from ptgq.scales import ScaleFormat, column_lengths, memory_of
from ptgq.scales.formats import encode_format
from ptgq.transposed import prepare

# The sides of a tile of smaller groups, and the largest group that rows share with columns.
_SIDE = 64
_MAX_SIDE = 128
# What a thread of a large tile may have of 16-bit elements, so that a multiprocessor holds three.
_REGISTERS = 80
# Elements of a column that a program of columns alone holds at a time, and such columns.
_MAX_BLOCK = 1024
_ELEMENTS = 4096

_launches: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}


def _is_padded(groups: int, of_scales: tuple[int, ...]) -> bool:
    stored_groups, tokens, length = of_scales
    return length > tokens or stored_groups > groups


def _key(
    device: int,
    dtype: torch.dtype,
    pointers: tuple[int, ...],
    sizes: tuple[int, ...],
    group_size: int,
    code: int,
    saturate: bool,
) -> tuple[Any, ...] | None:
    """Return what determines the compiled kernel, or None for the rare ones, and for padding."""
    num_tokens, hidden_dim = sizes[:2]
    padded = _is_padded(hidden_dim // group_size, sizes[3:6])
    padded = padded or _is_padded(-(-num_tokens // group_size), sizes[6:])
    if padded or any(pointer % 16 for pointer in pointers) or max(sizes) >= 2**31:
        return None
    return device, dtype, specialized(*sizes), group_size, code, saturate


def _grid(matrices: int, sizes: tuple[int, ...], side: int) -> tuple[int, int, int]:
    return matrices * -(-sizes[0] // side) * -(-sizes[1] // side), 1, 1


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
    masked_m: torch.Tensor | None = None,
) -> None:
    """Quantize `x` ``[..., num_tokens, hidden_dim]`` into (q, s), and its transpose."""
    num_tokens, hidden_dim = x.shape[-2:]
    matrices = x.numel() // (num_tokens * hidden_dim)
    rows = rows_of(x, masked_m)
    stride = hidden_dim if rows.is_contiguous() else rows.stride(-2)
    counted = (None,) * 3 if masked_m is None else (masked_m, masked_m.stride(0), rows.stride(0))
    packed = scale_format.group_unit == 4
    e8m0 = packed or s.dtype is torch.float8_e8m0fnu

    def stored(q: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
        """Return the memory of scales, padded with zeros, and the sizes that say where one lies."""
        memory = memory_of(s, scale_format)
        memory = memory.view(torch.uint8) if e8m0 else memory
        groups = q.shape[-1] // group_size
        tokens, length = column_lengths(q.shape, scale_format)
        sizes = triton.cdiv(groups, 4) * 4 if packed else groups, tokens, length
        if _is_padded(groups, sizes):
            memory.zero_()
        return memory, sizes

    capability = (0, 0) if _INTERPRETED else torch.cuda.get_device_capability(x.device)
    code = encode_format(scale_format)
    constants = {
        "LAYOUT": code >> 3 & 3,
        "PACKED": packed,
        "QMAX": QMAX[torch.float8_e4m3fn],
        "POWER_OF_TWO": scale_format.power_of_two,
        "SATURATE": saturate,
        "E8M0": e8m0,
        "CAPABILITY": 10 * capability[0] + capability[1],
        "INTERPRETED": _INTERPRETED,
    }
    of_x = num_tokens, hidden_dim, stride
    st, st_sizes = stored(q_t, s_t)
    codes_t = q_t.view(torch.uint8)
    with torch.cuda.device_of(x):
        if 16 <= group_size <= _MAX_SIDE and group_size & (group_size - 1) == 0:
            side = max(_SIDE, group_size)
            memory, s_sizes = stored(q, s)
            sizes = *of_x, *s_sizes, *st_sizes
            warps = side // 16
            # A thread reads 8 elements of each of so many tokens.
            tokens = side * side // (256 * warps)
            constants = {"GROUP_SIZE": group_size, "SIDE": side, "TOKENS": tokens, **constants}
            limited = side == _MAX_SIDE and x.itemsize == 2 and not saturate
            compiled = per_token_group_quant_transposed_kernel[_grid(matrices, sizes, side)](
                rows, q.view(torch.uint8), memory, codes_t, st, *sizes, *counted, float(eps),
                **constants, num_warps=warps, maxnreg=_REGISTERS if limited else None,
                enable_fp_fusion=False,
            )  # fmt: skip
            pointers = tuple(t.data_ptr() for t in (rows, q, s, q_t, s_t))
            key = _key(x.get_device(), x.dtype, pointers, sizes, group_size, code, saturate)
            if compiled is not None and key is not None and masked_m is None:
                _launches[key] = compiled, tuple(constants.values())
            return
        per_token_group_quant(rows, q, s, group_size, eps, scale_format, saturate, masked_m)
        block = min(triton.next_power_of_2(group_size), _MAX_BLOCK)
        columns = _ELEMENTS // block
        across = triton.cdiv(hidden_dim, columns)
        per_token_group_quant_transposed_columns_kernel[
            (matrices * triton.cdiv(num_tokens, group_size) * across,)
        ](
            rows, codes_t, st, *of_x, *st_sizes, *counted, float(eps), GROUP_SIZE=group_size,
            COLUMNS=columns, BLOCK=block, **constants, enable_fp_fusion=False,
        )  # fmt: skip


def quantize_directly(
    x: torch.Tensor,
    group_size: int,
    code: int,
    saturate: bool,
    masked_m: torch.Tensor | None,
    eps: float,
    out: tuple[torch.Tensor, ...] | None,
) -> tuple[torch.Tensor, ...] | None:
    """Check, allocate and launch a kernel that an ordinary call compiled, or return None."""
    if masked_m is not None:
        return None
    call = prepare(x, group_size, code, saturate, masked_m, eps, out)
    if call is None or triton.knobs.compilation.instrumentation_mode:
        return None
    results, pointers, matrices, sizes, device, stream = call
    key = _key(device, x.dtype, pointers, sizes, group_size, code, saturate)
    launch = None if key is None else _launches.get(key)
    if launch is None:
        return None
    compiled, constants = launch
    grid = _grid(matrices, sizes, constants[1])
    compiled[grid](*pointers, *sizes, *(None,) * 3, eps, *constants, stream=stream)
    if out is not None:
        increment_version(results)
    return results
