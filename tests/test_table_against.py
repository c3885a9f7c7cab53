"""The table against other implementations: numbers, ratios, exactness, and why one is not there."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import peers
import pytest
import table_against
import table_arguments
from measure.configurations import STATES
from measure.workloads import Workload

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "benchmark_per_token_group_quant.py"
ONE = ["--device", "cpu", "--warmup-iters", "1", "--bench-iters", "2", "--shape", "4x256"]
FP8 = [*ONE, "--dtype", "fp8"]


@pytest.fixture
def table(load_script):
    return load_script("benchmark_per_token_group_quant", SCRIPT.name)


@pytest.fixture
def broken(monkeypatch):
    """A peer that gives wrong bytes, one that fails in kernels, and none other."""

    def wrong(workload, x, out):
        def call():
            q, s = workload.call(x, backend="reference")
            q.view(peers.module("torch-eager").plain.torch.uint8)[0, :2] ^= 1
            return q, s * 2

        return call

    def failing(workload, x, out):
        raise OSError("no kernel image\nis available")

    monkeypatch.setattr(peers.module("torch-eager"), "bind", wrong)
    monkeypatch.delattr(peers.module("torch-eager"), "results")
    monkeypatch.setattr(peers.module("torch-compile"), "bind", failing)


def rows_of(table, capsys, *arguments):
    assert table.main([*FP8, "--format", "json", *arguments]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    return {one["implementation"]: one for one in row["implementations"]}


def test_each_implementation_has_a_time_a_ratio_and_what_differs(table, capsys):
    found = rows_of(table, capsys, "--against", "torch-eager", "--backend", "reference")
    assert list(found) == ["reference", "torch-eager"]
    own, other = found.values()
    assert own["call"]["ratio"] == 1
    assert other["call"]["seconds"] > 0
    assert other["version"] == peers.version_of("torch-eager")
    assert (own["codes"], own["scales"], other["codes"], other["scales"]) == (0, 0, 0, 0)
    assert own["snr"] == pytest.approx(other["snr"])


def test_what_differs_is_counted_and_what_fails_says_why(table, capsys, broken):
    found = rows_of(table, capsys, "--against", "torch-eager", "--against", "torch-compile")
    assert (found["torch-eager"]["codes"], found["torch-eager"]["scales"]) == (2, 8)
    assert found["torch-eager"]["snr"] < 1 < 25 < found["cpu"]["snr"]
    assert found["torch-compile"]["reason"] == "OSError (no kernel image)"
    assert "call" not in found["torch-compile"]


def test_all_names_each_that_is_missing_in_at_most_100_columns(table, capsys, broken):
    assert table.main([*ONE, "--against", "all"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1] != "#"]
    assert max(map(len, lines)) <= 100
    for name in peers.NAMES:
        (line, _) = [line for line in lines if re.match(rf"{name} ", line)]
        if missing := peers.missing(name):
            assert line.endswith(missing[: 100 - len(name) - 2])
    # FP8 in one format and group size, and INT8.
    assert sum(line.startswith("ptgq CPU") for line in lines) == 2


def test_other_formats_have_a_line_for_each_implementation(table, capsys, broken):
    names = ["--against", "torch-eager", "--against", "torch-compile"]
    assert table.main([*FP8, *names, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["implementation"] for row in rows] == ["cpu", "torch-eager", "torch-compile"]
    assert float(rows[1]["call_us"]) > 0
    assert [row["differing_scales"] for row in rows] == ["0", "8", ""]
    assert {row["scales"] for row in rows} == {"row_float32"}
    assert rows[2]["reason"] == "OSError (no kernel image)"
    assert table.main([*FP8, *names, "--format", "markdown"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    assert len(lines) == 5
    assert len({line.count("|") for line in lines}) == 1


def test_on_a_gpu_kernels_are_timed_in_each_state_and_one_may_fail(monkeypatch):
    # As if there was one: the times are stated.
    class Kernels:
        def __init__(self, workload, name="ptgq"):
            self.factor = 2 if name == "torch-eager" else 1

        def timer(self, name, state):
            if (name, state) == ("torch-eager", "cold"):
                raise RuntimeError("operation not permitted when stream is capturing")
            return lambda: self.factor * 1e-6 * (1 + STATES.index(state))

    monkeypatch.setattr(table_against, "states", lambda device: ("call", *STATES))
    monkeypatch.setattr(table_against, "Kernels", Kernels)
    monkeypatch.setattr(table_against, "PeerKernels", Kernels)
    options = table_arguments.parse([*FP8, "--against", "torch-eager"])
    row = table_against.measure(Workload(4, 256, 128), options)
    own, other = row["implementations"]
    assert other["produced"] == {"seconds": 2e-6, "spread": 0, "ratio": 2, "ratio_interval": None}
    assert (own["hot"]["seconds"], own["hot"]["ratio"]) == (2e-6, 1)
    assert "cold" not in other
    expected = "RuntimeError (operation not permitted when stream is capturing)"
    assert other["cold_reason"] == expected


def test_a_device_that_is_lost_leaves_a_reason_in_every_row(monkeypatch):
    def lost(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(table_against.timers, "sample", lost)
    options = table_arguments.parse([*FP8, "--against", "torch-eager"])
    row = table_against.measure(Workload(4, 256, 128), options)
    for one in row["implementations"]:
        assert one["call_reason"].startswith("RuntimeError (CUDA error: an illegal")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "onnx"], "invalid choice: 'onnx'"),
        (["--against", "all", "--bandwidth"], "--against: not with --method or --bandwidth"),
        (["--against", "all", "--preset", "limits"], "--against: not with --preset limits"),
    ],
)
def test_what_does_not_fit_is_refused(capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        table_arguments.parse(arguments)
    assert said in capsys.readouterr().err


def test_all_on_a_machine_with_none_of_them(tmp_path):
    # As a user runs it, compiler included, but for few samples.
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(SCRIPT), *FP8, "--against", "all"]
    done = subprocess.run(
        command, env={**os.environ, **cache}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for name in peers.NAMES:
        (line,) = re.findall(rf"^{name} +(.*)", done.stdout, re.M)
        why = peers.lacks(name, Workload(4, 256, 128), "cpu")
        assert line == why if why else re.fullmatch(r"\d.* ×[\d.]+\??( +[\d.]+){3}", line)
