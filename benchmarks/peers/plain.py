"""The op in plain PyTorch, in one piece, as an engine without a kernel of its own writes it."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, cast

import torch
from measure.configurations import STORED
from torch.nn import functional

if TYPE_CHECKING:
    from measure.workloads import Workload

SCALES = tuple(STORED)
INT8_SCALES = tuple(name for name, stored in STORED.items() if stored.dtype == "float32")
_QMAX = {"fp8": 448.0, "int8": 127.0}


def quantizer(size: int, dtype: str, scales: str, silu_and_mul: bool) -> FunctionType:
    """Return the function of x that quantizes it: the numerics contract, with torch's SiLU.

    Bytes of UE8M0 come as uint8: Inductor knows float8_e8m0fnu as a view alone.
    """
    qmax, (kind, stored, layout) = _QMAX[dtype], STORED[scales]

    def quantize(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if silu_and_mul:
            gate, up = x.float().chunk(2, -1)
            x = (functional.silu(gate) * up).to(x.dtype)
        groups = x.float().unflatten(-1, (-1, size))
        absmax = groups.abs().amax(-1).clamp(min=1e-10)
        # A tensor: by a number, CUDA multiplies with the reciprocal.
        scale = absmax / torch.full_like(absmax, qmax)
        if kind == "power_of_two":
            scale = ((scale.view(torch.int32) + 0x7FFFFF) & 0x7F800000).view(torch.float32)
        scale = torch.where(absmax.isfinite(), scale, torch.nan)
        y = groups / scale.unsqueeze(-1)
        if dtype == "int8":
            q = y.round().clamp(-128, 127).nan_to_num(0.0).to(torch.int8)
        else:
            codes = y.clamp(-qmax, qmax).to(torch.float8_e4m3fn).view(torch.uint8)
            q = torch.where(y.isfinite(), codes, 0x7F).view(torch.float8_e4m3fn)
        return q.flatten(-2), _stored(scale, stored, layout)

    return cast(FunctionType, quantize)


def _stored(scale: torch.Tensor, stored: str, layout: str) -> torch.Tensor:
    if stored != "float32":
        scale = (scale.view(torch.int32) >> 23).to(torch.uint8)
    if stored == "int32":
        scale = functional.pad(scale, (0, -scale.shape[-1] % 4)).view(torch.int32)
    if layout == "row_major":
        return scale
    tokens = scale.shape[0]
    if layout == "tiled":
        padded = functional.pad(scale, (0, -scale.shape[1] % 4, 0, -tokens % 128))
        # A tile has 32 rows, each of four tokens, 32 apart, with four groups.
        tiles = padded.unflatten(0, (-1, 4, 32)).unflatten(-1, (-1, 4)).permute(0, 3, 2, 1, 4)
        return tiles.reshape(padded.shape)
    padding = -tokens % 4 if layout == "tma_aligned" else 0
    return functional.pad(scale.t(), (0, padding)).contiguous()[:, :tokens].t()


def results(
    workload: Workload, returned: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return q and s, its bytes with their own type."""
    q, s = returned
    return q, s.view(getattr(torch, STORED[workload.scales].dtype))
