"""The numerics contract in plain PyTorch, on any device: what the other backends must equal."""

from __future__ import annotations

import torch

from ptgq.scales import ScaleFormat

QMAX = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}

# Elements handled at a time: the float32 intermediates stay small beside a large input.
_CHUNK = 1 << 24


@torch.no_grad()
def per_token_group_quant(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
) -> None:
    """Quantize `x` ``[num_tokens, hidden_dim]`` into `q` and `s`, by the numerics contract."""
    step = max(1, _CHUNK // max(1, x.shape[-1]))
    for start in range(0, x.shape[0], step):
        rows = slice(start, start + step)
        _quantize_rows(x[rows], q[rows], s[rows], group_size, eps, scale_format)


def _quantize_rows(
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
) -> None:
    # Constants are tensors: on CUDA, tensor / python_scalar multiplies by the reciprocal.
    qmax = torch.tensor(QMAX[q.dtype], device=x.device)
    floor = torch.tensor(eps, dtype=torch.float32, device=x.device)

    groups = x.float().unflatten(-1, (s.shape[-1], group_size))
    absmax = groups.abs().amax(-1).maximum(floor)
    scale = absmax / qmax
    if scale_format.power_of_two:
        scale = ((scale.view(torch.int32) + 0x7FFFFF) & 0x7F800000).view(torch.float32)
    scale = torch.where(absmax.isfinite(), scale, torch.nan)

    y = groups / scale.unsqueeze(-1)
    if q.dtype is torch.int8:
        codes = y.round().clamp(-128, 127).nan_to_num(0.0).to(torch.int8)
    else:
        # Unlike the contract, PyTorch's cast does not saturate, and it keeps the sign of a NaN.
        codes = y.clamp(-qmax, qmax).to(torch.float8_e4m3fn).view(torch.uint8)
        codes = codes.where(y.isfinite(), 0x7F).view(torch.float8_e4m3fn)
    q.copy_(codes.flatten(-2))
    if scale_format.dtype is torch.float32:
        s.copy_(scale)
    else:
        s.view(torch.uint8).copy_(scale.view(torch.int32) >> 23)
