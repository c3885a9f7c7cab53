"""What makes the site: vendored files, asv's page made local, the record, the verdicts."""

from __future__ import annotations

import importlib.util
import itertools
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv import util
from asv.util import UserError

# Last, so that the installed ptgq is found before the folder.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from asv_plugins import record, same_code, site, vendor
from asv_plugins.verdict import (
    Measurement,
    drift_of,
    smallest_change,
    threshold_for,
    verdict,
)

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.mark.parametrize(
    ("before", "after", "threshold", "drift", "expected"),
    [
        ((10, 9.9, 10.1), (10, 9.8, 10.2), 0.01, 0.0, 0.03),
        ((10, 9.9, 10.1), (10, 9.8, 10.2), 0.05, 0.0, 0.05),
        ((10, 9.9, 10.1), (10, 9.8, 10.2), 0.05, 0.5, 0.5),
        ((40, 40, 40), (40, 40, 40), 0.0, 0.0, 0.0),
        ((0, 0, 0), (0, 0, 0), 0.0, 0.0, 0.0),
        ((10, -math.inf, math.inf), (20, 19, 21), 0.05, 0.0, math.inf),
    ],
)
def test_the_smallest_change_that_is_called(before, after, threshold, drift, expected):
    found = smallest_change(Measurement(*before), Measurement(*after), threshold, drift)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("row", "judged"),
    [
        ("kernel_time.KernelTime.track_variants('cuda', 'cold', 128, 'int8')", True),
        ("call_latency.RelativeToAbs.track_functions('cuda', 'int8', True)", False),
        ("call_latency.CallLatency.track_functions('cuda', 'int8', True)", False),
        ("call_latency.RelativeToAbs.track_default_shapes('reference', 16, 64, 'int8')", False),
        ("cuda_vs_triton.KernelRatio.track_variants('cold', 128, 'int8')", False),
        ("copy_distance.DistanceToCopy.track_variants('cuda', 'cold', 128, 'int8')", False),
        ("peers.Peers.track_default_shapes('ptgq', 'cold', 16, 'int8')", False),
        ("masked_rows.MaskedTime.track_masked_rows('cuda', 'full', 'fp8')", True),
        ("masked_rows.MaskedDistance.track_masked_rows('cuda', 'full', 'fp8')", False),
        ("beside_gemm.Kernels.track_time('cuda', 'norm_8192x7168_cold')", True),
        ("beside_gemm.Kernels.track_copy_ratio('cuda', 'norm_8192x7168_cold')", False),
        ("beside_gemm.Bytes.track_differing_bytes('cuda', 'blocks')", True),
    ],
)
def test_ratios_calls_and_the_reference_are_not_judged(row, judged):
    assert record.is_judged(row) is judged


def test_asvs_regressions_are_looked_for_where_the_site_judges():
    conf = util.load_json(str(ROOT / "asv.conf.json"), js_comments=True)
    left_out = [regex for regex, at in conf["regressions_first_commits"].items() if at is None]
    benchmarks = util.load_json(str(ROOT / "results/benchmarks.json"), api_version=2)
    judged = set()
    for name, benchmark in benchmarks.items():
        for values in itertools.product(*benchmark["params"]):
            row = record.entry_name(name, values)
            expected = record.is_judged(row) and name not in same_code.HASHES.values()
            assert expected != any(re.match(regex, row) for regex in left_out), row
            judged.add(expected)
    assert judged == {True, False}


def test_the_last_bit_of_a_sum_is_no_change():
    thresholds = util.load_json(str(ROOT / "asv.conf.json"), js_comments=True)
    threshold = threshold_for(
        "accuracy.Accuracy.track_relative_rms_error('normal', 64, 'int8')",
        thresholds["regressions_thresholds"],
    )
    before = Measurement(0.021, 0.021, 0.021)
    for factor, expected in ((1 + 2.3e-16, "same"), (1 - 2.3e-16, "same"), (1 + 1e-9, "worse")):
        after = Measurement(*[0.021 * factor] * 3)
        assert after != before
        assert verdict(before, after, threshold, 0.0) == expected


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


def test_threshold_is_the_largest_that_matches():
    thresholds = {"kernel": 0.02, r"kernel\.Class": 0.1, "other": 0.5}
    assert threshold_for("kernel.Class.time_it(1)", thresholds) == 0.1
    assert threshold_for("kernel.Other", thresholds) == 0.02
    assert threshold_for("unknown", thresholds) == 0.05


@pytest.mark.parametrize("tool", ["site_scale", "site_picture"])
def test_the_sites_tools_begin_as_they_are_documented(tool, tmp_path):
    pytest.importorskip("playwright", reason="playwright is not installed")
    # They need the groups site and browser, not pytest.
    code = "import runpy, sys; sys.modules['pytest'] = None; path = sys.argv.pop(1); "
    code += "sys.path.insert(0, sys.argv.pop(1)); runpy.run_path(path, run_name='__main__')"
    folder = ROOT / "tools"
    command = [sys.executable, "-c", code, str(folder / f"{tool}.py"), str(folder), "--help"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
