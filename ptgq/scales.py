"""The scales of a quantized tensor: numeric kind, storage dtype and layout.

The only Python module that knows where a scale lies in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Layout = Literal["row_major", "column_major"]
Rounding = Literal["none", "power_of_two"]


@dataclass(frozen=True)
class ScaleFormat:
    """How scales are stored.

    Attributes
    ----------
    dtype : torch.dtype
        ``torch.float32``, or ``torch.float8_e8m0fnu`` (one byte, value ``2 ** (byte - 127)``,
        0xFF is NaN: OCP Microscaling Formats v1.0, section 5.4.1).
    layout : {"row_major", "column_major"}
        ``row_major`` is contiguous. ``column_major`` has the same shape, the storage is
        ``[num_groups, num_tokens]``: neighbouring tokens lie side by side.
    rounding : {"none", "power_of_two"}
        ``power_of_two`` (UE8M0) rounds every scale up to a power of two.
    """

    dtype: torch.dtype
    layout: Layout
    rounding: Rounding

    @property
    def column_major(self) -> bool:
        """Whether neighbouring tokens lie side by side."""
        return self.layout == "column_major"

    @property
    def power_of_two(self) -> bool:
        """Whether scales are rounded up to a power of two."""
        return self.rounding == "power_of_two"


# Built once: a call looks its format up and allocates nothing for it.
_FORMATS = {
    (column_major, use_ue8m0, dtype): ScaleFormat(
        dtype or (torch.float8_e8m0fnu if use_ue8m0 else torch.float32),
        "column_major" if column_major else "row_major",
        "power_of_two" if use_ue8m0 else "none",
    )
    for column_major in (False, True)
    for use_ue8m0 in (False, True)
    for dtype in (None, torch.float32, torch.float8_e8m0fnu)
    if use_ue8m0 or dtype is not torch.float8_e8m0fnu
}


def scale_format(
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    scale_dtype: torch.dtype | None = None,
) -> ScaleFormat:
    """Return the :class:`ScaleFormat` that the public functions' arguments name.

    Raises
    ------
    TypeError
        If a flag is no bool or ``scale_dtype`` no dtype that scales can have.
    ValueError
        If ``scale_dtype`` is ``float8_e8m0fnu`` without ``use_ue8m0``.
    """
    if not isinstance(column_major_scales, bool):
        raise TypeError(f"column_major_scales must be a bool, got {column_major_scales!r}")
    if not isinstance(use_ue8m0, bool):
        raise TypeError(f"use_ue8m0 must be a bool, got {use_ue8m0!r}")
    if scale_dtype not in (None, torch.float32, torch.float8_e8m0fnu):
        raise TypeError(
            f"scale_dtype must be None, torch.float32 or torch.float8_e8m0fnu, got {scale_dtype!r}"
        )
    if scale_dtype is torch.float8_e8m0fnu and not use_ue8m0:
        raise ValueError(
            "scale_dtype=torch.float8_e8m0fnu holds powers of two only: it needs use_ue8m0=True, "
            "got use_ue8m0=False"
        )
    return _FORMATS[column_major_scales, use_ue8m0, scale_dtype]


def scale_shape(shape: Sequence[int], group_size: int) -> tuple[int, ...]:
    """Return ``[..., hidden_dim // group_size]``, the logical shape in every layout."""
    return (*shape[:-1], shape[-1] // group_size)


def scale_strides(shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """Return the strides, in elements, of scales of logical `shape` ``[..., num_groups]``."""
    num_groups = shape[-1]
    row_major = layout == "row_major"
    strides = [1 if row_major else math.prod(shape[:-1])]
    stride = num_groups if row_major else 1
    for size in reversed(shape[:-1]):
        strides.append(stride)
        stride *= size
    return tuple(reversed(strides))


def empty_scales(
    shape: Sequence[int], scale_format: ScaleFormat, device: torch.device
) -> torch.Tensor:
    """Allocate scales of logical `shape` ``[..., num_groups]``, not initialized."""
    if scale_format.layout == "row_major":
        return torch.empty(shape, dtype=scale_format.dtype, device=device)
    strides = scale_strides(shape, scale_format.layout)
    return torch.empty_strided(shape, strides, dtype=scale_format.dtype, device=device)


def has_strides(tensor: torch.Tensor, strides: Sequence[int]) -> bool:
    """Whether `tensor` has these strides where they matter (sizes of 0 or 1 fix none)."""
    return tensor.numel() == 0 or all(
        size == 1 or have == want
        for size, have, want in zip(tensor.shape, tensor.stride(), strides, strict=True)
    )
