"""Write all stored numbers of the suite's benchmarks, sample by sample, into one CSV file.

A row is a sample. Columns: the machine and what else asv's params say of it (gpu, driver, cuda,
torch, ...); commit, commit_date and measured (ISO 8601, UTC); benchmark and unit; one column for
each parameter that a benchmark has, empty where it has not; sample, counted from 0; samples, how
many there are; value; low and high, asv's interval of the median, empty for what is counted. Where
the samples were not stored, sample is empty and value is their median. What is n/a or failed has
no row.
"""

from __future__ import annotations

import argparse
import ast
import csv
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from asv import util
from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.results import Results, iter_results

from asv_plugins import storage
from tracking.arguments import Parser, machine_name, pattern

# Last, after the columns of all benchmarks' parameters.
LAST = ("sample", "samples", "value", "low", "high")


def date(milliseconds: int) -> str:
    """Write one of asv's dates."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat("T", "seconds")


def place(results: Results) -> tuple[str, int, str]:
    """Return what files of results are sorted by."""
    return results.params["machine"], results.date, results.env_name


def text(value: str) -> object:
    """Return what asv has stored the repr of."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def samples(results: Results, benchmark: dict) -> Iterator[dict[str, object]]:
    """Yield the rows of one benchmark in one file of results."""
    name = benchmark["name"]
    common = {
        "machine": results.params["machine"],
        **results.params,
        "commit": results.commit_hash,
        "commit_date": date(results.date),
        "measured": date(results.started_at[name]),
        "benchmark": name,
        "unit": benchmark["unit"],
    }
    params = results.get_result_params(name)
    parts = (results.get_result_value, results.get_result_stats, results.get_result_samples)
    columns = (part(name, params) for part in parts)
    for values, value, stats, single in zip(itertools.product(*params), *columns, strict=True):
        if util.is_na(value):
            continue
        stats = stats or {}
        row = common | dict(zip(benchmark["param_names"], map(text, values), strict=True))
        row |= {"samples": stats.get("repeat", 1)}
        row |= {"low": stats.get("ci_99_a"), "high": stats.get("ci_99_b")}
        # A count is exact, and its only sample.
        known = enumerate(single) if single else [(None if stats else 0, value)]
        yield from ({**row, "sample": index, "value": number} for index, number in known)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; 0: written, 2: there is nothing to write, or it can't be read."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="export", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--machine", type=machine_name, metavar="NAME", help="only this one's results")
    add("--bench", type=pattern, default="", metavar="RE", help="only benchmarks that match")
    add("file", type=Path, metavar="FILE.csv")
    options = parser.parse_args(arguments)
    try:
        conf = Config.load("asv.conf.json")
        if wrong := storage.problems(Path(conf.results_dir)):
            raise ValueError(" ".join(["repair these, or move them away:", *wrong]))
        benchmarks = Benchmarks.load(conf)
    except (ValueError, util.UserError) as error:
        parser.error(str(error))
    rows = [
        row
        for results in sorted(iter_results(conf.results_dir), key=place)
        if options.machine in (None, results.params["machine"])
        for name in sorted(results.get_result_keys(benchmarks))
        if re.search(options.bench, name)
        for row in samples(results, benchmarks[name])
    ]
    if not rows:
        parser.error("no stored number of the suite's benchmarks matches")
    found = dict.fromkeys(itertools.chain.from_iterable(rows))
    columns = [name for name in found if name not in LAST]
    try:
        with options.file.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*columns, *LAST])
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        parser.error(f"{options.file}: {error.strerror}")
    medians = sum(row["sample"] is None for row in rows)
    print(f"{options.file}: {len(rows)} rows, {medians} of them medians of samples not stored")
    return 0


if __name__ == "__main__":
    sys.exit(main())
