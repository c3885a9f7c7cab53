"""The suite: the form of its results, and that it stays light to import."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("asv_runner", reason="asv is not installed")
pytest.importorskip("asv", reason="asv is not installed")

from asv import benchmark as asv_benchmark
from asv_runner.benchmarks.time import TimeBenchmark
from asv_runner.discovery import disc_benchmarks

from benchmarks.suite import common

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "benchmarks/suite"


def test_samples_have_the_form_of_a_time_benchmark():
    def time_nothing():
        pass

    time_nothing.number, time_nothing.repeat, time_nothing.warmup_time = 1, 3, 0.001
    timed = TimeBenchmark("nothing", time_nothing, [time_nothing]).run()
    tracked = common.samples([1, 2.0, 3.0])
    assert tracked == {"samples": [1.0, 2.0, 3.0], "number": 1}
    assert {key: type(value) for key, value in tracked.items()} == {
        key: type(value) for key, value in timed.items()
    }


def test_asv_treats_samples_of_a_track_function_as_those_of_a_time_function():
    from asv.results import Results

    results = Results.unnamed()
    runner = pytest.importorskip("asv.runner")
    samples = [1.0, 2.0, 3.0, 4.0, 50.0]
    found = runner.BenchmarkResult([True], [samples], [1], 0, "", None)
    benchmark = {"name": "k", "params": [], "version": "1", "unit": "seconds", "type": "track"}
    results.add_result(benchmark, found, record_samples=True)
    assert results.get_result_value("k", []) == [3.0]
    assert results.get_result_stats("k", [])[0]["repeat"] == 5
    assert results.get_result_samples("k", []) == [samples]


def test_asv_checks_the_number_of_arguments_of_every_benchmark():
    # What asv check does, in this process.
    found = list(disc_benchmarks(str(SUITE)))
    assert len(found) > 20
    assert [benchmark.name for benchmark in found if not benchmark.check(str(SUITE))] == []


def test_results_are_samples_numbers_or_na_and_failures_raise(capsys):
    assert common.result_of([1.0]) == {"samples": [1.0], "number": 1}
    assert common.result_of(7) == 7
    assert math.isnan(common.result_of(common.NotAvailable("no device")))
    assert "no device" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="out of memory"):
        common.result_of(common.Failed("out of memory"))


def test_one_failing_timer_leaves_the_others_their_samples():
    def broken():
        raise OSError("gone")

    def without_code():
        raise NotImplementedError("Could not run 'op' on 'CUDA'.\nDetails")

    timers = {
        "lacking": common.prepared(None, lambda: without_code),
        "works": common.prepared(None, lambda: lambda: 2.0),
        "breaks": common.prepared(None, lambda: broken),
        "absent": common.prepared(common.NotAvailable("none"), lambda: broken),
    }
    assert common.take_samples(timers, 3) == {
        "lacking": common.NotAvailable("Could not run 'op' on 'CUDA'."),
        "works": [2.0, 2.0, 2.0],
        "breaks": common.Failed("OSError: gone"),
        "absent": common.NotAvailable("none"),
    }


def test_a_gpu_that_disappeared_is_a_failure(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    common.no_device.cache_clear()
    assert common.no_device() == common.NotAvailable("no CUDA device is visible")
    common.no_device.cache_clear()
    monkeypatch.setenv("PTGQ_MEASURED_DEVICE", "cuda")
    with pytest.raises(RuntimeError, match="gone"):
        common.no_device()
    common.no_device.cache_clear()


@pytest.mark.parametrize(
    ("backend", "kind"),
    [("cuda", common.Failed), ("cpu", common.Failed), ("triton", common.NotAvailable)],
)
def test_what_the_build_left_out_is_a_failure_where_its_device_is(monkeypatch, backend, kind):
    # Without a compiler, or with PTGQ_CUDA=0 beside a GPU: measured again once it is built.
    monkeypatch.setattr(common, "no_device", lambda: None)
    backends = importlib.import_module("ptgq.backends")
    monkeypatch.setattr(backends, "why_unavailable", lambda name, device: "not built")
    common.missing.cache_clear()
    assert common.missing(backend) == kind("not built")
    monkeypatch.setattr(backends, "why_unavailable", lambda name, device: None)
    common.missing.cache_clear()
    assert common.missing(backend) is None
    common.missing.cache_clear()


def test_discovery_finds_the_suite_without_starting_cuda():
    code = (
        "import sys; from asv_runner.discovery import list_benchmarks;"
        f"list_benchmarks({str(SUITE)!r}, sys.stdout);"
        # A commit's ptgq may start CUDA, which then fails in what is forked.
        "assert not {'ptgq', 'triton'} & set(sys.modules), 'heavy import';"
        "assert not sys.modules['torch'].cuda.is_initialized(), 'CUDA'"
    )
    start = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert time.monotonic() - start < 30
    found = {benchmark["name"]: benchmark for benchmark in json.loads(run.stdout)}
    assert set(found) == {
        "accuracy.Accuracy.track_relative_rms_error",
        "accuracy.ByteIdentity.track_differing_bytes",
        "beside_gemm.Bytes.track_differing_bytes",
        "beside_gemm.Kernels.track_copy_ratio",
        "beside_gemm.Kernels.track_time",
        "call_latency.CallLatency.track_default_shapes",
        "call_latency.CallLatency.track_functions",
        "masked_rows.MaskedDistance.track_masked_rows",
        "masked_rows.MaskedTime.track_masked_rows",
        "call_latency.RelativeToAbs.track_default_shapes",
        "call_latency.RelativeToAbs.track_functions",
        "call_latency.RelativeToTorch.track_default_shapes",
        "call_latency.RelativeToTorch.track_functions",
        "cuda_vs_triton.CallRatio.track_default_shapes",
        "code_hash.CudaKernels.track_hash",
        "code_hash.TritonKernels.track_hash",
        "cpu_time.CpuTime.track_call",
        "cpu_time.CpuTime.track_copy_ratio",
        "footprint.Kernels.track_kernels",
        "footprint.Library.track_bytes",
        "footprint.Startup.track_first_call",
        "footprint.Startup.track_import",
        "peers.PeerExactness.track_differing_codes",
        "peers.PeerExactness.track_differing_scales",
        "peers.PeerExactness.track_relative_rms_error",
        "peers.Peers.track_default_shapes",
        "peers.Peers.track_masked_rows",
        "peers.Peers.track_serving_shapes",
        "scale_formats.ScaleBytes.track_differing_bytes",
    } | {f"timed.{what}.time_default_shapes" for what in ("Calls", "Kernels")} | {
        f"{reader}.track_{family}"
        for reader in (
            "kernel_time.KernelTime",
            "copy_distance.DistanceToCopy",
            "cuda_vs_triton.KernelRatio",
        )
        for family in ("default_shapes", "serving_shapes", "variants")
    } | {
        f"footprint.{family}.track_{metric}"
        for family in ("Kernels", "TritonKernels")
        for metric in ("registers", "spill_bytes", "stack_bytes", "shared_bytes", "instructions")
    }
    for benchmark in found.values():
        assert len(benchmark["version"]) < 5, f"{benchmark['name']} has no version set by hand"
        assert len(benchmark["params"]) == len(benchmark["param_names"])
    # What is recorded is still measured: its history goes on.
    recorded = json.loads((ROOT / "results/benchmarks.json").read_text())
    for name in recorded.keys() & found.keys():
        old, new = recorded[name], found[name]
        assert (old["param_names"], old["version"]) == (new["param_names"], new["version"]), name
        if not name.startswith("footprint.Kernels."):  # by the names of kernels
            for before, after in zip(old["params"], new["params"], strict=True):
                assert set(before) <= set(after), name


@pytest.mark.parametrize("environment", [{}, {"PTGQ_IMPORT_TORCH": "0"}])
def test_no_file_but_timed_imports_torch_or_ptgq(environment):
    names = sorted(path.stem for path in SUITE.glob("*.py") if environment or path.stem != "timed")
    code = (
        "import sys; from importlib import import_module\n"
        f"sys.path.insert(0, {str(SUITE.parent)!r})\n"
        f"for name in {names}:\n"
        "    import_module(f'suite.{name}')\n"
        "    assert not {'torch', 'ptgq', 'triton'} & set(sys.modules), name"
    )
    command, env = [sys.executable, "-c", code], {**os.environ, **environment}
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_choosing_benchmarks_imports_no_torch():
    code = (
        "import sys\n"
        "from asv.config import Config\n"
        "from tracking.rounds import Suite\n"
        "suite = Suite(Config.load('asv.conf.json'), ['timed.Calls', 'footprint'])\n"
        "assert 'timed.Calls.time_default_shapes' in suite.selected\n"
        "assert not {'torch', 'ptgq', 'triton'} & set(sys.modules)"
    )
    command, root = [sys.executable, "-c", code], SUITE.parents[1]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_asvs_discovery_imports_no_torch(tmp_path):
    command = [sys.executable, "-X", "importtime", asv_benchmark.__file__, "discover"]
    command += [SUITE, tmp_path / "found"]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert "timed.Calls.time_default_shapes" in (tmp_path / "found").read_text()
    # importlib.import_module is not listed, what it imports is.
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in run.stderr.splitlines()}
    assert not {"torch", "ptgq", "triton"} & imported


def test_files_of_the_suite_are_all_discovered(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SUITE.parent), *sys.path])
    names = {benchmark.name.partition(".")[0] for benchmark in disc_benchmarks(str(SUITE))}
    shared = {"common", "call_time", "device_time", "machine_code", "masked_peers", "__init__"}
    shared |= {"triton_offline"}
    assert names == {path.stem for path in SUITE.glob("*.py")} - shared


def test_bytes_of_scale_formats_are_compared_on_the_cpu():
    from benchmarks.suite import scale_formats

    results = scale_formats.differing_bytes()
    on_cpu = [value for (backend, *_), value in results.items() if backend in ("cpu", "reference")]
    assert len(on_cpu) == 2 * len(common.GROUP_SIZES) * len(common.READ)
    assert set(on_cpu) == {0}
