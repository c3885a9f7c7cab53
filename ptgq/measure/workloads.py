"""The configurations that are measured, each with its inputs, its call and its bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

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
        The input is bfloat16 ``[tokens, hidden]``.
    group_size : int
        Elements that share a scale.
    dtype : {"fp8", "int8"}
        What the input is quantized to; INT8 has row-major float32 scales only.
    column_major_scales, use_ue8m0 : bool
        As in :func:`ptgq.per_token_group_quant_fp8`.
    """

    tokens: int
    hidden: int
    group_size: int
    dtype: str = "fp8"
    column_major_scales: bool = False
    use_ue8m0: bool = False

    @property
    def bytes_moved(self) -> int:
        """The least bytes a call moves: x read once, q and s written once."""
        elements = self.tokens * self.hidden
        scale_bytes = 1 if self.use_ue8m0 else 4
        return 3 * elements + elements // self.group_size * scale_bytes

    def make_input(self, device: str, seed: int = 42, copies: int | None = None) -> torch.Tensor:
        """Return ``randn * 8`` in bfloat16; with `copies`, stacked along a first dimension."""
        generator = torch.Generator(device).manual_seed(seed)
        shape = (self.tokens, self.hidden) if copies is None else (copies, self.tokens, self.hidden)
        x = torch.empty(shape, dtype=torch.bfloat16, device=device)
        # Drawn part by part: no float32 copy of a rotation of several gigabytes.
        for part in x.unsqueeze(0) if copies is None else x:
            part.normal_(generator=generator).mul_(8)
        return x

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
