"""What the GPU benchmarks read is measured, whatever works and whatever fails."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
from measure.timers import sample

from benchmarks.suite import (
    call_latency,
    common,
    copy_distance,
    cuda_vs_triton,
    device_time,
    kernel_time,
)

SEED = device_time.measure_seed
SERVING = device_time.measure_serving
READERS = [
    (SEED, kernel_time.KernelTime, "track_seed"),
    (SERVING, kernel_time.KernelTime, "track_serving"),
    (SEED, copy_distance.DistanceToCopy, "track_seed"),
    (SERVING, copy_distance.DistanceToCopy, "track_serving"),
    (SEED, call_latency.CallLatency, "track_call"),
    (SEED, cuda_vs_triton.CudaVsTriton, "track_call_ratio"),
    (SEED, cuda_vs_triton.CudaVsTriton, "track_kernel_ratio"),
]


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """A device whose launches take as many seconds as their fake calls say."""
    modules = {
        "clocks": SimpleNamespace(EventClock=lambda: None, clock_for=lambda device: None),
        "rotation": SimpleNamespace(
            copy_calls=lambda bytes_moved, cache: ([2.0], 0.5),
            workload_calls=lambda workload, backend, cache: workload.calls(backend),
            flush_for=lambda cache: cache,
        ),
        "timers": SimpleNamespace(
            replay_timer=lambda calls, clock, before: lambda: calls[0],
            loop_timer=lambda call, number, clock: call,
            sample=sample,
        ),
    }

    def calls(backend):
        if backend == "triton" and device.broken:
            raise OSError("illegal memory access")
        return [3.0 if backend == "cuda" else 6.0]

    workload = SimpleNamespace(
        bytes_moved=1,
        calls=calls,
        make_input=lambda device: None,
        call=lambda x, backend: calls(backend)[0],
    )
    device = SimpleNamespace(broken=False)
    monkeypatch.setattr(common, "no_device", lambda: None)
    monkeypatch.setattr(common, "missing", lambda backend: None)
    monkeypatch.setattr(common, "measuring", modules.__getitem__)
    monkeypatch.setattr(common, "workload", lambda *parameters: workload)
    return device


def read(measure, reader, name):
    """Yield each combination of parameters with what asv gets for it."""
    cache, function = measure(), getattr(reader(), name)
    assert getattr(function, "setup_cache", None) in (measure, None)
    params = function.params if hasattr(function, "params") else reader.params
    for combination in itertools.product(*params):
        try:
            yield combination, function(cache, *combination)
        except RuntimeError as error:
            yield combination, str(error)


@pytest.mark.parametrize(("measure", "reader", "name"), READERS)
def test_each_combination_is_measured(measure, reader, name):
    expected = {"cuda": 3.0, "triton": 6.0}
    for combination, result in read(measure, reader, name):
        if combination[0] in ("cpu", "reference"):
            assert math.isnan(result)
            continue
        value = expected.get(combination[0], 0.5)  # the copy takes 2 s for twice the bytes: 1 s
        assert set(result["samples"]) == {value}


@pytest.mark.parametrize(("measure", "reader", "name"), READERS)
def test_a_broken_backend_fails_alone(measure, reader, name, device):
    device.broken = True
    for combination, result in read(measure, reader, name):
        if combination[0] == "cuda":
            assert set(result["samples"]) == {3.0}
        elif combination[0] in ("cpu", "reference"):
            assert math.isnan(result)
        else:
            assert result == "OSError: illegal memory access"


@pytest.mark.parametrize(("measure", "reader", "name"), READERS)
def test_without_a_device_all_is_na(measure, reader, name, monkeypatch):
    absent = common.NotAvailable("no CUDA device is visible")
    monkeypatch.setattr(common, "no_device", lambda: absent)
    monkeypatch.setattr(common, "missing", lambda backend: absent)
    assert all(math.isnan(result) for _, result in read(measure, reader, name))


def test_calls_of_all_configurations_alternate(monkeypatch):
    sampled, take_samples = [], common.take_samples

    def count(timers, repeat):
        sampled.append(sum(map(callable, timers.values())))
        return take_samples(timers, repeat)

    monkeypatch.setattr(common, "take_samples", count)
    device_time.measure_seed()
    assert sampled == [5] * 30 + [60]
