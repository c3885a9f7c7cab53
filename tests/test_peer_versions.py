"""Each number of another implementation is stored with its version, through every way it takes."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import peers as implementations
import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv import util
from asv.results import Results
from exchanged_results import ENVIRONMENT, FACTS, REQUIREMENTS, benchmark, make

from asv_plugins import peer_versions, record, storage
from asv_plugins.series import load
from tracking import merge

NAMES = ("torch-eager", "sglang", "vllm")
TIME = "peers.Peers.track_time"
BENCHMARK = benchmark(TIME, "seconds", [f"'{n}'" for n in ("ptgq", *NAMES)], ["16", "32"])
COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """What is installed, by name; a test changes it."""
    versions = {"torch-eager": "2.13.0", "sglang": "0.5.23"}
    monkeypatch.setattr(implementations, "NAMES", NAMES)
    monkeypatch.setattr("benchmarks.peers.NAMES", NAMES)
    monkeypatch.setattr("benchmarks.peers.version_of", lambda name: versions.get(name, ""))
    monkeypatch.setattr(peer_versions.time, "strftime", lambda form: versions.get("today", "day 1"))
    return versions


def results_of(commit=COMMIT, date=1, **times):
    """Return results with these times of an implementation, 1 of others that are installed."""
    made = Results({**FACTS, "python": "3.11"}, REQUIREMENTS, commit, date, "3.11", ENVIRONMENT, {})
    samples = []
    for name in ("ptgq", *NAMES):
        value = times.get(name.replace("-", "_"), None if name == "vllm" else 1e-6)
        samples += [value and [value, value * 1.5, value * 1.25]] * 2
    measured = SimpleNamespace(
        result=[0 if sample else math.nan for sample in samples],
        samples=samples,
        number=[1 if sample else None for sample in samples],
        stderr="",
        errcode=0,
        profile=None,
    )
    made.add_result(BENCHMARK, measured, record_samples=True)
    return made


def store(folder, **times):
    made = results_of(**times)
    made.save(str(folder))
    return folder / made._filename


def test_the_plugin_writes_versions_and_why_others_have_none(tmp_path):
    path = store(tmp_path)
    assert peer_versions.read(path) == {
        "torch-eager": {"version": "2.13.0", "measured": "day 1"},
        "sglang": {"version": "0.5.23", "measured": "day 1"},
        "vllm": {"missing": "not installed"},
    }
    # asv reads nothing but its own.
    assert {one.suffix for one in path.parent.iterdir()} == {".json", ".peers"}
    util.write_json(str(path.parent / "machine.json"), FACTS, 1)
    assert storage.problems(tmp_path) == []


def test_measuring_one_again_replaces_what_is_said_of_it_alone(tmp_path, installed):
    store(tmp_path)
    installed |= {"sglang": "0.6.0", "torch-eager": "2.14.0", "today": "day 2"}
    # The same numbers, stored again with another benchmark's: of the version that gave them.
    path = store(tmp_path)
    assert peer_versions.read(path)["sglang"] == {"version": "0.5.23", "measured": "day 1"}
    path = store(tmp_path, sglang=2e-6)
    assert peer_versions.read(path)["sglang"] == {"version": "0.6.0", "measured": "day 2"}
    assert peer_versions.read(path)["torch-eager"] == {"version": "2.13.0", "measured": "day 1"}


def test_what_is_installed_and_gives_no_number_is_said(tmp_path, installed):
    installed["vllm"] = "0.33.0"
    known = peer_versions.read(store(tmp_path))
    assert known["vllm"] == {"missing": "0.33.0 is installed, and gave no number"}


def test_other_results_have_no_such_file(tmp_path):
    folder = make(tmp_path)
    assert list(folder.rglob("*.json"))
    assert list(folder.rglob("*.peers")) == []


def test_the_site_gets_what_was_measured_last(tmp_path):
    old, new = "a" * 40, "b" * 40
    for commit, date in ((old, 1), (new, 2)):
        results_of(commit, date).save(str(tmp_path))
    util.write_json(str(tmp_path / FACTS["machine"] / "machine.json"), FACTS, 1)
    order = {old: 0, new: 1}
    (series,) = load(str(tmp_path), order, {TIME: BENCHMARK})
    found = peer_versions.newest(series.commits, str(tmp_path), order)
    assert found["commit"] == 1
    assert found["known"]["sglang"]["version"] == "0.5.23"
    assert set(found["then"]) == {0, 1}


def test_a_row_that_the_newest_run_left_out_keeps_its_older_number(tmp_path):
    old, new = "a" * 40, "b" * 40
    results_of(old, 1, sglang=2e-6).save(str(tmp_path))
    results_of(new, 2, sglang=None, ptgq=3e-6).save(str(tmp_path))
    util.write_json(str(tmp_path / FACTS["machine"] / "machine.json"), FACTS, 1)
    order = {old: 0, new: 1}
    (series,) = load(str(tmp_path), order, {TIME: BENCHMARK})
    shown = record.snapshot(series, order, {TIME: BENCHMARK}, {})
    own, _, eager, _, sglang, other, *vllm = shown["cells"][TIME]
    assert [cell[0][0] for cell in (own, eager, sglang, other)] == [
        3.75e-6,
        1.25e-6,
        2.5e-6,
        2.5e-6,
    ]
    assert vllm == ["n/a", "n/a"]
    assert shown["kept"][TIME] == {4: 0, 5: 0}


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A folder of results to be merged into a repository, which is the current one."""
    folder = make(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    path = next(folder.glob("*/*-*.json"))
    known = json.loads(path.read_text())
    made = results_of(known["commit_hash"], known["date"])
    made._started_at[TIME] = max(
        row[known["result_columns"].index("started_at")] for row in known["results"].values()
    )
    benchmarks = util.load_json("results/benchmarks.json", api_version=2)
    util.write_json("results/benchmarks.json", {**benchmarks, TIME: BENCHMARK}, 2)
    shutil.rmtree(path.parent)
    made.save(str(folder))
    util.write_json(str(path.parent / "machine.json"), FACTS, 1)
    return folder / made._filename


def test_versions_are_merged_with_their_numbers(theirs, installed, capsys):
    # Here is another version.
    installed["sglang"] = "0.7.0"
    assert merge.main([str(theirs.parents[1])]) == 0, capsys.readouterr().err
    (stored,) = merge.RESULTS.rglob("*.peers")
    assert stored.read_text() == peer_versions.beside(theirs).read_text()
    assert json.loads(stored.read_text())["sglang"]["version"] == "0.5.23"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "numbers of torch-eager, whose version"),
        ('{"torch-eager": {"version": "2"}}', "numbers of sglang, whose version"),
        ("{", "unreadable"),
        ('{"sglang": {"version": 5}}', "holds more than names and texts"),
    ],
)
def test_numbers_of_no_known_version_are_not_merged(theirs, capsys, text, said):
    beside = peer_versions.beside(theirs)
    beside.unlink() if text is None else beside.write_text(text)
    assert merge.main([str(theirs.parents[1])]) == 2
    assert said in capsys.readouterr().err
    assert list(merge.RESULTS.rglob("*-*.json")) == []
