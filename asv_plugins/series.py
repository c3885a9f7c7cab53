"""What asv stored: the history of each machine in one configuration."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

from asv.results import iter_results

from asv_plugins.verdict import FAILED, NOT_APPLICABLE, Measurement

# How large the rest of a GPU's machine is: another configuration only for what runs on all cores.
SIZE = ("num_cpu", "ram")
ALL_CORES = "cpu_time."


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
