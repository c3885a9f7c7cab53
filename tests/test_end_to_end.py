"""A range of this project itself: built, measured, compared, published and opened."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")
pytest.importorskip("virtualenv", reason="virtualenv is not installed")

import browser as browsers

ROOT = Path(__file__).resolve().parents[1]
CALL = "call_latency.CallLatency.track_default_shapes"
BYTES = "footprint.Library.track_bytes"
SAMPLE = "SAMPLE_SECONDS = 2e-3"


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def clone(tmp_path, cached_compiler):
    """A clone of HEAD, followed by a commit whose library is larger."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout: there are no commits to build")
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    git(folder, "checkout", "-q", "-B", "main")
    # Only what is measured here is published: a shallow clone lacks the stored results' commits.
    for results in (folder / "results").glob("*/"):
        shutil.rmtree(results)
    # What is measured is of no interest here: short samples.
    common = folder / "benchmarks/suite/common.py"
    assert common.read_text().count(SAMPLE) == 1
    common.write_text(common.read_text().replace(SAMPLE, f"{SAMPLE} / 100"))
    with (folder / "csrc/contract/check.cpp").open("a") as file:
        file.write('extern "C" __attribute__((used)) const char planted[100000] = {1};\n')
    git(folder, "commit", "-qam", "Planted: 100 kB more")
    return folder


def run(clone, *arguments):
    """Run a module of the clone as on a machine without a GPU; return its status and output."""
    env = {**os.environ, "HOME": str(clone.parent), "PIP_NO_INDEX": "1"}
    env |= {"PTGQ_CUDA": "0", "CUDA_VISIBLE_DEVICES": ""}
    env.pop("TRITON_INTERPRET", None)
    # In folders of this test: pip would be compiled at each call.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=clone, env=env, capture_output=True, text=True, timeout=400)
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout


def stored(clone):
    """Return what asv stored: results and parameters by commit and benchmark."""
    found = {}
    for path in (clone / "results/here").glob("*-*.json"):
        content = json.loads(path.read_text())
        assert content["params"]["gpu"] == "none"
        assert content["params"]["torch"]
        found[content["commit_hash"]] = {
            name: dict(zip(content["result_columns"], row, strict=False))
            for name, row in content["results"].items()
        }
    return found


# One test: what it builds is dear.
def test_two_commits_from_their_sources_to_the_browser(clone, chromium):
    # As nox -s record does, with a few cheap rows.
    rows = rf"{CALL}\('(cpu|reference)', 16|{BYTES}"
    track = ("tracking.track", "--all", "--newest", "2", "--machine", "here", "--bench", rows)
    track += ("--no-canary",)
    assert run(clone, *track)[0] == 0
    found = stored(clone)
    newest, before = (found[commit] for commit in git(clone, "rev-list", "-n2", "main").split())
    assert 90_000 < newest[BYTES]["result"][0] - before[BYTES]["result"][0] < 110_000
    counts = [row and len(row) for row in newest[CALL]["samples"]]
    assert any(counts)
    assert counts == newest[CALL]["stats_repeat"]
    # As somebody else would send them.
    measured = clone / "results/here"
    sent = shutil.move(measured, clone.parent / "here")
    assert run(clone, "tracking.merge", str(sent))[0] == 0
    assert [path.read_bytes() for path in sorted(measured.iterdir())] == [
        path.read_bytes() for path in sorted(Path(sent).iterdir())
    ]

    compared, output = run(clone, "tracking.compare", "main~1", "main", "--bench", BYTES)
    assert compared == 1
    assert re.search(rf"^{BYTES}, bytes\n +\d.* slower$", output, re.MULTILINE)

    status, output = run(clone, "tracking.publish")
    assert status == 0
    page = Path(re.search(r"^site: (.*)$", output, re.MULTILINE)[1])
    context = chromium.new_context()
    with browsers.serve(page.parent) as address:
        watch = browsers.Watch(context.new_page(), address)
        watch.page.goto(address)
        browsers.wait_until(watch.page, browsers.READY)
        lines = watch.page.locator("#speedup tbody tr", has_text="16 × 512")
        line = lines.filter(has_text="fp8_row_float32").first
        # The parameters' first combination that this machine measures.
        backends, *others = newest[CALL]["params"]
        median = newest[CALL]["result"][backends.index("'cpu'") * len(list(product(*others)))]
        # Marked where samples differ much, as on a machine that does something else.
        shown = line.locator("td").nth(2).inner_text().rstrip("?")
        assert float(shown.replace(",", "")) == pytest.approx(1e6 * median, rel=0.01)
        line.locator("td a").first.click()
        shown = "16 × 512, group 64, fp8_row_float32"
        readout = "document.querySelector('#history .readout').textContent"
        browsers.wait_until(watch.page, f"{readout}.includes('{shown}')")
        assert watch.wrong == []
    context.close()
