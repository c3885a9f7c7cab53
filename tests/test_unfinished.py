"""A run that is killed keeps what it had measured, and the next one goes on from there."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv.results import Results
from asv.runner import BenchmarkResult

from asv_plugins import storage, unfinished
from tracking import commits

COMMIT = "a" * 40
NAME = "suite.time_it"


def results():
    return Results({"machine": "box"}, {}, COMMIT, 1, "3.11", "env", {})


def measure(store, name=NAME):
    found = BenchmarkResult([1.5], [None], [None], 0, "", None)
    store.add_result({"name": name, "params": [], "version": "1"}, found, duration=1.0)


def stored(folder):
    (path,) = (folder / "box").glob("*.json")
    return json.loads(path.read_text())


@pytest.fixture
def each_at_once(monkeypatch):
    monkeypatch.setattr(unfinished, "SECONDS", 0.0)


def test_what_is_measured_is_saved_and_the_commit_is_not_done(tmp_path, each_at_once):
    store = results()
    store.load_data(str(tmp_path))
    measure(store)
    assert stored(tmp_path)[storage.UNFINISHED] is True
    assert NAME in stored(tmp_path)["results"]
    assert commits.measured(tmp_path, "box") == set()
    # As asv saves in the end.
    measure(store, "suite.time_other")
    store.save(str(tmp_path))
    assert storage.UNFINISHED not in stored(tmp_path)
    assert len(stored(tmp_path)["results"]) == 2
    assert commits.measured(tmp_path, "box") == {COMMIT}


def test_the_next_run_has_what_the_killed_one_measured(tmp_path, each_at_once):
    store = results()
    store.load_data(str(tmp_path))
    measure(store)
    again = results()
    again.load_data(str(tmp_path))
    assert list(again.get_all_result_keys()) == [NAME]


def test_it_is_not_saved_each_time(tmp_path, monkeypatch):
    now = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr(unfinished, "time", now)
    store = results()
    store.load_data(str(tmp_path))
    now.monotonic = lambda: 100.0 + unfinished.SECONDS - 1
    measure(store)
    assert not (tmp_path / "box").exists()
    now.monotonic = lambda: 100.0 + unfinished.SECONDS
    measure(store, "suite.time_other")
    assert len(stored(tmp_path)["results"]) == 2


def test_a_run_that_saves_nothing_saves_nothing_meanwhile(tmp_path, each_at_once, monkeypatch):
    # asv loads what is stored only where it saves: not with --dry-run.
    monkeypatch.chdir(tmp_path)
    measure(results())
    assert list(tmp_path.rglob("*.json")) == []
