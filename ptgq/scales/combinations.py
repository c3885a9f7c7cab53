"""Which combinations of a format nobody reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ptgq.scales.formats import ScaleFormat


def why_refused(f: ScaleFormat) -> str | None:
    """Return why a format does not exist, or None if it does."""
    if f.kind == "float32" and f.dtype is not torch.float32:
        return f"{f.dtype} holds powers of two only, so kind must be 'power_of_two'"
    if f.layout == "aligned_rows" and f.dtype is not torch.float32:
        return f"aligned rows are read by cuBLAS, as float32 alone, not as {f.dtype}"
    if f.layout == "tiled":
        bytes_alone = "tiles are read by the tensor cores of Blackwell, as float8_e8m0fnu alone"
        return None if f.dtype is torch.float8_e8m0fnu else bytes_alone
    if f.dtype is torch.float8_e8m0fnu and f.tma_aligned:
        return (
            "TMA-aligned columns are read by DeepGEMM, as float32 or as packed int32, never as "
            "float8_e8m0fnu"
        )
    if f.packed and f.layout == "column_major":
        return (
            "packed int32 scales are read by DeepGEMM, from rows or from TMA-aligned columns, "
            "never from unpadded columns"
        )
    if f.per_batch and not f.column_major:
        return "rows do not cross batches: per_batch is for columns"
    if f.per_batch and f.dtype is torch.float8_e8m0fnu:
        return "columns of a batch are read as float32 or as packed int32, never as float8_e8m0fnu"
    return None
