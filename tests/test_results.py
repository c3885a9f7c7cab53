"""What is stored in ``results/``."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for path in ROOT.glob("results/*/*.json")
    if path.name != "machine.json"
    # Not what somebody measured here and did not store.
    and subprocess.run(
        ["git", "ls-files", "--error-unmatch", str(path)], cwd=ROOT, capture_output=True
    ).returncode
    == 0
)


def numbers(value):
    """All numbers within a parsed value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, float) else []


def first_parents():
    """What asv publishes: the first-parent line of main, or of HEAD where there is no main."""
    for name in ("main", "origin/main", "HEAD"):
        command = ["git", "rev-list", "--first-parent", name, "--"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if run.returncode == 0:
            return set(run.stdout.split())
    return set()


def problems(text, commits):
    """What is wrong with a stored file."""
    stored = json.loads(text)
    found = []
    if stored["commit_hash"] not in commits:
        found.append(f"{stored['commit_hash']} is no first-parent ancestor of main")
    if any(math.isinf(number) for number in numbers(stored["results"])):
        found.append("a value is infinite: asv publish would hang")
    return found


@pytest.mark.skipif(not FILES, reason="results/ holds no results yet")
def test_stored_results():
    commits = first_parents()
    if not commits:
        pytest.skip("this is no git checkout: ancestry can't be checked")
    wrong = {path.name: problems(path.read_text(), commits) for path in FILES}
    assert not {name: found for name, found in wrong.items() if found}


@pytest.mark.skipif(not FILES, reason="results/ holds no results yet")
def test_machines_state_what_they_are():
    for folder in {path.parent for path in FILES}:
        machine = json.loads((folder / "machine.json").read_text())
        missing = {"machine", "gpu", "driver", "cuda", "torch", "triton"} - set(machine)
        assert not missing, f"{folder.name}/machine.json lacks {missing}"
        assert machine["machine"] == folder.name


@pytest.mark.parametrize(
    ("commit", "value", "found"),
    [
        ("a", "1.5", []),
        ("a", "NaN", []),
        ("a", "Infinity", ["a value is infinite: asv publish would hang"]),
        ("b", "1.5", ["b is no first-parent ancestor of main"]),
    ],
)
def test_problems_are_found(commit, value, found):
    text = f'{{"commit_hash": "{commit}", "results": {{"k": [[null, {value}], []]}}}}'
    assert problems(text, {"a"}) == found
