"""Rounds of two commits: each a process that measures all rows at once when it has its turn.

The processes start together, as imports take longer than measuring, and then measure one by one,
alternating: a drift of the machine falls on both commits.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from unittest.mock import patch

from asv.config import Config
from asv.repo import get_repo
from asv_runner.discovery import disc_benchmarks

from asv_plugins.environment import Host
from asv_plugins.verdict import threshold_for

SCRIPT = Path("benchmarks/in_one_process.py")
# A process has a speed of its own at calls, by 4 %, and at kernels by a tenth of that: so calls are
# measured in up to this many processes a round, as long as they have no more rows than these
# together, and kernels in one of them.
CALLS = "call_latency."
CALL_PROCESSES, CALL_ROWS = 6, 90
# Each process that waits holds a CUDA context: hundreds of megabytes of a GPU's memory.
MOST_AT_ONCE = 16
# Seconds: for the imports, all processes at once; and for measuring, besides the setup_caches'.
START_TIMEOUT = 300
TURN_TIMEOUT = 120

SIDES = ("base", "head")

# By ``benchmark(parameters)``: a round's samples, one exact number, or None for a failure.
Rows = dict[str, object]
# What a process is asked to measure: indices of parameter combinations by benchmark.
Request = dict[str, list[int]]


class Suite:
    """The benchmarks that a comparison runs, and how.

    Attributes
    ----------
    timed : Request
        Measured in rounds.
    counted : list of Request
        What has a threshold of 0 does not vary: measured once. Each setup_cache is a process, as
        one that compiles for another GPU can't launch any more.
    selected : list of str
        Names of benchmarks of which a row matches.
    """

    def __init__(self, conf: Config, patterns: Sequence[str]):
        folder = Path(conf.benchmark_dir).resolve()
        sys.path.insert(0, str(folder.parent))
        # Nothing is measured in this process.
        with patch.dict(os.environ, PTGQ_IMPORT_TORCH="0"):
            self.benchmarks = {b.name: b for b in disc_benchmarks(str(folder))}
        self.timed: Request = {}
        families: dict[str, Request] = {}
        for name, benchmark in self.benchmarks.items():
            rows = self.rows(name)
            wanted = [
                index
                for index, row in enumerate(rows)
                if any(re.search(pattern, row) for pattern in patterns)
            ]
            if not wanted:
                continue
            if threshold_for(rows[wanted[0]], conf.regressions_thresholds) == 0:
                families.setdefault(str(benchmark.setup_cache_key), {})[name] = wanted
            else:
                self.timed[name] = wanted
        self.counted = list(families.values())
        names = {name for request in (self.timed, *self.counted) for name in request}
        # In the order of discovery.
        self.selected = [name for name in self.benchmarks if name in names]

    def count(self, names: Iterable[str]) -> None:
        """Measure all rows of these benchmarks, too, once."""
        chosen = {name for request in self.counted for name in request}
        for name in names:
            if name in self.benchmarks and name not in chosen:
                self.counted.append({name: list(range(len(self.rows(name))))})

    @property
    def wanted(self) -> list[str]:
        """The rows that are measured in rounds."""
        return [self.rows(name)[index] for name, found in self.timed.items() for index in found]

    def check(self, patterns: Sequence[str]) -> None:
        """Raise ValueError unless each of these patterns matches a row."""
        for pattern in patterns:
            rows = (row for name in self.selected for row in self.rows(name))
            if not any(re.search(pattern, row) for row in rows):
                raise ValueError(f"no benchmark matches {pattern!r}")

    def rows(self, name: str) -> list[str]:
        """Return asv's names of a benchmark's combinations, in their order."""
        combinations = itertools.product(*self.benchmarks[name].params)
        return [f"{name}({', '.join(c)})" if c else name for c in combinations]

    def timeout(self, request: Request) -> float:
        """Return the seconds that measuring may take."""
        caches = {
            b.setup_cache_key: b.setup_cache_timeout for b in map(self.benchmarks.get, request)
        }
        return TURN_TIMEOUT + sum(seconds or 0 for seconds in caches.values())


class Process:
    """A started process that waits for its turn."""

    def __init__(self, suite: Suite, python: str, folder: Path, request: Request):
        self.suite, self.request = suite, request
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        # As asv's own, so that the next run ends what this one leaves if it is killed.
        environment["ASV_ENV_DIR"] = str(Path(python).parents[1])
        self.process = subprocess.Popen(
            [python, str(SCRIPT.resolve()), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def wait(self, deadline: float) -> None:
        """Wait until it has started, or has failed to: then its turn fails."""
        waiting = max(0, deadline - time.monotonic())
        if select.select([self.process.stdout], [], [], waiting)[0]:
            self.process.stdout.readline()

    def measure(self) -> Rows:
        """Let it measure; all rows have failed if it crashes or hangs."""
        try:
            answer, _ = self.process.communicate("go\n", self.suite.timeout(self.request))
            found = json.loads(answer)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            found = {n: dict.fromkeys(map(str, i)) for n, i in self.request.items()}
        return {
            self.suite.rows(name)[int(index)]: value
            for name, values in found.items()
            for index, value in values.items()
        }

    def end(self) -> None:
        """Stop it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def unpacked(
    conf: Config, environment: Host, hashes: Sequence[str], folder: Path
) -> tuple[str, list[Path]]:
    """Build the commits as asv does, and unpack their wheels side by side.

    Returns
    -------
    python : str
        The interpreter of asv's environment.
    folders : list of Path
        One a commit, for PYTHONPATH.
    """
    environment.create()
    folders = []
    for side, path in enumerate(environment.wheels(get_repo(conf), hashes)):
        folders.append(folder / "AB"[side])
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folders[side])
    return environment.find_executable("python"), folders


def turns(timed: Request, rounds: int) -> list[tuple[int, Request]]:
    """Return which commit measures what, one after the other: A B B A A B ..., calls more often."""
    calls = {name: indices for name, indices in timed.items() if name.startswith(CALLS)}
    rows = sum(map(len, calls.values()))
    processes = max(1, min(CALL_PROCESSES, CALL_ROWS // rows)) if rows else 1
    requests = [timed, *[calls] * (processes - 1)]
    # By turns for each request, whether a round has an even number of them or not.
    pairs = (0, 1), (1, 0)
    return [
        (side, request)
        for number in range(rounds)
        for place, request in enumerate(requests)
        for side in pairs[(number + place) % 2]
    ]


class Comparison:
    """Two built commits and the rounds of each."""

    def __init__(self, suite: Suite, python: str, folders: Sequence[Path]):
        self.suite, self.python, self.folders = suite, python, folders
        self.rounds: tuple[list[Rows], list[Rows]] = ([], [])

    def measure(self, turns: Sequence[tuple[int, Request]], after: Callable[[], None]) -> None:
        """Start a process for each turn, as many together as there are cores, at most 16."""
        # An even number, so that each pair shares its lot.
        lot = max(4, min(MOST_AT_ONCE, (os.cpu_count() or 1) // 2 * 2))
        for first in range(0, len(turns), lot):
            self.measure_at_once(turns[first : first + lot])
            after()

    def measure_at_once(self, turns: Sequence[tuple[int, Request]]) -> None:
        """Start all processes together, and measure with one after the other."""
        begin = time.monotonic()
        processes = []
        try:
            for side, request in turns:
                processes.append(Process(self.suite, self.python, self.folders[side], request))
            for process in processes:
                process.wait(begin + START_TIMEOUT)
            print(f"{len(turns)} processes started: {time.monotonic() - begin:.1f} s", flush=True)
            for (side, _), process in zip(turns, processes, strict=True):
                begin = time.monotonic()
                rows = process.measure()
                self.rounds[side].append(rows)
                seconds = time.monotonic() - begin
                print(f"{SIDES[side]}: {len(rows)} rows, {seconds:.1f} s", flush=True)
        finally:
            for process in processes:
                process.end()

    def run(self, rounds: int, after: Callable[[], None]) -> None:
        """Measure what is timed in the order A B B A A B ..., and what is counted once.

        `after` is called as often as processes have ended: a run may be ended early.
        """
        for request in self.suite.counted:
            self.measure([(0, request), (1, request)], after)
        if self.suite.timed:
            self.measure(turns(self.suite.timed, rounds), after)

    def sides(self) -> tuple[dict[str, list], dict[str, list]]:
        """Return the rounds of each row, for both commits."""
        base, head = (
            {row: [found[row] for found in rounds if row in found] for row in set().union(*rounds)}
            for rounds in self.rounds
        )
        return base, head
