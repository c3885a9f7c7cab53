"""Which version of each implementation was measured, and when: a file beside asv's results.

asv stores numbers by commit, benchmark and parameters; whose version a number of the family
``peers`` is, it has no place for. ``NAME.peers`` beside ``NAME.json`` says it: for each
implementation with numbers its ``version`` and the day it was ``measured``, for each other one why
it has none. Measuring one again replaces its numbers, and what is said of them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from asv_plugins.verdict import NOT_APPLICABLE, Measurement

FAMILY = "peers."
# Whose version is the commit.
OWN = ("ptgq", "ptgq-triton")


def beside(path: Path) -> Path:
    """Return where a file of results has what is known of its implementations."""
    return path.with_suffix(".peers")


def read(path: Path) -> dict[str, dict[str, str]]:
    """Return what is known of the implementations in a file of results, or raise ValueError."""
    file = beside(path)
    if not file.is_file():
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        texts = [text for one in known.values() for pair in one.items() for text in pair]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file}: unreadable ({error})") from error
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{file}: holds more than names and texts")
    return known


def newest(commits: dict[str, list], results_dir: str, order: dict[str, int]) -> dict:
    """Return what is known of the implementations that were measured last, and at which commit.

    Also, by commit, what was known before: a run whose time was bounded leaves rows to older ones.
    """
    found: dict[int, dict] = {}
    for commit in sorted(commits, key=order.__getitem__, reverse=True):
        for results in commits[commit]:
            if known := read(Path(results_dir, results._filename)):
                found.setdefault(order[commit], known)
    if not found:
        return {}
    last = max(found)
    return {"commit": last, "known": found[last], "then": found}


def with_older(now: list, older: list[tuple[int, list]]) -> tuple[list, dict[int, int]]:
    """Return the newest number of each series, and the commits of those that `now` leaves out.

    older: commits by position, the newest first, with what they say of all series.
    """
    shown, kept = list(now), {}
    for index, value in enumerate(now):
        numbers_of = (at for at in older if isinstance(at[1][index], Measurement))
        if value == NOT_APPLICABLE and (found := next(numbers_of, None)):
            kept[index], row = found
            shown[index] = row[index]
    return shown, kept


def numbers(data: dict) -> dict[str, list]:
    """Return all numbers of the family by their implementation, of a file of results."""
    found: dict[str, list] = {}
    for name in sorted(data.get("results", {})):
        if not name.startswith(FAMILY):
            continue
        row = dict(zip(data["result_columns"], data["results"][name], strict=False))
        values, (names, *others) = row.get("result"), row["params"]
        count = math.prod(len(one) for one in others)
        for place, text in enumerate(names):
            own = values[place * count : (place + 1) * count] if values else []
            measured = [value for value in own if value is not None and not math.isnan(value)]
            found.setdefault(text.strip("'"), []).extend(measured)
    return found


def note(path: Path, data: dict, version_of: Callable[[str], str], names: list[str]) -> dict:
    """Return what is to be known of the implementations, once `data` is written to `path`.

    Of one whose numbers `data` has not changed, what was known.
    """
    now = numbers(data)
    if not now:
        return {}
    before, known = {}, read(path)
    if path.is_file():
        before = numbers(json.loads(path.read_text(encoding="utf-8")))
    for name in names:
        if now.get(name) and (now[name] != before.get(name) or name not in known):
            known[name] = {"version": version_of(name), "measured": time.strftime("%Y-%m-%d")}
        elif not now.get(name):
            version = version_of(name)
            why = f"{version} is installed, and gave no number" if version else "not installed"
            known[name] = {"missing": why}
    return known


def check(path: Path, data: dict) -> None:
    """Raise ValueError if a number of a file of results is of no known version."""
    known = read(path)
    for name, values in numbers(data).items():
        if values and name not in OWN and not known.get(name, {}).get("version"):
            raise ValueError(f"numbers of {name}, whose version {beside(path).name} does not say")
