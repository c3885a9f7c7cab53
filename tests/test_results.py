"""What is stored in ``results/``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv.config import Config

from asv_plugins import storage
from tracking import checks

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for path in (*ROOT.glob("results/*/*.json"), *ROOT.glob("canary/*/*.json"))
    if path.name != "machine.json"
    # Not what somebody measured here and did not store.
    and subprocess.run(
        ["git", "ls-files", "--error-unmatch", str(path)], cwd=ROOT, capture_output=True
    ).returncode
    == 0
)


def branch():
    """What asv publishes the first-parent line of: main, or HEAD where there is no main."""
    known = (name for name in ("main", "origin/main", "HEAD") if first_parents(name))
    return next(known, None)


def first_parents(name):
    command = ["git", "rev-list", "--first-parent", name, "--"]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split())


@pytest.mark.skipif(not FILES, reason="results/ holds no results yet")
def test_stored_results():
    name = branch()
    if name is None:
        pytest.skip("this is no git checkout: ancestry can't be checked")
    commits = first_parents(name)
    stray = [path.name for path in FILES if storage.read(path)["commit_hash"] not in commits]
    assert not stray, "of no first-parent ancestor of main"


@pytest.mark.skipif(not FILES, reason="results/ holds no results yet")
def test_machines_state_what_they_are():
    for folder in {path.parent for path in FILES}:
        machine = json.loads((folder / "machine.json").read_text())
        missing = {"machine", "gpu", "driver", "cuda", "torch", "triton"} - set(machine)
        assert not missing, f"{folder.name}/machine.json lacks {missing}"
        assert machine["machine"] == folder.name


@pytest.mark.skipif(not FILES, reason="results/ holds no results yet")
def test_what_is_stored_passes_the_checks_of_what_is_merged(monkeypatch):
    monkeypatch.chdir(ROOT)
    conf = Config.load("asv.conf.json")
    conf.branches = [branch()]
    if conf.branches == [None]:
        pytest.skip("this is no git checkout: ancestry can't be checked")
    record = checks.Record(conf)
    # A canary's run has a name of its own, and is not merged.
    for path in (path for path in FILES if path.parts[-3] == "results"):
        facts = checks.read_machine(path.with_name("machine.json"), record)
        checks.check_rows(checks.read_results(path, facts, record), record)
