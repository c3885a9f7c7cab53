"""The asv plugin, end to end on a project of two files, without torch and without a network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")
pytest.importorskip("virtualenv", reason="virtualenv is not installed")

from asv.config import Config
from asv.repo import get_repo
from asv.util import ProcessError

from asv_plugins import lock, storage
from asv_plugins.environment import the_environment
from tracking import canary

pytest_plugins = ("build_environment",)

ROOT = Path(__file__).resolve().parents[1]
SETUP = "from setuptools import setup\nsetup(name='toy', version='1', py_modules=['toy'])\n"
BENCHMARKS = """
import os, signal, time


class Value:
    version = "1"
    def track_value(self):
        import toy
        return toy.VALUE

    def track_crash(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def track_hang(self):
        time.sleep(60)
    track_hang.timeout = 1


class Cached:
    version = "1"
    def setup_cache(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def track_cached(self, cache):
        return cache


class HangingCache:
    version = "1"
    def setup_cache(self):
        time.sleep(60)
    setup_cache.timeout = 1

    def track_hanging_cache(self, cache):
        return cache
"""


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    command = ["git", *identity, *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def commit(folder, files):
    for name, text in files.items():
        Path(folder, name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "change")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository with a commit that works, one that does not build, and one that works."""
    folder = tmp_path_factory.mktemp("toy")
    git(folder, "init", "-qb", "main")
    shutil.copytree(ROOT / "asv_plugins", folder / "asv_plugins")
    conf = "\n".join(
        line
        for line in (ROOT / "asv.conf.json").read_text().splitlines()
        if not line.lstrip().startswith("//")
    )
    conf = json.loads(conf)
    conf.update(project="toy", benchmark_dir="benchmarks", matrix={}, regressions_thresholds={})
    conf["plugins"] = [".asv_plugins.environment", ".asv_plugins.storage"]
    (folder / "asv.conf.json").write_text(json.dumps(conf))
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks/__init__.py").touch()
    (folder / "benchmarks/value.py").write_text(BENCHMARKS)
    (folder / ".gitignore").write_text("/*\n!/setup.py\n!/toy.py\n")
    hashes = [
        commit(folder, {"setup.py": SETUP, "toy.py": "VALUE = 1\n"}),
        commit(folder, {"setup.py": "raise SystemExit('broken')\n"}),
        commit(folder, {"setup.py": SETUP, "toy.py": "VALUE = 3\n"}),
    ]
    # The host holds an installed toy too: it must not be the one that is measured.
    host = folder / "host"
    (host / "toy-9.dist-info").mkdir(parents=True)
    (host / "toy-9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 9\n")
    (host / "toy.py").write_text("VALUE = 9\n")
    return folder, hashes


def call(folder, *arguments):
    env = {**os.environ, "HOME": str(folder), "PIP_NO_INDEX": "1", "PTGQ_CUDA": "0"}
    # In folders of this test: pip would be compiled at each call.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env["PYTHONPATH"] = os.pathsep.join([str(folder / "host"), os.environ.get("PYTHONPATH", "")])
    return {"args": [sys.executable, "-m", "asv", *arguments], "cwd": folder, "env": env}


def asv(folder, *arguments):
    return subprocess.run(**call(folder, *arguments), capture_output=True, text=True, timeout=300)


def stored(folder, commit):
    (path,) = folder.glob(f"results/here/{commit[:8]}-*.json")
    results = json.loads(path.read_text())["results"]
    return {name.rpartition(".")[2]: columns[0] for name, columns in results.items()}


def test_the_project_has_its_own_commits(project):
    folder, hashes = project
    assert git(folder, "rev-list", "--reverse", "main").split() == hashes


def test_a_range_is_built_and_measured_and_failures_are_on_the_record(project):
    folder, hashes = project
    assert asv(folder, "machine", "--yes", "--machine", "here").returncode == 0
    (folder / "commits").write_text("\n".join(hashes))
    run = asv(folder, "run", "HASHFILE:commits", "--machine", "here")
    assert run.returncode == 2, run.stdout + run.stderr
    # The crash, the hang and the dead cache take nothing with them, and are not missing.
    names = ("track_crash", "track_hang", "track_cached", "track_hanging_cache")
    failed = {name: [None] for name in names}
    # asv stores a list of failures alone as one null.
    for commit, value in ((hashes[0], [1]), (hashes[2], [3])):
        found = stored(folder, commit)
        assert found.pop("track_value") == value
        assert {name: values or [None] for name, values in found.items()} == failed
    broken = stored(folder, hashes[1])
    assert set(broken) == {"track_value", *failed}
    assert all(not values or values == [None] for values in broken.values())

    # Again: the wheels are kept, so nothing is built.
    assert f"Building {hashes[0][:8]}" in run.stdout
    one = ("run", f"{hashes[0]}^!", "--machine", "here", "--bench", "track_value")
    again = asv(folder, *one)
    assert f"Installing {hashes[0][:8]}" in again.stdout
    assert f"Building {hashes[0][:8]}" not in again.stdout
    assert stored(folder, hashes[0])["track_value"] == [1]


def test_a_run_that_is_killed_loses_nothing_and_the_next_one_goes_on(project):
    folder, hashes = project
    shutil.rmtree(folder / "results")
    (folder / "commits").write_text("\n".join((hashes[0], hashes[2])))
    command = ("run", "HASHFILE:commits", "--machine", "here", "--skip-existing-successful")
    command += ("--bench", "track_(value|crash)")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(**call(folder, *command), **quiet, start_new_session=True)
    end = time.monotonic() + 200
    while not list(folder.glob("results/here/*-*.json")) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL
    assert storage.problems(folder / "results") == []
    (first,) = folder.glob("results/here/*-*.json")
    kept = json.loads(first.read_text())["results"]["value.Value.track_value"]

    again = asv(folder, *command)
    assert again.returncode == 2, again.stdout + again.stderr
    assert stored(folder, hashes[0])["track_value"] == [1]
    assert stored(folder, hashes[2])["track_value"] == [3]
    # What succeeded before the kill was not measured again.
    assert json.loads(first.read_text())["results"]["value.Value.track_value"] == kept


@pytest.fixture
def inside(project, monkeypatch):
    """The project's commits, with its folder as this process's; what that locks is released."""
    folder, hashes = project
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    # As the runs have it, or the environment would be made anew: setuptools adds its own packages.
    others = [path for path in sys.path if not path.endswith("_vendor")]
    monkeypatch.setattr(sys, "path", [str(folder / "host"), *others])
    yield hashes
    for path in folder.glob(".asv/env/*.lock"):
        lock.release(path)


def test_the_canary_is_built_once_and_each_run_is_kept(inside, monkeypatch, capfd):
    folder, hashes = Path.cwd(), inside
    monkeypatch.setattr(canary, "COMMIT", hashes[0])
    monkeypatch.setattr(canary, "WITHOUT_GPU", ("track_value",))
    assert asv(folder, "machine", "--yes", "--machine", "here").returncode == 0
    before = {path: path.read_bytes() for path in folder.glob("results/**/*.json")}
    environment = call(folder)["env"]
    paths = [canary.measure("here", False, environment) for _ in range(2)]
    assert capfd.readouterr().out.count(f"Building {hashes[0][:8]}") <= 1
    assert storage.problems(folder / "canary") == []
    assert sorted(paths) == storage.result_files(folder / "canary")
    for path in paths:
        stored = json.loads(path.read_text())
        assert stored["results"]["value.Value.track_value"][0] == [1]
        assert stored["toolchain"]["python"]
    # asv's own results are as they were.
    assert {path: path.read_bytes() for path in folder.glob("results/**/*.json")} == before
    # The broken commit: asv stores that it failed, which is no run.
    monkeypatch.setattr(canary, "COMMIT", hashes[1])
    assert canary.measure("here", False, environment) is None
    assert sorted(paths) == storage.result_files(folder / "canary")


def test_what_is_installed_alternates_as_rounds_do(inside, built_with, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "bytecode"))
    conf = Config.load("asv.conf.json")
    environment = the_environment(conf)
    environment.create()
    code = "import toy; print(toy.VALUE)"
    for commit, value in ((inside[0], 1), (inside[2], 3), (inside[2], 3), (inside[0], 1)):
        environment.install_project(conf, get_repo(conf), commit)
        # As if all were installed within one second: bytecode is known by that, and the size.
        (source,) = Path(environment._path).glob("lib/*/site-packages/toy.py")
        os.utime(source, (1, 1))
        assert environment.run(["-I", "-c", code]).split() == [str(value)]
    # On other packages it would be another environment.
    assert environment.check_presence()
    (tmp_path / "other-1.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not environment.check_presence()


# After those that use the wheels: it leaves none.
def test_wheels_are_built_once_and_kept(inside, built_with, monkeypatch, caplog):
    hashes = inside
    conf = Config.load("asv.conf.json")
    environment = the_environment(conf)
    environment.create()
    repo = get_repo(conf)
    (wheel,) = environment.wheels(repo, hashes[2:3])
    assert zipfile.ZipFile(wheel).read("toy.py") == b"VALUE = 3\n"
    built = wheel.stat().st_mtime_ns
    assert environment.wheels(repo, hashes[2:3])[0].stat().st_mtime_ns == built
    # Installed, but no longer kept.
    environment._set_installed_commit_hash(hashes[2])
    shutil.rmtree(wheel.parent)
    assert environment.wheels(repo, hashes[2:3]) == [wheel]
    assert environment.installed_commit_hash is None
    environment._set_installed_commit_hash(hashes[2])

    # Another run, in which all is as before, uses what is installed.
    environment = the_environment(conf)
    environment.create()
    assert environment.installed_commit_hash == hashes[2]
    assert not caplog.messages
    # Then one with other flags: neither what is installed nor the wheel is its own.
    built_with(CFLAGS="-g")
    environment = the_environment(conf)
    environment.create()
    assert environment.installed_commit_hash is None
    expected = f"The wheel of {hashes[2][:8]} is of another toolchain: CFLAGS was None, is -g"
    assert caplog.messages == [expected]
    assert not wheel.exists()
    # Side by side, each its own; what is built is kept although another is not.
    with pytest.raises(ProcessError, match="pip"):
        environment.wheels(repo, hashes)
    monkeypatch.setattr(type(environment), "_build", None)
    found = [
        zipfile.ZipFile(wheel).read("toy.py") for wheel in environment.wheels(repo, hashes[::2])
    ]
    assert found == [b"VALUE = 1\n", b"VALUE = 3\n"]


def test_a_run_beside_another_is_refused_in_one_line(inside):
    folder, hashes = Path.cwd(), inside
    environment = the_environment(Config.load("asv.conf.json"))
    environment.reserve()
    assert asv(folder, "machine", "--yes", "--machine", "here").returncode == 0
    before = {path: path.read_bytes() for path in folder.glob("results/here/*-*.json")}
    for command in (("run", f"{hashes[0]}^!"), ("find", "main", "track_value")):
        run = asv(folder, *command, "--machine", "here")
        assert run.returncode == 2, run.stdout + run.stderr
        assert f"in use by process {os.getpid()} on " in run.stdout.splitlines()[-1]
    assert {path: path.read_bytes() for path in folder.glob("results/here/*-*.json")} == before
