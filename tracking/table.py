"""The table of ``nox -s compare``, and its raw samples as a file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from asv_plugins import same_code
from tracking.verdict import FAILED, FASTER, SAME, SLOWER, UNDECIDED, Round, Verdict

HEADER = f"{'base':>10}  {'head':>10}  {'change':>8}  {'smallest':>8}  verdict"
# What asv calls the unit of a time.
SECONDS = "seconds"


def amount(value: float, unit: str) -> str:
    """Write a time in microseconds, and whatever else as it is."""
    return f"{1e6 * value:.4g} µs" if unit == SECONDS else f"{value:.4g}"


def lines(verdicts: Mapping[str, Verdict], units: Mapping[str, str]) -> list[str]:
    """
    Return the table: by benchmark, the one with the worst row first, and so its rows.

    Parameters
    ----------
    verdicts : mapping
        Of ``name(parameters)``.
    units : mapping
        Of benchmarks by name.
    """

    def worst(row: str) -> tuple:
        return verdicts[row].word != FAILED, -verdicts[row].change

    rows: dict[str, list[str]] = {}
    for row in sorted(verdicts, key=worst):
        rows.setdefault(row.partition("(")[0], []).append(row)
    parameters = {row: re.sub(r"^[^(]*\(?|\)$", "", row) for row in verdicts}
    width = max((len(text) for text in parameters.values()), default=0) + 2
    found = [f"{'':{width}}  {HEADER}"]
    for name, members in rows.items():
        unit = units.get(name, "")
        found.append(name if unit == SECONDS else f"{name}, {unit}")
        for row in members:
            v = verdicts[row]
            failed = math.isnan(v.base)
            numbers = (
                f"{'' if failed else amount(v.base, unit):>10}",
                f"{'' if failed else amount(v.head, unit):>10}",
                f"{'' if failed else format(v.change, '+.1%'):>8}",
                f"{'' if failed else format(v.smallest, '.1%'):>8}",
            )
            found.append(f"{'  ' + parameters[row]:{width}}  {'  '.join(numbers)}  {v.word}")
    return [line.rstrip() for line in found]


def counts(verdicts: Mapping[str, Verdict]) -> str:
    """Return how often each verdict was given."""
    words = [v.word for v in verdicts.values()]
    known = (SLOWER, FASTER, SAME, UNDECIDED, FAILED)
    # These two only where there are any.
    known += tuple(word for word in (same_code.SAME_CODE, same_code.OTHER_CODE) if word in words)
    return ", ".join(f"{words.count(word)} {word}" for word in known)


def export(
    path: Path,
    commits: Sequence[str],
    machine: Mapping[str, str],
    sides: Sequence[Mapping[str, Sequence[Round]]],
) -> None:
    """Write the raw rounds as one JSON file, beside whose they are and where they were measured."""
    base, head = sides
    rounds = {row: [base.get(row), head.get(row)] for row in sorted({*base, *head})}
    content = {"commits": list(commits), "machine": dict(machine), "rounds": rounds}
    path.write_text(json.dumps(content, indent=1) + "\n")
