"""What the front page is told of the stored results."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv.results import Results

from asv_plugins import record
from asv_plugins.series import Series, load, measurements
from asv_plugins.verdict import Measurement

FACTS = {"machine": "box", "os": "Linux"}
NAME = "file.Class.track_it"
BENCHMARKS = {
    NAME: {
        "params": [["'a'", "'b'"], ["1", "2"]],
        "param_names": ["which", "count"],
        "version": "1",
    }
}


def results(commit, values, *, params=None, stats=None, version="1", facts=FACTS, name=NAME):
    """One result file's content, as asv holds it."""
    made = Results(facts, {}, commit, 0, "3.11", "env", {})
    made._results[name] = values
    made._stats[name] = stats
    made._samples[name] = None
    made._started_at[name] = 1_700_000_000_123
    made._benchmark_params[name] = params or BENCHMARKS[NAME]["params"]
    made._benchmark_version[name] = version
    return made


def read(made):
    name = "file.Class.track_it"
    return measurements(made, name, BENCHMARKS[name]["params"])


def test_measurements_tell_why_there_is_no_number():
    interval = {"ci_99_a": 1.0, "ci_99_b": 3.0, "q_25": 1.5, "q_75": 2.5}
    made = results("a" * 40, [2.0, math.nan, None, 4.0], stats=[interval, None, None, None])
    assert read(made) == [Measurement(2, 1, 3), "n/a", "failed", Measurement(4, 4, 4)]


def test_counts_are_exact_and_times_have_six_digits():
    interval = {"ci_99_a": 1.0, "ci_99_b": 3.0}
    values = [1_859_408, 1.23456789, math.nan, math.nan]
    made = results("a" * 40, values, stats=[None, interval, None, None])
    assert [point.value for point in read(made)[:2]] == [1_859_408, 1.23457]


def test_combination_that_is_newer_than_the_result_is_missing_not_failed():
    made = results("a" * 40, [1.0, 2.0], params=[["'a'"], ["1", "2"]])
    assert read(made) == [Measurement(1, 1, 1), Measurement(2, 2, 2), None, None]


def test_commit_that_did_not_build_is_failed_throughout():
    assert read(results("a" * 40, None)) == ["failed"] * 4


@pytest.mark.parametrize("stat", [{"q_25": 1.0}, {"ci_99_a": -math.inf, "ci_99_b": math.inf}])
def test_interval_of_too_few_samples_is_open(stat):
    made = results("a" * 40, [2.0, math.nan, math.nan, math.nan], stats=[stat, None, None, None])
    (first, *_) = read(made)
    assert first == Measurement(2, -math.inf, math.inf)
    assert record.encode(first) == [2, None, None]


@pytest.fixture
def store(tmp_path):
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "machine.json").write_text(json.dumps({**FACTS, "version": 1}))

    def store(commit, values, tag="", **more):
        made = results(commit, values, **more)
        made._filename = f"box/{commit[:8]}-env{tag}.json"
        made.save(str(tmp_path))

    return store


OLD, MIDDLE, NEW, ELSEWHERE = (letter * 40 for letter in "abcd")
ORDER = {OLD: 0, MIDDLE: 1, NEW: 2}


def test_snapshot_compares_with_the_last_commit_that_has_the_benchmark(store, tmp_path):
    store(OLD, [1.0, 1.0, None, 1.0])
    store(MIDDLE, [9.0] * 4, version="0")
    store(NEW, [1.0, 2.0, 1.0, None])
    store(ELSEWHERE, [5.0] * 4)
    (series,) = load(str(tmp_path), ORDER, BENCHMARKS)
    shown = record.snapshot(series, ORDER, BENCHMARKS, {})
    assert shown == {
        "commit": 2,
        "measured": {"file.Class.track_it": [2, 1_700_000_000]},
        "previous": {"file.Class.track_it": 0},
        "cells": {
            "file.Class.track_it": [
                [1, 1, "same", 0.05],
                [2, 1, "worse", 0.05],
                [1, "failed"],
                ["failed", 1],
            ]
        },
        "kept": {},
    }


def test_what_the_newest_commit_lacks_is_shown_of_the_newest_that_has_it(store, tmp_path):
    store(OLD, [1.0] * 4)
    store(MIDDLE, [2.0] * 4)
    store(NEW, [9.0] * 4, version="0")
    (series,) = load(str(tmp_path), ORDER, BENCHMARKS)
    shown = record.snapshot(series, ORDER, BENCHMARKS, {})
    assert shown["commit"] == 2
    assert shown["measured"] == {"file.Class.track_it": [1, 1_700_000_000]}
    # What changed there is no change of the newest commit.
    assert shown["cells"] == {"file.Class.track_it": [[2]] * 4}
    assert shown["previous"] == {}


def test_a_gpu_in_a_larger_machine_has_one_history(store, tmp_path):
    gpu = {**FACTS, "gpu": "H200"}
    store(OLD, [1.0] * 4, facts={**gpu, "num_cpu": "16", "ram": "64"})
    store(NEW, [2.0] * 4, facts={**gpu, "num_cpu": "32", "ram": "128"})
    (series,) = load(str(tmp_path), ORDER, BENCHMARKS)
    assert set(series.commits) == {OLD, NEW}
    assert (series.params["num_cpu"], series.params["ram"]) == ("32", "128")
    # Without a GPU, that is what is measured.
    for commit, cores in ((OLD, "16"), (NEW, "32")):
        store(commit, [1.0] * 4, facts={**FACTS, "gpu": "none", "num_cpu": cores})
    (series,) = load(str(tmp_path), ORDER, BENCHMARKS)
    assert list(series.commits) == [NEW]


def test_what_runs_on_all_cores_has_a_history_of_machines_of_one_size(store, tmp_path):
    name, gpu = "cpu_time.Class.track_it", {**FACTS, "gpu": "H200"}
    for commit, cores in ((OLD, "16"), (MIDDLE, "32"), (NEW, "32")):
        store(commit, [1.0] * 4, facts={**gpu, "num_cpu": cores}, name=name)
        store(commit, [1.0] * 4, "more", facts={**gpu, "num_cpu": cores})
    (series,) = load(str(tmp_path), ORDER, {**BENCHMARKS, name: BENCHMARKS[NAME]})
    params = BENCHMARKS[NAME]["params"]
    assert series.read(OLD, NAME, params) == [Measurement(1, 1, 1)] * 4
    assert series.read(OLD, name, params) is None
    assert series.read(MIDDLE, name, params) == series.read(NEW, name, params) is not None


def test_only_the_configuration_of_the_newest_commit_is_shown(store, tmp_path):
    store(OLD, [1.0] * 4, tag="-old", facts={**FACTS, "torch": "2.11"})
    store(NEW, [2.0] * 4, tag="-new", facts={**FACTS, "torch": "2.13"})
    (series,) = load(str(tmp_path), ORDER, BENCHMARKS)
    assert series.params["torch"] == "2.13"
    assert list(series.commits) == [NEW]


def test_machines_with_a_gpu_come_first_then_those_measured_last(store, tmp_path):
    machines = {"cpu": (NEW, "none"), "a": (OLD, "H100"), "b": (NEW, "H200"), "c": (MIDDLE, "H100")}
    for name, (commit, gpu) in machines.items():
        facts = {"machine": name, "os": "Linux", "gpu": gpu}
        (tmp_path / name).mkdir()
        (tmp_path / name / "machine.json").write_text(json.dumps({**facts, "version": 1}))
        made = results(commit, [1.0] * 4, facts=facts)
        made._filename = f"{name}/{commit[:8]}-env.json"
        made.save(str(tmp_path))
    loaded = load(str(tmp_path), ORDER, BENCHMARKS)
    assert [series.params["machine"] for series in loaded] == ["b", "c", "a", "cpu"]


def test_a_snapshot_takes_the_drift_from_the_reference(monkeypatch):
    names = [["'cpu'", "'reference'"], [str(number) for number in range(12)]]
    benchmarks = {"file.it": {"params": names}}
    before = [Measurement(value, value, value) for value in [1.0] * 24]
    after = [Measurement(value, value, value) for value in [1.5] * 11 + [3.0] + [2.0] * 12]
    series = Series({})
    series.commits = {OLD: [], NEW: []}
    monkeypatch.setattr(series, "read", lambda commit, *_: before if commit == OLD else after)
    cells = record.snapshot(series, ORDER, benchmarks, {})["cells"]["file.it"]
    assert [row[2] for row in cells[:12]] == ["undecided"] * 11 + ["worse"]
    names[0][1] = "'triton'"
    cells = record.snapshot(series, ORDER, benchmarks, {})["cells"]["file.it"]
    assert {row[2] for row in cells} == {"worse"}


def test_history_has_a_column_for_each_series(store, tmp_path):
    interval = [{"ci_99_a": 0.5, "ci_99_b": 1.5}] * 4
    store(OLD, [1.0] * 4, stats=interval)
    store(NEW, [None, math.nan, 1.0, 1.0], stats=None)
    (series,) = load(str(tmp_path), ORDER, BENCHMARKS)
    params = BENCHMARKS["file.Class.track_it"]["params"]
    first, second, third, _ = record.histories(series, ORDER, "file.Class.track_it", params)
    assert first == {
        "commit": [0, 2],
        "value": [1, None],
        "low": [0.5, None],
        "high": [1.5, None],
        "failed": [2],
    }
    assert second["failed"] == []
    assert (third["low"], third["high"]) == ([0.5, 1], [1.5, 1])
