"""Which commits to measure."""

from __future__ import annotations

import subprocess
from pathlib import Path

from asv_plugins import peer_versions, storage

# What can change a number; tests and pages can't.
CODE = ("csrc", "ptgq", "setup.py", "pyproject.toml")
# Without anything measured before: so many, to have something to compare.
FIRST = 2


def git(*arguments: str) -> list[str]:
    """Return the lines that a git command prints."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except (OSError, ValueError) as error:
        # No git, or an argument with a null byte.
        raise ValueError(f"git does not run: {error}") from None
    if result.returncode:
        # In one line, whatever git advises.
        raise ValueError(" ".join(["git:", *result.stderr.split()]))
    return result.stdout.split()


def commit(revision: str) -> str:
    """Return the hash of the commit that a revision names."""
    try:
        return git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")[0]
    except ValueError as error:
        raise ValueError(f"{revision!r} names no commit: {error}") from None


def first_parents(revisions: str, *, code_only: bool) -> list[str]:
    """Return the commits of a range (or all up to a revision) in first-parent order, newest first.

    `code_only` keeps those that touch CODE.
    """
    paths = ("--", *CODE) if code_only else ("--",)
    return git("rev-list", "--first-parent", "--end-of-options", revisions, *paths)


def measured(results: Path, machine: str) -> set[str]:
    """Return the commits that a machine has results of, besides those of other implementations.

    Those whose measuring was ended are left out: it goes on where it was.
    """
    folder = Path(results, machine)
    files = [path for path in storage.result_files(results) if path.parent == folder]
    stored = [storage.read(path) for path in files]
    return {
        one["commit_hash"]
        for one in stored
        if storage.UNFINISHED not in one
        and not all(name.startswith(peer_versions.FAMILY) for name in one["results"])
    }


def since_last_measured(results: Path, machine: str, *, code_only: bool) -> list[str]:
    """Return the commits after the newest measured ancestor of HEAD, newest first."""
    done = measured(results, machine)
    line = first_parents("HEAD", code_only=False)
    last = next((commit for commit in line if commit in done), None)
    if last is None:
        return first_parents("HEAD", code_only=code_only)[:FIRST]
    return first_parents(f"{last}..HEAD", code_only=code_only)
