"""The ``time_`` benchmarks: asv's own commands do with them what asv's documentation says."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("asv", reason="asv is not installed")
pytest.importorskip("virtualenv", reason="virtualenv is not installed")

import torch
from asv_runner.benchmarks.mark import SkipNotImplemented
from asv_runner.benchmarks.time import TimeBenchmark

import ptgq
from benchmarks.suite import common, timed

ROOT = Path(__file__).resolve().parents[1]
# A ptgq of a few lines, which no compiler builds.
SETUP = "from setuptools import setup\nsetup(name='ptgq', version='1', packages=['ptgq'])\n"
PTGQ = {
    "__init__.py": """
import time

def per_token_group_quant_fp8(x, group_size, *flags, backend, out=None):
    {work}
    return x, x

per_token_group_quant_int8 = per_token_group_quant_fp8
""",
    "backends.py": "def why_unavailable(backend, device):\n    return None\n",
    "scales.py": "def scale_format(*_):\n    pass\n\nempty_scales = scale_shape = scale_format\n",
}
# What the suite reads of the working tree.
KNOWN = "ptgq/scales/known.py"
CALLS = "timed.Calls.time_default_shapes"
ONE = rf"^{CALLS}\('cpu', 16, 64, 'int8'\)$"
SLEEP = 0.001


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    command = ["git", *identity, *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def commit(folder, work):
    (folder / "setup.py").write_text(SETUP)
    (folder / "ptgq").mkdir(exist_ok=True)
    for name, text in PTGQ.items():
        (folder / "ptgq" / name).write_text(text.replace("{work}", work))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", work)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository of two commits, the second of which sleeps in the op; and this suite."""
    folder = tmp_path_factory.mktemp("toy")
    git(folder, "init", "-qb", "main")
    shutil.copytree(ROOT / "asv_plugins", folder / "asv_plugins")
    shutil.copytree(ROOT / "benchmarks/measure", folder / "benchmarks/measure")
    (folder / "benchmarks/suite").mkdir()
    (folder / KNOWN).parent.mkdir(parents=True)
    shutil.copy(ROOT / KNOWN, folder / KNOWN)
    for name in ("__init__.py", "common.py", "timed.py"):
        shutil.copy(ROOT / "benchmarks/suite" / name, folder / "benchmarks/suite")
    lines = (ROOT / "asv.conf.json").read_text().splitlines()
    conf = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    conf.update(matrix={}, plugins=[".asv_plugins.environment", ".asv_plugins.storage"])
    (folder / "asv.conf.json").write_text(json.dumps(conf))
    (folder / ".gitignore").write_text("/*\n!/setup.py\n!/ptgq\n")
    # Not a sleep of 0 s, which lets other processes run.
    for work in ("pass", f"time.sleep({SLEEP})"):
        commit(folder, work)
    assert asv(folder, "machine", "--yes", "--machine", "here")[0] == 0
    return folder


def asv(folder, *arguments):
    """Run asv as on a machine without a GPU; return its status and what it printed."""
    env = {**os.environ, "HOME": str(folder), "PIP_NO_INDEX": "1", "CUDA_VISIBLE_DEVICES": ""}
    # Nothing is compiled: no process need ask for GPUs.
    env["PTGQ_CUDA"] = "0"
    # In folders of this test: pip would be compiled at each call.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "asv", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout + done.stderr


# Each is a process a round: all rows are in test_every_row_calls_the_op.
ROWS = [
    ("cpu", 16, 64, "fp8_row_float32"),
    ("cpu", 32, 128, "int8"),
    ("reference", 64, 64, "fp8_column_ue8m0"),
]


def test_a_sleep_in_the_op_moves_its_rows(project):
    rows = {f"{CALLS}{row}" for row in ROWS}
    pattern = "|".join(f"^{re.escape(row)}$" for row in rows)
    # Medians, as a busy machine's samples have no distribution.
    few = [f"-a{value}" for value in ("rounds=1", "repeat=3", "number=1", "warmup_time=0.001")]
    call = ("continuous", "main~1", "main", "--machine", "here", "--bench", pattern, "--no-stats")
    status, output = asv(project, *call, *few)
    assert status == 1
    assert "PERFORMANCE DECREASED" in output
    moved = re.findall(r"^\| \+ .*\| (timed\S+\(.*?\)) *\|", output, re.MULTILINE)
    assert sorted(moved) == sorted(rows)
    # That rounds may alternate is in test_asv_environment.py, without torch.
    for name, least in (("main~1", 0), ("main", SLEEP)):
        (path,) = project.glob(f"results/here/{git(project, 'rev-parse', name)[:8]}-*.json")
        content = json.loads(path.read_text())
        row = dict(zip(content["result_columns"], content["results"][CALLS], strict=False))
        assert row["version"] == "1"
        found = [number for number in row["result"] if isinstance(number, float)]
        assert sum(number > least for number in found) >= len(rows)
        assert {number for number in row["stats_repeat"] if number} == {3}

    # Compared again, without measuring.
    status, output = asv(project, "compare", "main~1", "main", "--machine", "here", "--no-stats")
    assert status == 0
    assert len(re.findall(r"^\| \+ ", output, re.MULTILINE)) == len(rows)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_every_row_calls_the_op(monkeypatch, backend):
    calls = []
    for name in ("fp8", "int8"):
        function = getattr(ptgq, f"per_token_group_quant_{name}")

        def counted(x, *arguments, name=name, function=function, **options):
            calls.append((name, x.shape, arguments, options["backend"]))
            return function(x, *arguments, **options)

        monkeypatch.setattr(ptgq, f"per_token_group_quant_{name}", counted)
    monkeypatch.setattr(common, "no_device", lambda: common.NotAvailable("no device"))
    timed.prepared.cache_clear()
    kinds = set()
    for tokens, group, scale_format in itertools.product(*common.DEFAULT_PARAMS):
        row = timed.Calls()
        row.time_default_shapes(backend, tokens, group, scale_format)
        # Prepared, and timed.
        first, second = calls
        assert first == second
        calls.clear()
        name, shape, arguments, on = first
        assert (name == "int8", on) == (scale_format == "int8", backend)
        assert shape == (tokens, common.DEFAULT_HIDDEN[tokens])
        assert arguments[0] == group
        row.time_default_shapes(backend, tokens, group, scale_format)
        assert calls == [first]
        calls.clear()
        kinds.add(first)
    assert len(kinds) == 30
    timed.prepared.cache_clear()


def test_find_names_the_commit_that_made_it_slower(project):
    status, output = asv(project, "find", "main", ONE, "--machine", "here", "--skip-save")
    assert status == 0
    assert f"Greatest regression found: {git(project, 'rev-parse', 'main')[:8]}" in output


def test_profile_shows_the_op(project):
    # By default it starts a process a round anew: torch is imported in each.
    call = (
        "profile",
        "--launch-method",
        "forkserver",
        rf"{CALLS}\('cpu', 16, 64, 'int8'\)",
        # Not the one that sleeps, 500 times a sample.
        "main~1",
    )
    status, output = asv(project, *call)
    assert status == 0
    assert "per_token_group_quant_fp8" in output


def test_quick_run(project):
    rows = rf"^{CALLS}\('(cpu|cuda)', 16, 64, 'int8'\)$|Kernels.*\('cuda', 16, 64, 'int8'\)$"
    call = ("run", "main^!", "--quick", "--dry-run", "--machine", "here", "--bench", rows)
    status, output = asv(project, *call)
    assert status == 0
    assert re.search(r"cpu +16 +64 +int8 +[\d.]+±0[mμ]?s", output)
    # What is not here is n/a, no failure.
    assert re.search(r"cuda +16 +64 +int8 +n/a", output)
    assert "failed" not in output


@pytest.fixture
def device(monkeypatch):
    """A device whose events say what time it is there."""
    device = SimpleNamespace(now=0.0)

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = device.now

        def synchronize(self):
            device.now += 0.5  # not of the replay

        def elapsed_time(self, end):
            return (end.at - self.at) * 1e3

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(common, "no_device", lambda: None)
    return device


def test_the_clock_of_a_graph_counts_one_call(device, monkeypatch):
    def replay():
        device.now += 18e-6 + timed.GRAPH_CALLS * 1e-6

    monkeypatch.setattr(timed, "prepared", lambda what, *key: {"kernel": replay}[what])
    # It keeps an event between calls.
    monkeypatch.setattr(timed.Kernels, "timer", timed.GraphClock())
    kernels = timed.Kernels()
    benchmark = TimeBenchmark("kernels", kernels.time_default_shapes, [kernels])
    assert (benchmark.rounds, benchmark.repeat, benchmark.number) == (8, 1, 1)
    benchmark.repeat, benchmark.warmup_time = 3, 0.001
    found = benchmark.run("cuda", 16, 64, "int8")
    assert found["samples"] == pytest.approx([1e-6 + 18e-6 / timed.GRAPH_CALLS] * 3, rel=1e-9)


def test_what_is_not_here_is_skipped(monkeypatch):
    timed.prepared.cache_clear()
    absent = common.NotAvailable("none here")
    monkeypatch.setattr(common, "no_device", lambda: None)
    with pytest.raises(SkipNotImplemented, match="cpu_time measures the CPU"):
        timed.Calls().time_default_shapes("cpu", 16, 64, "int8")
    monkeypatch.setattr(common, "no_device", lambda: absent)
    monkeypatch.setattr(common, "missing", lambda backend: absent)
    for benchmark in (timed.Calls, timed.Kernels):
        with pytest.raises(SkipNotImplemented, match="none here"):
            benchmark().time_default_shapes("cuda", 16, 64, "int8")
    with pytest.raises(SkipNotImplemented, match="none here"):
        timed.GraphClock()()


def test_an_op_without_code_is_skipped(monkeypatch):
    timed.prepared.cache_clear()
    monkeypatch.setattr(common, "no_device", lambda: common.NotAvailable("none here"))

    def lacking(self, x, **_):
        def call():
            raise NotImplementedError("Could not run 'op' on 'CPU'.\nDetails")

        return call

    workload = type(common.default_workload(16, 64, "int8"))
    monkeypatch.setattr(workload, "bind", lacking)
    with pytest.raises(SkipNotImplemented, match=r"^Could not run 'op' on 'CPU'\.$"):
        timed.Calls().time_default_shapes("cpu", 16, 64, "int8")
    timed.prepared.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize("backend", common.GPU_BACKENDS)
def test_kernels_are_timed_on_a_device(backend):
    kernels = timed.Kernels()
    benchmark = TimeBenchmark("kernels", kernels.time_default_shapes, [kernels])
    (seconds,) = benchmark.run(backend, 64, 128, "int8")["samples"]
    assert 1e-7 < seconds < 1e-5
