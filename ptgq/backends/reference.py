"""The numerics contract in plain PyTorch, on any device: what the other backends must equal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ptgq.backends.activation import silu_and_mul
from ptgq.backends.normalization import announce_writes, rms_norm
from ptgq.scales import ScaleFormat, store_scales, to_float32

QMAX = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}

# Elements are handled so many at a time, to keep float32 intermediates small.
_CHUNK = 1 << 24


@torch.no_grad()
def per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    saturate: bool = False,
    masked_m: torch.Tensor | None = None,
) -> None:
    """Quantize `x` ``[..., hidden_dim]`` into `q` and `s`, by the numerics contract."""
    options = group_size, eps, scale_format, saturate, _rows_of(x, masked_m)
    _quantize(x, q, s, *options, lambda rows: rows)


@torch.no_grad()
def silu_and_mul_per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    swiglu_limit: float | None = None,
    saturate: bool = False,
    masked_m: torch.Tensor | None = None,
) -> None:
    """The same of :func:`silu_and_mul` of `x` ``[..., 2 * hidden_dim]``."""
    activation = partial(silu_and_mul, swiglu_limit=swiglu_limit)
    options = group_size, eps, scale_format, saturate, _rows_of(x, masked_m)
    _quantize(x, q, s, *options, activation)


@torch.no_grad()
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
    """Quantize `x` ``[..., num_tokens, hidden_dim]`` and, filled up with 0, its transpose."""
    tokens = x.shape[-2]
    x_t = x.new_zeros(q_t.shape)
    x_t[..., :tokens] = x.mT
    options = group_size, eps, scale_format, saturate
    if masked_m is None:
        per_token_group_quant(x.reshape(-1, x.shape[-1]), q, s, *options)
        per_token_group_quant(x_t, q_t, s_t, *options)
    else:
        x = x.reshape(-1, *x.shape[-2:])
        per_token_group_quant(x, q, s, *options, masked_m)
        exist = _existing(q_t.shape[-1], masked_m).unflatten(-1, (-1, group_size))
        exist = exist.repeat_interleave(x.shape[-1], 0)
        q_t.view(torch.uint8).zero_()
        _quantize(x_t, q_t, s_t, *options, exist, lambda rows: rows)
    q_t.view(torch.uint8)[..., tokens:] = 0


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
    """The same of :func:`rms_norm` of `x`."""
    announce_writes(x, weight, residual, norm_out)
    with torch.no_grad():
        y = rms_norm(x, weight, norm_eps, residual, norm_out)
    per_token_group_quant(y, q, s, group_size, eps, scale_format, saturate)


def _quantize(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    saturate: bool,
    exist: torch.Tensor | None,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Quantize rows; `exist`, of groups and their elements, says which do, if not all."""
    leading = q.shape[:-1]
    x, q = x.reshape(-1, x.shape[-1]), q.view(-1, q.shape[-1])
    num_groups = q.shape[-1] // group_size
    scales = torch.empty((x.shape[0], num_groups), dtype=torch.float32, device=x.device)
    step = max(1, _CHUNK // max(1, x.shape[-1]))
    for start in range(0, x.shape[0], step):
        rows = slice(start, start + step)
        groups = activation(x[rows]).float().unflatten(-1, (num_groups, group_size))
        # All are computed, so that no count of masked rows has to be known here.
        if exist is not None:
            groups = groups.where(exist[rows], 0)
        # A group of others is marked, or they count as 0.
        counted = groups.where(groups.isfinite(), 0) if saturate else groups
        scales[rows] = _scales_of(counted, QMAX[q.dtype], eps, scale_format.power_of_two)
        codes = _codes_of(groups, scales[rows], q.dtype)
        if exist is not None:
            scales[rows] = scales[rows].where(exist[rows].any(-1), 0)
            kept = q[rows].view(torch.uint8).view(codes.shape)
            codes = codes.view(torch.uint8).where(exist[rows], kept).view(q.dtype)
        q[rows] = codes.flatten(-2)
    store_scales(scales.view(*leading, num_groups), s, scale_format)


def _existing(tokens: int, masked_m: torch.Tensor) -> torch.Tensor:
    """Return which tokens of each batch exist."""
    return torch.arange(tokens, device=masked_m.device) < masked_m.unsqueeze(-1)


def _rows_of(x: torch.Tensor, masked_m: torch.Tensor | None) -> torch.Tensor | None:
    """Return which rows of `x` exist, all groups and elements of each alike."""
    return None if masked_m is None else _existing(x.shape[1], masked_m).view(-1, 1, 1)


def _scales_of(groups: torch.Tensor, qmax: float, eps: float, power_of_two: bool) -> torch.Tensor:
    # Constants are tensors: on CUDA, tensor / python_scalar multiplies by the reciprocal.
    floor = torch.tensor(eps, dtype=torch.float32, device=groups.device)
    absmax = groups.abs().amax(-1).maximum(floor)
    scale = absmax / torch.tensor(qmax, device=groups.device)
    if power_of_two:
        scale = ((scale.view(torch.int32) + 0x7FFFFF) & 0x7F800000).view(torch.float32)
    return torch.where(absmax.isfinite(), scale, torch.nan)


def _codes_of(groups: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    y = groups / scale.unsqueeze(-1)
    y = y.clamp(-QMAX[dtype], QMAX[dtype])
    if dtype is torch.int8:
        return y.round().nan_to_num(0.0).to(torch.int8)
    # PyTorch's cast, unlike the contract, does not saturate and keeps the sign of a NaN.
    return y.to(dtype).view(torch.uint8).where(~y.isnan(), 0x7F).view(dtype)


def dequantize(
    q: torch.Tensor, s: torch.Tensor, group_size: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return ``q * s`` group by group, in float32, rounded once; autograd follows it."""
    if q.shape[-1] == 0:
        return q.to(dtype)
    num_groups = q.shape[-1] // group_size
    groups = q.float().unflatten(-1, (num_groups, group_size))
    return (groups * to_float32(s, num_groups).unsqueeze(-1)).flatten(-2).to(dtype)
