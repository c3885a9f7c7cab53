"""What is stored in ``results/``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv_plugins import storage

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


def first_parents():
    """What asv publishes: the first-parent line of main, or of HEAD where there is no main."""
    for name in ("main", "origin/main", "HEAD"):
        command = ["git", "rev-list", "--first-parent", name, "--"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if run.returncode == 0:
            return set(run.stdout.split())
    return set()


@pytest.mark.skipif(not FILES, reason="results/ holds no results yet")
def test_stored_results():
    commits = first_parents()
    if not commits:
        pytest.skip("this is no git checkout: ancestry can't be checked")
    stray = [path.name for path in FILES if storage.read(path)["commit_hash"] not in commits]
    assert not stray, "of no first-parent ancestor of main"


@pytest.mark.skipif(not FILES, reason="results/ holds no results yet")
def test_machines_state_what_they_are():
    for folder in {path.parent for path in FILES}:
        machine = json.loads((folder / "machine.json").read_text())
        missing = {"machine", "gpu", "driver", "cuda", "torch", "triton"} - set(machine)
        assert not missing, f"{folder.name}/machine.json lacks {missing}"
        assert machine["machine"] == folder.name
