"""The fused RMSNorm against an oracle in float64, at its kernels' edges.

Each operation of the contract is computed exactly, or as float64 rounds it, and then rounded to
float32: of two float32, a sum, product, quotient or square root in float64 has enough bits that the
second rounding changes nothing (Figueroa, "When is double rounding innocuous?", 1995).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

import ptgq
from proofs.formats import Format, one_a_rule
from proofs.oracle import INT8
from proofs.report import Line, Report
from ptgq.scales.known import INPUT_DTYPES

DTYPES = tuple(getattr(torch, name) for name in INPUT_DTYPES)
NORM_EPS = 1e-6
# Rows of a part of a warp, of one to four vectors of few and of many threads, of more than a block
# holds; groups of one lane, of a warp, of several, of the row, and of no power of two.
SHAPES = (
    (3, 64, 8), (5, 256, 256), (3, 640, 32), (3, 1536, 768), (3, 100, 20), (2, 63, 7),
    (3, 2500, 2500), (3, 7168, 128), (2, 16384, 16), (1, 20480, 128),
)  # fmt: skip
# Few cases for Triton, which compiles a kernel for each.
TRITON_SHAPES = ((3, 256, 32), (2, 100, 20), (2, 1536, 1536))
# Rows on a GPU: more than it holds with many threads each.
MANY = 700


class Operands(NamedTuple):
    """What a call reads, and writes beside its results."""

    x: torch.Tensor
    weight: torch.Tensor
    residual: torch.Tensor | None
    norm_out: torch.Tensor | None


def nearest(exact: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Round float64 to float32 and that to a dtype, in float64 again."""
    return exact.float().to(dtype).double()


def expected_of(operands: Operands) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normalized rows in the dtype of `x`, and what the residual becomes."""
    x, weight, residual, _ = operands
    hidden_dim = x.shape[-1]
    r = x.double()
    if residual is not None:
        r = nearest(residual.double() + r, residual.dtype)
    neighbours = torch.nn.functional.pad(r * r, (0, -hidden_dim % 8)).view(len(r), -1, 8)
    sums = [*nearest(neighbours).unbind(-1)]
    sums = [nearest(sums[i] + sums[i + 4]) for i in range(4)]
    sums = [nearest(sums[i] + sums[i + 2]) for i in range(2)]
    tree = nearest(sums[0] + sums[1])
    size = 1
    while size < tree.shape[1]:
        size *= 2
    tree = torch.nn.functional.pad(tree, (0, size - tree.shape[1]))
    while size > 1:
        size //= 2
        index = torch.arange(size)
        tree = nearest(tree[:, index] + tree[:, index + size])
    total = tree[:, 0]
    mean = nearest(total / torch.tensor(hidden_dim).float().double())
    below = nearest(nearest(mean + torch.tensor(NORM_EPS).double().float().double()).sqrt())
    rstd = nearest(1 / below).where(total.isfinite(), torch.nan)
    y = nearest(nearest(r * rstd[:, None]) * weight.double())
    return y.to(x.dtype), r if residual is None else r.to(residual.dtype)


def inputs(triton: bool) -> Iterator[tuple[Operands, int]]:
    """Yield operands on the CPU, and group sizes; rows lie apart, or start misaligned."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 8

    cases = itertools.product(TRITON_SHAPES if triton else SHAPES, DTYPES)
    for number, ((tokens, hidden_dim, group_size), dtype) in enumerate(cases):
        x = normal(tokens, hidden_dim).to(dtype)
        if tokens > 2:
            x[1, 0] = torch.inf if number % 2 else torch.nan
        weight = (1 + normal(hidden_dim) / 256).to(dtype if number % 3 else torch.float32)
        residual_dtype = dtype if number % 4 else torch.float32
        residual = normal(tokens, hidden_dim).to(residual_dtype)
        # What lies beside rows is not read, and not written: memory checkers see that it is there.
        wide = torch.zeros(tokens, hidden_dim + 8, dtype=dtype)
        yield Operands(x, weight, None, None), group_size
        yield Operands(x, weight, residual, wide[:, :hidden_dim]), group_size
        yield Operands(x, weight, residual, wide[:, 3 : 3 + hidden_dim]), group_size


def run(
    report: Report, device: str, backends: Sequence[str], formats: Sequence[Format], stride: int
) -> None:
    """Compare calls on the backends with the oracle; of the inputs of a format, one of so many."""
    plain = [fmt for fmt in one_a_rule(formats) if not fmt.fused]
    lines = report.lines_for("calls", "the fused RMSNorm", backends, plain)
    step = min(stride, 4)
    for backend in backends:
        for number, (operands, group_size) in enumerate(inputs(backend == "triton")):
            expected = expected_of(operands)
            for fmt in plain[-number % step :: step]:
                for repeats in (1, MANY) if backend == "cuda" else (1,):
                    _compare(
                        lines[backend, fmt.name],
                        operands, expected, group_size, fmt, backend, device, repeats,
                    )  # fmt: skip
    report.show(lines)


def _compare(
    line: Line,
    operands: Operands,
    results: tuple[torch.Tensor, torch.Tensor],
    group_size: int,
    fmt: Format,
    backend: str,
    device: str,
    repeats: int,
) -> None:
    x, weight, residual, norm_out = operands
    y, sums = results
    expected = fmt.quantize(y, group_size, 1e-10, "reference")

    def given(t: torch.Tensor | None) -> torch.Tensor | None:
        """A copy on the device, with the strides of the rows and their place in memory."""
        if t is None:
            return None
        storage = t.as_strided((t.untyped_storage().nbytes() // t.element_size(),), (1,), 0)
        storage = storage.to(device).repeat(repeats)
        shape = (repeats * t.shape[0], *t.shape[1:]) if t.dim() > 1 else t.shape
        return storage.as_strided(shape, t.stride(), t.storage_offset())

    written = given(residual), given(norm_out)
    name = "rms_norm_per_token_group_quant_" + ("int8" if fmt.codes is INT8 else "fp8")
    kind, dtype, layout = fmt.scales
    q, s = getattr(ptgq, name)(
        given(x), weight.to(device), group_size, norm_eps=NORM_EPS,
        residual=written[0], norm_out=written[1], backend=backend,
        nonfinite="saturate" if fmt.saturate else "mark",
        scale_format=ptgq.ScaleFormat(kind, getattr(torch, dtype), layout),
    )  # fmt: skip

    def describe(at: Sequence[int]) -> str:
        types = f"{x.dtype} {weight.dtype} {None if residual is None else residual.dtype}"
        return f"x {tuple(x.shape)} {types} × {repeats}, groups of {group_size}, at {at}"

    def bits(t: torch.Tensor) -> torch.Tensor:
        """As integers; which NaN it is, is the device's."""
        t = t.cpu().where(t.cpu() == t.cpu(), torch.nan)
        return t.view(torch.int32 if t.element_size() == 4 else torch.int16)

    compared = [
        ("q", q.view(torch.uint8).cpu(), expected[0].view(torch.uint8)),
        ("s", fmt.stored(s).cpu(), fmt.stored(expected[1])),
    ]
    if written[0] is not None:
        compared.append(("residual", bits(written[0]), bits(sums)))
    if written[1] is not None:
        compared.append(("norm_out", bits(written[1]), bits(y)))
    for what, result, wanted in compared:
        line.compare(what, result, wanted.repeat(repeats, 1), describe)
    line.checked += 1
