"""The configurations that are measured, each with its inputs, its call and its bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch

import ptgq
from ptgq.scales import empty_scales, scale_format, scale_shape

DTYPES = ("fp8", "int8")


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
        What the input is quantized to; INT8 has row-major float32 scales only.
    column_major_scales, use_ue8m0 : bool
        As in :func:`ptgq.per_token_group_quant_fp8`.
    input_dtype : torch.dtype
        bfloat16, float16 or float32.
    row_stride : int
        Elements from one row of the input to the next; 0 is `hidden`, a contiguous input.
    """

    tokens: int
    hidden: int
    group_size: int
    dtype: str = "fp8"
    column_major_scales: bool = False
    use_ue8m0: bool = False
    input_dtype: torch.dtype = torch.bfloat16
    row_stride: int = 0

    @property
    def bytes_moved(self) -> int:
        """The least bytes a call moves: x read once, q and s written once."""
        elements = self.tokens * self.hidden
        scale_bytes = 1 if self.use_ue8m0 else 4
        element_bytes = self.input_dtype.itemsize + 1
        return element_bytes * elements + elements // self.group_size * scale_bytes

    def make_input(self, device: str, seed: int = 42, copies: int | None = None) -> torch.Tensor:
        """Return ``randn * 8``; with `copies`, stacked along a first dimension."""
        generator = torch.Generator(device).manual_seed(seed)
        rows = (self.tokens, self.row_stride or self.hidden)
        shape = rows if copies is None else (copies, *rows)
        x = torch.empty(shape, dtype=self.input_dtype, device=device)
        # Drawn part by part: no float32 copy of a rotation of several gigabytes.
        for part in x.unsqueeze(0) if copies is None else x:
            part.normal_(generator=generator).mul_(8)
        return x[..., : self.hidden]

    def make_output(self, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return uninitialized ``(q, s)``."""
        q_dtype = torch.int8 if self.dtype == "int8" else torch.float8_e4m3fn
        scales = scale_format(self.column_major_scales, self.use_ue8m0)
        q = torch.empty((self.tokens, self.hidden), dtype=q_dtype, device=device)
        return q, empty_scales(scale_shape(q.shape, self.group_size), scales, q.device)

    def call(
        self,
        x: torch.Tensor,
        *,
        backend: str,
        out: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantize `x` with the public function."""
        if self.dtype == "int8":
            return ptgq.per_token_group_quant_int8(x, self.group_size, out=out, backend=backend)
        return ptgq.per_token_group_quant_fp8(
            x,
            self.group_size,
            self.column_major_scales,
            self.use_ue8m0,
            out=out,
            backend=backend,
        )

    def bind(
        self,
        x: torch.Tensor,
        *,
        backend: str,
        out: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        """Return what :meth:`call` calls, bound to its arguments: nothing else is timed."""
        if self.dtype == "int8":
            bound = partial(ptgq.per_token_group_quant_int8, x, self.group_size, backend=backend)
        else:
            layout = self.column_major_scales, self.use_ue8m0
            bound = partial(
                ptgq.per_token_group_quant_fp8, x, self.group_size, *layout, backend=backend
            )
        return bound if out is None else partial(bound, out=out)


SEED_SHAPES = ((32, 128), (64, 256), (16, 512))
GROUP_SIZES = (64, 128)
# Hidden sizes of served models; token counts of decoding, of prefill, and odd ones between.
SERVING_SHAPES = tuple(
    itertools.product((1, 16, 128, 1023, 1024, 8192, 32768), (2048, 4096, 5120, 6144, 7168))
)


def workloads(
    shapes: Iterable[tuple[int, int]],
    group_sizes: Iterable[int] = GROUP_SIZES,
    dtypes: Iterable[str] = DTYPES,
) -> list[Workload]:
    """Return each shape with each group size: FP8 in its four scale formats, INT8 in its one."""
    return [
        Workload(tokens, hidden, group_size, dtype, column_major, ue8m0)
        for dtype, (tokens, hidden), group_size in itertools.product(dtypes, shapes, group_sizes)
        for column_major, ue8m0 in itertools.product((False, True), repeat=2)
        if dtype == "fp8" or not (column_major or ue8m0)
    ]


SEED = workloads(SEED_SHAPES)
SERVING = workloads(SERVING_SHAPES)
