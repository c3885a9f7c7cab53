"""Faults of the record: whatever happens to a file or a run, nothing stored is lost in silence."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv import util
from asv.results import iter_results
from synthetic_results import stored_results

from asv_plugins import storage
from tracking import publish

A, B = "a" * 40, "b" * 40


def store(results, commit=A, machine="box", **more):
    folder = results / machine
    folder.mkdir(exist_ok=True)
    (folder / "machine.json").write_text(json.dumps({"machine": machine, "version": 1}))
    path = folder / f"{commit[:8]}-env.json"
    path.write_text(json.dumps(stored_results(commit, machine, **more)))
    return path


def test_asv_writes_by_this_module():
    assert util.write_json is storage.write_json


def test_a_file_is_written_as_asv_reads_it(tmp_path):
    path = tmp_path / "new" / "x.json"
    for compact in (False, True):
        util.write_json(str(path), {"b": 1, "a": [None]}, api_version=2, compact=compact)
        assert util.load_json(str(path), api_version=2) == {"b": 1, "a": [None]}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_what_fails_midway_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("before")
    with pytest.raises(TypeError):
        storage.write_json(path, {"a": [1] * 9999, "b": object()})
    assert path.read_text() == "before"


IN_A_PROCESS = """
import resource, signal, sys
from asv_plugins import storage
from asv import util
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
{before}
try:
    util.write_json(sys.argv[1], {{"a": list(range(100_000))}}, 1)
except util.UserError as error:
    raise SystemExit(f"refused: {{error}}")
"""


def write_in_a_process(path, before):
    root = Path(__file__).resolve().parents[1]
    code = IN_A_PROCESS.format(before=before)
    command = [sys.executable, "-c", code, str(path)]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def test_a_full_disk_leaves_the_file_as_it_was_and_says_so(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("before")
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))"
    done = write_in_a_process(path, full)
    assert done.returncode == 1
    assert f"refused: {path} was not written, what it held is unchanged" in done.stderr
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert write_in_a_process(path, "").returncode == 0
    assert json.loads(path.read_text())["version"] == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_a_kill_in_the_middle_leaves_the_file_as_it_was(tmp_path):
    results = tmp_path
    path = store(results)
    before = path.read_text()
    kill = "import os; os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)"
    done = write_in_a_process(path, kill)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == before
    # What it left behind is no result.
    assert len(list(path.parent.iterdir())) == 3
    assert storage.problems(results) == []
    assert len(list(iter_results(str(results)))) == 1


def results_with(**changes):
    return {**stored_results(A), **changes}


def row(values, params):
    return {"k": [values, params]}


FAULTS = {
    "half of it": (json.dumps(stored_results(A))[:150], "unreadable"),
    "nothing": ("", "unreadable"),
    "garbage": ("\x00\x01", "unreadable"),
    "no object": ("[1, 2]", "is no object"),
    "a key is missing": (json.dumps({"commit_hash": A}), "lacks env_name"),
    "infinity": (stored_results(A, values=(1.0, float("inf"))), "an infinity"),
    "minus infinity": (stored_results(A, values=(float("-inf"),)), "an infinity"),
    "text": (stored_results(A, values=("fast",)), "'fast' is no number"),
    "truth": (stored_results(A, values=(True,)), "True is no number"),
    "a value is missing": (results_with(results=row([1.0], [["1", "2"]])), "1 values of 2"),
    "of another machine": (results_with(params={"machine": "other"}), "machine 'other' in box/"),
    "of another commit": (results_with(commit_hash=B), "a result of commit bbbbbbbb"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_named_and_kept(tmp_path, fault):
    content, message = FAULTS[fault]
    path = store(tmp_path)
    store(tmp_path, B)
    assert storage.problems(tmp_path) == []
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    before = path.read_bytes()
    (problem,) = storage.problems(tmp_path)
    assert problem.startswith(f"{path}: ")
    assert message in problem
    assert path.read_bytes() == before


def test_not_applicable_and_failed_are_no_faults(tmp_path):
    path = store(tmp_path, values=(float("nan"), None, 1.0))
    stored = json.loads(path.read_text())
    # An interval of few samples is open; what failed altogether is one null.
    stored["result_columns"].append("stats_ci_99_a")
    stored["results"]["k.track"].append([None, None, float("-inf")])
    stored["results"]["k.failed"] = [None, [["1", "2"]]]
    path.write_text(json.dumps(stored))
    assert storage.problems(tmp_path) == []


@pytest.mark.parametrize("content", ["{", "{}", '{"machine": "other"}', None])
def test_a_folder_that_asv_would_skip_is_named(tmp_path, content):
    path = store(tmp_path).with_name("machine.json")
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    (problem,) = storage.problems(tmp_path)
    assert problem.startswith(f"{path}: ")


def test_two_machines_are_merged_by_copying(tmp_path):
    for machine in ("here", "there"):
        for commit in (A, B):
            store(tmp_path, commit, machine)
    assert storage.problems(tmp_path) == []
    found = {(r.params["machine"], r.commit_hash) for r in iter_results(str(tmp_path))}
    assert len(found) == 4


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits with results; then the branch is rewritten, and one of them is on it no more."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "t")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "t@example.org")
    monkeypatch.chdir(tmp_path)

    def git(*arguments):
        done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-qb", "main")
    (tmp_path / "results").mkdir()
    commits = []
    for message in ("one", "two"):
        git("commit", "-q", "--allow-empty", "-m", message)
        commits.append(git("rev-parse", "HEAD"))
        store(tmp_path / "results", commits[-1])
    git("commit", "-q", "--amend", "--allow-empty", "-m", "two, rewritten")
    return tmp_path, commits


def test_results_of_a_rewritten_branch_are_kept_and_named(repository):
    folder, (_, rewritten) = repository
    assert storage.problems(folder / "results") == []
    (line,) = storage.unpublished(folder / "results", "main")
    assert line.endswith(f"commit {rewritten[:10]} is not on main: kept, but not shown")
    with pytest.raises(ValueError, match="gone"):
        storage.unpublished(folder / "results", "gone")


def test_publishing_names_what_it_can_not_show(repository, monkeypatch, capsys):
    folder, (first, rewritten) = repository
    conf = {"version": 1, "project": "p", "repo": ".", "branches": ["main"]}
    conf |= {"results_dir": "results", "html_dir": "html"}
    (folder / "asv.conf.json").write_text(json.dumps(conf))
    ran = []
    monkeypatch.setattr(publish, "publish", ran.append)
    assert publish.main([]) == 0
    assert rewritten[:10] in capsys.readouterr().err
    assert ran == [folder / "html"]
    path = folder / "results" / "box" / f"{first[:8]}-env.json"
    path.write_text(path.read_text()[:99])
    assert publish.main([]) == 2
    assert f"box/{path.name}: unreadable" in capsys.readouterr().err
    assert len(ran) == 1
