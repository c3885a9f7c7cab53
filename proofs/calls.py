"""Calls that reach every kernel at its edges, against the reference on the CPU.

Few and small: what a memory checker watches (``nox -s sanitize``).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

import ptgq
from proofs import dequantize, norm
from proofs.formats import FORMATS, FUSED_FORMATS, TILED_FORMATS, Format, one_a_rule
from proofs.oracle import E4M3
from proofs.report import Line, Report
from ptgq.scales.known import INPUT_DTYPES

# Vector kernels (16 to 512, multiples of 16), those of small and of odd groups, of one lane and of
# more, of runs that are interleaved, general ones, more than a Triton block.
GROUP_SIZES = (1, 3, 7, 16, 31, 32, 64, 96, 100, 128, 256, 512, 1000, 4100)
# Tokens and groups of a token: partial warps, blocks and columns; more than a tile of small groups,
# which larger ones have none of. Of the fused SiLU: half as many groups, where even.
SHAPES = ((1, 1), (3, 5), (33, 2), (34, 40))
LARGER = ((1, 1), (3, 5), (33, 2), (3, 6))
DTYPES = tuple(getattr(torch, name) for name in INPUT_DTYPES)
# How often large_rows are repeated, twice as often for the fused SiLU. With codes that is more than
# a CPU's caches hold, 32 MiB, and than a GPU takes in two waves: other kernels and stores serve.
REPEATS = 144
# What lies where codes of rows that don't exist would be, before and after.
UNWRITTEN = 0x5A
# Triton compiles a kernel for each: few.
TRITON_CASES = ((7, torch.float32), (128, torch.bfloat16), (128, torch.float16))
TRITON_CASES += ((16, torch.bfloat16), (4100, torch.bfloat16))


def inputs(cases: Iterable[tuple[int, torch.dtype]]) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield inputs on the CPU and group sizes; some rows are strided, some start misaligned."""
    generator = torch.Generator().manual_seed(0)
    every = ((case, shape) for case in cases for shape in (LARGER if case[0] > 512 else SHAPES))
    for (group_size, dtype), (tokens, groups) in every:
        x = torch.randn(tokens, groups * group_size, generator=generator).mul(8).to(dtype)
        yield x, group_size
        if (tokens, groups) == SHAPES[2]:
            x[1, 0], x[2, -1] = torch.inf, torch.nan
            yield x, group_size
            wide = torch.cat((x, x[:, :3]), 1)
            yield wide[:, : x.shape[1]], group_size
            yield wide[:, 3:], group_size


@functools.cache
def large_rows() -> torch.Tensor:
    """Return the rows that are repeated REPEATS times."""
    return torch.randn(5, 128 * 128, generator=torch.Generator().manual_seed(0)).bfloat16()


def run(
    report: Report,
    device: str,
    backends: Sequence[str],
    formats: Sequence[Format] = FORMATS + FUSED_FORMATS,
    stride: int = 1,
) -> None:
    """Compare calls with the reference: of the inputs of each format, one of so many."""
    # With more, a format would not meet each size and type.
    stride = min(stride, len(SHAPES) + 2)
    lines = report.lines_for("calls", "every kernel at its edges", backends, formats)
    for backend in backends:
        every = tuple(itertools.product(GROUP_SIZES, DTYPES))
        cases = inputs(TRITON_CASES if backend == "triton" else every)
        for number, (x, group_size) in enumerate(cases):
            chosen = one_a_rule(formats) if backend == "triton" else formats
            # Which inputs it meets differs by format.
            for fmt in chosen[-number % stride :: stride]:
                if fmt.fused and x.shape[1] // group_size % 2:
                    continue
                _compare(lines[backend, fmt.name], x, group_size, fmt, backend, device)
                if len(x) == SHAPES[2][0] and x.is_contiguous():
                    _compare_masked(lines[backend, fmt.name], x, group_size, fmt, backend, device)
        # A CPU stores scales as it does those of fewer rows.
        large = one_a_rule(formats) if backend == "cpu" and stride > 1 else formats
        for fmt in large if backend in ("cuda", "cpu") else ():
            repeats = REPEATS << fmt.fused
            _compare(lines[backend, fmt.name], large_rows(), 128, fmt, backend, device, repeats)
    report.show(lines)
    _run_tiles(report, device, backends, stride)
    norm.run(report, device, backends, formats, stride)


def _run_tiles(report: Report, device: str, backends: Sequence[str], stride: int) -> None:
    """Compare batches whose scales are in tiles, padding too, all rows and those that exist.

    Of the groups that all kernels but one have: the reference of larger ones takes seconds.
    """
    lines = report.lines_for("calls", "tiles of 128 × 4", backends, TILED_FORMATS)
    for backend in backends:
        every = tuple(itertools.product(GROUP_SIZES, DTYPES))
        cases = inputs(TRITON_CASES if backend == "triton" else every)
        for number, (x, group_size) in enumerate(cases):
            for fmt in TILED_FORMATS[-number % stride :: stride]:
                if group_size > 512 or (fmt.fused and x.shape[1] // group_size % 2):
                    continue
                _compare_tiles(lines[backend, fmt.name], x, group_size, fmt, backend, device)
    report.show(lines)


def _compare_tiles(
    line: Line, x: torch.Tensor, group_size: int, fmt: Format, backend: str, device: str
) -> None:
    batches = torch.stack([x, x.flip(0), -x])
    on_device = batches.to(device)
    tokens = len(x)
    counts = torch.tensor([tokens // 2, -1, tokens + 9])
    for masked in (False, True):
        options: dict[str, Any] = {"scale_format": replace(fmt.scale_format, per_batch=masked)}
        results = []
        for given, on in ((batches, "reference"), (on_device, backend)):
            result = fmt.quantize(given, group_size, 1e-10, on, **options)
            if masked:
                result[0].view(torch.uint8).fill_(UNWRITTEN)
                rows = counts.to(given.device)
                fmt.quantize(given, group_size, 1e-10, on, masked_m=rows, out=result, **options)
            results.append(result)
        (expected_q, expected_s), (q, s) = results

        def describe(at: Sequence[int], masked: bool = masked) -> str:
            shape = f"{tuple(batches.shape)} {x.dtype}, masked and columns per batch {masked}"
            return f"x {shape}, groups of {group_size}, at {at}"

        line.compare("q", *(t.view(torch.uint8).cpu() for t in (q, expected_q)), describe)
        line.compare("s", fmt.stored(s).cpu(), fmt.stored(expected_s), describe)
        line.checked += 1
    if not fmt.fused:
        _compare_columns(line, on_device, batches, group_size, fmt, backend, counts)


def _compare(
    line: Line,
    x: torch.Tensor,
    group_size: int,
    fmt: Format,
    backend: str,
    device: str,
    repeats: int = 1,
) -> None:
    # Copied with its strides and its place in the storage: what lies beside it is not x.
    storage = x.as_strided((x.untyped_storage().size() // x.element_size(),), (1,), 0)
    on_device = storage.to(device).as_strided(x.shape, x.stride(), x.storage_offset())
    if repeats > 1:
        on_device = on_device.repeat(repeats, 1)
    expected_q, expected_s = fmt.quantize(x, group_size, 1e-10, "reference")
    q, s = fmt.quantize(on_device, group_size, 1e-10, backend)

    def describe(at: Sequence[int]) -> str:
        shape = f"{tuple(x.shape)} {x.stride()} {x.dtype} × {repeats}"
        return f"x {shape}, groups of {group_size}, at {at}"

    for name, result, expected in (
        ("q", q.view(torch.uint8), expected_q.view(torch.uint8)),
        ("s", fmt.stored(s), fmt.stored(expected_s)),
    ):
        line.compare(name, result.cpu(), expected.repeat(repeats, 1), describe)
    line.checked += 1
    # Filled up to whole groups, columns of larger ones would take gigabytes.
    if fmt.codes is E4M3 and not fmt.fused and repeats == 1 and group_size < 500:
        _compare_columns(line, on_device, x, group_size, fmt, backend)
    form = next(form for form in dequantize.FORMS if form.dtype is x.dtype)

    def products(q: torch.Tensor, s: torch.Tensor, backend: str) -> torch.Tensor:
        y = ptgq.dequantize(q, s, group_size, dtype=x.dtype, backend=backend).cpu()
        # Which NaN it is, is the device's. Here, as a memory checker watches each kernel.
        return y.where(y == y, torch.nan).view(form.integer)

    # All groups, and all but the first: strided rows, which may begin anywhere.
    whole = s.dtype is torch.int32 or s.shape[1] == 1
    for first in (0,) if whole else (0, 1):
        columns = slice(first * group_size, None), slice(first, None)
        expected = products(expected_q[:, columns[0]], expected_s[:, columns[1]], "reference")
        result = products(q[:, columns[0]], s[:, columns[1]], backend)
        line.compare("y", result, expected.repeat(repeats, 1), describe)
        line.checked += 1


def _compare_columns(
    line: Line,
    on_device: torch.Tensor,
    x: torch.Tensor,
    group_size: int,
    fmt: Format,
    backend: str,
    counts: torch.Tensor | None = None,
) -> None:
    """Compare what quantizes columns with the rows from the same read."""
    quantize = functools.partial(
        ptgq.per_token_group_quant_fp8_transposed,
        group_size=group_size,
        nonfinite="saturate" if fmt.saturate else "mark",
        scale_format=fmt.scale_format,
    )
    expected = quantize(x, backend="reference", masked_m=counts)
    results = quantize(on_device, backend=backend)
    if counts is not None:
        results[0].view(torch.uint8).fill_(UNWRITTEN)
        masked_m = counts.to(on_device.device)
        quantize(on_device, backend=backend, masked_m=masked_m, out=results)
    for part, both in enumerate(zip(results, expected, strict=True)):
        bytes_of = fmt.stored if part % 2 else lambda t: t.view(torch.uint8)
        result, right = (bytes_of(t).cpu() for t in both)
        if part == 0 and counts is not None:
            exist = torch.arange(x.shape[1]) < counts.unsqueeze(-1)
            right = right.where(exist.unsqueeze(-1), UNWRITTEN)
        line.compare(
            ("q", "s", "q_t", "s_t")[part], result, right,
            lambda at: f"x {tuple(x.shape)} {x.dtype}, transposed, groups of {group_size}, "
            f"counts {counts}, at {at}",
        )  # fmt: skip
    line.checked += 1


@functools.lru_cache(maxsize=1)
def _batches_of(x: torch.Tensor, version: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return three batches of the same `x`, unless it was written: with a row between, and not."""
    batches = torch.full((3, x.shape[0] + 1, x.shape[1]), torch.nan, dtype=x.dtype)[:, :-1]
    batches[0], batches[1], batches[2] = x, x.flip(0), -x
    return batches, batches.contiguous()


def _compare_masked(
    line: Line, x: torch.Tensor, group_size: int, fmt: Format, backend: str, device: str
) -> None:
    tokens, width = x.shape
    batches, contiguous = _batches_of(x, x._version)
    counts = torch.tensor([tokens // 2, -1, tokens + 9], dtype=torch.int32)
    exist = (torch.arange(tokens) < counts.unsqueeze(-1)).unsqueeze(-1)
    expected_q, expected_s = fmt.quantize(contiguous, group_size, 1e-10, "reference")
    before = ~expected_q.view(torch.uint8)
    on_device = torch.zeros(3, tokens + 1, width, dtype=x.dtype, device=device)[:, :tokens]
    on_device.copy_(batches)
    q, s = fmt.quantize(on_device, group_size, 1e-10, backend)
    q.view(torch.uint8).copy_(before)
    masked_m = torch.stack([counts, counts], 1).to(device)[:, 1]
    fmt.quantize(on_device, group_size, 1e-10, backend, masked_m=masked_m, out=(q, s))

    def describe(at: Sequence[int]) -> str:
        return f"masked x {tuple(batches.shape)} {x.dtype}, groups of {group_size}, at {at}"

    codes = expected_q.view(torch.uint8).where(exist, before)
    for name, result, expected in (
        ("q", q.view(torch.uint8), codes),
        ("s", fmt.stored(s), fmt.stored(expected_s).masked_fill(~exist, 0)),
    ):
        line.compare(name, result.cpu(), expected, describe)
    line.checked += 1
    if fmt.codes is E4M3 and not fmt.fused and group_size < 500:
        _compare_columns(line, on_device, batches, group_size, fmt, backend, counts)


def read_out_of_bounds(device: str) -> None:
    """Take memory away from under a tensor and quantize it: a checker that watches must object."""
    x = torch.ones(64, 4096, device=device)
    x.untyped_storage().resize_(4096)
    ptgq.per_token_group_quant_int8(x, 128, backend=device)
    if device == "cuda":
        torch.cuda.synchronize()
