"""A repository whose commits the tracking commands choose from, and what stands in for asv."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tracking import machine, wheels

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def made_history(tmp_path_factory):
    """Make the repository, once."""
    folder = tmp_path_factory.mktemp("history")
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")

    def git(*arguments):
        command = ["git", "-C", str(folder), *identity, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(name):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write("x\n")
        git("add", "-A")
        git("commit", "-qm", name)
        return git("rev-parse", "HEAD")

    git("init", "-qb", "main")
    lines = (ROOT / "asv.conf.json").read_text().splitlines()
    conf = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    conf["benchmark_dir"] = str(ROOT / conf["benchmark_dir"])
    (folder / "asv.conf.json").write_text(json.dumps(conf))
    (folder / ".gitignore").write_text("/*\n!/csrc\n!/ptgq\n!/setup.py\n!/README.md\n")
    found = {"code": commit("csrc/kernel.cu"), "page": commit("README.md")}
    git("checkout", "-qb", "side")
    found["side"] = commit("ptgq/api.py")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "merge", "side")
    found["merge"] = git("rev-parse", "HEAD")
    found["setup"] = commit("setup.py")
    found["last"] = commit("README.md")
    return folder, found


@pytest.fixture
def history(made_history, tmp_path, monkeypatch):
    """A repository: code, a page, code on a side branch that is merged, code, a page."""
    folder, found = made_history
    monkeypatch.chdir(shutil.copytree(folder, tmp_path, dirs_exist_ok=True))
    return found


@pytest.fixture
def asv_calls(monkeypatch):
    """Replace asv and this machine; return the calls of asv, each with the commits it was given."""
    real = subprocess.run

    def run(command, **options):
        if command[1:3] != ["-m", "asv"]:
            return real(command, **options)
        hashes = [part for part in command if part.startswith("HASHFILE:")]
        given = [Path(part.removeprefix("HASHFILE:")).read_text().split() for part in hashes]
        calls.append((command, *given))
        if given:
            calls.env = options["env"]
            assert calls.env["PTGQ_MEASURED_DEVICE"] == "cpu"
        return SimpleNamespace(returncode=calls.status)

    class Calls(list):
        status = 0

    calls = Calls()
    calls.ahead = []
    monkeypatch.setattr(wheels, "build_ahead", lambda conf, commits: calls.ahead.append(commits))
    facts = {"machine": "here", "gpu": "none", "cpu": "some CPU", "torch": "2.13.0"}
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(machine, "identify", lambda name: {**facts, "machine": name or "here"})
    monkeypatch.setattr(machine, "facts", lambda: facts)
    monkeypatch.setattr(machine, "register", lambda facts: None)
    return calls
