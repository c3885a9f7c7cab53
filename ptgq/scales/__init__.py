"""The scales of a quantized tensor: numeric kind, storage dtype and layout.

The only Python package that knows where a scale lies in memory. The same layouts for C++ and CUDA
are in ``csrc/contract/scales.h``.
"""

from ptgq.scales.blocks import block_scale_shape
from ptgq.scales.conversion import check_scales, convert, to_float32
from ptgq.scales.flags import scale_format
from ptgq.scales.formats import ScaleFormat
from ptgq.scales.known import Kind, Layout
from ptgq.scales.layouts import (
    check_memory,
    column_lengths,
    empty_scales,
    has_strides,
    memory_of,
    num_elements,
    scale_shape,
    scale_strides,
    store_scales,
)

__all__ = [
    "Kind",
    "Layout",
    "ScaleFormat",
    "block_scale_shape",
    "check_memory",
    "check_scales",
    "column_lengths",
    "convert",
    "empty_scales",
    "has_strides",
    "memory_of",
    "num_elements",
    "scale_format",
    "scale_shape",
    "scale_strides",
    "store_scales",
    "to_float32",
]
