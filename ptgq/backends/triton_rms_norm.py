"""RMSNorm before quantization in Triton: its launch, and what no kernel of a row takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton

from ptgq import extension
from ptgq.backends.normalization import announce_writes, rms_norm, row_stride
from ptgq.backends.reference import QMAX
from ptgq.backends.triton_rms_norm_kernel import rms_norm_per_token_group_quant_kernel
from ptgq.scales import ScaleFormat, column_lengths, memory_of
from ptgq.scales.formats import encode_format

# Elements of a row that a program holds; longer ones are normalized by PyTorch.
_MAX_ROW = 32768
_NEIGHBOURS = 8
# Elements of a thread. Of few rows, each has a multiprocessor to itself, and more threads.
_ELEMENTS = 32
_ELEMENTS_OF_FEW = 8
_FEW = 256
_MAX_WARPS = 16
# What 32 elements of 16 bits need, so that a multiprocessor holds 32 warps, not 24.
_REGISTERS = 64

prepare = extension.function("prepare_rms_norm")


class Launch(NamedTuple):
    """A compiled kernel, and what its launches have in common."""

    kernel: Any
    padded: bool
    constants: tuple[Any, ...]


_launches: dict[tuple[Any, ...] | None, Launch] = {}


def _key(
    device: int,
    dtypes: tuple[torch.dtype | None, ...],
    pointers: tuple[int, ...],
    sizes: tuple[int, ...],
    group_size: int,
    code: int,
    saturate: bool,
) -> tuple[Any, ...] | None:
    """Return what determines the compiled kernel, or None for the rare ones.

    dtypes: of x, weight, residual and q; pointers: these, norm_out and s, 0 where there is none;
    sizes: tokens, groups of a token, strides of x, residual and norm_out, groups that s has place
    for, tokens of a column, and those with padding.
    """
    num_tokens, num_groups, *strides, s_groups, column_tokens, column_length = sizes
    x, weight, residual, norm_out, q, s = pointers
    if (x | weight | residual | norm_out | q | s) % 16 or max(*strides, column_length) >= 2**31:
        return None
    divided = tuple((stride == 1, stride % 16 == 0) for stride in strides)
    padded = column_length > column_tokens or s_groups > num_groups
    kind = padded, num_tokens <= _FEW
    given = residual > 0, norm_out > 0
    return device, dtypes, given, divided, num_groups, group_size, code, saturate, kind


def constants_of(
    num_tokens: int,
    hidden_dim: int,
    group_size: int,
    q_dtype: torch.dtype,
    scale_format: ScaleFormat,
    sizes: tuple[int, int],
    residual: bool,
    norm_out: bool,
    saturate: bool,
    capability: tuple[int, int],
) -> dict[str, Any]:
    """The constants of a kernel; sizes: the tokens of a column, and those with padding."""
    block = max(_NEIGHBOURS, triton.next_power_of_2(hidden_dim))
    quantize = group_size == hidden_dim or group_size & (group_size - 1) == 0
    packed = scale_format.group_unit == 4
    num_groups = hidden_dim // group_size
    s_groups = triton.cdiv(num_groups, 4) * 4 if packed else num_groups
    return {
        "HIDDEN_DIM": hidden_dim,
        "GROUP_SIZE": group_size,
        "GROUP_BLOCK": block if group_size == hidden_dim or not quantize else group_size,
        "BLOCK": block,
        "S_GROUPS": s_groups,
        "S_BLOCK": triton.next_power_of_2(s_groups),
        "RESIDUAL": residual,
        "NORM_OUT": norm_out,
        "QUANTIZE": quantize,
        "LAYOUT": encode_format(scale_format) >> 3 & 3,
        "PACKED": packed,
        "PADDED": sizes[1] > sizes[0] or s_groups > num_groups or scale_format.per_batch,
        "QMAX": QMAX[q_dtype],
        "INT8": q_dtype is torch.int8,
        "POWER_OF_TWO": scale_format.power_of_two,
        "SATURATE": saturate,
        "E8M0": packed or scale_format.dtype is torch.float8_e8m0fnu,
        "CAPABILITY": 10 * capability[0] + capability[1],
        "WARPS": warps_of(block, num_tokens),
    }


def warps_of(block: int, num_tokens: int) -> int:
    """The warps of a program that holds so many elements."""
    elements = _ELEMENTS_OF_FEW if num_tokens <= _FEW else _ELEMENTS
    return min(max(block // (32 * elements), 1), _MAX_WARPS)


def rms_norm_directly(
    x: torch.Tensor,
    weight: torch.Tensor,
    group_size: int,
    q_dtype: torch.dtype,
    code: int,
    saturate: bool,
    eps: float,
    norm_eps: float,
    residual: torch.Tensor | None,
    norm_out: torch.Tensor | None,
    out: tuple[torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Check, allocate and launch a kernel that an ordinary call compiled, or return None."""
    if not _launches or triton.knobs.compilation.instrumentation_mode:
        return None
    call = prepare(
        x, weight, group_size, q_dtype, code, saturate, eps, norm_eps, residual, norm_out, out
    )
    if call is None:
        return None
    results, pointers, sizes, device, stream = call
    dtypes = x.dtype, weight.dtype, None if residual is None else residual.dtype, q_dtype
    launch = _launches.get(_key(device, dtypes, pointers, sizes, group_size, code, saturate))
    if launch is None:
        return None
    num_tokens, num_groups, *strides, _, column_tokens, column_length = sizes
    rows = num_tokens // column_tokens * column_length if launch.padded else num_tokens
    address, of_weight, of_residual, of_norm_out, q, s = pointers
    launch.kernel[(rows, 1, 1)](
        address, of_weight, of_residual or address, of_norm_out or address, q, s,
        *strides, column_tokens, column_length, float(num_groups * group_size), norm_eps, eps,
        *launch.constants, stream=stream,
    )  # fmt: skip
    written = [t for t in (residual, norm_out) if t is not None]
    if out is not None or written:
        extension.increment_version((*(results if out is not None else ()), *written))
    return results


def rms_norm_per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    weight: torch.Tensor,
    norm_eps: float,
    residual: torch.Tensor | None = None,
    norm_out: torch.Tensor | None = None,
    saturate: bool = False,
) -> None:
    """Quantize the RMSNorm of `x`, contiguous or ``[num_tokens, hidden_dim]``."""
    from ptgq.backends.triton import _INTERPRETED, per_token_group_quant

    announce_writes(x, weight, residual, norm_out)
    weight = weight.resolve_neg()
    hidden_dim = x.shape[-1]
    sizes = column_lengths(q.shape, scale_format)
    capability = (0, 0) if _INTERPRETED else torch.cuda.get_device_capability(x.device)
    num_tokens = x.numel() // hidden_dim
    options = num_tokens, hidden_dim, group_size, q.dtype, scale_format, sizes
    constants = constants_of(
        *options, residual is not None, norm_out is not None, saturate, capability
    )
    y = norm_out
    if not constants["QUANTIZE"] or hidden_dim > _MAX_ROW:
        # Groups that are no part of a tile: y goes through memory.
        if norm_out is None:
            y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        constants |= {"QUANTIZE": False, "NORM_OUT": True, "PADDED": False}
    if hidden_dim > _MAX_ROW:
        with torch.no_grad():
            rms_norm(x, weight, norm_eps, residual, y)
    else:
        rows = num_tokens // sizes[0] * sizes[1] if constants["PADDED"] else num_tokens
        strides = (
            hidden_dim if x.is_contiguous() else x.stride(0),
            0 if residual is None else row_stride("residual", residual),
            0 if y is None else row_stride("norm_out", y),
        )
        constants["INTERPRETED"] = _INTERPRETED
        operands = (x, weight) if residual is None else (x, weight, residual)
        small = not saturate and max(t.itemsize for t in operands) == 2
        small = small and constants["BLOCK"] <= 32 * _ELEMENTS * constants["WARPS"]
        with torch.cuda.device_of(x):
            compiled = rms_norm_per_token_group_quant_kernel[(rows,)](
                x,
                weight,
                x if residual is None else residual,
                x if y is None else y,
                q if constants["INT8"] else q.view(torch.uint8),
                memory_of(s, scale_format).view(torch.uint8) if constants["E8M0"] else s,
                *strides,
                *sizes,
                float(hidden_dim),
                float(norm_eps),
                float(eps),
                **constants,
                num_warps=constants["WARPS"],
                maxnreg=_REGISTERS if small else None,
                enable_fp_fusion=False,
            )
        if compiled is not None and constants["QUANTIZE"]:
            tensors = x, weight, residual, norm_out, q, s
            key = _key(
                x.get_device(),
                (x.dtype, weight.dtype, None if residual is None else residual.dtype, q.dtype),
                tuple(0 if t is None else t.data_ptr() for t in tensors),
                (num_tokens, hidden_dim // group_size, *strides, constants["S_GROUPS"], *sizes),
                group_size,
                scale_format.code,
                saturate,
            )
            if key is not None:
                launch = Launch(compiled, constants["PADDED"], tuple(constants.values()))
                _launches[key] = launch
    if not constants["QUANTIZE"]:
        assert y is not None
        rows_of_y = y if y.is_contiguous() else y.view(-1, hidden_dim)
        per_token_group_quant(rows_of_y, q, s, group_size, eps, scale_format, saturate)
