"""Weights in blocks against integer arithmetic: every 16-bit absmax, with random elements below."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

import ptgq
from proofs.oracle import (
    BFLOAT16,
    E4M3,
    FLOAT16,
    FLOAT32,
    FLOAT32_INFINITY,
    FLOAT32_NAN,
    FloatFormat,
    scale_bits,
    thresholds,
    to_float32_bits,
)
from proofs.report import Line, Report
from ptgq.scales import known

FORMS = {form.dtype: form for form in (BFLOAT16, FLOAT16, FLOAT32)}
SIDE = 128
# Blocks of a comparison.
ROWS = 64
# Shapes and sizes of blocks: whole ones, edges, experts, elements and rows alone; those that CUDA
# gives a warp and those that it gives a thread block.
CALLS = (
    ((128, 128), (128, 128)),
    ((200, 392), (128, 128)),
    ((3, 136, 264), (128, 128)),
    ((7, 8), (128, 128)),
    ((2, 130, 131), (128, 128)),
    ((2, 65, 70), (32, 48)),
    ((70, 90), (64, 64)),
    ((5, 9), (1, 1)),
)


@dataclass(frozen=True)
class Format:
    """A format of the scales of blocks, and what a NaN or an infinity does."""

    name: str
    stored: known.Stored
    saturate: bool = False

    @property
    def scales(self) -> ptgq.ScaleFormat:
        """The format as the public functions take it."""
        kind, dtype, layout = self.stored
        return ptgq.ScaleFormat(kind, getattr(torch, dtype), layout)

    def quantize(
        self, w: torch.Tensor, block_size: tuple[int, int], backend: str, eps: float = 1e-10
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Call the public function; return the bytes of `q` and of all memory of `s`."""
        nonfinite = "saturate" if self.saturate else "mark"
        q, s = ptgq.per_block_quant_fp8(
            w, block_size, scale_format=self.scales, nonfinite=nonfinite, eps=eps, backend=backend
        )
        memory = ptgq.scales.memory_of(s, self.scales)
        integer = torch.uint8 if s.element_size() == 1 else torch.int32
        return q.view(torch.uint8), memory.view(integer).view(*s.shape[:-1], -1)

    def expected(
        self, w: torch.Tensor, block_size: tuple[int, int], eps: float = 1e-10
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same by integer arithmetic."""
        q, scale = expected(w, block_size, self.stored.kind == "power_of_two", eps, self.saturate)
        if self.stored.dtype != "float32":
            return q, (scale >> 23).byte()
        padding = -scale.shape[-1] % 4 if self.stored.layout == "aligned_rows" else 0
        return q, pad(scale, (0, padding)).int()


_ROWS = {name: known.FORMATS[name] for name in ("row_float32", "row_ue8m0", "row_ue8m0_float32")}
_STORED = (_ROWS | known.BLOCK_FORMATS).items()
FORMATS = (
    *(Format(f"blocks_{name}", stored) for name, stored in _STORED),
    *(Format(f"saturated_blocks_{name}", stored, True) for name, stored in _STORED),
)


def expected(
    w: torch.Tensor, block_size: tuple[int, int], power_of_two: bool, eps: float, saturate: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes as bytes, and the float32 bits of scales ``[..., rows, columns of blocks]``."""
    rows, columns = block_size
    form, (n, k) = FORMS[w.dtype], w.shape[-2:]
    # What a block at an edge lacks is 0 here, which no absmax notices.
    bits = pad(w.view(form.integer), (0, -k % columns, 0, -n % rows))
    blocks = bits.unflatten(-1, (-1, columns)).unflatten(-3, (-1, rows)).transpose(-2, -3)
    q, scale = _expected_of(blocks.flatten(-2).flatten(0, -2), form, power_of_two, eps, saturate)
    codes = q.view(blocks.shape).transpose(-2, -3).flatten(-4, -3).flatten(-2)
    return codes[..., :n, :k], scale.view(blocks.shape[:-2])


def _expected_of(
    bits: torch.Tensor, form: FloatFormat, power_of_two: bool, eps: float, saturate: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of blocks as ``[blocks, elements]``."""
    keys = bits.long() & (form.keys - 1)
    counted = keys.where(keys < form.infinity, 0) if saturate else keys
    absmax = counted.amax(-1)
    of_floats = to_float32_bits(absmax.clamp(max=form.infinity - 1), form)
    scale = scale_bits(
        of_floats.where(absmax < form.infinity, FLOAT32_INFINITY), eps, E4M3.qmax, power_of_two
    )
    marked = scale == FLOAT32_NAN
    first = thresholds(scale.where(~marked, 127 << 23), E4M3, form)
    codes = torch.searchsorted(first, keys, right=True).byte()
    nan = (keys > form.infinity) | marked[:, None]
    return E4M3.signed(codes, bits < 0).where(~nan, E4M3.nan), scale


def prove(report: Report, device: str, backends: Sequence[str], *, stride: int) -> None:
    """Compare blocks of 128 x 128 of every 16-bit absmax, or one of so many, infinity too."""
    for form in (BFLOAT16, FLOAT16):
        name = str(form.dtype).removeprefix("torch.")
        lines = report.lines_for("blocks", f"every absmax of {name}", backends, FORMATS)
        generator = torch.Generator(device).manual_seed(0)
        every = torch.arange(0, form.infinity + 2, stride, device=device)
        for absmax in every.split(ROWS):
            w = _below(absmax, form, generator)
            for fmt, backend in itertools.product(FORMATS, backends):
                _compare(lines[backend, fmt.name], w, (SIDE, SIDE), fmt, backend)
        report.show(lines)


def _below(absmax: torch.Tensor, form: FloatFormat, generator: torch.Generator) -> torch.Tensor:
    """Return a column of blocks: one element of each is its absmax, the others are not above."""
    shape = len(absmax), SIDE * SIDE
    options = {"device": absmax.device, "generator": generator}
    keys = (torch.rand(shape, **options).double() * (absmax[:, None] + 1)).long()
    at = torch.randint(0, SIDE * SIDE, (len(absmax), 1), **options)
    keys.scatter_(1, at, absmax[:, None])
    bits = keys - torch.randint(0, 2, shape, **options) * form.keys
    return bits.to(form.integer).view(form.dtype).view(-1, SIDE)


def inputs() -> Iterator[tuple[torch.Tensor, tuple[int, int]]]:
    """Yield weights and block sizes; some strided, some misaligned, some not finite."""
    generator = torch.Generator().manual_seed(0)
    for (shape, size), dtype in itertools.product(CALLS, FORMS):
        w = torch.randn(*shape[:-1], shape[-1] + 3, generator=generator).mul(8).to(dtype)
        w[..., 0, 5], w[..., -1, -1] = torch.nan, -torch.inf
        yield w[..., 3:].contiguous(), size
        yield w[..., 3:], size


def run_calls(report: Report, device: str, backends: Sequence[str], stride: int) -> None:
    """Compare each kernel at its edges, few and small: what a memory checker watches."""
    lines = report.lines_for("calls", "blocks", backends, FORMATS)
    for backend in backends:
        for number, (w, size) in enumerate(inputs()):
            # Triton compiles a kernel for each: few.
            step = max(stride, 5) if backend == "triton" else stride
            for fmt in FORMATS[-number % step :: step]:
                memory = w.new_empty(0).set_(w.untyped_storage()).to(device)
                on_device = memory.as_strided(w.shape, w.stride(), w.storage_offset())
                line = lines[backend, fmt.name]
                _compare(line, on_device, size, fmt, backend)
                _compare_products(line, w, size, fmt, backend, device)
    report.show(lines)


def _compare(line: Line, w: torch.Tensor, size: tuple[int, int], fmt: Format, backend: str) -> None:
    def describe(at: Sequence[int]) -> str:
        return f"w {tuple(w.shape)} {w.stride()} {w.dtype}, blocks of {size}, at {at}"

    expected_q, expected_s = fmt.expected(w, size)
    q, s = fmt.quantize(w, size, backend)
    line.compare("q", q, expected_q, describe)
    line.compare("s", s, expected_s, describe)
    line.checked += w.numel() + s.numel()


def _compare_products(
    line: Line, w: torch.Tensor, size: tuple[int, int], fmt: Format, backend: str, device: str
) -> None:
    form = FORMS[w.dtype]
    q, s = ptgq.per_block_quant_fp8(w, size, scale_format=fmt.scales, backend="reference")

    def products(device: str, backend: str) -> torch.Tensor:
        call = q.to(device), s.to(device), size
        y = ptgq.dequantize_blocks(*call, dtype=w.dtype, backend=backend).cpu()
        # Which NaN it is, is the device's.
        return y.where(y == y, torch.nan).view(form.integer)

    line.compare("y", products(device, backend), products("cpu", "reference"), str)
    line.checked += w.numel()
