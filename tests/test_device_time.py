"""What the GPU benchmarks read is measured, whatever works and whatever fails."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
from measure import timers, workloads
from measure.configurations import ALL_PRESETS, CONSUMED, PRESETS, STATES, VARIANTS, known

from benchmarks.suite import common, copy_distance, cuda_vs_triton, device_time, kernel_time

READERS = [
    (getattr(device_time, f"measure_{family}"), reader, f"track_{family}")
    for family in ("default_shapes", "serving_shapes", "variants")
    for reader in (
        kernel_time.KernelTime,
        copy_distance.DistanceToCopy,
        cuda_vs_triton.KernelRatio,
    )
]
# Seconds of a call: of a backend or the copy, in each state.
SECONDS = {
    (name, state): own + later
    for name, own in (("cuda", 3.0), ("triton", 6.0), ("copy", 1.0))
    for state, later in zip(STATES, (0.0, 0.5, 1.0), strict=True)
}


@pytest.fixture(autouse=True)
def device(monkeypatch):
    """A device whose kernels take as many seconds as stated."""
    device = SimpleNamespace(broken=False, measured=[])

    class Kernels:
        def __init__(self, workload):
            self.workload = workload
            device.measured.append(workload)

        def timer(self, name, state):
            if name == "triton" and device.broken:
                raise OSError("illegal memory access")
            return lambda: SECONDS[name, state]

    modules = {
        "kernels": SimpleNamespace(Kernels=Kernels), "timers": timers, "workloads": workloads
    }  # fmt: skip
    monkeypatch.setattr(common, "no_device", lambda: None)
    monkeypatch.setattr(common, "missing", lambda backend: None)
    monkeypatch.setattr(common, "measuring", modules.__getitem__)
    return device


def read(measure, reader, name):
    """Yield each combination of parameters with what asv gets for it."""
    cache, function = measure(), getattr(reader(), name)
    assert function.setup_cache == measure
    assert reader.version
    for combination in itertools.product(*function.params):
        assert len(combination) == len(function.param_names)
        try:
            yield combination, function(cache, *combination)
        except RuntimeError as error:
            yield combination, str(error)


def expected(reader, combination):
    if reader is cuda_vs_triton.KernelRatio:
        return SECONDS["cuda", combination[0]] / SECONDS["triton", combination[0]]
    backend, state, *_ = combination
    copy = SECONDS["copy", state] if reader is copy_distance.DistanceToCopy else 1.0
    return SECONDS[backend, state] / copy


@pytest.mark.parametrize(("measure", "reader", "name"), READERS)
def test_each_combination_is_measured(measure, reader, name):
    for combination, result in read(measure, reader, name):
        assert result["samples"] == [expected(reader, combination)] * device_time.REPEAT


@pytest.mark.parametrize(("measure", "reader", "name"), READERS)
def test_a_broken_backend_fails_alone(measure, reader, name, device):
    device.broken = True
    for combination, result in read(measure, reader, name):
        if combination[0] == "cuda":
            assert result["samples"][0] == expected(reader, combination)
        else:
            assert result == "OSError: illegal memory access"


@pytest.mark.parametrize(("measure", "reader", "name"), READERS)
def test_without_a_device_all_is_na(measure, reader, name, monkeypatch):
    absent = common.NotAvailable("no CUDA device is visible")
    monkeypatch.setattr(common, "no_device", lambda: absent)
    monkeypatch.setattr(common, "missing", lambda backend: absent)
    assert all(math.isnan(result) for _, result in read(measure, reader, name))


def test_what_a_commit_lacks_is_na(monkeypatch):
    import ptgq

    monkeypatch.delattr(ptgq.scales, "convert")
    monkeypatch.delattr(ptgq, "silu_and_mul_per_token_group_quant_fp8")
    found = device_time.measure_variants()
    lacking = {key[-1] for key, row in found.items() if isinstance(row, common.NotAvailable)}
    read = (*CONSUMED, *known.TILED_FORMATS)
    consumers = {name for name in PRESETS if ALL_PRESETS[name].scales in read}
    assert {"deep_gemm_hopper", "torch_scaled_mm_mx"} <= consumers
    assert lacking == {"silu_and_mul", *consumers}


def test_what_has_no_tiles_is_na(monkeypatch):
    import ptgq

    monkeypatch.setattr(common, "no_device", lambda: None)
    monkeypatch.delattr(ptgq.ScaleFormat, "torch_scaled_mm_mx")
    lacking = {name: common.lacking(workloads.variant(1, name)) for name in VARIANTS}
    absent = common.NotAvailable("this commit has no scales in tiles")
    assert lacking == {**dict.fromkeys(VARIANTS), "torch_scaled_mm_mx": absent}


def test_the_configurations(device):
    device_time.measure_default_shapes()
    assert set(device.measured) == set(workloads.DEFAULT_WORKLOADS)
    device.measured.clear()
    device_time.measure_serving_shapes()
    assert len(device.measured) == 21
    assert {w.bytes_moved for w in device.measured} >= {3 * 7168 + 4 * 56, 32768 * 2048 * 3 + 2**21}
    device.measured.clear()
    device_time.measure_variants()
    assert [(w.tokens, w.hidden) for w in device.measured[:: len(VARIANTS)]] == [
        (128, 7168), (1024, 7168), (8192, 7168),
    ]  # fmt: skip
    assert len(set(device.measured)) == 3 * len(VARIANTS)


def test_every_preset_is_a_variant():
    from ptgq import ScaleFormat

    presets = {getattr(ScaleFormat, name)() for name in ALL_PRESETS}
    named = (workloads.variant(1, name) for name in VARIANTS)
    assert presets <= {w.scale_format for w in named if w.dtype == "fp8"}


def test_compare_measures_the_wanted_rows_alone(device, monkeypatch):
    wanted = {("default_shapes", "cuda", "cold", 64, 128, "int8")}
    monkeypatch.setattr(device_time, "WANTED", wanted)
    found = device_time.measure_default_shapes()
    assert [(w.tokens, w.dtype) for w in device.measured] == [(64, "int8")]
    assert {key for key, row in found.items() if row} == {
        ("kernel_time", "cuda", "cold", 64, 128, "int8")
    }
    assert not any(device_time.measure_variants().values())
