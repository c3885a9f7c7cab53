"""The table with other implementations: their calls, their kernels, and how exact they are."""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping

import peers
import torch
from measure import against, clocks, timers
from measure.against import PeerKernels
from measure.agreement import check_agreement
from measure.configurations import STATES
from measure.kernels import Kernels
from measure.workloads import Workload
from table_rows import Times, interval
from table_text import LABELS, Page, three_digits

CALL = "call"
SAMPLE_SECONDS = 1e-3
WIDTHS = {"implementation": 18, "codes": 9, "scales": 8, "SNR": 5}
TIME_WIDTH = 11
WIDEST = 100


def versions(names: list[str]) -> dict[str, str]:
    """Return the versions of those that are installed."""
    return {name: found for name in names if (found := peers.version_of(name))}


def states(device: str) -> tuple[str, ...]:
    """Return what is timed: a call, and the kernels alone where there are any."""
    return (CALL, *STATES) if device == "cuda" else (CALL,)


def _attempt(made: Callable[[], object]) -> object:
    """Return what is made, or a text of why it can't be."""
    try:
        return made()
    except NotImplementedError as error:
        return str(error).partition("\n")[0]
    except Exception as error:
        return peers.reason_of(error)


def _timer_of(
    name: str, state: str, workload: Workload, x: torch.Tensor, kernels: object, calls: int
) -> object:
    def made() -> timers.Timer:
        if state == CALL:
            known = name in peers.NAMES
            call = peers.bind(name, workload, x) if known else workload.bind(x, backend=name)
            clock, before = clocks.clock_for(x.device.type), against.warm(call)
            # As many as asked for, or as many as a sample needs not to see its ends.
            once = timers.loop_timer(call, 1, clock, before)
            enough = round(SAMPLE_SECONDS / min(once() for _ in range(3)))
            timer = timers.loop_timer(call, max(calls, enough), clock, before)
        elif isinstance(kernels, str):
            raise NotImplementedError(kernels)
        else:
            timer = kernels.timer(name, state)
        # Once, as what fails does so here.
        timer()
        return timer

    return _attempt(made)


def _time_all(
    found: dict[str, dict[str, object]],
    workload: Workload,
    x: torch.Tensor,
    options: argparse.Namespace,
) -> None:
    """Add the times of those that give results, state by state, or why there are none."""
    able = [name for name, one in found.items() if "reason" not in one]
    kernels: dict[str, object] = {}
    if len(states(options.device)) > 1:
        own = _attempt(lambda: Kernels(workload))
        for name in able:
            peer = name in peers.NAMES
            kernels[name] = _attempt(lambda n=name: PeerKernels(workload, n)) if peer else own
    for state in states(options.device):
        made = {
            name: _timer_of(name, state, workload, x, kernels.get(name), options.calls)
            for name in able
        }
        running = {name: timer for name, timer in made.items() if not isinstance(timer, str)}
        several = list(running.values())
        taken = _attempt(lambda s=several: timers.sample(s, options.samples, warmup=1))
        samples = dict(zip(running, taken, strict=True)) if isinstance(taken, list) else {}
        for name, timer in made.items():
            if name in samples:
                found[name][state] = _summary(samples[name], samples.get(options.backend[0]))
            else:
                found[name][f"{state}_reason"] = timer if isinstance(timer, str) else taken


def measure(workload: Workload, options: argparse.Namespace) -> dict[str, object]:
    """Measure one row: its configuration, and what is known of each implementation.

    Each has its times in seconds, with their ratios to the first backend of ptgq, how many codes
    and scales differ from the numerics contract, and its SNR; or a reason why not.
    """
    x = workload.make_input(options.device)
    check_agreement(workload, x, options.backend)
    found: dict[str, dict[str, object]] = {}
    for name in (*options.backend, *options.against):
        is_peer = name in peers.NAMES
        found[name] = {"implementation": name, "version": peers.version_of(name) if is_peer else ""}
        lacking = peers.lacks(name, workload, options.device) if is_peer else None
        checked = lacking or _attempt(lambda name=name: _checked(name, workload, x))
        found[name] |= {"reason": checked} if isinstance(checked, str) else vars(checked)
    _time_all(found, workload, x, options)
    return {
        "shape": (workload.tokens, workload.hidden),
        "group_size": workload.group_size,
        "dtype": workload.dtype,
        "scales": workload.scales,
        "silu_and_mul": workload.silu_and_mul,
        "swiglu_limit": workload.swiglu_limit,
        "nonfinite": workload.nonfinite,
        "input_dtype": options.input_dtype,
        "implementations": list(found.values()),
    }


def _checked(name: str, workload: Workload, x: torch.Tensor) -> against.Exactness:
    if name in peers.NAMES:
        return against.checked(name, workload, x)
    return against.exactness(workload, x, workload.call(x, backend=name))


def _summary(samples: list[float], own: list[float] | None) -> dict[str, object]:
    times = Times(samples)
    found: dict[str, object] = {"seconds": times.median, "spread": times.spread}
    if own is not None:
        ratios = [one / other for one, other in zip(samples, own, strict=True)]
        found |= {"ratio": statistics.median(ratios), "ratio_interval": interval(ratios)}
    return found


def _time(found: Mapping[str, object]) -> str:
    text = three_digits(1e6 * found["seconds"])
    if "ratio" not in found:
        return text
    ratio, between = found["ratio"], found["ratio_interval"]
    decided = between is not None and (between[0] > 1 or between[1] < 1)
    times = f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}"
    return f"{text} ×{times}{'' if decided or ratio == 1 else '?'}"


def _cells(one: Mapping[str, object], device: str) -> list[str]:
    """Return the times of an implementation, and how exact it is."""
    times = [_time(one[state]) if state in one else "–" for state in states(device)]
    return [*times, str(one["codes"]), str(one["scales"]), f"{one['snr']:.1f}"]


def _headings(device: str) -> list[str]:
    return [*(f"{state} µs" for state in states(device)), "codes", "scales", "SNR"]


def _line(name: str, cells: list[str], device: str) -> str:
    widths = [*([TIME_WIDTH] * len(states(device))), *list(WIDTHS.values())[1:]]
    padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]
    return "  ".join([f"{name:<{WIDTHS['implementation']}}", *padded]).rstrip()


def _label(name: str) -> str:
    return f"ptgq {LABELS[name]}" if name in LABELS else name


def _reasons(one: Mapping[str, object], device: str) -> Iterator[str]:
    """Yield why an implementation, or one of its times, is not there."""
    if "reason" in one:
        yield str(one["reason"])
    for state in states(device):
        if f"{state}_reason" in one:
            yield f"{state}: {one[f'{state}_reason']}"


def show(row: dict[str, object], options: argparse.Namespace, first: bool) -> None:
    """Print a row, a line for each implementation."""
    configuration = Page([]).cells(row)[0]
    if options.format == "csv":
        _write_csv(row, options, first)
    elif options.format == "markdown":
        _print_markdown(row, options, first, configuration)
    elif options.format == "table":
        print("" if first else "\n", configuration, sep="")
        print(_line("", _headings(options.device), options.device))
        for one in row["implementations"]:
            name = _label(one["implementation"])
            if "reason" not in one:
                print(_line(name, _cells(one, options.device), options.device))
            for reason in _reasons(one, options.device):
                print(f"{name:<{WIDTHS['implementation']}}  {reason}"[:WIDEST])
    sys.stdout.flush()


def _print_markdown(
    row: dict[str, object], options: argparse.Namespace, first: bool, configuration: str
) -> None:
    headings = ["tokens × hidden, group, format", "implementation", *_headings(options.device)]
    if first:
        print("|", " | ".join(headings), "|")
        print("|---|---|" + "---:|" * (len(headings) - 2))
    for one in row["implementations"]:
        cells = ["–"] * (len(headings) - 2)
        if "reason" not in one:
            cells = _cells(one, options.device)
        why = "; ".join(_reasons(one, options.device))
        name = _label(one["implementation"]) + (f" ({why})" if why else "")
        print("|", " | ".join([configuration, name.replace("|", "\\|"), *cells]), "|")


def _write_csv(row: dict[str, object], options: argparse.Namespace, first: bool) -> None:
    lines = []
    for one in row["implementations"]:
        line = {**row, "shape": "x".join(map(str, row["shape"]))}
        del line["implementations"]
        line |= {"implementation": one["implementation"], "version": one["version"]}
        for state in states(options.device):
            time = one.get(state, {})
            line |= {f"{state}_us": 1e6 * time["seconds"] if time else ""}
            line |= {f"{state}_ratio": time.get("ratio", "")}
        line |= {name: one.get(name, "") for name in ("codes", "scales", "snr")}
        # The format's name is a column, too.
        line["differing_scales"] = line.pop("scales")
        line = {"scales": row["scales"], **line}
        lines.append({**line, "reason": "; ".join(_reasons(one, options.device))})
    writer = csv.DictWriter(sys.stdout, list(lines[0]), lineterminator="\n")
    if first:
        writer.writeheader()
    writer.writerows(lines)
