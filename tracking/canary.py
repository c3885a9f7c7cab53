"""Measure the canary: one old commit, in every run of ``nox -s track``."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from asv.config import Config

from asv_plugins import canary
from asv_plugins.canary import Run
from asv_plugins.wheels import Wheels
from tracking import commits, wheels

# The newest commit that an H200 has measured as a whole: it has every op that is measured now. To
# change it begins a new series.
COMMIT = "cb020ba11ee8ca626d9965c148c4db9a8b94a6af"
# Hot kernels, and calls: a process each, so few.
WITH_GPU = (
    r"^timed\.Kernels\.time_default_shapes\('(cuda|triton)', (16|64), 128, 'fp8_row_float32'",
    r"^timed\.Calls\.time_default_shapes\('(cuda|triton)', 64, 128, 'fp8_row_float32'",
)
WITHOUT_GPU = (
    r"^timed\.Calls\.time_default_shapes\('(cpu|reference)', (16|64), 128, 'fp8_row_float32'",
)
# From the repository's root, which is asv's folder otherwise.
PLACES = ("repo", "benchmark_dir", "env_dir")


def measure(name: str, has_gpu: bool, environment: Mapping[str, str]) -> Path | None:
    """Run asv on the canary, and keep what it stored under the date; None if all rows failed."""
    conf = Config.load("asv.conf.json")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # asv's own results keep a commit's last run alone: here is another folder for them.
        settings = {**conf.__dict__, "version": 1, "results_dir": str(folder / "results")}
        settings |= {key: str(Path(settings[key]).resolve()) for key in PLACES}
        (folder / "asv.conf.json").write_text(json.dumps(settings))
        call = [sys.executable, "-m", "asv", "--config", str(folder / "asv.conf.json"), "run"]
        call += [f"{COMMIT}^!", "--machine", name]
        if has_gpu:
            # A process takes more than a second there; elsewhere each has a speed of its own.
            call += ["--attribute", "rounds=1", "--attribute", "repeat=3"]
        for expression in WITH_GPU if has_gpu else WITHOUT_GPU:
            call += ["--bench", expression]
        subprocess.run([*call, "--show-stderr"], env=environment)
        stored = next(folder.glob(f"results/{name}/{COMMIT[:8]}-*.json"), None)
        run = stored and canary.read(stored)
        if not run or not run.rows:
            return None
        date = datetime.fromtimestamp(run.date, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        # No two shards write one file, even if they begin in the same second.
        content = hashlib.sha256(stored.read_bytes()).hexdigest()[:8]
        kept = canary.folder_of(conf.results_dir) / name / f"{stored.stem}-{date}-{content}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stored.with_name("machine.json"), kept.parent)
        return Path(shutil.copy(stored, kept))


def line(before: list[Run], now: Run) -> str:
    """Say in one line how the canary moved."""
    short = f"canary {now.commit[:10]}"
    moved = canary.moved(before, now)
    if not moved:
        return f"{short}: {len(now.rows)} rows, the first run on this machine"
    changes = ", ".join(f"{name} {change:+.1%}" for name, change in moved.items())
    differing = "; ".join(canary.differing(before[-1], now)) or "nothing"
    return f"{short}: {changes} against {len(before)} before; changed since the last: {differing}"


def problem(given: Wheels | None, has_gpu: bool) -> str | None:
    """Return in one line why the canary can't be measured here, None if it can."""
    try:
        commits.commit(COMMIT)
        if given:
            wheels.check(given, [COMMIT], has_gpu)
    except ValueError as error:
        return f"canary {COMMIT[:10]}: not measured: {error}"
    return None


def run(name: str, has_gpu: bool, environment: Mapping[str, str]) -> tuple[str, int]:
    """Measure the canary; return what to say of it, and the status: 0, or 2 if it failed."""
    path = measure(name, has_gpu, environment)
    if path is None:
        return f"canary {COMMIT[:10]}: failed", 2
    now = canary.read(path)
    found = canary.runs(path.parents[1], name)
    return line([run for run in found if run != now], now), 0
