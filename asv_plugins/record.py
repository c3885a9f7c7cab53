"""What the front page shows, from the results that asv stored."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable

from asv_plugins.peer_versions import FAMILY, with_older
from asv_plugins.same_code import HASHES, SAME_CODE, equal_hashes, is_same
from asv_plugins.series import Series
from asv_plugins.verdict import (
    FAILED,
    Measurement,
    drift_of,
    smallest_change,
    threshold_for,
    verdict,
)

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
        at, now = next(rows_of, (None, None))
        if now is None:
            continue
        if name.startswith(FAMILY):
            older = [(order[commit], row) for commit, row in rows_of]
            now, shown["kept"][name] = with_older(now, older)
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
