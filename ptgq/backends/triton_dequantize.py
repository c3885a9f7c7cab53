"""dequantize in Triton: a program has a tile of groups, whose codes and results are whole lines."""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl

from ptgq.backends.triton_numerics import rounded
from ptgq.extension import prepare_dequantize

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Elements of a tile, and those of a group that a program holds at a time.
_TILE = 4096
_WARPS = 4
# What 31 bits count, with what a tile reaches beyond.
_SMALL = 2**31 - _TILE

_launches: dict[tuple[Any, ...], tuple[Any, int, tuple[Any, ...]]] = {}


@triton.jit
def scale_of_byte(byte):
    """The power of two that a byte states: as scale_of in csrc/contract/dequantize.h."""
    ends = tl.where((byte == 0) | (byte == 0xFF), 0x00400000, 0)
    return ((byte.to(tl.int32) << 23) | ends).to(tl.float32, bitcast=True)


@triton.jit
def float_of_e4m3(code):
    """E4M3 to float32, exactly: as e4m3_to_float in csrc/cpu/dequantize.inc."""
    word = code.to(tl.int32)
    magnitude = (word & 0x7F) << 20
    subnormal = magnitude < 0x00800000
    # 2^-6 is 0x3C800000, and its half 0x3C000000.
    normal = magnitude + tl.where(subnormal, 0x3C800000, 0x3C000000)
    value = normal.to(tl.float32, bitcast=True) - tl.where(subnormal, 0.015625, 0.0)
    nan = tl.where(magnitude == 0x07F00000, 0x7FC00000, 0)
    bits = value.to(tl.int32, bitcast=True) | nan | ((word & 0x80) << 24)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def hardware_float_of_e4m3(code):
    """E4M3 to float32 by the instruction that devices have from 8.9 on, exactly."""
    return tl.inline_asm_elementwise(
        "{.reg .b16 ab, cd, a, b, c, d; .reg .b32 low, high; mov.b32 {ab, cd}, $4;"
        " cvt.rn.f16x2.e4m3x2 low, ab; cvt.rn.f16x2.e4m3x2 high, cd;"
        " mov.b32 {a, b}, low; mov.b32 {c, d}, high;"
        " cvt.f32.f16 $0, a; cvt.f32.f16 $1, b; cvt.f32.f16 $2, c; cvt.f32.f16 $3, d;}",
        "=f,=f,=f,=f,r",
        [code],
        dtype=tl.float32,
        is_pure=True,
        pack=4,
    )


@triton.jit
def store_products(
    q_ptrs,
    y_ptrs,
    scale,
    inside,
    WHOLE: tl.constexpr,
    INT8: tl.constexpr,
    HARDWARE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Store the products of a tile, ``[groups, BLOCK]``, and its scales, ``[groups]``."""
    codes = tl.load(q_ptrs) if WHOLE else tl.load(q_ptrs, mask=inside, other=0)
    if INT8:
        x = codes.to(tl.float32)
    elif HARDWARE:
        x = hardware_float_of_e4m3(codes)
    else:
        x = float_of_e4m3(codes)
    y = x * scale[:, None]
    like = tl.zeros(y.shape, y_ptrs.dtype.element_ty)
    tl.store(y_ptrs, rounded(y, like, INTERPRETED), mask=inside)


@triton.jit(
    do_not_specialize=[
        "num_tokens",
        "num_groups",
        "batch_tokens",
        "s_batch_stride",
        "s_token_stride",
        "s_group_stride",
    ]
)
def dequantize_kernel(
    q_ptr,
    s_ptr,
    y_ptr,
    num_tokens,
    num_groups,
    batch_tokens,
    s_batch_stride,
    s_token_stride,
    s_group_stride,
    GROUP_SIZE: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    FLAT: tl.constexpr,
    E8M0: tl.constexpr,
    PACKED: tl.constexpr,
    INT8: tl.constexpr,
    HARDWARE: tl.constexpr,
    SMALL: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Dequantize GROUPS neighbouring groups, counted row by row; `q` and `y` are contiguous.

    FLAT: so are the scales, an element each. CHUNK: elements that 16 bytes of `y` hold.
    SMALL: 31 bits count the groups.
    """
    index = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    inside = index < num_tokens.to(tl.int64) * num_groups
    whole: tl.constexpr = GROUP_SIZE % BLOCK == 0
    if whole:
        # The first group is read for those that are none: a mask would take more instructions.
        index = tl.where(inside, index, 0)
    if FLAT:
        at = index
    else:
        counted = index.to(tl.int32) if SMALL else index
        token = counted // num_groups
        group = counted - token * num_groups
        batch = token // batch_tokens
        row = token - batch * batch_tokens
        at = batch.to(tl.int64) * s_batch_stride + row.to(tl.int64) * s_token_stride
        if PACKED:
            at = 4 * (at + (group // 4).to(tl.int64) * s_group_stride) + group % 4
        else:
            at += group.to(tl.int64) * s_group_stride
    scale = tl.load(s_ptr + at, mask=inside, other=0)
    if E8M0:
        scale = scale_of_byte(scale)
    columns = tl.arange(0, BLOCK)
    if BLOCK >= CHUNK:
        # As many codes are loaded together as results are stored, or they would change threads.
        columns = tl.max_contiguous(columns, CHUNK)
    starts = (index * GROUP_SIZE)[:, None] + columns[None, :]
    for start in range(0, GROUP_SIZE, BLOCK):
        mask = inside[:, None]
        if not whole:
            mask = mask & (start + columns < GROUP_SIZE)[None, :]
        store_products(
            q_ptr + start + starts,
            y_ptr + start + starts,
            scale,
            mask,
            whole,
            INT8,
            HARDWARE,
            INTERPRETED,
        )


def _constants(
    group_size: int, dtypes: tuple[torch.dtype, torch.dtype, torch.dtype], flat: bool, device: Any
) -> dict[str, Any]:
    q_dtype, s_dtype, dtype = dtypes
    block = min(triton.next_power_of_2(group_size), _TILE)
    hardware = not _INTERPRETED and torch.cuda.get_device_capability(device) >= (8, 9)
    return {
        "GROUP_SIZE": group_size,
        "GROUPS": _TILE // block,
        "BLOCK": block,
        "CHUNK": 16 // dtype.itemsize,
        "FLAT": flat,
        "E8M0": s_dtype is not torch.float32,
        "PACKED": s_dtype is torch.int32,
        "INT8": q_dtype is torch.int8,
        "HARDWARE": hardware,
    }


def _is_flat(sizes: tuple[int, ...], s_dtype: torch.dtype) -> bool:
    num_tokens, num_groups, batch_tokens, _, s_token_stride, s_group_stride = sizes
    return (
        s_dtype is not torch.int32
        and (s_group_stride == 1 or num_groups == 1)
        and (num_tokens == 1 or (batch_tokens == num_tokens and s_token_stride == num_groups))
    )


def dequantize(
    q: torch.Tensor, s: torch.Tensor, group_size: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return ``q * s`` group by group."""
    y = torch.empty(q.shape, dtype=dtype, device=q.device)
    if y.numel() == 0:
        return y
    q, s = q.contiguous(), s.resolve_neg()
    num_groups = q.shape[-1] // group_size
    runs = _runs(s)
    if len(runs) > 2:
        s = s.contiguous()
        runs = _runs(s)
    (batch_tokens, s_token_stride), (_, s_batch_stride) = (*runs, (1, 0), (1, 0))[:2]
    sizes = (
        *(q.numel() // q.shape[-1], num_groups, batch_tokens),
        *(s_batch_stride, s_token_stride, s.stride(-1)),
    )
    flat = _is_flat(sizes, s.dtype)
    constants = _constants(group_size, (q.dtype, s.dtype, dtype), flat, q.device)
    constants["SMALL"] = sizes[0] * num_groups < _SMALL
    constants["INTERPRETED"] = _INTERPRETED
    arguments = (
        q if q.dtype is torch.int8 else q.view(torch.uint8),
        s if s.dtype is torch.float32 else _bytes_of(s),
        y,
    )
    grid = (triton.cdiv(sizes[0] * num_groups, constants["GROUPS"]),)
    with torch.cuda.device_of(q):
        compiled = dequantize_kernel[grid](
            *arguments, *sizes, **constants, num_warps=_WARPS, enable_fp_fusion=False
        )
    key = _key(q.get_device(), arguments, (q.dtype, s.dtype, dtype), sizes, group_size, flat)
    if compiled is not None and key is not None:
        _launches[key] = compiled, constants["GROUPS"], tuple(constants.values())
    return y


def _bytes_of(s: torch.Tensor) -> torch.Tensor:
    """Return what points to the bytes of `s`, whose strides are told apart."""
    return s.as_strided((1,), (1,)).view(torch.uint8)


def _runs(s: torch.Tensor) -> list[tuple[int, int]]:
    """Return size and stride of each run of tokens that has one stride, the innermost first."""
    runs: list[tuple[int, int]] = []
    for size, stride in zip(reversed(s.shape[:-1]), reversed(s.stride()[:-1]), strict=True):
        if size == 1:
            continue
        if runs and stride == runs[-1][0] * runs[-1][1]:
            runs[-1] = runs[-1][0] * size, runs[-1][1]
        else:
            runs.append((size, stride))
    return runs


def _key(
    device: int,
    tensors: tuple[Any, ...],
    dtypes: tuple[torch.dtype, ...],
    sizes: tuple[int, ...],
    group_size: int,
    flat: bool,
) -> tuple[Any, ...] | None:
    """Return what determines the compiled kernel, or None for the rare ones."""
    addresses = [t if isinstance(t, int) else t.data_ptr() for t in tensors]
    # Triton compiles others for sizes past 31 bits and for other alignments.
    if any(address % 16 for address in addresses) or max(*sizes, sizes[0] * sizes[1]) >= _SMALL:
        return None
    return device, dtypes, group_size, flat


def dequantize_directly(
    q: torch.Tensor, s: torch.Tensor, group_size: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """Check, allocate and launch a kernel that an ordinary call compiled, or return None."""
    call = prepare_dequantize(q, s, group_size, dtype)
    if call is None or triton.knobs.compilation.instrumentation_mode:
        return None
    y, addresses, sizes, device, stream = call
    dtypes = q.dtype, s.dtype, dtype
    key = _key(device, addresses, dtypes, sizes, group_size, _is_flat(sizes, s.dtype))
    launch = None if key is None else _launches.get(key)
    if launch is None:
        return None
    compiled, groups, constants = launch
    grid = -(-sizes[0] * sizes[1] // groups), 1, 1
    compiled[grid](*addresses, *sizes, *constants, stream=stream)
    return y
