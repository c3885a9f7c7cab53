"""The scales of masked rows: of each batch the first exist, the others have zeros."""

from __future__ import annotations

import torch

from ptgq.scales.formats import ScaleFormat
from ptgq.scales.layouts import rows_of_tiles
from ptgq.values import check_counts


def check_rows(s: torch.Tensor, scale_format: ScaleFormat, masked_m: torch.Tensor) -> torch.Tensor:
    """Raise unless rows past `masked_m` have zeros; return `s` with ones there, if it is float32.

    Raises
    ------
    TypeError
        If `masked_m` is no tensor of int32 or int64.
    ValueError
        If it does not fit `s`, or `s` has something else there.
    """
    if scale_format.layout == "tiled":
        check_counts(masked_m, None, s.device)
        batches = len(masked_m)
        if not (scale_format.per_batch or batches == 1) or s.shape[0] % (128 * max(1, batches)):
            raise ValueError(
                "masked_m needs tiles of each batch's own (per_batch) to find its rows, got "
                f"{batches} counts for s of shape {tuple(s.shape)}"
            )
        shape = (batches, s.shape[0] // max(1, batches), s.shape[1])
        bits = rows_of_tiles(s, shape, scale_format)
    else:
        if s.dim() not in (2, 3):
            raise ValueError(
                f"s must have 2 or 3 sizes where masked_m is given, got shape {tuple(s.shape)}"
            )
        check_counts(masked_m, s.shape[0] if s.dim() == 3 else 1, s.device)
        bits = s.view(torch.uint8 if s.dtype is torch.float8_e8m0fnu else torch.int32)
    row = torch.arange(bits.shape[-2], device=s.device)
    exist = (row < masked_m.unsqueeze(-1)).view(*bits.shape[:-1], 1)
    if bits.masked_fill(exist, 0).any():
        raise ValueError("s must be 0 in rows past masked_m, got others")
    return s.masked_fill(~exist, 1) if s.dtype is torch.float32 else s
