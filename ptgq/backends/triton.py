"""The op in Triton: one program a group."""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl

from ptgq.backends.reference import QMAX
from ptgq.scales import ScaleFormat

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Elements that a program holds at a time; larger groups are read twice.
_MAX_BLOCK = 4096


@triton.jit
def e4m3_code(y):
    """float32 to E4M3 in integer arithmetic: round to nearest even, saturate; NaN is 0x7F.

    For devices without the conversion (before 8.9), and for the interpreter, which rounds wrongly.
    """
    bits = y.to(tl.uint32, bitcast=True)
    # As csrc/cpu_numerics.h: 448 is 0x43E00000, 2^-6 is 0x3C800000, 2^14 is 0x46800000.
    magnitude = tl.minimum(bits & 0x7FFFFFFF, 0x43E00000)
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - 960
    shifted = magnitude.to(tl.float32, bitcast=True) + 16384.0
    subnormal = shifted.to(tl.uint32, bitcast=True) - 0x46800000
    code = ((bits >> 24) & 0x80) | tl.where(magnitude < 0x3C800000, subnormal, normal)
    return tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7F, code).to(tl.uint8)


@triton.jit
def int8_code(y):
    """float32 to INT8, half to even: the last bits of y + 1.5 * 2^23. NaN is 0."""
    bits = (y + 12582912.0).to(tl.int32, bitcast=True)
    return tl.where(y == y, bits, 0).to(tl.int8)


@triton.jit
def group_scale(absmax_bits, eps, QMAX: tl.constexpr, POWER_OF_TWO: tl.constexpr):
    """The scale of a group, from the bits of its largest magnitude."""
    absmax = tl.maximum(absmax_bits.to(tl.float32, bitcast=True), eps)
    scale = tl.div_rn(absmax, tl.full(absmax.shape, QMAX, tl.float32))
    bits = scale.to(tl.int32, bitcast=True)
    if POWER_OF_TWO:
        bits = (bits + 0x7FFFFF) & 0x7F800000
    # Infinity and NaN order above all finite values.
    return tl.where(absmax_bits < 0x7F800000, bits, 0x7FC00000).to(tl.float32, bitcast=True)


@triton.jit
def absolute_bits(x):
    """|x| as float32 bits: as integers they order like the values, NaN on top."""
    return x.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def per_token_group_quant_kernel(
    x_ptr,
    q_ptr,
    s_ptr,
    num_groups,
    x_token_stride,
    s_token_stride,
    s_group_stride,
    eps,
    GROUP_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    QMAX: tl.constexpr,
    INT8: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    E8M0: tl.constexpr,
    HARDWARE_E4M3: tl.constexpr,
):
    """Quantize one group."""
    index = tl.program_id(0).to(tl.int64)
    token = index // num_groups
    group = index % num_groups
    x_ptr += token * x_token_stride + group * GROUP_SIZE
    q_ptr += index * GROUP_SIZE
    offsets = tl.arange(0, BLOCK)

    absmax_bits = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, GROUP_SIZE, BLOCK):
        mask = start + offsets < GROUP_SIZE
        x = tl.load(x_ptr + start + offsets, mask=mask, other=0.0)
        absmax_bits = tl.maximum(absmax_bits, absolute_bits(x))
    scale = group_scale(tl.max(absmax_bits, 0), eps, QMAX, POWER_OF_TWO)

    s_ptr += token * s_token_stride + group * s_group_stride
    if E8M0:
        tl.store(s_ptr, (scale.to(tl.int32, bitcast=True) >> 23).to(tl.uint8))
    else:
        tl.store(s_ptr, scale)

    for start in range(0, GROUP_SIZE, BLOCK):
        mask = start + offsets < GROUP_SIZE
        x = tl.load(x_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        y = tl.div_rn(x, tl.full(x.shape, 0.0, tl.float32) + scale)
        if INT8:
            code = int8_code(y)
        elif HARDWARE_E4M3:
            code = y.to(tl.float8e4nv).to(tl.uint8, bitcast=True)
        else:
            code = e4m3_code(y)
        tl.store(q_ptr + start + offsets, code, mask=mask)


def per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
) -> None:
    """Quantize `x`, contiguous or ``[num_tokens, hidden_dim]``, into `q` and `s`."""
    num_groups = x.shape[-1] // group_size
    num_tokens = x.numel() // x.shape[-1]
    int8 = q.dtype is torch.int8
    e8m0 = s.dtype is torch.float8_e8m0fnu
    hardware = not _INTERPRETED and torch.cuda.get_device_capability(x.device) >= (8, 9)
    with torch.cuda.device_of(x):
        per_token_group_quant_kernel[(num_tokens * num_groups,)](
            x,
            q if int8 else q.view(torch.uint8),
            s.view(torch.uint8) if e8m0 else s,
            num_groups,
            x.shape[-1] if x.is_contiguous() else x.stride(0),
            1 if scale_format.column_major else num_groups,
            num_tokens if scale_format.column_major else 1,
            eps,
            GROUP_SIZE=group_size,
            BLOCK=min(triton.next_power_of_2(group_size), _MAX_BLOCK),
            QMAX=QMAX[q.dtype],
            INT8=int8,
            POWER_OF_TWO=scale_format.power_of_two,
            E8M0=e8m0,
            HARDWARE_E4M3=hardware,
            num_warps=1,
        )
