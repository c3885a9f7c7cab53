"""Measures what the rows of ``limits`` judge, by row and configuration.

What is compared alternates, sample by sample, and a ratio is the median of the rounds' ratios: a
drift of the machine falls on both sides.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import torch
from measure import clocks, timers
from measure.agreement import check_agreement
from measure.calls import bind
from measure.configurations import (
    CALLS,
    CONSUMED,
    DEFAULT_SCALE_FORMATS,
    DEFAULT_SHAPES,
    SCALE_FORMATS,
)
from measure.kernels import COPY, Kernels
from measure.workloads import DEFAULT_WORKLOADS, Workload, workloads

from ptgq import extension

Values = dict[str, dict[str, float]]

LARGE = ((8192, 2048), (8192, 7168), (32768, 2048), (32768, 7168))
MEDIUM = (1024, 7168)
ROWS_OF_7168 = (8192, 7168)
# Samples of a configuration; slow ones get fewer, to stay within the seconds.
REPEAT = 15
MIN_REPEAT = 5
SECONDS = 0.5
# Read before each sample on the CPU: more than caches hold.
OTHER_BYTES = 2**30
# Eager calls a sample.
NUMBER = 100
STARTS = 3


def describe(workload: Workload) -> str:
    """Name a configuration, what is usual left out."""
    column_major, ue8m0, *_ = workload.scale_options
    layout = "column" if column_major else "row"
    scales = f"{layout}-major {'UE8M0' if ue8m0 else 'float32'}"
    if workload.scales not in DEFAULT_SCALE_FORMATS:
        scales = workload.scales.replace("_", " ")
    text = "SiLU, " if workload.silu_and_mul else ""
    text += f"{workload.tokens} × {workload.hidden}, group {workload.group_size}, "
    text += "INT8" if workload.dtype == "int8" else f"FP8, {scales}"
    if workload.input_dtype is not torch.bfloat16:
        text += f", {str(workload.input_dtype).removeprefix('torch.')} input"
    return text + (f", row stride {workload.row_stride}" if workload.row_stride else "")


def rounds(take: Sequence[timers.Timer]) -> list[list[float]]:
    """Sample alternating, after two rounds of warm-up; fewer times where a round takes long."""
    timers.sample(take, 1, warmup=0)
    clock = clocks.HostClock()
    clock.start()
    timers.sample(take, 1, warmup=0)
    fitting = int(SECONDS / max(clock.stop(), SECONDS / REPEAT))
    return timers.sample(take, max(MIN_REPEAT, fitting), warmup=0)


def median_ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def checked(workload: Workload, backends: Iterable[str]) -> Kernels:
    """Return the kernels of a workload, for which the backends give the reference's bytes."""
    check_agreement(workload, workload.make_input("cuda"), [*backends, "reference"])
    return Kernels(workload)


def copy_ratios(workload: Workload, backends: Sequence[str]) -> dict[str, float]:
    """Return each backend's kernel time relative to that of a copy of as many bytes."""
    kernels = checked(workload, backends)
    copy, *times = rounds([kernels.timer(name, "cold") for name in (COPY, *backends)])
    return {
        backend: median_ratio(samples, copy)
        for backend, samples in zip(backends, times, strict=True)
    }


def of_both(row: str, found: Iterable[Workload], available: Sequence[str]) -> Values:
    """Return the distances from the copy: CUDA's in `row`, Triton's in one of its own."""
    keys = {"cuda": row, "triton": f"{row}_triton"}
    backends = [backend for backend in keys if backend in available]
    values: Values = {}
    for workload in found:
        for backend, ratio in copy_ratios(workload, backends).items():
            values.setdefault(keys[backend], {})[describe(workload)] = ratio
    return values


def served(available: Sequence[str]) -> Values:
    """Kernels of the shapes that models are served with."""
    found = of_both("large", workloads(LARGE), available)
    found |= of_both("medium", workloads([MEDIUM]), available)
    if "large" in found:
        column = map(describe, workloads(LARGE, [64], ["fp8"], ["column_float32"]))
        found["column"] = {name: found["large"][name] for name in column}
    return found


def empty_kernel() -> timers.Call:
    """Return the launch of a kernel that does nothing, without programmatic dependent launch."""
    import triton

    @triton.jit
    def empty():
        pass

    return lambda: empty[(1,)](num_warps=1)


def small(available: Sequence[str]) -> Values:
    """Kernels that last little longer than a launch, relative to one that does nothing."""
    found = {}
    launch = empty_kernel()
    for workload in workloads([*DEFAULT_SHAPES, (1, 7168)]):
        kernels = Kernels(workload)
        empty, samples = rounds([kernels.cold([launch]), kernels.timer("cuda", "cold")])
        found[describe(workload)] = median_ratio(samples, empty)
    return {"small": found}


def odd_and_even() -> list[tuple[Workload, Workload]]:
    """Return configurations of odd numbers of rows, or of groups a row, with the next even one."""
    rows = [((odd, 7168), (even, 7168)) for odd, even in ((1023, 1024), (1025, 1024), (8191, 8192))]
    pairs = [
        pair for odd, even in rows for pair in zip(workloads([odd]), workloads([even]), strict=True)
    ]
    for groups, group in ((g, size) for g in (5, 7, 21) for size in (64, 128)):
        odd, even = (
            workloads([(32768, n * group)], group_sizes=[group]) for n in (groups, groups + 1)
        )
        pairs += zip(odd, even, strict=True)
    return pairs


def odd(available: Sequence[str]) -> Values:
    """Kernels of odd sizes: time per byte, relative to that of the even size beside them."""
    found = {}
    for one, neighbour in odd_and_even():
        pair = [checked(w, ["cuda"]).timer("cuda", "cold") for w in (one, neighbour)]
        samples, other = rounds(pair)
        bytes_ratio = one.bytes_moved / neighbour.bytes_moved
        found[describe(one)] = median_ratio(samples, other) / bytes_ratio
    return {"odd": found}


def unusual_inputs() -> list[Workload]:
    """Return other groups of powers of two, input dtypes and row strides."""
    found = workloads([ROWS_OF_7168], group_sizes=(32, 256, 512))
    usual = workloads([ROWS_OF_7168])
    found += [replace(w, input_dtype=t) for t in (torch.float16, torch.float32) for w in usual]
    # Rows of a padded matrix, and one half of a fused projection.
    return found + [replace(w, row_stride=n) for n in (7168 + 64, 2 * 7168) for w in usual]


def inputs(available: Sequence[str]) -> Values:
    """Kernels of less usual inputs, relative to the copy."""
    return {"inputs": {describe(w): copy_ratios(w, ["cuda"])["cuda"] for w in unusual_inputs()}}


def other(available: Sequence[str]) -> Values:
    """Kernels of group sizes without code of their own: hidden sizes that they divide."""
    shapes = dict.fromkeys((1, 7, 14, 1024, 1792), 7168)
    shapes.update(dict.fromkeys((3, 5, 48, 96, 100), 7200))
    found = [w for size, n in shapes.items() for w in workloads([(8192, n)], group_sizes=[size])]
    return {"other": {describe(w): copy_ratios(w, ["cuda"])["cuda"] for w in found}}


def formats(available: Sequence[str]) -> Values:
    """Kernels that write the scales of particular consumers."""
    found = workloads([ROWS_OF_7168], (32, 64, 128), ["fp8"], CONSUMED)
    return of_both("formats", found, available)


def silu(available: Sequence[str]) -> Values:
    """Kernels of the fused SiLU: of the usual and of particular consumers' scales."""
    usual = workloads([ROWS_OF_7168], dtypes=["fp8"], scale_formats=SCALE_FORMATS)
    found = [replace(w, silu_and_mul=True) for w in usual]
    found += [replace(w, input_dtype=torch.float16) for w in found[: len(DEFAULT_SCALE_FORMATS)]]
    return of_both("silu", found, available)


def loop(call: timers.Call) -> timers.Timer:
    """Time eager calls: what a caller waits for."""
    return timers.loop_timer(call, NUMBER, clocks.EventClock())


def calls(available: Sequence[str]) -> Values:
    """Eager calls of the default configurations, relative to PyTorch's own smallest op."""
    backends = [name for name in ("cuda", "triton") if name in available]
    found: Values = {}
    for workload in DEFAULT_WORKLOADS:
        x, out = workload.make_input("cuda"), workload.make_output("cuda")
        check_agreement(workload, x, [*backends, "reference"])
        to_call = {"abs": partial(torch.abs, x)}
        if "cuda" in backends:
            to_call["call"] = workload.bind(x, backend="cuda")
            to_call["call_out"] = workload.bind(x, backend="cuda", out=out)
        if "triton" in backends:
            to_call["call_triton"] = workload.bind(x, backend="triton")
        yardstick, *samples = rounds([loop(call) for call in to_call.values()])
        for key, times in zip(list(to_call)[1:], samples, strict=True):
            found.setdefault(key, {})[describe(workload)] = median_ratio(times, yardstick)
    return found


def format_calls(available: Sequence[str]) -> Values:
    """Eager calls of every format and function, relative to ``torch.abs`` of their x."""
    kinds = [("cuda", False, "call_formats"), ("cuda", True, "call_formats_out")]
    kinds += [("triton", out, "call_formats_triton") for out in (False, True)]
    found: Values = {}
    for name in (name for name in CALLS if name.startswith(("fp8", "int8", "silu"))):
        to_call = {}
        for backend, out, key in kinds:
            if backend in available:
                call, x = bind(name, "cuda", backend, out)
                to_call[key, f"{name}, out=" if out else name] = loop(call)
        yardstick, *samples = rounds([loop(partial(torch.abs, x)), *to_call.values()])
        for (key, configuration), times in zip(to_call, samples, strict=True):
            found.setdefault(key, {})[configuration] = median_ratio(times, yardstick)
    return found


def python(available: Sequence[str]) -> Values:
    """Microseconds of a call in Python: with a library that returns at once."""
    found = {}
    for workload in workloads([(64, 256)]):
        out = workload.make_output("cuda")
        call = workload.bind(workload.make_input("cuda"), backend="cuda")
        with patch.object(extension, "quantize_directly", lambda *_, out=out: out):
            (times,) = rounds([timers.loop_timer(call, NUMBER, clocks.HostClock())])
        found[describe(workload)] = statistics.median(times) * 1e6
    return {"python": found}


FIRST_CALL = """
import time, torch, ptgq
x = torch.ones(16, 128, dtype=torch.bfloat16, device="cuda")
torch.cuda.synchronize()
start = time.perf_counter()
ptgq.per_token_group_quant_fp8(x, 128, backend="cuda")
torch.cuda.synchronize()
print((time.perf_counter() - start) * 1e3)
"""


def first(available: Sequence[str]) -> Values:
    """Milliseconds of the first call in a fresh process that has a CUDA context."""

    def start() -> float:
        # Elsewhere: in a checkout, its folder ptgq would be imported in place of what is installed.
        command = [sys.executable, "-c", FIRST_CALL]
        folder = tempfile.gettempdir()
        process = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
        if process.returncode:
            raise RuntimeError(f"the first call failed:\n{process.stderr}")
        return float(process.stdout.split()[-1])

    return {"first": {f"median of {STARTS}": statistics.median(start() for _ in range(STARTS))}}


def cpu(available: Sequence[str], shape: tuple[int, int] = ROWS_OF_7168) -> Values:
    """The CPU backend's rate, relative to that of PyTorch's faster copy: of bytes or floats."""
    found, clock = {}, clocks.HostClock()
    configurations = workloads([shape])
    x = configurations[0].make_input("cpu")
    most = max(workload.bytes_moved for workload in configurations)
    source = torch.zeros(2, most // 8).add_(torch.arange(most // 8))
    # As on a GPU (measure.kernels): the lines that a call left would be written back in the time
    # of the next. Those of copies: ptgq writes past the caches.
    flush = torch.ones(OTHER_BYTES // 4, dtype=torch.int32).amax
    for workload in configurations:
        few = replace(workload, tokens=min(64, workload.tokens))
        check_agreement(few, x[: few.tokens], ["cpu", "reference"])
        floats = source[:, : workload.bytes_moved // 8]
        to_time = [workload.bind(x, backend="cpu", out=workload.make_output("cpu"))]
        to_time += [partial(floats[0].copy_, floats[1])]
        to_time += [partial(floats[0].view(torch.uint8).copy_, floats[1].view(torch.uint8))]
        own, *copies = rounds([timers.loop_timer(call, 1, clock, flush) for call in to_time])
        fastest = min(copies, key=statistics.median)
        kind = "floats" if fastest is copies[0] else "bytes"
        found[f"{describe(workload)}; copied as {kind}"] = median_ratio(fastest, own)
    return {"cpu": found}
