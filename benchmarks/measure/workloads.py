"""The configurations that are measured, each with its inputs, its call and its bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

import ptgq
from measure.configurations import (
    DEFAULT_SCALE_FORMATS,
    DEFAULT_SHAPES,
    DTYPES,
    GROUP_SIZES,
    SERVING_SHAPES,
    STORED,
    VARIANT_HIDDEN,
    VARIANTS,
    known,
    scale_keywords,
)
from ptgq.scales import empty_scales, scale_format, scale_shape

# Public functions, by their codes and whether they fuse SiLU.
_FUNCTIONS = {
    ("fp8", False): "per_token_group_quant_fp8",
    ("fp8", True): "silu_and_mul_per_token_group_quant_fp8",
    ("int8", False): "per_token_group_quant_int8",
    ("int8", True): "silu_and_mul_per_token_group_quant_int8",
}


@dataclass(frozen=True)
class Workload:
    """One configuration: a shape, a group size, and what the results look like.

    Attributes
    ----------
    tokens, hidden : int
        The input is ``[tokens, hidden]``.
    group_size : int
        Elements that share a scale.
    dtype : {"fp8", "int8"}
        What the input is quantized to.
    silu_and_mul : bool
        Whether the input is ``[tokens, 2 * hidden]``, for the fused function.
    scales : str
        A name of :data:`measure.configurations.STORED`.
    input_dtype : torch.dtype
        bfloat16, float16 or float32.
    swiglu_limit, nonfinite
        Options of the functions; both have kernels of their own.
    row_stride : int
        Elements from one row of the input to the next; 0 is `hidden`, a contiguous input.
    """

    tokens: int
    hidden: int
    group_size: int
    dtype: str = "fp8"
    scales: str = "row_float32"
    input_dtype: torch.dtype = torch.bfloat16
    row_stride: int = 0
    silu_and_mul: bool = False
    swiglu_limit: float | None = None
    nonfinite: str = "mark"

    @property
    def _width(self) -> int:
        return 2 * self.hidden if self.silu_and_mul else self.hidden

    @property
    def is_tiled(self) -> bool:
        """Whether a ScaleFormat alone, and no other argument, names the format."""
        return self.scales not in known.FORMATS

    @cached_property
    def scale_format(self) -> Any:
        """The format of the scales: a :class:`ptgq.ScaleFormat`, which old commits have not."""
        if self.is_tiled:
            kind, dtype, layout = STORED[self.scales]
            return ptgq.ScaleFormat(kind, getattr(torch, dtype), layout)
        return scale_format(*self.scale_options)

    @cached_property
    def scale_options(self) -> tuple[Any, ...]:
        """The arguments of the scales, by position; tiles have none."""
        given = scale_keywords(self.scales)
        options = given.get("column_major_scales", False), given.get("use_ue8m0", False)
        # The last two only where they are used: commits of before they existed are measured, too.
        if given.keys() <= {"column_major_scales", "use_ue8m0"}:
            return options
        dtype = getattr(torch, given["scale_dtype"]) if "scale_dtype" in given else None
        return *options, dtype, given.get("tma_aligned_scales", False)

    @property
    def bytes_moved(self) -> int:
        """The least bytes a call moves: x read once, q and s, with its padding, written once."""
        elements = self.tokens * self.hidden
        groups = self.hidden // self.group_size
        _, dtype, layout = STORED[self.scales]
        unit = {"tma_aligned": 4, "tiled": 128}.get(layout, 1)
        tokens = -(-self.tokens // unit) * unit
        words = -(-groups // 4) if dtype == "int32" else groups
        words = -(-groups // 4) * 4 if layout == "tiled" else words
        input_bytes = self.input_dtype.itemsize * self.tokens * self._width
        return input_bytes + elements + tokens * words * getattr(torch, dtype).itemsize

    def make_input(self, device: str, seed: int = 42, copies: int | None = None) -> torch.Tensor:
        """Return ``randn * 8``; with `copies`, stacked along a first dimension."""
        generator = torch.Generator(device).manual_seed(seed)
        # In place: no float32 copy of a rotation of several gigabytes.
        x = self._rows(device, copies).normal_(generator=generator).mul_(8)
        return x[..., : self._width]

    def empty_input(self, device: str) -> torch.Tensor:
        """Return what :meth:`make_input` does, uninitialized."""
        return self._rows(device)[..., : self._width]

    def _rows(self, device: str, copies: int | None = None) -> torch.Tensor:
        rows = (self.tokens, self.row_stride or self._width)
        shape = rows if copies is None else (copies, *rows)
        return torch.empty(shape, dtype=self.input_dtype, device=device)

    def make_output(self, device: str) -> tuple[torch.Tensor, ...]:
        """Return uninitialized ``(q, s)``."""
        q_dtype = torch.int8 if self.dtype == "int8" else torch.float8_e4m3fn
        scales = self.scale_format
        # A format is named where its shape is not that of float32: old commits know no other.
        packed = (scales,) if self.is_tiled or STORED[self.scales].dtype == "int32" else ()
        q = torch.empty((self.tokens, self.hidden), dtype=q_dtype, device=device)
        return q, empty_scales(scale_shape(q.shape, self.group_size, *packed), scales, q.device)

    def call(
        self,
        x: torch.Tensor,
        *,
        backend: ptgq.Backend | None,
        out: tuple[torch.Tensor, ...] | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Quantize `x` with the public function."""
        return self.bind(x, backend=backend, out=out)()

    def bind(
        self,
        x: torch.Tensor,
        *,
        backend: ptgq.Backend | None,
        out: tuple[torch.Tensor, ...] | None = None,
    ) -> Callable[[], tuple[torch.Tensor, ...]]:
        """Return a call of the public function, bound to its arguments: nothing else is timed."""
        function, arguments, keywords = self._called
        # Options are passed where they are used: old commits have neither.
        if self.swiglu_limit is not None:
            keywords = {**keywords, "swiglu_limit": self.swiglu_limit}
        if self.nonfinite != "mark":
            keywords = {**keywords, "nonfinite": self.nonfinite}
        bound = partial(function, x, *arguments, backend=backend, **keywords)
        return bound if out is None else partial(bound, out=out)

    @cached_property
    def _called(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """The public function, and what it is given by position and by name."""
        function = getattr(ptgq, _FUNCTIONS[self.dtype, self.silu_and_mul])
        if self.is_tiled:
            return function, (self.group_size,), {"scale_format": self.scale_format}
        if self.dtype == "int8" and self.scales == "row_float32":
            # Old commits take no more.
            return function, (self.group_size,), {}
        # By position, as most callers do: keywords take longer.
        named = zip(("scale_dtype", "tma_aligned_scales"), self.scale_options[2:], strict=False)
        return function, (self.group_size, *self.scale_options[:2]), dict(named)


def workloads(
    shapes: Iterable[tuple[int, int]],
    group_sizes: Iterable[int] = GROUP_SIZES,
    dtypes: Iterable[str] = DTYPES,
    scale_formats: Iterable[str] = DEFAULT_SCALE_FORMATS,
    int8_scale_formats: Iterable[str] = ("row_float32",),
) -> list[Workload]:
    """Return each shape with each group size: FP8 in all `scale_formats`, INT8 in its own."""
    formats = {"fp8": tuple(scale_formats), "int8": tuple(int8_scale_formats)}
    return [
        Workload(tokens, hidden, group_size, dtype, name)
        for dtype, (tokens, hidden), group_size in itertools.product(dtypes, shapes, group_sizes)
        for name in formats[dtype]
    ]


DEFAULT_WORKLOADS = workloads(DEFAULT_SHAPES)


def variant(tokens: int, name: str) -> Workload:
    """Return one of VARIANTS, of ``[tokens, 7168]``."""
    return Workload(tokens, VARIANT_HIDDEN, **VARIANTS[name])


SERVING = workloads(SERVING_SHAPES)
