"""What the front page shows, from the results that asv stored."""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable

from asv.results import iter_results

from asv_plugins.peer_versions import FAILED, FAMILY, NOT_APPLICABLE, with_older
from asv_plugins.same_code import HASHES, SAME_CODE, equal_hashes, is_same
from asv_plugins.verdict import Measurement, drift_of, smallest_change, threshold_for, verdict

# How large the rest of a GPU's machine is: another configuration only for what runs on all cores.
SIZE = ("num_cpu", "ram")
ALL_CORES = "cpu_time."
# Where a history has no number.
NOTHING = Measurement(None, None, None)
# The backend whose code hardly changes: what it differs by in two runs is mostly the machine's.
CONTROL = "'reference'"
# Ratios, calls, whose time differs between processes by half, and these beside PyTorch's, which one
# process each does not settle, and other implementations: shown, but never slower.
NOT_JUDGED = re.compile(
    r"cuda_vs_triton|copy_distance|call_latency|peers\.|masked_rows\.MaskedDistance\.|"
    r"\w+\.\w+\.track_copy_ratio|\w+\.Calls\."
)


def finite(number: float) -> float | None:
    """Return the number; None for the open end of an interval."""
    return number if math.isfinite(number) else None


def measurements(results, name: str, params: list) -> list:
    """
    Read one benchmark of one result file, in the order of its parameter combinations.

    A string is ``n/a`` or ``failed``; None was not measured there: newer than the result.
    """
    measured_params = results.get_result_params(name) or []
    combinations = list(itertools.product(*params))
    known = combinations if measured_params == params else set(itertools.product(*measured_params))
    values = results.get_result_value(name, params)
    stats = results.get_result_stats(name, params)
    read = []
    for combination, value, stat in zip(combinations, values, stats, strict=True):
        if known is not combinations and combination not in known:
            read.append(None)
        elif value is None:
            read.append(FAILED)
        elif math.isnan(value):
            read.append(NOT_APPLICABLE)
        else:
            if not stat:
                # Counted, so exact.
                low = high = value
            else:
                # Six digits, as much as a time has; asv has cut the interval's to five.
                value = float(f"{value:.6g}")
                # One sample, or few: asv stores an open interval, or none at all.
                low, high = stat.get("ci_99_a", -math.inf), stat.get("ci_99_b", math.inf)
            read.append(Measurement(value, low, high))
    return read


class Series:
    """
    The history of one machine in one configuration (driver, torch, ...), as asv draws it.

    Parameters
    ----------
    params : dict
        What tells this configuration from others, and all that is known about it.
    """

    def __init__(self, params: dict):
        self.params = params
        # Commit to result files: `asv run` with several environments writes several.
        self.commits: dict[str, list] = defaultdict(list)

    def read(self, commit: str, name: str, params: list) -> list | None:
        """One benchmark at one commit, or None where it was not run."""
        for results in self.commits[commit]:
            if name in results.get_all_result_keys():
                return measurements(results, name, params)
        return None

    def drop_other_sizes(self) -> None:
        """Leave out what ran on all cores of a machine that had others than the newest."""
        for results in itertools.chain.from_iterable(self.commits.values()):
            if any((results.params.get(key) or "") != self.params.get(key, "") for key in SIZE):
                for name in [n for n in results.get_all_result_keys() if n.startswith(ALL_CORES)]:
                    results.remove_result(name)

    def started(self, commit: str, name: str) -> int | None:
        """When a benchmark was measured at a commit, in seconds; None where that is not known."""
        times = (results.started_at.get(name) for results in self.commits[commit])
        return next((time // 1000 for time in times if time), None)


def load(results_dir: str, order: dict[str, int], benchmarks: dict) -> list[Series]:
    """
    Read the stored results of the commits in `order`.

    Parameters
    ----------
    results_dir : str
        asv's results, one folder a machine.
    order : dict
        Commit hash to position; results of other commits are left out.
    benchmarks : dict
        asv's benchmarks: a result of another version than theirs is left out.

    Returns
    -------
    list of Series
        Machines with a GPU first, of these those of the newest commits; and of each machine only
        what holds its newest commit.
    """
    found: dict[tuple, Series] = {}
    for results in iter_results(results_dir):
        if results.commit_hash not in order:
            continue
        for name in set(results.get_all_result_keys()) - results.get_result_keys(benchmarks):
            results.remove_result(name)
        params = {key: value or "" for key, value in results.params.items()}
        params |= {f"env-{key}": value for key, value in results.env_vars.items()}
        apart = set(params) - set(SIZE if params.get("gpu", "none") != "none" else ())
        series = found.setdefault(
            tuple((key, params[key]) for key in sorted(apart)), Series(params)
        )
        series.commits[results.commit_hash].append(results)
        if order[results.commit_hash] == max(order[commit] for commit in series.commits):
            series.params = params
    newest: dict[str, int] = {}
    for series in found.values():
        series.drop_other_sizes()
        name = series.params["machine"]
        newest[name] = max(newest.get(name, -1), *(order[commit] for commit in series.commits))

    def place(series: Series) -> tuple:
        return (
            series.params.get("gpu", "none") == "none",
            -newest[series.params["machine"]],
            series.params["machine"],
            sorted(series.params.items()),
        )

    return [
        series
        for series in sorted(found.values(), key=place)
        if any(order[commit] == newest[series.params["machine"]] for commit in series.commits)
    ]


def cell(
    now: Measurement | str | None,
    before,
    threshold: float | None,
    drift: float,
    same_code: bool = False,
) -> object:
    """
    Encode one series at the newest commit for the page.

    A list is ``[value]`` or ``[value, low, high]``, then the same of the previous measured commit,
    the verdict and the smallest change that would have been called, if there is one; without a
    threshold no verdict: short, as there are thousands.
    """
    if not isinstance(now, Measurement):
        return [now, encode(before)] if isinstance(before, Measurement) and now == FAILED else now
    if not isinstance(before, Measurement):
        return [encode(now), before] if before == FAILED else [encode(now)]
    if threshold is None:
        return [encode(now), encode(before)]
    word = SAME_CODE if same_code else verdict(before, now, threshold, drift)
    smallest = smallest_change(before, now, threshold, drift)
    return [encode(now), encode(before), word, finite(float(f"{smallest:.2g}"))]


def is_judged(row: str) -> bool:
    """Whether a row gets a verdict."""
    return not NOT_JUDGED.match(row) and CONTROL not in row


def encode(measurement: Measurement) -> object:
    """Encode a number, or a list of the median and its interval."""
    if measurement.low == measurement.high:
        return measurement.value
    return [measurement.value, finite(measurement.low), finite(measurement.high)]


def equal_code(series: Series, one: str, other: str, benchmarks: dict) -> set[str]:
    """Return the backends whose machine code has the same hashes at two commits."""
    found = set()
    for backend, name in HASHES.items():
        params = benchmarks[name]["params"] if name in benchmarks else []
        rows = [series.read(commit, name, params) for commit in (one, other)]
        if None in rows:
            continue
        hashes = (
            {index: value for index, value in enumerate(row) if isinstance(value, Measurement)}
            for row in rows
        )
        if equal_hashes(*hashes):
            found.add(backend)
    return found


def snapshot(
    series: Series,
    order: dict[str, int],
    benchmarks: dict,
    thresholds: dict,
    equal_launches: Callable[[str, str], bool] = lambda one, other: False,
) -> dict:
    """What one machine's newest measured commit says, beside what the one before said.

    Of a benchmark that was not measured there, what the newest says that has it, without a verdict.
    `equal_launches` tells of two commits whether they launch kernels in the same way. ``kept`` says
    which commit's number a series has that the newest run left out.
    """
    commits = sorted(series.commits, key=order.__getitem__)
    newest = commits[-1]
    shown: dict = {"commit": order[newest], "measured": {}, "previous": {}, "cells": {}, "kept": {}}
    for name, benchmark in benchmarks.items():
        read = ((c, series.read(c, name, benchmark["params"])) for c in commits[::-1])
        rows_of = ((commit, row) for commit, row in read if row is not None)
        found = next(rows_of, None)
        if found is None:
            continue
        at, now = found
        if name.startswith(FAMILY):
            older = [(order[commit], row) for commit, row in rows_of]
            now, shown["kept"][name] = with_older([(order[at], now), *older])
        shown["measured"][name] = [order[at], series.started(at, name)]
        before, same = [None] * len(now), set()
        for commit in reversed(commits[:-1] if at == newest else ()):
            earlier = series.read(commit, name, benchmark["params"])
            if earlier is not None:
                before, shown["previous"][name] = earlier, order[commit]
                if equal_launches(commit, newest):
                    same = equal_code(series, commit, newest, benchmarks)
                break
        if name in HASHES.values():
            # It is no amount: neither less nor more.
            before = [None] * len(now)
        rows = list(zip(itertools.product(*benchmark["params"]), now, before, strict=True))
        drift = drift_of([(old, new) for values, new, old in rows if CONTROL in values])
        shown["cells"][name] = [
            cell(
                new,
                old,
                threshold_for(row, thresholds) if is_judged(row) else None,
                drift,
                is_same(row, same),
            )
            for row, new, old in ((entry_name(name, v), new, old) for v, new, old in rows)
        ]
    return shown


def entry_name(name: str, values: tuple[str, ...]) -> str:
    """Name one series as asv does."""
    return f"{name}({', '.join(values)})" if values else name


def histories(series: Series, order: dict[str, int], name: str, params: list):
    """
    Yield each series of a benchmark as columns over the measured commits.

    Yields
    ------
    dict
        ``commit`` and ``failed`` (positions) and ``value`` (None: no number there); also ``low``
        and ``high`` unless all of it is counted.
    """
    commits = sorted(series.commits, key=order.__getitem__)
    rows = [(order[commit], series.read(commit, name, params)) for commit in commits]
    rows = [(position, row) for position, row in rows if row is not None]
    count = math.prod(len(values) for values in params)
    positions = [position for position, _ in rows]
    for index in range(count):
        points = [row[index] for _, row in rows]
        measured = [point if isinstance(point, Measurement) else NOTHING for point in points]
        column = {
            "commit": positions,
            "value": [point.value for point in measured],
            "failed": [
                position
                for position, point in zip(positions, points, strict=True)
                if point == FAILED
            ],
        }
        if any(point.low != point.high for point in measured):
            column["low"] = [point.low and finite(point.low) for point in measured]
            column["high"] = [point.high and finite(point.high) for point in measured]
        yield column
