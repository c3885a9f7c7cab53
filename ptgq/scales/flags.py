"""The formats that the public functions' arguments name."""

from __future__ import annotations

import contextlib
import itertools

import torch

from ptgq.scales.formats import DTYPES, Layout, ScaleFormat
from ptgq.values import check_bool, check_dtype


def _format_of(
    column_major: bool, use_ue8m0: bool, dtype: torch.dtype | None, tma_aligned: bool
) -> ScaleFormat:
    layout: Layout = "tma_aligned" if tma_aligned else "column_major"
    return ScaleFormat(
        "power_of_two" if use_ue8m0 else "float32",
        dtype or (torch.float8_e8m0fnu if use_ue8m0 else torch.float32),
        layout if column_major else "row_major",
    )


def _formats() -> dict[tuple[bool, bool, torch.dtype | None, bool], ScaleFormat]:
    known = {}
    flags = (False, True)
    for key in itertools.product(flags, flags, (None, *DTYPES), flags):
        with contextlib.suppress(ValueError):
            known[key] = _format_of(*key)
    return known


# Built once: a call looks its format up and allocates nothing for it.
_FORMATS = _formats()


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
    for name, flag in (
        ("column_major_scales", column_major_scales),
        ("use_ue8m0", use_ue8m0),
        ("tma_aligned_scales", tma_aligned_scales),
    ):
        check_bool(name, flag)
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
    if tma_aligned_scales and use_ue8m0 and scale_dtype is None:
        raise ValueError(
            "tma_aligned_scales with use_ue8m0 needs scale_dtype=torch.int32 (packed) or "
            "torch.float32, got None, which stands for bytes, and nobody reads those TMA-aligned"
        )
    key = column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales
    return _FORMATS[key] if key in _FORMATS else _format_of(*key)
