"""What has to hold of results that others measured, before they are merged into ``results/``.

They come from another machine: nothing of them is believed that asv, git or this suite can tell.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from asv import util
from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.environment import get_env_name
from asv.machine import Machine
from asv.results import Results, get_filename
from asv_runner.statistics import compute_stats

from asv_plugins import peer_versions, storage
from tracking import commits, machine
from tracking.arguments import MACHINE
from tracking.track import WITHOUT_GPU

MACHINE_KEYS = {name for name, _ in Machine.fields} | set(machine.KEYS)
# A whole commit on a GPU takes half a megabyte.
MOST_BYTES = 16 * 2**20
# Milliseconds by which two machines' clocks may differ.
CLOCKS = 3_600_000
# asv stores statistics in five digits.
DIGITS = 1e-4
# Most parameter combinations of a benchmark.
MOST_ROWS = 100_000


class Record:
    """What results are checked against: this repository, its suite, and its results.

    Attributes
    ----------
    line : dict
        Author's and committer's seconds of each commit that the site can show.
    machines : dict
        Facts of machines that have no results here, but among those that are merged.
    """

    def __init__(self, conf: Config):
        self.environment, self.branch = conf.environment_type, conf.branches[0]
        self.benchmarks = Benchmarks.load(conf)
        words = commits.git("log", "--first-parent", "--format=%H %at %ct", self.branch, "--")
        rows = zip(words[::3], words[1::3], words[2::3], strict=True)
        self.line = {commit: (int(author), int(committer)) for commit, author, committer in rows}
        # A clock may be behind, but not behind the newest commit.
        self.now = 1000 * max(time.time(), *(seconds for _, seconds in self.line.values()))
        self.machines: dict[str, dict[str, str]] = {}


def started(results: Results) -> tuple[int, int]:
    """Return when the first and the last benchmark was started, in milliseconds."""
    times = [results.started_at[name] for name in results.get_all_result_keys()]
    return min(times), max(times)


def read_machine(path: Path, record: Record) -> dict[str, str]:
    """Read what a folder's machine is; ValueError if another one has its name."""
    folder = path.parent
    if folder.is_symlink():
        raise ValueError("is behind a link")
    facts = util.load_json(str(regular(path)), Machine.api_version)
    if missing := sorted(MACHINE_KEYS - facts.keys()):
        raise ValueError(f"lacks {', '.join(missing)}")
    if not all(isinstance(value, str) and value for value in facts.values()):
        raise ValueError("a fact is no text")
    if facts["machine"] != folder.name or not MACHINE.fullmatch(folder.name):
        raise ValueError(f"describes machine {facts['machine']!r}")
    before = record.machines.setdefault(folder.name, machine.stored(folder.name) or facts)
    if others := machine.differences(facts, before):
        raise ValueError(" ".join(others))
    return facts


def regular(path: Path) -> Path:
    """Return the path of a file that is one, and no link out of its folder."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("is no regular file")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"has {size} bytes, more than {MOST_BYTES}")
    return path


def read_results(path: Path, facts: dict[str, str], record: Record) -> Results:
    """Read one file; ValueError if it is not what asv has written of what its name says."""
    stored = storage.read(regular(path))
    take_own(stored)
    if (beside := peer_versions.beside(path)).exists():
        regular(beside)
    peer_versions.check(path, stored)
    results = Results.load(str(path))
    if content(results) != json.dumps(stored, sort_keys=True):
        raise ValueError("asv would not write it so: changed by hand, or of another asv")
    names = results.get_all_result_keys()
    if not names or any(map(results.has_profile, names)):
        raise ValueError("holds a profile, which only its machine needs" if names else "is empty")
    if stored["commit_hash"] not in record.line:
        raise ValueError(f"commit {stored['commit_hash'][:10]} is not on {record.branch} here")
    check_environment(path, stored, facts, record)
    check_dates(results, record)
    return results


def take_own(stored: dict) -> dict:
    """Take out and return what asv does not write: what a wheel was built with, and if it ended."""
    own = {key: stored.pop(key) for key in storage.OWN if key in stored}
    if own.get(storage.UNFINISHED, True) is not True:
        raise ValueError(f"{storage.UNFINISHED} is {own[storage.UNFINISHED]!r}, not true")
    toolchain = own.get(storage.TOOLCHAIN, {})
    if not (
        isinstance(toolchain, dict)
        and all(value is None or isinstance(value, str) for value in toolchain.values())
    ):
        raise ValueError(f"toolchain is {toolchain!r}, not names and texts")
    return own


def check_environment(path: Path, stored: dict, facts: dict[str, str], record: Record) -> None:
    """Raise ValueError if a file says of its environment what its name or machine does not."""
    params, python, requirements = (stored[key] for key in ("params", "python", "requirements"))
    variables = {("", name): value for name, value in stored["env_vars"].items()}
    environment = get_env_name(record.environment, python, requirements, variables)
    name = Path(get_filename(facts["machine"], stored["commit_hash"], environment)).name
    if stored["env_name"] != environment or path.name != name:
        raise ValueError(f"its content is that of {name}")
    if missing := sorted((MACHINE_KEYS | {"python"}) - params.keys()):
        raise ValueError(f"params lack {', '.join(missing)}")
    if not all(isinstance(value, str) for value in params.values()):
        raise ValueError("a param is no text")
    for key, value in {"arch": facts["arch"], "python": python, **requirements}.items():
        if params[key] != value:
            raise ValueError(f"param {key} is {params[key]}, and also {value}")
    if others := machine.differences(params, facts):
        raise ValueError(" ".join(others))


def check_dates(results: Results, record: Record) -> None:
    """Raise ValueError unless results have their commit's date, and were measured after it."""
    commit = results.commit_hash
    author, committer = record.line[commit]
    first, last = started(results)
    if results.date != 1000 * author or first < 1000 * committer - CLOCKS:
        raise ValueError(f"was started before its commit {commit[:10]}, or has another's date")
    if last > record.now + CLOCKS:
        raise ValueError("was started in the future")


def content(results: Results) -> str:
    """Return all that a file of results says, as asv writes it."""
    with tempfile.TemporaryDirectory() as folder:
        results.save(folder)
        (path,) = Path(folder).glob("*/*.json")
        return json.dumps(json.loads(path.read_text(encoding="utf-8")), sort_keys=True)


def doubt(value: float | None, stats: dict | None, samples: list | None) -> str | None:
    """Say what is wrong with one number, None if nothing is."""
    if util.is_na(value):
        return "samples of nothing" if stats or samples else None
    if not stats:
        # Counted, so exact.
        return None if value >= 0 and not samples else f"{value!r} is no count"
    if not value > 0:
        return f"{value!r} was timed"
    slack = DIGITS * value
    within = ((stats["ci_99_a"], stats["ci_99_b"]), (stats["q_25"], stats["q_75"]))
    if not all(low - slack <= value <= high + slack for low, high in within):
        return f"{value!r} is outside its interval or quartiles"
    if not (stats["repeat"] >= 1 and stats["number"] >= 1):
        return f"{value!r} has no samples"
    if samples is not None:
        median, _ = compute_stats(samples, stats["number"])
        whole = len(samples) == stats["repeat"] and all(sample > 0 for sample in samples)
        if not whole or not math.isclose(value, median, rel_tol=1e-9):
            return f"{value!r} is not the median of its {stats['repeat']} samples"
    return None


def rows(results: Results, name: str) -> Iterator[tuple[str, bool, float | None]]:
    """Yield asv's names of one benchmark's numbers, whether each was timed, and itself."""
    params = results.get_result_params(name)
    if (count := math.prod(map(len, params))) > MOST_ROWS:
        raise ValueError(f"{name}: {count} combinations of parameters")
    parts = (results.get_result_value, results.get_result_stats, results.get_result_samples)
    columns = (part(name, params) for part in parts)
    for values, value, *rest in zip(itertools.product(*params), *columns, strict=True):
        row = f"{name}({', '.join(values)})" if values else name
        if wrong := doubt(value, *rest):
            raise ValueError(f"{row}: {wrong}")
        yield row, bool(rest[0]), value


def check_rows(results: Results, record: Record) -> tuple[int, list[str]]:
    """Check all numbers of one file.

    Returns
    -------
    count : int
        Of numbers that the site can show.
    remarks : list of str
        What is fine, but has to be known.
    """
    count, failed, differing, others = 0, [], [], []
    shown = results.get_result_keys(record.benchmarks)
    no_gpu = results.params["gpu"] == "none"
    for name in sorted(results.get_all_result_keys()):
        if not re.fullmatch(r"[\w.]+", name):
            raise ValueError(f"{name!r} is no benchmark's name")
        found = list(rows(results, name))
        if name not in shown:
            others.append(name)
            continue
        benchmark = record.benchmarks[name]
        params, known = results.get_result_params(name), benchmark["params"]
        pairs = zip(params, known, strict=False)
        if len(params) != len(known) or not all(set(own) <= set(suite) for own, suite in pairs):
            raise ValueError(f"{name}: has parameters that the suite's does not have")
        for row, is_timed, value in found:
            if value is None:
                failed.append(row)
            elif not math.isnan(value):
                count += 1
                if benchmark["unit"] == "seconds" and not is_timed:
                    raise ValueError(f"{row}: seconds without samples")
                if no_gpu and not re.match(WITHOUT_GPU, name):
                    raise ValueError(f"{row}: needs a GPU, on a machine without one")
                if name.endswith(".track_differing_bytes") and value > 0:
                    differing.append(row)
    said = (
        (differing, "rows whose bytes differ from the reference's"),
        (failed, "rows failed"),
        (others, "benchmarks of no or another version in this suite: kept, not shown"),
    )
    return count, [f"{len(items)} {what}, such as {items[0]}" for items, what in said if items]
