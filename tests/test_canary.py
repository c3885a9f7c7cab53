"""The canary: when it is measured, where its runs are kept, and what they say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("asv", reason="asv is not installed")

import synthetic_results

from asv_plugins import storage
from asv_plugins.canary import differing, folder_of, moved, read, runs, series
from tracking import canary, commits, track, wheels

# Their history, and what stands in for asv.
pytest_plugins = ("tracked_history",)


def test_it_is_a_commit_of_this_repository():
    root = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "rev-list", "--first-parent", "HEAD", "--"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or (root / ".git/shallow").exists():
        pytest.skip("this is no whole git checkout")
    assert canary.COMMIT in done.stdout.split()


def test_runs_tell_how_far_it_moved_and_what_else_did(tmp_path):
    write = synthetic_results.write_canary
    write(tmp_path, 3, 1.1, {"nvcc": "13.1"}, driver="590.1", ram=str(2**37))
    write(tmp_path, 1)
    write(tmp_path, 2, 0.9)
    write(tmp_path, 4, 9.0, machine="another")
    found = runs(tmp_path, "h200")
    assert [run.date for run in found] == [86_400, 172_800, 259_200]
    # What is n/a is no row.
    assert found[0].rows == {
        "timed.Kernels.time 1('a')": 1e-6,
        "timed.Kernels.time 1('c')": 3e-6,
    }
    assert moved(found[:1], found[2]) == {"timed.Kernels": pytest.approx(0.1)}
    assert moved(found[:2], found[2]) == {"timed.Kernels": pytest.approx(1.1 / 0.95 - 1)}
    assert moved([], found[0]) == {}
    assert differing(found[0], found[1]) == []
    assert differing(found[1], found[2]) == [
        "driver was 580.95, is 590.1",
        "ram was 252 GiB, is 128 GiB",
        "built with nvcc was 13.0, is 13.1",
    ]
    told = series(tmp_path, "h200")
    assert told["commit"] == "c" * 40
    assert told["environment"]["driver"] == "590.1"
    assert [run["moved"] for run in told["runs"][:2]] == [
        {},
        {"timed.Kernels": pytest.approx(-0.1)},
    ]
    assert [len(run["differs"]) for run in told["runs"]] == [0, 0, 3]
    assert series(tmp_path, "elsewhere") is None


def test_another_canary_and_another_version_begin_anew(tmp_path):
    write = synthetic_results.write_canary
    path = write(tmp_path, 2)
    other = json.loads(path.read_text())
    other["commit_hash"] = "d" * 40
    path.with_name("dddddddd-env.json").write_text(json.dumps(other))
    path.unlink()
    write(tmp_path, 1)
    (run,) = runs(tmp_path, "h200")
    assert run.commit == "d" * 40
    again = json.loads(json.dumps(other))
    again["results"]["timed.Kernels.time"][2] = "2"
    path.with_name("dddddddd-env-2.json").write_text(json.dumps(again))
    assert moved([run], read(path.with_name("dddddddd-env-2.json"))) == {}


@pytest.fixture
def measured(history, asv_calls, monkeypatch):
    """Let the stand-in of asv store a run of the canary; what it gives is how slow it is next."""
    monkeypatch.setattr(canary, "COMMIT", history["code"])
    state = SimpleNamespace(factor=1.0, calls=asv_calls, day=1)
    stand_in = subprocess.run

    def run(command, **options):
        if "--config" in command:
            conf = Path(command[command.index("--config") + 1])
            settings = json.loads(conf.read_text())
            assert [Path(settings[name]).is_absolute() for name in canary.PLACES] == [True] * 3
            assert f"{canary.COMMIT}^!" in command
            if state.factor is not None:
                folder = Path(settings["results_dir"])
                path = synthetic_results.write_canary(
                    folder, state.day, state.factor, machine="here"
                )
                stored = json.loads(path.read_text()) | {"commit_hash": canary.COMMIT}
                path.unlink()
                path.with_name(f"{canary.COMMIT[:8]}-env.json").write_text(json.dumps(stored))
                state.day += 1
        return stand_in(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    return state


def kept():
    return storage.result_files(folder_of("results"))


def test_every_run_measures_it_first_and_says_how_it_moved(measured, capsys):
    assert track.main(["main"]) == 0
    # Its call, then that of the range.
    assert [len(call) for call in measured.calls] == [1, 2]
    short = canary.COMMIT[:10]
    said = f"canary {short}: 2 rows, the first run on this machine"
    assert capsys.readouterr().out.splitlines()[-1] == said
    measured.factor = 1.03
    assert track.main(["main"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"canary {short}: timed.Kernels +3.0% against 1 before; changed since the last: nothing"
    )
    assert len(kept()) == 2
    assert storage.problems(folder_of("results")) == []
    # Nothing of it is among asv's own results.
    assert not list(Path("results").rglob("*.json"))


def test_shards_that_begin_together_write_files_of_their_own(measured):
    for number, factor in enumerate((1.0, 1.01), 1):
        measured.factor, measured.day = factor, 1
        assert track.main(["main", "--shard", f"{number}/2"]) == 0
    assert len(kept()) == 2


@pytest.mark.parametrize("option", ["--no-canary", "--quick"])
def test_it_can_be_left_out(measured, option):
    assert track.main(["main", option]) == 0
    assert [len(call) for call in measured.calls] == [2]
    assert kept() == []


def test_a_canary_that_failed_is_a_failure(measured, capsys):
    measured.factor = None
    assert track.main(["main"]) == 2
    assert capsys.readouterr().out.splitlines()[-1] == f"canary {canary.COMMIT[:10]}: failed"
    assert kept() == []


def test_a_clone_without_it_measures_the_rest(history, asv_calls, capsys):
    assert track.main(["main"]) == 0
    said = f"canary {canary.COMMIT[:10]}: not measured: '{canary.COMMIT}' names no commit: "
    assert said in capsys.readouterr().out
    assert len(asv_calls) == 1


def test_a_truncated_run_stops_before_measuring(measured, capsys):
    assert track.main(["main"]) == 0
    (path,) = kept()
    path.write_text(path.read_text()[:100])
    assert track.main(["main"]) == 2
    assert str(path) in capsys.readouterr().err


def test_its_wheel_is_built_with_the_others(measured, history, monkeypatch):
    built = []
    monkeypatch.setattr(
        wheels, "build", lambda conf, selected, folder: built.append((selected, folder)) or 0
    )
    newest = (f"{history['setup']}^!", "--build-only", "--wheels", "there")
    assert track.main(newest) == 0
    assert track.main([*newest, "--no-canary"]) == 0
    assert track.main(["main", "--build-only", "--wheels", "there"]) == 0
    everything = commits.first_parents("main", code_only=True)
    assert built == [
        ([history["setup"], history["code"]], Path("there")),
        ([history["setup"]], Path("there")),
        (everything, Path("there")),
    ]
    assert measured.calls == []
