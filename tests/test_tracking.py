"""The tracking commands: which commits, which call of asv, and what of a run is compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from synthetic_results import stored_results

from tracking import commits, machine, track

# Their history, and what stands in for asv.
pytest_plugins = ("tracked_history",)


def store(commit, name="here"):
    folder = Path("results", name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_text(json.dumps({"machine": name}))
    path = folder / f"{commit[:8]}-env.json"
    path.write_text(json.dumps(stored_results(commit, machine=name)))
    return path


def test_commits_that_touch_code_on_the_first_parent_line(history):
    assert commits.first_parents("main", code_only=True) == [
        history["setup"],
        history["merge"],
        history["code"],
    ]
    assert history["side"] not in commits.first_parents("main", code_only=False)
    assert commits.first_parents(f"{history['merge']}..main", code_only=True) == [history["setup"]]
    with pytest.raises(ValueError, match="no-such-branch"):
        commits.first_parents("no-such-branch", code_only=True)


def test_without_results_the_newest_code_commits_are_measured(history):
    found = commits.since_last_measured(Path("results"), "here", code_only=True)
    assert found == [history["setup"], history["merge"]]


def test_only_what_came_after_the_last_measured_commit(history):
    store(history["code"])
    store(history["setup"], name="elsewhere")
    store("0" * 40)  # of a branch that is gone
    found = commits.since_last_measured(Path("results"), "here", code_only=True)
    assert found == [history["setup"], history["merge"]]
    store(history["setup"])
    assert commits.since_last_measured(Path("results"), "here", code_only=True) == []
    found = commits.since_last_measured(Path("results"), "here", code_only=False)
    assert found == [history["last"]]


def test_what_was_measured_beside_others_alone_is_measured_all_the_same(history):
    store(history["code"])
    path = store(history["setup"])
    only = json.loads(path.read_text())
    only["results"] = {"peers.Peers.track_time": only["results"].popitem()[1]}
    path.write_text(json.dumps(only))
    found = commits.since_last_measured(Path("results"), "here", code_only=True)
    assert found == [history["setup"], history["merge"]]


def test_a_truncated_result_stops_before_measuring(history, asv_calls, capsys):
    path = store(history["code"])
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    assert run_main(asv_calls) == (2, [])
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == whole[: len(whole) // 2]
    path.write_text(whole)
    assert run_main(asv_calls)[0] == 0


def call(*arguments, has_gpu=True):
    options = track.parse(arguments)
    rows = options.bench or [track.BENCHMARKS[has_gpu]]
    return track.command(options, "here", Path("commits"), rows)


def test_quick_never_saves():
    assert {"--quick", "--dry-run"} <= set(call("--quick"))
    assert not {"--quick", "--dry-run"} & set(call())


def test_a_dry_run_measures_as_always_also_what_is_stored():
    given, usual = call("--dry-run"), call()
    saves = {"--skip-existing-successful", "--record-samples"}
    assert {*usual} - {*given} == saves
    assert {*given} - {*usual} == {"--dry-run"}


@pytest.mark.parametrize("before", [None, "{}"])
def test_a_dry_run_leaves_the_list_of_benchmarks(history, asv_calls, monkeypatch, before):
    path = Path("results", "benchmarks.json")
    if before is not None:
        path.parent.mkdir()
        path.write_text(before)

    fake = subprocess.run

    def run(command, **options):
        if command[1:3] == ["-m", "asv"]:
            path.parent.mkdir(exist_ok=True)
            path.write_text("of the working tree")
        return fake(command, **options)

    monkeypatch.setattr(subprocess, "run", run)
    for arguments in (["--dry-run"], ["--quick"], ["--no-canary"]):
        assert track.main(["main", *arguments]) == 0
        kept = path.read_text() if path.exists() else None
        assert kept == ("of the working tree" if arguments == ["--no-canary"] else before)


def test_single_samples_are_kept():
    assert "--record-samples" in call()


def test_benchmarks_are_chosen():
    assert call("--bench", "a", "--bench", "b")[-5:-1] == ["--bench", "a", "--bench", "b"]
    for has_gpu in (False, True):
        assert call(has_gpu=has_gpu)[-3:-1] == ["--bench", track.BENCHMARKS[has_gpu]]
        assert track.BENCHMARKS[has_gpu] not in call("--bench", "a", has_gpu=has_gpu)
    names = ("kernel_time.A.b", "timed.Kernels.c", "cpu_time.D.e", "call_latency.F.g", "peers.H.i",
             "beside_gemm.Kernels.j", "masked_rows.K.l", "beside_gemm.Bytes.m")  # fmt: skip
    found = {has: [n for n in names if re.match(track.BENCHMARKS[has], n)] for has in (True, False)}
    both = [names[3], names[7]]
    on_gpu = [*names[:2], names[3], *names[5:]]
    assert found == {True: on_gpu, False: [names[2], *both]}


FACTS = {"machine": "here", "gpu": "none", "cpu": "some CPU", "torch": "2.13.0"}


def run_main(asv_calls, *arguments):
    """Run track; return its status and the commits that asv was given."""
    status = track.main(arguments)
    return status, [commit for _, given in asv_calls for commit in given]


@pytest.mark.parametrize("status", [0, 2])
def test_the_status_is_asvs(history, asv_calls, status):
    asv_calls.status = status
    expected = [history["setup"], history["merge"], history["code"]]
    assert run_main(asv_calls, "main") == (status, expected)


def test_torch_is_imported_for_what_asv_times(history, asv_calls):
    for bench, wanted in (((), "1"), (("--bench", "footprint"), "0"), (("--bench", "Calls"), "1")):
        assert run_main(asv_calls, "main", *bench)[0] == 0
        assert asv_calls.env["PTGQ_IMPORT_TORCH"] == wanted


@pytest.mark.parametrize(
    ("bench", "wanted"),
    [
        ((r"^(?!cpu_time\.)",), {False: [1, 2], True: [0]}),
        (("footprint",), {False: [2]}),
        (("Calls",), {True: [0]}),
        (("^timed", "^foot", "_call$"), {False: [2, 3], True: [0]}),
        (("(?i)calls|FOOT",), {False: [2], True: [0]}),
    ],
)
def test_with_a_gpu_rows_that_asv_times_are_a_run_of_their_own(history, bench, wanted):
    names = (
        "timed.Calls.time_default_shapes",
        "kernel_time.KernelTime.track_variants",
        "footprint.Library.track_bytes",
        "cpu_time.CallTime.track_call",
    )
    found = {}
    for rows, imports in track.runs_of(bench, has_gpu=True):
        matches = [n for n, name in enumerate(names) if any(re.search(row, name) for row in rows)]
        found[imports] = matches
    assert found == wanted
    assert len(track.runs_of(bench, has_gpu=False)) == 1


def test_only_the_newest_are_measured_on_request(history, asv_calls, capsys):
    newest = [history["setup"], history["merge"]]
    assert run_main(asv_calls, "main", "--newest", "2") == (0, newest)
    assert "1 older commits are left" in capsys.readouterr().out
    assert run_main(asv_calls, "main", "--newest", "9")[1][-1] == history["code"]


def test_all_but_the_newest_are_measured_on_fewer_rows(history, asv_calls):
    older = ("--older", "accuracy", "--older", "cpu_time")
    assert run_main(asv_calls, "main", *older)[0] == 0
    (newest, of_newest), (before, of_older) = asv_calls
    assert of_newest == [history["setup"]]
    assert of_older == [history["merge"], history["code"]]
    assert [part for part in newest if "cpu_time" in part] == []
    patterns = [before[at + 1] for at, part in enumerate(before) if part == "--bench"]
    found = [
        [name for name in ("accuracy.A.track_a", "timed.Kernels.cpu_time") if re.search(one, name)]
        for one in patterns
    ]
    assert found == [["accuracy.A.track_a"], []]
    asv_calls.clear()
    assert run_main(asv_calls, "main", "--newest", "1", *older) == (0, [history["setup"]])
    asv_calls.clear()
    asv_calls.status = 2
    assert run_main(asv_calls, "main", *older)[0] == 2


def test_forms_of_other_implementations_are_checked_before(history, asv_calls, monkeypatch):
    monkeypatch.setenv("PTGQ_PEERS_VARIANTS", "int4")
    assert run_main(asv_calls, "main", "--bench", "peers") == (2, [])


def test_results_that_cannot_be_written_are_said_before(history, asv_calls, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert run_main(asv_calls, "main") == (2, [])
    folder = Path.cwd()
    message = f"{folder} can't be written: there is no place for results"
    assert capsys.readouterr().err == f"track: error: {message}\n"
    # What saves nothing needs none.
    assert run_main(asv_calls, "main", "--quick")[0] == 0


def test_nothing_new_is_fine(history, asv_calls, capsys):
    store(history["last"])
    assert run_main(asv_calls) == (0, [])
    assert "no commit to measure" in capsys.readouterr().out


def test_environment_of_asv_is_left_alone(history, asv_calls):
    before = dict(os.environ)
    run_main(asv_calls, "main")
    assert dict(os.environ) == before


def test_nothing_is_measured_under_the_name_of_another_processor(
    history, asv_calls, monkeypatch, capsys
):
    monkeypatch.setattr(machine, "problems", lambda facts: ["another name is needed"])
    assert run_main(asv_calls, "main") == (2, [])
    assert capsys.readouterr().err == "track: error: another name is needed\n"
    assert run_main(asv_calls, "main", "--quick")[0] == 0
