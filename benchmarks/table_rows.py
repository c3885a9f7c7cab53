"""Measures the rows of the table."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from measure import clocks, timers
from measure.agreement import check_agreement
from measure.kernels import COPY, Kernels
from measure.workloads import Workload, workloads


def selected(options: argparse.Namespace) -> list[Workload]:
    """Return the configurations that a command line names."""
    formats = options.scales, options.int8_scales
    found = workloads(options.shapes, options.group_size, options.dtypes, *formats)
    given = {
        "input_dtype": getattr(torch, options.input_dtype),
        "silu_and_mul": options.silu,
        "swiglu_limit": options.swiglu_limit,
        "nonfinite": options.nonfinite,
    }
    return [replace(workload, **given) for workload in found]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the order statistics between which the median lies, at 99 %.

    The number of values below the median is binomial (Conover, Practical Nonparametric Statistics,
    3.2): fewer than eight have no such interval.
    """
    ordered, n = sorted(values), len(values)
    index, below = 0, 0.5**n
    if below > 0.005:
        return None
    while below + math.comb(n, index + 1) * 0.5**n <= 0.005:
        index += 1
        below += math.comb(n, index) * 0.5**n
    return ordered[index], ordered[-1 - index]


@dataclass(frozen=True)
class Times:
    """Samples of one backend, in seconds."""

    samples: list[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half of the interquartile range, relative to the median."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4)
        return (high - low) / 2 / self.median


def take(workload: Workload, options: argparse.Namespace) -> list[Times]:
    """Return the times of each backend, and of the copy if it is asked for."""
    x = workload.make_input(options.device)
    check_agreement(workload, x, options.backend)
    clock = clocks.clock_for(options.device)
    if options.method == "graph":
        kernels = Kernels(workload)
        names = [*options.backend, *([COPY] if options.bandwidth else [])]
        several = [kernels.timer(name, options.state) for name in names]
        found = timers.sample(several, options.samples, options.warmup_iters)
        return [Times(samples) for samples in found]

    calls = [workload.bind(x, backend=name) for name in options.backend]
    if options.bandwidth:
        source = torch.empty(workload.bytes_moved // 2, dtype=torch.uint8, device=x.device)
        source.random_()
        target = torch.empty_like(source)
        calls.append(partial(target.copy_, source))
    for call in calls:
        timers.loop_timer(call, options.warmup_iters, clock)()
    several = [timers.loop_timer(call, options.calls, clock) for call in calls]
    return [Times(samples) for samples in timers.sample(several, options.samples, warmup=0)]


def measure(workload: Workload, options: argparse.Namespace) -> dict[str, object]:
    """Measure one row: its configuration, and by backend milliseconds and what follows of them."""
    times = take(workload, options)
    row: dict[str, object] = {
        "shape": (workload.tokens, workload.hidden),
        "group_size": workload.group_size,
        "column_major_scales": workload.scale_format.column_major,
        "use_ue8m0": workload.scale_format.power_of_two,
        "scales": workload.scales,
        "dtype": workload.dtype,
        "input_dtype": options.input_dtype,
        "silu_and_mul": workload.silu_and_mul,
        "swiglu_limit": workload.swiglu_limit,
        "nonfinite": workload.nonfinite,
        "bytes": workload.bytes_moved,
    }
    for name, found in zip(options.backend, times, strict=False):
        row[f"{name}_ms"] = found.median * 1e3
        row[f"{name}_spread"] = found.spread
        if options.bandwidth:
            row[f"{name}_gb_per_s"] = workload.bytes_moved / found.median * 1e-9
            row[f"{name}_percent_of_copy"] = 100 * times[-1].median / found.median
    for name, found in zip(options.backend[1:], times[1:], strict=False):
        ratios = [b / a for a, b in zip(times[0].samples, found.samples, strict=True)]
        row[f"speed_up_over_{name}"] = statistics.median(ratios)
        row[f"speed_up_over_{name}_interval"] = interval(ratios)
    return row
