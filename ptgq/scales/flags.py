"""The formats that the public functions' arguments name."""

from __future__ import annotations

import torch

from ptgq.scales.formats import DTYPES, ScaleFormat
from ptgq.scales.known import FORMATS
from ptgq.values import check_bool, check_dtype


def scale_format(
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    scale_dtype: torch.dtype | None = None,
    tma_aligned_scales: bool = False,
) -> ScaleFormat:
    """Return the :class:`ScaleFormat` that the public functions' arguments name.

    Raises
    ------
    TypeError
        If a flag is no bool or ``scale_dtype`` no dtype that scales can have.
    ValueError
        For a combination that contradicts itself, or that nobody reads.
    """
    # Flags are compared by identity, as 1 equals True.
    if (
        (column_major_scales is False or column_major_scales is True)
        and (use_ue8m0 is False or use_ue8m0 is True)
        and (tma_aligned_scales is False or tma_aligned_scales is True)
        and (scale_dtype is None or isinstance(scale_dtype, torch.dtype))
    ):
        known = _FORMATS[column_major_scales][use_ue8m0][tma_aligned_scales].get(scale_dtype)
        if known is not None:
            return known
    check_bool("column_major_scales", column_major_scales)
    check_bool("use_ue8m0", use_ue8m0)
    check_bool("tma_aligned_scales", tma_aligned_scales)
    check_dtype("scale_dtype", scale_dtype, DTYPES, or_none=True)
    if scale_dtype in (torch.float8_e8m0fnu, torch.int32) and not use_ue8m0:
        raise ValueError(
            f"scale_dtype={scale_dtype} holds powers of two only: it needs use_ue8m0=True, "
            "got use_ue8m0=False"
        )
    if tma_aligned_scales and not column_major_scales:
        raise ValueError(
            "tma_aligned_scales pads columns: it needs column_major_scales=True, "
            "got column_major_scales=False"
        )
    if tma_aligned_scales:
        bytes_of = ", which stands for bytes" if scale_dtype is None else ""
        raise ValueError(
            "tma_aligned_scales with use_ue8m0 needs scale_dtype=torch.int32 (packed) or "
            f"torch.float32, got {scale_dtype}{bytes_of}: nobody reads bytes TMA-aligned"
        )
    raise ValueError(
        f"column_major_scales with scale_dtype={scale_dtype} needs tma_aligned_scales=True, got "
        "tma_aligned_scales=False: DeepGEMM reads packed scales from rows or padded columns"
    )


# A dictionary a flag: torch 2.11 does not compile a tuple indexed by a bool.
_BOOLS = (False, True)
_FORMATS: dict[bool, dict[bool, dict[bool, dict[torch.dtype | None, ScaleFormat]]]] = {
    c: {u: {t: {} for t in _BOOLS} for u in _BOOLS} for c in _BOOLS
}
for _kind, _dtype, _layout in FORMATS.values():
    _f = ScaleFormat(_kind, getattr(torch, _dtype), _layout)
    _named = _FORMATS[_f.column_major][_f.power_of_two][_f.tma_aligned]
    _named[_f.dtype] = _f
    if _f.dtype is (torch.float8_e8m0fnu if _f.power_of_two else torch.float32):
        _named[None] = _f
