"""Shards of a range: every commit is in one of them, and their results are merged by copying."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from hypothesis import given
from hypothesis import strategies as st
from synthetic_results import stored_results

from asv_plugins import storage
from tracking import commits, track

PAGE = Path(__file__).resolve().parents[1] / "docs/shards.md"
# The stand-in of nox: it writes what asv does, a file a commit, here a shard.
NOX = """#!/bin/bash
test "$2" = site && exit 0
test -f "${@: -1}/x.whl" || exit 3
mkdir -p results/here canary/here
echo '{"machine": "here"}' > results/here/machine.json
shard=${@: -3:1}
echo "$HOME" > "results/here/${shard/\\//-}.json"
cp results/here/*-* canary/here/
exit 2
"""
# Their history, and what stands in for asv.
pytest_plugins = ("tracked_history",)


@given(st.lists(st.text("0123456789abcdef", min_size=8), unique=True), st.integers(1, 40))
def test_each_commit_is_in_one_shard(selected, count):
    shards = [track.shard_of(selected, number, count) for number in range(1, count + 1)]
    assert sorted(itertools.chain(*shards)) == sorted(selected)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(shard == sorted(shard, key=selected.index) for shard in shards)


def run_shard(asv_calls, *arguments):
    """Run track; return the commits that asv was given."""
    asv_calls.clear()
    assert track.main(arguments) == 0
    return [commit for _, given in asv_calls for commit in given]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_share_what_one_machine_would_measure(history, asv_calls, count):
    everything = run_shard(asv_calls, "main", "--all")
    shards = [
        run_shard(asv_calls, "main", "--all", "--shard", f"{number}/{count}")
        for number in range(1, count + 1)
    ]
    assert len(everything) == 5
    assert sorted(itertools.chain(*shards)) == sorted(everything)


def test_shards_do_not_depend_on_what_is_measured_meanwhile(history, asv_calls):
    shard = ("main", "--shard", "2/2")
    before = run_shard(asv_calls, *shard)
    Path("results/here").mkdir(parents=True)
    Path("results/here/machine.json").write_text('{"machine": "here"}')
    for commit in run_shard(asv_calls, "main", "--shard", "1/2"):
        path = Path("results/here", f"{commit[:8]}-env.json")
        path.write_text(json.dumps(stored_results(commit, machine="here")))
    assert before == run_shard(asv_calls, *shard) == [history["merge"]]


def test_the_newest_are_shared(history, asv_calls, capsys):
    assert run_shard(asv_calls, "main", "--newest", "2", "--shard", "2/2") == [history["merge"]]
    assert "shard 2 of 2, of 2 commits" in capsys.readouterr().out
    assert run_shard(asv_calls, "main", "--newest", "2", "--shard", "3/3") == []
    assert "no commit to measure" in capsys.readouterr().out


def test_several_ranges_are_measured_once_each(history, asv_calls):
    ranges = (f"{history['code']}^0", "main~1", "main")
    assert run_shard(asv_calls, *ranges) == [history["code"], history["setup"], history["merge"]]


def test_results_of_shards_are_merged_by_copying(history, asv_calls, monkeypatch, tmp_path):
    checkout, merged = Path.cwd(), tmp_path / "merged"
    for number in (1, 2):
        machine = shutil.copytree(checkout, tmp_path / f"machine{number}", symlinks=True)
        monkeypatch.chdir(machine)
        folder = machine / "results/here"
        folder.mkdir(parents=True)
        (folder / "machine.json").write_text('{"machine": "here"}')
        for commit in run_shard(asv_calls, "main", "--shard", f"{number}/2"):
            path = folder / f"{commit[:8]}-env.json"
            path.write_text(json.dumps(stored_results(commit, machine="here")))
            # Nothing that another shard has written is lost.
            assert not (merged / "here" / path.name).exists()
        shutil.copytree(machine / "results", merged, dirs_exist_ok=True)
    assert storage.problems(merged) == []
    assert commits.measured(merged, "here") == set(commits.first_parents("main", code_only=True))


def blocks(language):
    """Return the page's blocks of code."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_calls_track_as_it_is():
    calls = re.findall(r"^.*nox .*-s track -- (.*v0.*)$", PAGE.read_text(), re.MULTILINE)
    assert len(calls) == 3
    for call in calls:
        call = re.sub(r'"\$shard"|\$\{\{ matrix.shard \}\}/4', "1/4", call)
        assert track.parse(shlex.split(call)).ranges == ["v0.1..v0.2"]


def test_the_pages_jobs_of_slurm_are_merged(history, monkeypatch, tmp_path):
    checkout = Path.cwd()
    (tmp_path / "bin").mkdir()
    nox = tmp_path / "bin/nox"
    nox.write_text(NOX)
    nox.chmod(0o755)
    (checkout / "wheels").mkdir()
    (checkout / "wheels/x.whl").touch()
    monkeypatch.setenv("PATH", f"{nox.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_SUBMIT_DIR", str(checkout))
    _, job, merge = blocks("bash")
    (count,) = map(int, re.findall(r"--array=1-(\d+)", job))
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", str(count))
    for number in range(1, count + 1):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number))
        # The status is track's.
        assert subprocess.run(["bash", "-c", job]).returncode == 2
    assert subprocess.run(["bash", "-euc", merge]).returncode == 0
    merged = {path.stem: path.read_text() for path in (checkout / "results/here").glob("*-*.json")}
    assert set(merged) == {f"{number}-{count}" for number in range(1, count + 1)}
    canaries = [path.stem for path in (checkout / "canary/here").glob("*.json")]
    assert sorted(canaries) == sorted(merged)
    # No two had one home folder.
    assert len(set(merged.values())) == count


def test_the_pages_matrix_has_every_shard():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (text,) = blocks("yaml")
    jobs = yaml.safe_load(text)["jobs"]
    shards = jobs["track"]["strategy"]["matrix"]["shard"]
    assert shards == list(range(1, len(shards) + 1))
    uploaded = [step["with"]["path"] for step in jobs["track"]["steps"] if "if" in step]
    assert uploaded == ["results\ncanary\n"]
    (command,) = (step["run"] for step in jobs["track"]["steps"] if "run" in step)
    assert command.endswith(f"--shard ${{{{ matrix.shard }}}}/{len(shards)}")
