"""Compare two commits on this machine, measured in alternating rounds.

Status 0: nothing is slower, 1: something is, 2: something failed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asv.commands.run import Run
from asv.config import Config
from asv.plugin_manager import plugin_manager
from asv.results import Results, iter_results_for_machine_and_hash

from tracking import commits, machine
from tracking.track import WITHOUT_GPU
from tracking.verdict import FAILED, FASTER, SAME, SLOWER, UNDECIDED, Verdict, decide_table

# Rounds of each commit, and how many more a row that looks slower must stay so.
ROUNDS = 3
CONFIRMATIONS = 2
# asv's own, for benchmarks without a threshold in asv.conf.json.
DEFAULT_THRESHOLD = 0.05

Rows = dict[str, object]


def threshold(conf: Config, name: str) -> float:
    """Return the least change of a benchmark that counts: the largest that matches, as asv's."""
    matching = [
        float(value)
        for pattern, value in conf.regressions_thresholds.items()
        if re.match(pattern, name)
    ]
    return max(matching, default=DEFAULT_THRESHOLD)


def rows_of(result: Results) -> Rows:
    """Return the values of one run by ``name(parameters)``; what is n/a is left out."""
    rows: Rows = {}
    for name in result.get_all_result_keys():
        parameters = result.get_result_params(name)
        values = result.get_result_value(name, parameters)
        samples = result.get_result_samples(name, parameters)
        for combination, value, sample in zip(
            itertools.product(*parameters) if parameters else [()], values, samples, strict=True
        ):
            if value is not None and math.isnan(value):
                continue
            row = f"{name}({', '.join(combination)})" if combination else name
            rows[row] = None if value is None else (sample or value)
    return rows


class Comparison:
    """The rounds of two commits, each round a run of asv of its own in `folder`."""

    def __init__(self, conf: Config, machine_name: str, hashes: Sequence[str], folder: Path):
        self.conf, self.machine, self.hashes, self.folder = conf, machine_name, hashes, folder
        self.rounds: tuple[list[Rows], list[Rows]] = ([], [])
        self.failed = False

    def measure(self, side: int, bench: Sequence[str]) -> None:
        """Measure one commit once more."""
        folder = self.folder / f"{len(self.rounds[0])}-{len(self.rounds[1])}-{side}"
        self.conf.results_dir = str(folder)
        status = Run.run(
            self.conf,
            range_spec=[self.hashes[side]],
            bench=list(bench),
            machine=self.machine,
            record_samples=True,
            pull=False,
            show_stderr=True,
        )
        self.failed = self.failed or bool(status)
        found = iter_results_for_machine_and_hash(str(folder), self.machine, self.hashes[side])
        self.rounds[side].append({row: v for result in found for row, v in rows_of(result).items()})

    def alternate(self, times: int, bench: Sequence[str]) -> None:
        """Measure both `times` times, in the order A B B A A B, so that a drift falls on both."""
        for index in range(times):
            for side in (0, 1) if index % 2 == 0 else (1, 0):
                self.measure(side, bench)

    def verdicts(self) -> dict[str, Verdict]:
        """Decide on every row that both commits have."""
        sides = []
        for rounds in self.rounds:
            rows = set().union(*rounds)
            sides.append({row: [found[row] for found in rounds if row in found] for row in rows})
        return decide_table(*sides, lambda row: threshold(self.conf, row))


def table(verdicts: dict[str, Verdict]) -> str:
    """Return the rows sorted by change, the worst first, and a line that counts the verdicts."""
    order = sorted(verdicts, key=lambda row: (verdicts[row].word != FAILED, -verdicts[row].change))
    width = max(map(len, order), default=0)
    lines = [f"{'benchmark':{width}}  {'base':>10}  {'head':>10}  {'change':>8}  noise   verdict"]
    for row in order:
        v = verdicts[row]
        lines.append(
            f"{row:{width}}  {v.base:10.4g}  {v.head:10.4g}  {v.change:+8.1%}  {v.noise:5.1%}  "
            f"{v.word}"
        )
    words = [v.word for v in verdicts.values()]
    counts = (f"{words.count(w)} {w}" for w in (SLOWER, FASTER, SAME, UNDECIDED, FAILED))
    return "\n".join([*lines, ", ".join(counts)])


def benchmarks_of(rows: Sequence[str]) -> list[str]:
    """Return patterns for the benchmarks that rows belong to."""
    return sorted({f"^{row.partition('(')[0]}(\\(|$)" for row in rows})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, decide, and measure again what looks slower."""
    parser = argparse.ArgumentParser(prog="compare", description=__doc__)
    add = parser.add_argument
    add("base")
    add("head")
    add("--bench", action="append", metavar="RE", help="only benchmarks that match; repeatable")
    add("--rounds", type=int, default=ROUNDS, help="rounds of each commit (%(default)s)")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, got {options.rounds}")
    try:
        hashes = [
            commits.git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")[0]
            for name in (options.base, options.head)
        ]
    except ValueError as error:
        parser.error(str(error))
    name, facts = machine.register(None)
    has_gpu = facts["gpu"] != "none"
    os.environ["PTGQ_MEASURED_DEVICE"] = "cuda" if has_gpu else "cpu"

    conf = Config.load("asv.conf.json")
    for plugin in conf.plugins:
        plugin_manager.import_plugin(plugin)
    Path(conf.env_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=conf.env_dir, prefix="compare-") as folder:
        comparison = Comparison(conf, name, hashes, Path(folder))
        comparison.alternate(options.rounds, options.bench or ([] if has_gpu else [WITHOUT_GPU]))
        verdicts = comparison.verdicts()
        suspects = [
            row for row, v in verdicts.items() if v.word == SLOWER and threshold(conf, row) > 0
        ]
        if suspects:
            print(f"measuring again what looks slower: {len(suspects)} rows")
            comparison.alternate(CONFIRMATIONS, benchmarks_of(suspects))
            verdicts = comparison.verdicts()
    print(table(verdicts))
    words = {v.word for v in verdicts.values()}
    if comparison.failed or FAILED in words or not verdicts:
        return 2
    return 1 if SLOWER in words else 0


if __name__ == "__main__":
    sys.exit(main())
