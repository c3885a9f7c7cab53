"""Merge results that others measured with this suite into results/, once all of it is checked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from asv import util
from asv.config import Config
from asv.machine import Machine
from asv.results import Results

from asv_plugins import peer_versions, storage
from tracking import checks
from tracking.arguments import Parser
from tracking.track import RESULTS

# What reading what is not in asv's form raises, besides what is said of it.
MALFORMED = (AttributeError, KeyError, IndexError, TypeError, OverflowError, RecursionError)


@dataclass
class Checked:
    """A file of results that nothing is wrong with."""

    results: Results
    machine: dict[str, str]
    path: Path
    is_new: bool
    count: int
    remarks: list[str]


def folder_of(text: str) -> Path:
    """Read the name of a folder."""
    if not text or not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder of results, got {text!r}")
    return Path(text).resolve()


def machine_folders(folder: Path) -> list[Path]:
    """Return the folders of machines in a folder of results, or itself if it is a machine's."""
    if (folder / "machine.json").is_file():
        return [folder]
    return sorted(path for path in folder.iterdir() if path.is_dir())


def is_new(results: Results, before: Results, replace: bool) -> bool:
    """Whether to take results instead of others of the same commit; ValueError if neither is."""
    if checks.content(results) == checks.content(before):
        return False
    if not replace:
        raise ValueError("another result of its commit is here: --replace takes the newer one")
    if checks.started(results)[1] <= checks.started(before)[1]:
        raise ValueError("a newer result of its commit is here")
    return True


def check(
    folders: Sequence[Path], record: checks.Record, replace: bool
) -> tuple[list[Checked], list[str]]:
    """Check all files of machines' folders; return them, and a line for each that fails."""
    found: dict[str, Checked] = {}
    problems: list[str] = []

    def sound(path: Path, read, *arguments):
        try:
            return read(path, *arguments)
        except (ValueError, OSError, util.UserError) as error:
            message = str(error).removeprefix(f"{path}: ")
        except MALFORMED as error:
            message = f"not in asv's form ({error!r})"
        problems.append(" ".join(f"{path}: {message}".split()))
        return None

    def read_one(path: Path, facts: dict[str, str]) -> Checked:
        results = checks.read_results(path, facts, record)
        count, remarks = checks.check_rows(results, record)
        name = results._filename
        if name in found:
            before, newer_wins = found[name].results, False
        else:
            here = RESULTS / name
            before, newer_wins = Results.load(str(here)) if here.is_file() else None, replace
        new = before is None or is_new(results, before, newer_wins)
        return Checked(results, facts, path, new, count, remarks)

    for folder in folders:
        facts = sound(folder / "machine.json", checks.read_machine, record)
        for path in sorted(folder.iterdir()) if facts else ():
            # What is beside results is read with them.
            if peer_versions.beside(path) == path and path.with_suffix(".json").is_file():
                continue
            if path.name != "machine.json" and (checked := sound(path, read_one, facts)):
                found.setdefault(checked.results._filename, checked)
    return list(found.values()), problems


def save(files: Sequence[Checked]) -> None:
    """Write results as asv does, and what is known of their machines."""
    for checked in files:
        name = checked.machine["machine"]
        path = RESULTS / name / "machine.json"
        if not path.is_file():
            util.write_json(str(path), checked.machine, Machine.api_version)
        own = checks.take_own(storage.read(checked.path))
        peers = peer_versions.read(checked.path)
        with (
            patch.dict(storage.more_of_results, own),
            patch.object(storage, "peers_of", lambda path, data, known=peers: known),
        ):
            checked.results.save(str(RESULTS))


def report(files: Sequence[Checked]) -> Iterator[str]:
    """Yield a line for each machine and each remark."""
    machines: dict[str, list[Checked]] = {}
    for checked in files:
        for remark in checked.remarks if checked.is_new else ():
            yield f"{checked.path}: {remark}"
        machines.setdefault(checked.machine["machine"], []).append(checked)
    for name, of_machine in machines.items():
        new = [checked for checked in of_machine if checked.is_new]
        commits = " ".join(sorted(checked.results.commit_hash[:10] for checked in new))
        rows = sum(checked.count for checked in new)
        merged = f"{len(new)} files ({commits}), {rows} rows" if new else "nothing new"
        yield f"{name}: merged {merged}; {len(of_machine) - len(new)} were here already"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, then merge; 0: merged or here already, 2: something is wrong and nothing is merged."""
    parser = Parser(prog="merge", description=__doc__)
    add = parser.add_argument
    add(
        "folders",
        nargs="+",
        type=folder_of,
        metavar="FOLDER",
        help="results/ of another checkout, or one machine's folder of it",
    )
    add("--replace", action="store_true", help="take newer results of a commit that has some here")
    options = parser.parse_args(arguments)
    try:
        conf = Config.load("asv.conf.json")
        if wrong := storage.problems(RESULTS):
            raise ValueError(" ".join(["repair these, or move them away:", *wrong]))
        if missing := storage.missing_branch(conf.branches[0], conf.repo):
            raise ValueError(missing)
        record = checks.Record(conf)
    except (ValueError, util.UserError) as error:
        parser.error(str(error))
    folders = [machine for folder in options.folders for machine in machine_folders(folder)]
    files, problems = check(folders, record, options.replace)
    if not files and not problems:
        parser.error(f"no results in {', '.join(map(str, options.folders))}")
    if problems:
        print("\n".join(f"merge: {line}" for line in problems), file=sys.stderr)
        print(f"merge: nothing was merged, {len(problems)} are wrong", file=sys.stderr)
        return 2
    save([checked for checked in files if checked.is_new])
    print("\n".join(report(files)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
