"""Wheels that another machine has built, for ``nox -s track -- RANGE --wheels FOLDER``.

A wheel is a commit's by the file beside it, ``NAME.whl.json``, which ``--build-only`` writes: the
commit, the wheel's hash, and the toolchain. It is believed where the hash is the wheel's. Without
that file the commit is what setup.py wrote into the wheel, and the toolchain is what a wheel tells
of itself, its name and hash: with what it was compiled is not known then.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

# The folder, for asv, which nox -s track starts.
VARIABLE = "PTGQ_WHEELS"


@dataclass(frozen=True)
class Wheel:
    """A wheel of `commit`, which may be abbreviated, and what it was built with."""

    path: Path
    commit: str
    sha256: str
    toolchain: dict[str, str | None]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def beside(path: Path) -> Path:
    """Return the file that says what a wheel is."""
    return path.with_name(f"{path.name}.json")


def describe(path: Path, commit: str, toolchain: dict[str, str | None]) -> None:
    """Say beside a wheel what it is."""
    facts = {"commit": commit, "sha256": digest(path), "toolchain": toolchain}
    beside(path).write_text(json.dumps(facts, indent=4) + "\n")


def _inside(path: Path, project: str) -> str:
    """Return the commit that setup.py wrote into a wheel, nothing where it wrote none."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = f"{project}/commit.txt"
            return archive.read(name).decode() if name in archive.namelist() else ""
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no wheel: {error}") from None


def _read(path: Path, project: str) -> Wheel:
    inside, sha256 = _inside(path, project), digest(path)
    if inside.endswith("+"):
        raise ValueError(f"{path}: built of files that differ from commit {inside[:-1]}")
    if not beside(path).is_file():
        if not inside:
            raise ValueError(f"{path}: of which commit? None inside, and no {beside(path).name}")
        return Wheel(path, inside, sha256, {"wheel": path.name, "sha256": sha256})
    try:
        facts = json.loads(beside(path).read_text())
        commit, toolchain = facts["commit"], dict(facts["toolchain"])
        if not re.fullmatch("[0-9a-f]{40}", commit):
            raise ValueError(f"commit {commit!r}")
        believed = facts["sha256"] == sha256
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{beside(path)}: unreadable ({error!r})") from None
    if not believed:
        raise ValueError(f"{beside(path)}: written for another wheel than the one beside it")
    if not commit.startswith(inside):
        raise ValueError(f"{path}: built of commit {inside}, {beside(path).name} says {commit}")
    return Wheel(path, commit, sha256, toolchain)


class Wheels:
    """The wheels of `project` in a folder and those below it; `None` has none.

    Raises
    ------
    ValueError
        In one line, if a wheel is of no commit, or two are of one.
    """

    def __init__(self, folder: str | os.PathLike | None, project: str):
        paths = [] if folder is None else sorted(Path(folder).resolve().rglob(f"{project}-*.whl"))
        self._wheels = [_read(path, project) for path in paths]
        for index, wheel in enumerate(self._wheels):
            for other in self._wheels[:index]:
                if wheel.commit.startswith(other.commit) or other.commit.startswith(wheel.commit):
                    raise ValueError(f"{wheel.path} and {other.path} are of one commit")

    def __bool__(self) -> bool:
        return bool(self._wheels)

    def of(self, commit: str) -> Wheel | None:
        """Return the wheel of a commit, None if there is none."""
        found = (wheel for wheel in self._wheels if commit.startswith(wheel.commit))
        return next(found, None)
