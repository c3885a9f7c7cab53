"""What makes the site: vendored files, asv's page made local, the record, the verdicts."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv.results import Results
from asv.util import UserError

# Last, so that the installed ptgq is found before the folder.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from asv_plugins import record, site, vendor
from asv_plugins.verdict import Measurement, drift_of, threshold_for, verdict

FACTS = {"machine": "box", "os": "Linux"}
BENCHMARKS = {
    "file.Class.track_it": {
        "params": [["'a'", "'b'"], ["1", "2"]],
        "param_names": ["which", "count"],
        "version": "1",
    }
}


@pytest.fixture
def vendored(tmp_path):
    return Path(shutil.copytree(vendor.VENDOR, tmp_path / "vendor"))


@pytest.fixture
def asv_page():
    root = Path(importlib.util.find_spec("asv").origin).parent
    return (root / "www" / "index.html").read_text(encoding="utf-8")


def test_vendored_files_are_those_of_the_manifest():
    manifest = vendor.verify()
    for package in manifest["packages"]:
        folder = vendor.VENDOR / package["package"]
        texts = [path.read_text() for path in folder.glob("LICENSE*")]
        assert package["license"] == "MIT"
        assert any("Permission is hereby granted" in text for text in texts)


def test_changed_vendored_file_is_refused(vendored):
    path = vendored / "uplot" / "uPlot.min.css"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"uPlot\.min\.css: SHA-256 is [0-9a-f]{64}, manifest"):
        vendor.verify(vendored)


def test_missing_vendored_file_is_refused(vendored):
    (vendored / "flot" / "LICENSE.txt").unlink()
    with pytest.raises(ValueError, match=r"flot/LICENSE\.txt: in manifest\.json, but missing"):
        vendor.verify(vendored)


def test_unlisted_vendored_file_is_refused(vendored):
    (vendored / "flot" / "more.js").write_text("")
    with pytest.raises(ValueError, match=r"flot/more\.js: not in manifest\.json"):
        vendor.verify(vendored)


def test_asv_page_loads_nothing_from_elsewhere(asv_page):
    assert re.search(r'<script[^>]*src="https:', asv_page)
    local = site.localize(asv_page, vendor.load_manifest())
    tags = re.findall(r"<(?:script|link|img)\b[^>]*>", local)
    assert tags
    assert not [tag for tag in tags if "//" in tag or "integrity" in tag or "onerror" in tag]
    for address in re.findall(r'(?:src|href)="vendor/([^"]+)"', local):
        assert (vendor.VENDOR / address).is_file()
    assert "orderBars" not in local
    assert '<a href="index.html">CUDA vs Triton</a>' in local


@pytest.mark.parametrize(
    "asset",
    [
        '<script src="https://example.org/lib/new.min.js" integrity="x"></script>',
        '<script src="//example.org/lib/new.min.js"></script>',
        '<link rel="stylesheet" href="https://example.org/lib/new.css">',
    ],
)
def test_asset_that_asv_added_is_named(asv_page, asset):
    page = asv_page.replace("</head>", asset + "</head>")
    with pytest.raises(ValueError, match=r"loads .*example\.org/lib/new\..* does not map"):
        site.localize(page, vendor.load_manifest())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (site.NAVIGATION, "<li>"),
        ("</head>", "<script>run()</script></head>"),
        ("<body>", '<body onload="run()">'),
        ("function js_load_failure", "function other"),
    ],
)
def test_asv_page_that_changed_is_refused(asv_page, old, new):
    assert old in asv_page
    with pytest.raises(ValueError, match=r"not as asv_plugins/site\.py expects it"):
        site.localize(asv_page.replace(old, new), vendor.load_manifest())


def test_publish_reports_the_problem_as_asv_does(asv_page, tmp_path):
    (tmp_path / "index.html").write_text(asv_page.replace("jquery-3.3.1", "jquery-4"))
    with pytest.raises(UserError, match=r"jquery-4\.min\.js, which .*manifest\.json does not map"):
        site.FrontPage.publish(SimpleNamespace(html_dir=str(tmp_path)), None, {}, [], {})


def test_data_with_an_infinite_number_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        site.write(tmp_path / "x.js", "x", [math.inf])


@pytest.mark.parametrize(
    ("before", "after", "threshold", "expected"),
    [
        ((10, 9.9, 10.1), (12, 11.9, 12.1), 0.05, "worse"),
        ((12, 11.9, 12.1), (10, 9.9, 10.1), 0.05, "better"),
        ((10, 9.9, 10.1), (10, 9.9, 10.1), 0.05, "same"),
        # Apart, but by less than what matters.
        ((10, 9.99, 10.01), (10.2, 10.19, 10.21), 0.05, "same"),
        # More than what matters, but not apart.
        ((10, 8, 13), (12, 9, 14), 0.05, "undecided"),
        # The medians agree; the intervals allow more than the threshold.
        ((10, 8, 12), (10, 8, 12), 0.05, "undecided"),
        ((10, -math.inf, math.inf), (20, 19, 21), 0.05, "undecided"),
        ((40, 40, 40), (40, 40, 40), 0.0, "same"),
        ((40, 40, 40), (41, 41, 41), 0.0, "worse"),
        ((40, 40, 40), (39, 39, 39), 0.0, "better"),
        ((0, 0, 0), (0, 0, 0), 0.0, "same"),
        ((0, 0, 0), (1, 1, 1), 0.05, "worse"),
        ((1, 1, 1), (0, 0, 0), 0.05, "better"),
    ],
)
def test_verdict(before, after, threshold, expected):
    assert verdict(Measurement(*before), Measurement(*after), threshold) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(10, 15.1, "worse"), (10, 14.9, "undecided"), (15.1, 10, "better"), (14.9, 10, "undecided")],
)
def test_less_than_the_machine_changed_by_is_undecided(before, after, expected):
    exact = (Measurement(value, value, value) for value in (before, after))
    assert verdict(*exact, threshold=0.1, drift=0.5) == expected


def test_drift_is_what_most_equal_code_differs_by():
    def pairs(*factors):
        return [(Measurement(2, 2, 2), Measurement(2 * f, 2 * f, 2 * f)) for f in factors]

    assert drift_of([]) == 0
    assert drift_of(pairs(*[2.0] * 9)) == 0
    assert drift_of([(None, "failed"), *pairs(0.0, *[2.0] * 9)]) == 0
    assert drift_of(pairs(*[1.0] * 100)) == 0
    assert drift_of(pairs(*[1.25, 0.8] * 10)) == pytest.approx(0.25)
    # One of 100 was disturbed.
    assert drift_of(pairs(*[1.1] * 99, 7.0)) == pytest.approx(0.1)
    assert drift_of(pairs(*[1.0] * 80, *[3.0] * 20)) == pytest.approx(2)


def test_a_snapshot_takes_the_drift_from_the_reference(monkeypatch):
    names = [["'cpu'", "'reference'"], [str(number) for number in range(12)]]
    benchmarks = {"file.it": {"params": names}}
    before = [Measurement(value, value, value) for value in [1.0] * 24]
    after = [Measurement(value, value, value) for value in [1.5] * 11 + [3.0] + [2.0] * 12]
    series = record.Series({})
    series.commits = {OLD: [], NEW: []}
    monkeypatch.setattr(series, "read", lambda commit, *_: before if commit == OLD else after)
    cells = record.snapshot(series, ORDER, benchmarks, {})["cells"]["file.it"]
    assert [row[2] for row in cells[:12]] == ["undecided"] * 11 + ["worse"]
    names[0][1] = "'triton'"
    cells = record.snapshot(series, ORDER, benchmarks, {})["cells"]["file.it"]
    assert {row[2] for row in cells} == {"worse"}


def test_threshold_is_the_largest_that_matches():
    thresholds = {"kernel": 0.02, r"kernel\.Class": 0.1, "other": 0.5}
    assert threshold_for("kernel.Class.time_it(1)", thresholds) == 0.1
    assert threshold_for("kernel.Other", thresholds) == 0.02
    assert threshold_for("unknown", thresholds) == 0.05


def results(commit, values, *, params=None, stats=None, version="1", facts=FACTS):
    """One result file's content, as asv holds it."""
    made = Results(facts, {}, commit, 0, "3.11", "env", {})
    name = "file.Class.track_it"
    made._results[name] = values
    made._stats[name] = stats
    made._samples[name] = None
    made._benchmark_params[name] = params or BENCHMARKS[name]["params"]
    made._benchmark_version[name] = version
    return made


def read(made):
    name = "file.Class.track_it"
    return record.measurements(made, name, BENCHMARKS[name]["params"])


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
    (series,) = record.load(str(tmp_path), ORDER, BENCHMARKS)
    shown = record.snapshot(series, ORDER, BENCHMARKS, {})
    assert shown == {
        "commit": 2,
        "previous": {"file.Class.track_it": 0},
        "cells": {
            "file.Class.track_it": [[1, 1, "same"], [2, 1, "worse"], [1, "failed"], ["failed", 1]]
        },
    }


def test_only_the_configuration_of_the_newest_commit_is_shown(store, tmp_path):
    store(OLD, [1.0] * 4, tag="-old", facts={**FACTS, "torch": "2.11"})
    store(NEW, [2.0] * 4, tag="-new", facts={**FACTS, "torch": "2.13"})
    (series,) = record.load(str(tmp_path), ORDER, BENCHMARKS)
    assert series.params["torch"] == "2.13"
    assert list(series.commits) == [NEW]


def test_history_has_a_column_for_each_series(store, tmp_path):
    interval = [{"ci_99_a": 0.5, "ci_99_b": 1.5}] * 4
    store(OLD, [1.0] * 4, stats=interval)
    store(NEW, [None, math.nan, 1.0, 1.0], stats=None)
    (series,) = record.load(str(tmp_path), ORDER, BENCHMARKS)
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
