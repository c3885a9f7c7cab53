"""Every pair of a 16-bit absmax and a value of its group.

A value of larger magnitude than the absmax is in no such group: its pair is the one with the larger
value as the absmax. If the absmax is an infinity or a NaN, all 2^16 values belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from proofs import oracle
from proofs.formats import Format
from proofs.oracle import BFLOAT16, FLOAT16, FloatFormat
from proofs.report import Report


def blocks(form: FloatFormat, rows: int, stride: int) -> Iterator[range]:
    """Yield the absmax keys in blocks, none with both finite and other ones; every `stride`-th."""
    for begin, end in ((0, form.infinity), (form.infinity, form.keys)):
        for start in range(begin, end, rows * stride):
            yield range(start, min(start + rows * stride, end), stride)


class Block:
    """The groups of some absmaxes: inputs, and by which rule the expected codes are laid out.

    A row is one absmax: its values, both signs of each magnitude, in groups of which each holds
    the absmax itself, at its first or its last place.
    """

    def __init__(self, form: FloatFormat, absmaxes: range, group_size: int, device: str):
        self.form, self.group_size = form, group_size
        self.finite = absmaxes[-1] < form.infinity
        self.absmax = torch.tensor(list(absmaxes), device=device)
        self.size = 2 * (absmaxes[-1] + 1 if self.finite else form.keys)
        self.groups = -(-self.size // (group_size - 1))
        self.first = absmaxes[0] // len(absmaxes) % 2 == 0
        place = torch.arange(self.groups * (group_size - 1), device=device)
        place = torch.where(place < self.size, place, 0)
        magnitude = (place >> 1).to(torch.int16).expand(len(absmaxes), -1)
        own = self.absmax.to(torch.int16)[:, None]
        if self.finite:
            magnitude = magnitude.minimum(own)
        sign = ((place & 1) << 15).to(torch.int16)
        bits = self.lay_out(magnitude | sign, own | -0x8000 * (self.absmax & 1)[:, None].short())
        self.x = bits.view(form.dtype)
        self.pairs = sum(2 * (key + 1) for key in absmaxes) if self.finite else bits.shape[0] << 16

    def lay_out(self, values: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Put the row's own value into each group: ``[rows, groups * group_size]``."""
        values = values.view(len(values), self.groups, self.group_size - 1)
        own = own[:, None].expand(-1, self.groups, 1)
        parts = (own, values) if self.first else (values, own)
        return torch.cat(parts, 2).flatten(1)

    def expected(self, fmt: Format, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the bytes of the codes and the float32 bits of the scales, one a row.

        Where elements that are not finite saturate, one a group.
        """
        rows, device = len(self.absmax), self.absmax.device
        if not self.finite and fmt.saturate:
            return self._saturated(fmt, eps)
        if not self.finite:
            codes = torch.full(self.x.shape, fmt.codes.nan, dtype=torch.uint8, device=device)
            return codes, torch.full((rows,), oracle.FLOAT32_NAN, device=device)
        absmax = oracle.to_float32_bits(self.absmax, self.form)
        scales = oracle.scale_bits(absmax, eps, fmt.codes.qmax, fmt.power_of_two)
        first = oracle.thresholds(scales, fmt.codes, self.form)
        # The code of a magnitude is the number of thresholds up to it; those above the absmax are
        # counted in a column that is dropped.
        keys = self.size // 2
        first = torch.where(first <= self.absmax[:, None], first, keys)
        steps = torch.zeros(rows, keys + 1, dtype=torch.uint8, device=device)
        steps.scatter_add_(1, first, torch.ones_like(first, dtype=torch.uint8))
        codes = steps[:, :keys].cumsum(1, dtype=torch.uint8)
        own = codes[:, -1:]
        negative = (self.absmax & 1 == 1)[:, None]
        both = torch.stack((codes, fmt.codes.signed(codes, True)), 2).flatten(1)
        padding = self.groups * (self.group_size - 1) - self.size
        both = torch.nn.functional.pad(both, (0, padding))
        return self.lay_out(both, fmt.codes.signed(own, negative)), scales

    def _saturated(self, fmt: Format, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of groups with elements that are not finite, from the bits of all elements."""
        bits = self.x.view(torch.int16).int().view(-1, self.group_size) & 0xFFFF
        keys, negative = bits & 0x7FFF, bits > 0x7FFF
        infinity, nan = keys == self.form.infinity, keys > self.form.infinity
        finite = torch.where(infinity | nan, 0, keys)
        absmax = oracle.to_float32_bits(finite.amax(1), self.form)
        scales = oracle.scale_bits(absmax, eps, fmt.codes.qmax, fmt.power_of_two)
        # Many groups have the same scale, and of an own code the number of thresholds up to a key.
        distinct, which = scales.unique(return_inverse=True)
        first = oracle.thresholds(distinct, fmt.codes, self.form).to(finite.dtype)
        codes = torch.empty_like(finite, dtype=torch.uint8)
        for number, thresholds in enumerate(first):
            groups = which == number
            codes[groups] = torch.searchsorted(thresholds, finite[groups], right=True).byte()
        codes = torch.where(infinity, len(fmt.codes.values) - 1, codes).byte()
        signed = torch.where(nan, fmt.codes.nan, fmt.codes.signed(codes, negative))
        return signed.byte().view(self.x.shape), scales.view(len(self.absmax), -1)

    def describe(self, at: Sequence[int]) -> str:
        """Name the pair at a place of the codes."""
        bits = self.x.view(torch.int16)[tuple(at)].item() & 0xFFFF
        return f"{self.form.dtype} absmax 0x{self.absmax[at[0]].item():04x}, value 0x{bits:04x}"


def prove(
    report: Report,
    device: str,
    backends: Iterable[str],
    formats: Iterable[Format],
    *,
    eps: float = 1e-10,
    group_size: int = 128,
    rows: int = 64,
    stride: int = 1,
) -> None:
    """Check every pair of bfloat16 and float16 in every format on every backend.

    `rows` absmaxes are handled at a time; of `stride` ones next to each other, one is.
    """
    formats, backends = tuple(formats), tuple(backends)
    for form in (BFLOAT16, FLOAT16):
        dtype = str(form.dtype).removeprefix("torch.")
        what = f"{dtype}, groups of {group_size}, eps {eps:g}"
        lines = report.lines_for("pairs", what, backends, formats)
        for absmaxes in blocks(form, rows, stride):
            block = Block(form, absmaxes, group_size, device)
            expected: dict[object, tuple[torch.Tensor, torch.Tensor]] = {}
            for fmt in formats:
                rule = fmt.codes, fmt.power_of_two, fmt.saturate
                if rule not in expected:
                    expected[rule] = block.expected(fmt, eps)
                codes, scales = expected[rule]
                stored = fmt.expected_scales(scales, block.groups)
                for backend in backends:
                    line = lines[backend, fmt.name]
                    q, s = fmt.quantize(block.x, group_size, eps, backend)
                    line.compare("q", q.view(torch.uint8), codes, block.describe)
                    line.compare("s", fmt.stored(s), stored, block.describe)
                    line.checked += block.pairs
        report.show(lines)
