"""The published pages as tests see them: what is stored, and what a browser shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import browser as browsers
import synthetic_results

ROOT = Path(__file__).resolve().parents[1]
MACHINES = [machine["machine"] for machine in synthetic_results.machines(3)]
H200, TWO_CORE, HOSTILE = MACHINES
CALL = "call_latency.CallLatency.track_default_shapes"
KERNEL = "kernel_time.KernelTime.track_default_shapes"
ERROR = "accuracy.Accuracy.track_relative_rms_error"
COMMITS = 6


def publish(folder: Path, **variables: str) -> str:
    """Run ``asv publish`` as a user does, with variables of the environment; return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "asv", "--config", str(folder / "asv.conf.json"), "publish"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# All that a test may have changed: also by a choice, which is in the address.
SEEN = """JSON.stringify([location.href, document.documentElement.outerHTML, innerWidth, scrollX,
    scrollY, document.activeElement.tagName, matchMedia("(prefers-color-scheme: dark)").matches])"""


def untouched(page) -> bool:
    """Whether the page is as open_front left it."""
    return page.evaluate(f"window.opened === {SEEN}")


def open_front(page, address, machine=H200, at=None):
    """Open the front page anew, unless it is open and no test has changed it."""
    query = "" if machine is None else f"#machine={machine}" + (f"&at={at}" if at else "")
    if page.url == address + query and untouched(page):
        return
    page.goto("about:blank")
    page.goto(address + query)
    browsers.wait_until(page, browsers.READY)
    # What is drawn behind it is there, too.
    while not untouched(page):
        page.evaluate(f"window.opened = {SEEN}")
        page.wait_for_timeout(50)


def git(published, *arguments):
    command = ["git", "-C", str(published / "repository"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def stored(published, machine, name, *values):
    """Return a value of the newest commit as asv stored it: read here with json alone."""
    last = git(published, "rev-parse", "main")
    for path in (published / "results").glob(f"*/{last[:8]}-*.json"):
        content = json.loads(path.read_text())
        if content["params"]["machine"] == machine:
            columns = dict(zip(content["result_columns"], content["results"][name], strict=False))
            index = 0
            for value, known in zip(values, columns["params"], strict=True):
                index = index * len(known) + known.index(repr(value))
            return columns["result"][index]
    raise AssertionError(f"no result of {machine}")


def row(page, section, *texts):
    """The one row of a section's table that holds all these texts as whole cells."""
    rows = page.locator(f"#{section} tbody tr")
    for text in texts:
        exact = re.compile(f"^{re.escape(text)}$")
        rows = rows.filter(has=page.locator("th, td").filter(has_text=exact))
    assert rows.count() == 1
    return rows


def wait_for_history(page, title):
    readout = "document.querySelector('#history .readout').textContent"
    browsers.wait_until(page, f"{readout}.includes({json.dumps(title)})")


def cells(line):
    return [text.strip() for text in line.locator("th, td").all_inner_texts()]
