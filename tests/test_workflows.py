"""A public CI service's workflows, not run here: what they name exists, and they may do little."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
WORKFLOWS = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES]
JOBS = {name: job for workflow in WORKFLOWS for name, job in workflow["jobs"].items()}
OWN = {name: job for name, job in JOBS.items() if "self-hosted" in job["runs-on"]}


def test_their_sessions_are_there():
    text = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
    used = {name for names in re.findall(r"nox -s ([a-z_ ]+)", text) for name in names.split()}
    defined = re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.M)
    assert {"lint", "typecheck", "tests", "site", "compare", "track", "merge"} <= used
    assert used <= set(defined)


def test_every_supported_python_is_tested():
    versions = JOBS["tests"]["strategy"]["matrix"]["python"]
    assert versions == [f"3.{minor}" for minor in range(10, 15)]
    assert f'requires-python = ">={versions[0]}"' in (ROOT / "pyproject.toml").read_text()


def test_actions_are_pinned_by_commit():
    steps = [step for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert steps
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]) for step in steps)


def test_a_machine_of_ones_own_runs_no_forks_code_and_may_only_read():
    assert sorted(OWN) == ["compare", "measure"]
    for job in OWN.values():
        assert job["permissions"] == {"contents": "read"}
        assert job["environment"] == "gpu"
    same = "github.event.pull_request.head.repo.full_name == github.repository"
    assert OWN["compare"]["if"] == f"github.event_name == 'pull_request' && {same}"
    assert OWN["measure"]["if"] == "github.event_name == 'push'"


def test_who_may_write_runs_nothing_of_a_pull_request():
    writing = {n: job for n, job in JOBS.items() if "write" in job["permissions"].values()}
    assert sorted(writing) == ["comment", "offer", "publish"]
    for name in ("comment", "publish"):
        assert not any("checkout" in step.get("uses", "") for step in writing[name]["steps"])
    # After a push: main's own code.
    assert writing["offer"]["needs"] == "measure"
