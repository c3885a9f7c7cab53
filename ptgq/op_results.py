"""What ops of backends written in Python check of the results that they are given."""

from __future__ import annotations

import torch

from ptgq.scales import ScaleFormat, check_memory, has_strides, scale_shape, scale_strides
from ptgq.scales.formats import check_in_format
from ptgq.values import check_group_size


def named(q: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the ops take as bytes, too, in its own dtypes."""
    q = q.view(torch.float8_e4m3fn) if q.dtype is torch.uint8 else q
    return q, s.view(torch.float8_e8m0fnu) if s.dtype is torch.uint8 else s


def check_results(
    q: torch.Tensor,
    s: torch.Tensor,
    q_shape: tuple[int, ...],
    group_size: int,
    scale_format: ScaleFormat,
    names: tuple[str, str] = ("q", "s"),
) -> None:
    """Raise unless `q` and `s` are results of that shape, with the format's strides and padding."""
    of_q, of_s = names
    check_in_format(of_s, s, scale_format)
    check_group_size(group_size, q_shape, of_q)
    s_shape = scale_shape(q_shape, group_size, scale_format)
    if (q.shape, s.shape) != (q_shape, s_shape):
        raise ValueError(
            f"{of_q} and {of_s} must have shapes {q_shape} and {s_shape}, "
            f"got {tuple(q.shape)} and {tuple(s.shape)}"
        )
    if not (q.is_contiguous() and has_strides(s, scale_strides(s_shape, scale_format))):
        raise ValueError(
            f"{of_q} must be contiguous and {of_s} {scale_format.layout}, got strides "
            f"{q.stride()} and {s.stride()}"
        )
    check_memory(s, scale_format)
