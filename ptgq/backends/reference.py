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
    _quantize(x, q, s, group_size, eps, scale_format, saturate, masked_m, lambda rows: rows)


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
    _quantize(x, q, s, group_size, eps, scale_format, saturate, masked_m, activation)


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
) -> None:
    """Quantize `x` ``[..., num_tokens, hidden_dim]`` and, filled up with 0, its transpose."""
    tokens = x.shape[-2]
    x_t = x.new_zeros(q_t.shape)
    x_t[..., :tokens] = x.mT
    options = group_size, eps, scale_format, saturate
    per_token_group_quant(x.reshape(-1, x.shape[-1]), q, s, *options)
    per_token_group_quant(x_t, q_t, s_t, *options)
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
    masked_m: torch.Tensor | None,
    activation: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    leading = q.shape[:-1]
    # All rows of masked ones are computed, so that no count has to be known here.
    exist = None if masked_m is None else _existing(x, masked_m)
    x, q = x.reshape(-1, x.shape[-1]), q.view(-1, q.shape[-1])
    num_groups = q.shape[-1] // group_size
    scales = torch.empty((x.shape[0], num_groups), dtype=torch.float32, device=x.device)
    step = max(1, _CHUNK // max(1, x.shape[-1]))
    for start in range(0, x.shape[0], step):
        rows = slice(start, start + step)
        groups = activation(x[rows]).float().unflatten(-1, (num_groups, group_size))
        # A group of others is marked, or they count as 0.
        counted = groups.where(groups.isfinite(), 0) if saturate else groups
        scales[rows] = _scales_of(counted, QMAX[q.dtype], eps, scale_format.power_of_two)
        codes = _codes_of(groups, scales[rows], q.dtype).flatten(-2)
        if exist is not None:
            scales[rows] = scales[rows].where(exist[rows], 0)
            kept = q[rows].view(torch.uint8)
            codes = codes.view(torch.uint8).where(exist[rows], kept).view(q.dtype)
        q[rows] = codes
    store_scales(scales.view(*leading, num_groups), s, scale_format)


def _existing(x: torch.Tensor, masked_m: torch.Tensor) -> torch.Tensor:
    row = torch.arange(x.shape[1], device=x.device)
    return (row < masked_m.unsqueeze(-1)).view(-1, 1)


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
