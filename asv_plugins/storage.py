"""Results are written whole or not at all, and nothing that is stored is left out in silence.

asv truncates a file and then writes it: killed meanwhile, or with the disk full, what was stored is
lost. Loaded as a plugin, this writes beside the file and renames. asv skips what it can't read with
a warning, and loops for ever on an infinity: :func:`problems` finds both before it is run.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from asv import util

from asv_plugins import peer_versions

KEYS = (
    "commit_hash", "env_name", "date", "params", "python", "requirements", "result_columns",
    "results", "version",
)  # fmt: skip


# Keys of results that asv does not write, and ignores: what the wheel was built with, and that the
# run has not ended, as asv_plugins/unfinished.py says.
OWN = TOOLCHAIN, UNFINISHED = "toolchain", "unfinished"
# Those that are written with all results.
more_of_results: dict[str, object] = {}
# What a commit's wheel was built with: asv_plugins/environment.py says it.
toolchain_of: Callable[[str], dict | None] | None = None


def write_json(path, data, api_version=None, compact=False) -> None:
    """Write as asv does, but leave the file as it was unless all of it could be written.

    Results get the keys of OWN.
    """
    path = Path(path).absolute()
    if isinstance(data, dict) and {"commit_hash", "results"} <= data.keys():
        built = toolchain_of(data["commit_hash"]) if toolchain_of else None
        data = {**data, **({TOOLCHAIN: built} if built else {}), **more_of_results}
    if api_version is not None:
        data = {**data, "version": api_version}
    # No .json at the end: what a kill leaves behind is read by nobody.
    partial = path.with_name(path.name + ".partial")
    peers = peers_of(path, data) if isinstance(data, dict) else {}
    options = {} if compact else {"indent": 4, "sort_keys": True}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            json.dump(data, file, **options)
            # What has a version is kept; a site's thousands of graphs can be made again.
            if api_version is not None:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
        if peers:
            text = json.dumps(peers, indent=4, sort_keys=True) + "\n"
            partial.write_text(text, encoding="utf-8")
            partial.replace(peer_versions.beside(path))
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise util.UserError(
            f"{path} was not written, what it held is unchanged: {error.strerror}"
        ) from error


def peers_of(path: Path, data: dict) -> dict:
    """Return what is to be said beside results of other implementations; nothing of other files."""
    if not any(name.startswith(peer_versions.FAMILY) for name in data.get("results", ())):
        return {}
    # Here: the plugin also serves checkouts without them.
    from benchmarks import peers

    return peer_versions.note(path, data, peers.version_of, peers.NAMES)


util.write_json = write_json


def result_files(results: Path) -> list[Path]:
    """Return the stored results of all machines."""
    return sorted(p for p in results.glob("*/*.json") if p.name != "machine.json")


def read(path: Path) -> dict:
    """
    Read one file of results.

    Raises
    ------
    ValueError
        If asv would not read it, or would misread it: with the file and what is wrong.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: unreadable ({error})") from error
    if not isinstance(stored, dict) or (missing := [key for key in KEYS if key not in stored]):
        what = f"lacks {', '.join(missing)}" if isinstance(stored, dict) else "is no object"
        raise ValueError(f"{path}: {what}: truncated, or not written by asv")
    machine = stored["params"].get("machine")
    if machine != path.parent.name:
        raise ValueError(f"{path}: a result of machine {machine!r} in {path.parent.name}/")
    if not path.name.startswith(f"{stored['commit_hash'][:8]}-"):
        raise ValueError(f"{path}: a result of commit {stored['commit_hash'][:8]}")
    for name, columns in stored["results"].items():
        row = dict(zip(stored["result_columns"], columns or [], strict=False))
        for kind in ("result", "samples"):
            for number in _leaves(row.get(kind)):
                if not isinstance(number, (int, float)) or isinstance(number, bool):
                    raise ValueError(f"{path}: {name}: {number!r} is no number")
                if math.isinf(number):
                    raise ValueError(f"{path}: {name}: an infinity, on which asv publish hangs")
        if row.get("result") is not None:
            combinations = math.prod(len(values) for values in row.get("params") or [])
            if len(row["result"]) != combinations:
                count = len(row["result"])
                raise ValueError(f"{path}: {name}: {count} values of {combinations} combinations")
    return stored


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None:
        yield value


def problems(results: Path) -> list[str]:
    """Say for each file of `results` what keeps asv from reading it: nothing may be dropped."""
    found = []
    for path in result_files(results):
        try:
            read(path)
        except ValueError as error:
            found.append(str(error))
    for folder in sorted({path.parent for path in result_files(results)}):
        path = folder / "machine.json"
        try:
            name = json.loads(path.read_text(encoding="utf-8"))["machine"]
            if name != folder.name:
                found.append(f"{path}: describes machine {name!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            found.append(f"{path}: unreadable ({error}): asv skips the folder without it")
    return found


def missing_branch(branch: str, repository: str = ".") -> str | None:
    """Say in one line that the branch of the record is not there, None if it is.

    asv would stop at that after measuring, or drop results with a warning.
    """
    command = ["git", "-C", repository, "rev-parse", "--verify", "--end-of-options"]
    try:
        run = subprocess.run([*command, f"{branch}^{{commit}}"], capture_output=True, text=True)
    except OSError as error:
        return f"git does not run: {error}"
    if run.returncode == 0:
        return None
    known = subprocess.run([*command, "HEAD"], capture_output=True, text=True)
    if known.returncode:
        return " ".join(["git:", *known.stderr.split()])
    return (
        f"no branch {branch} here, whose commits the record shows (branches in asv.conf.json): "
        f"git branch {branch} COMMIT, such as origin/{branch}"
    )


def unpublished(results: Path, branch: str, repository: str = ".") -> list[str]:
    """Say which stored results a site of `branch` leaves out: commits not on its first-parent line.

    A rewritten branch leaves such results behind.
    """
    command = ["git", "-C", repository, "rev-list", "--first-parent", branch, "--"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise ValueError(f"git rev-list {branch}: {run.stderr.strip()}")
    line = set(run.stdout.split())
    return [
        f"{path}: commit {commit[:10]} is not on {branch}: kept, but not shown"
        for path in result_files(results)
        if (commit := read(path)["commit_hash"]) not in line
    ]
