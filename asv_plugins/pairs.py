"""What the page compares any two measured commits with, beside ``site/js/verdict.js``."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from asv_plugins.record import CONTROL, encode, entry_name, is_judged
from asv_plugins.same_code import HASHES, backends_of
from asv_plugins.series import SIZE, Series
from asv_plugins.verdict import Measurement, threshold_for


def cells_at(series: Series, commit: str, benchmarks: dict) -> dict[str, list]:
    """Encode all that was measured at one commit, by benchmark."""
    found = {}
    for name, benchmark in benchmarks.items():
        row = series.read(commit, name, benchmark["params"])
        if row is not None:
            found[name] = [encode(one) if isinstance(one, Measurement) else one for one in row]
    return found


def facts_at(series: Series, commit: str) -> dict[str, str]:
    """What of a machine was not, when a commit was measured, as it is at the newest."""
    params = series.commits[commit][0].params
    then = {key: params.get(key) or "" for key in SIZE}
    return {key: value for key, value in then.items() if value != series.params.get(key, "")}


def rules(
    all_series: list[Series],
    order: dict[str, int],
    benchmarks: dict,
    thresholds: dict,
    digest: Callable[[str], str | None],
) -> dict:
    """What a verdict on any two commits needs beside their numbers.

    Of each benchmark the threshold of each row (None: not judged), the backends whose kernels it
    times, and the rows of the control; of each commit with hashes of machine code, by position,
    a digest of what decides on launches.
    """
    found = {}
    for name, benchmark in benchmarks.items():
        combinations = list(itertools.product(*benchmark["params"]))
        rows = [entry_name(name, values) for values in combinations]
        limits = [threshold_for(row, thresholds) if is_judged(row) else None for row in rows]
        timed = [sorted(one.strip("'") for one in backends_of(row)) for row in rows]
        found[name] = {
            "thresholds": limits if len(set(limits)) > 1 else limits[0],
            "timed": timed if any(timed) else None,
            "control": [at for at, values in enumerate(combinations) if CONTROL in values],
        }
    hashed = {
        commit
        for series in all_series
        for commit, results in series.commits.items()
        if any(set(HASHES.values()) & set(one.get_all_result_keys()) for one in results)
    }
    return {
        "benchmarks": found,
        "hashes": {backend.strip("'"): name for backend, name in HASHES.items()},
        "launches": {order[commit]: digest(commit) for commit in sorted(hashed)},
    }
