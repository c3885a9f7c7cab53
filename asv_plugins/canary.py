"""What the canary's runs say: one old commit, whose code can't change, measured in every run.

What moved it is the machine's, the driver's, torch's or the compiler's doing, and moved the others,
too. asv keeps one result of a commit, the last, so each run's is kept in ``canary/<machine>/``,
beside ``results/``: as asv wrote it, under a name of its own.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asv_plugins import storage


def folder_of(results: str | Path) -> Path:
    """Return the folder of the canary's runs, beside asv's results."""
    return Path(results).absolute().with_name("canary")


@dataclass(frozen=True)
class Run:
    """A run: when (seconds), which commit, where and built with what, and each row's seconds."""

    date: float
    commit: str
    environment: dict[str, str | None]
    rows: dict[str, float]


def read(path: Path) -> Run:
    """Read a run from what asv has stored; ValueError if that is not whole."""
    stored = storage.read(path)
    rows, begin = {}, math.inf
    for name, columns in stored["results"].items():
        row = dict(zip(stored["result_columns"], columns or [], strict=False))
        if not row.get("result"):
            continue
        begin = min(begin, row["started_at"] / 1000)
        # A row of another version is another one.
        entry = f"{name} {row['version']}"
        for values, value in zip(itertools.product(*row["params"]), row["result"], strict=True):
            if value is not None and not math.isnan(value):
                rows[f"{entry}({', '.join(values)})"] = value
    built = stored.get("toolchain", {})
    environment = {key: value for key, value in stored["params"].items() if key != "machine"}
    environment |= {f"built with {key}": value for key, value in built.items()}
    return Run(begin, stored["commit_hash"], environment, rows)


def runs(folder: Path, machine: str) -> list[Run]:
    """Return a machine's runs of the commit that was measured last, the first one first."""
    paths = [path for path in storage.result_files(folder) if path.parent.name == machine]
    # A run of which nothing succeeded says nothing.
    found = sorted((run for run in map(read, paths) if run.rows), key=lambda run: run.date)
    return [run for run in found if run.commit == found[-1].commit]


def moved(before: Sequence[Run], now: Run) -> dict[str, float]:
    """Return by benchmark the median change of its rows, each against its median before."""
    changes: dict[str, list[float]] = {}
    for row, value in now.rows.items():
        known = [run.rows[row] for run in before if row in run.rows]
        if known:
            name = row.partition(" ")[0].rpartition(".")[0]
            changes.setdefault(name, []).append(value / statistics.median(known) - 1)
    return {name: statistics.median(found) for name, found in changes.items()}


def differing(before: Run, now: Run) -> list[str]:
    """Say what of machine, driver, versions and compilers is not as it was."""
    old, new = before.environment, now.environment
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]

    def shown(name: str, value: str | None) -> str:
        # asv's machine has bytes.
        is_size = name == "ram" and value and value.isdigit()
        return f"{int(value) / 2**30:.0f} GiB" if is_size else value or "none"

    return [f"{n} was {shown(n, old.get(n))}, is {shown(n, new.get(n))}" for n in names]


def series(folder: Path, machine: str) -> dict | None:
    """Return what the front page is told of a machine's canary, None where it has none."""
    found = runs(folder, machine)
    if not found:
        return None
    return {
        "commit": found[0].commit,
        "environment": found[-1].environment,
        "runs": [
            {
                "date": int(run.date),
                "values": run.rows,
                # Since the first, and what is not as in the run before.
                "moved": moved(found[:1], run) if number else {},
                "differs": differing(found[number - 1], run) if number else [],
            }
            for number, run in enumerate(found)
        ],
    }
