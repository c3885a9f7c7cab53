"""The rounds of compare: what is asked for, the process that answers, and their order."""

from __future__ import annotations

import importlib
import re
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv.config import Config

import ptgq
from tracking import compare, rounds

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = Path(ptgq.__file__).parents[1]
CPU_CALL = "call_latency.CallLatency.track_default_shapes('cpu', 16, 64, 'int8')"


@pytest.fixture
def suite_of(monkeypatch):
    """The suite, for patterns."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PTGQ_MEASURED_DEVICE", "cpu")
    conf = Config.load("asv.conf.json")
    return lambda *patterns: rounds.Suite(conf, patterns)


def rows_of(suite, request):
    return [suite.rows(name)[index] for name, indices in request.items() for index in indices]


def test_patterns_select_rows_and_what_is_counted_is_measured_apart(suite_of):
    suite = suite_of(
        r"(Latency.track_default_shapes|track_call)\('cpu', 16, 64, 'int8'",
        r"^footprint\.\w*Kernels\.track_reg",
    )
    assert rows_of(suite, suite.timed) == [
        CPU_CALL,
        "cpu_time.CpuTime.track_call('cpu', 16, 64, 'int8')",
    ]
    # Each in a process: one that compiled for another GPU can't launch.
    assert [list(request) for request in suite.counted] == [
        ["footprint.Kernels.track_registers"],
        ["footprint.TritonKernels.track_registers"],
    ]
    assert suite.timeout(suite.timed) == rounds.TURN_TIMEOUT + 600 + 300


def test_the_defaults_match_rows_of_both_kinds_of_machine(suite_of):
    on_gpu = suite_of(*compare.WITH_GPU)
    assert not on_gpu.counted
    assert {name: len(indices) for name, indices in on_gpu.timed.items()} == {
        "call_latency.RelativeToTorch.track_default_shapes": 2,
        "call_latency.RelativeToTorch.track_functions": 9,
        "kernel_time.KernelTime.track_default_shapes": 40,
        "kernel_time.KernelTime.track_serving_shapes": 12,
        "kernel_time.KernelTime.track_variants": 40,
    }
    without = suite_of(*compare.WITHOUT_GPU)
    assert set(without.timed) == {
        "call_latency.RelativeToTorch.track_default_shapes",
        "cpu_time.CpuTime.track_call",
    }
    assert len(without.counted) == 2


def measured(suite, folder):
    process = rounds.Process(suite, sys.executable, folder, suite.timed)
    try:
        process.wait(time.monotonic() + 60)
        return process.measure()
    finally:
        process.end()


def test_a_process_measures_what_it_is_asked(suite_of):
    suite = suite_of(
        r"Latency\.track_default_shapes\('(cpu|triton)', 16, 64, 'int8'", r"Library\.track_bytes"
    )
    # Not to wait for what compare counts, and n/a is left out: triton without a GPU.
    suite.timed |= suite.counted[0]
    found = measured(suite, INSTALLED)
    assert found.pop("footprint.Library.track_bytes") > 10_000
    assert set(found) == {CPU_CALL}
    assert len(found[CPU_CALL]) == 30
    assert all(0 < seconds < 0.1 for seconds in found[CPU_CALL])


def test_another_installation_than_the_commits_is_an_error(load_script, tmp_path):
    # Its process ends, and all rows have failed: below.
    script = load_script("in_one_process", "in_one_process.py")
    with pytest.raises(RuntimeError, match="not the commit in"):
        script.start(str(tmp_path))
    script.start(str(INSTALLED))


def test_a_crash_or_a_hang_fails_all_rows(suite_of, tmp_path, monkeypatch):
    suite = suite_of(r"Latency\.track_default_shapes\('cpu', 16, 64, 'int8'")
    script = tmp_path / "script.py"
    monkeypatch.setattr(rounds, "SCRIPT", script)
    crash = "import os, sys; print('ready', flush=True); sys.stdin.readline(); os.abort()"
    hang = "import time; print('ready', flush=True); time.sleep(60)"
    monkeypatch.setattr(suite, "timeout", lambda request: 1)
    for code in (crash, hang, "raise SystemExit(3)"):
        script.write_text(code)
        assert measured(suite, tmp_path) == dict.fromkeys(rows_of(suite, suite.timed))


def test_rounds_alternate_so_that_a_drift_falls_on_both(suite_of, monkeypatch):
    turns = []

    class Fake:
        def __init__(self, suite, python, folder, request):
            self.folder, self.request = folder, request

        def wait(self, deadline):
            turns.append("start")

        def measure(self):
            turns.append(self.folder)
            return {name: [1.0] for name in self.request}

        def end(self):
            turns.append("end")

    monkeypatch.setattr(rounds, "Process", Fake)
    monkeypatch.setattr(rounds.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(rounds, "CALL_PROCESSES", 3)
    monkeypatch.setattr(rounds, "CALL_ROWS", 1000)
    suite = suite_of(
        "CallLatency.track_default", "cpu_time.*track_call", "footprint.Kernels.track_stack_bytes"
    )
    comparison = rounds.Comparison(suite, "python", ["A", "B"])
    done = []
    comparison.run(3, lambda: done.append(len(comparison.rounds[0])))
    # What was measured so far is kept after each lot.
    assert done == [1, 5, 9, 10]
    counted, timed = turns[:6], turns[6:]
    assert counted == ["start", "start", "A", "B", "end", "end"]
    # As many at once as there are cores.
    lot = ["start"] * 8 + list("ABBAABBA") + ["end"] * 8
    last = ["start"] * 2 + list("AB") + ["end"] * 2
    assert timed == [*lot, *lot, *last]
    base, head = comparison.sides()
    assert base == head
    assert {name: len(found) for name, found in base.items()} == {
        "footprint.Kernels.track_stack_bytes": 1,
        # A process has a speed of its own at calls.
        "call_latency.CallLatency.track_default_shapes": 9,
        "cpu_time.CpuTime.track_call": 3,
    }


def test_what_calls_nothing_takes_one_process_a_round(suite_of):
    timed = suite_of("cpu_time").timed
    assert rounds.turns(timed, 3) == [(side, timed) for side in (0, 1, 1, 0, 0, 1)]


@pytest.mark.parametrize(("rows", "processes"), [(1, 6), (11, 6), (30, 3), (91, 1)])
def test_the_fewer_the_calls_the_more_processes_measure_them(rows, processes):
    timed = {"call_latency.A.track_b": [*range(rows)], "cpu_time.C.track_d": [0]}
    calls = {"call_latency.A.track_b": [*range(rows)]}
    requests = [request for _, request in rounds.turns(timed, 4)]
    assert requests.count(timed) == 2 * 4
    # Kernels, too, take turns.
    assert [side for side, request in rounds.turns(timed, 4) if request == timed] == [
        0,
        1,
        1,
        0,
    ] * 2
    assert requests.count(calls) == 2 * 4 * (processes - 1)


@pytest.mark.parametrize(
    ("row", "calls", "kernels"),
    [
        (
            "call_latency.RelativeToAbs.track_functions('cpu', 'int8', True)",
            {("functions", "cpu", "int8", True)},
            set(),
        ),
        (
            "cuda_vs_triton.CallRatio.track_default_shapes(16, 64, 'int8')",
            {("default_shapes", backend, 16, 64, "int8") for backend in ("cuda", "triton")},
            set(),
        ),
        (
            "cuda_vs_triton.KernelRatio.track_variants('hot', 128, 'int8')",
            set(),
            {("variants", backend, "hot", 128, "int8") for backend in ("cuda", "triton")},
        ),
        (
            "copy_distance.DistanceToCopy.track_serving_shapes('cuda', 'cold', 1, 2048)",
            set(),
            {("serving_shapes", name, "cold", 1, 2048) for name in ("cuda", "copy")},
        ),
        ("footprint.Library.track_bytes", set(), set()),
    ],
)
def test_a_round_measures_what_its_rows_take(
    suite_of, load_script, monkeypatch, row, calls, kernels
):
    script = load_script("in_one_process", "in_one_process.py")
    suite = suite_of(f"^{re.escape(row)}$")
    wanted = {**suite.timed, **{k: v for family in suite.counted for k, v in family.items()}}
    assert rows_of(suite, wanted) == [row]
    call_time, device_time, common = (
        importlib.import_module(f"suite.{name}") for name in ("call_time", "device_time", "common")
    )
    for module in (call_time, device_time):
        monkeypatch.setattr(module, "WANTED", None)
    cpu_time = importlib.import_module("suite.cpu_time")
    for module in (call_time, cpu_time, device_time):
        monkeypatch.setattr(module, "REPEAT", 99)
    monkeypatch.setattr(common, "SAMPLE_SECONDS", 1.0)
    timers = common.measuring("timers")
    monkeypatch.setattr(timers, "SHORT_SECONDS", 1.0)
    monkeypatch.setattr(timers, "MOST", 10**6)
    script.restrict(suite.benchmarks, wanted)
    assert calls == call_time.WANTED
    assert kernels == device_time.WANTED
    assert cpu_time.REPEAT == device_time.REPEAT == script.SAMPLES
    assert (call_time.REPEAT, common.SAMPLE_SECONDS) == (script.CALL_SAMPLES, script.CALL_SECONDS)
    longest = script.GRAPH_CALLS
    assert timers.lengths_for(1e-9) == (longest, 3 * longest)
    assert timers.lengths_for(script.GRAPH_SECONDS / 100) == (100, 300)
