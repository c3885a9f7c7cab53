"""The suite's rows of the functions before and beside the GEMM: kernels' times, and bytes."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from measure import clocks, kernels, timers
from measure.beside_gemm import workload_of
from measure.configurations import CHECKED, FORMS, Form

import ptgq
from benchmarks.suite import beside_gemm, common

SMALL = {
    "norm": Form("norm", (40, 256), "cold"),
    "norm_residual": Form("norm_residual", (8, 256), "produced"),
    "transposed": Form("transposed", (128, 256), "cold"),
    "blocks": Form("blocks", (3, 130, 256), "cold"),
}
FUNCTIONS = {
    "norm": "rms_norm_per_token_group_quant_fp8",
    "transposed": "per_token_group_quant_fp8_transposed",
    "blocks": "per_block_quant_fp8",
}


@pytest.fixture
def device(monkeypatch):
    """A device with this machine's CPU, its clock, and backends that run there."""
    monkeypatch.setattr(beside_gemm, "FORMS", SMALL)
    monkeypatch.setattr(beside_gemm, "CHECKED", ())
    monkeypatch.setattr(common, "GPU_BACKENDS", ("cpu", "reference"))
    monkeypatch.setattr(common, "no_device", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    has = SimpleNamespace(total_memory=2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: has)
    monkeypatch.setattr(kernels, "Kernels", partial(kernels.Kernels, lengths=(1, 3), device="cpu"))
    monkeypatch.setattr(kernels, "l2_bytes", lambda: 2**16)
    monkeypatch.setattr(timers, "capture", lambda calls: lambda: [call() for call in calls])
    monkeypatch.setattr(clocks, "clock_for", lambda _: clocks.HostClock())
    return has


@pytest.mark.parametrize("name", FORMS)
def test_bytes_are_those_of_the_call(name):
    form = FORMS[name]
    workload = workload_of(form)
    assert workload.bytes_moved == form.bytes_moved
    call = workload.bind(workload.empty_input("meta"), backend=None)
    results = call()
    written = [t for t in (call.keywords.get("residual"),) if t is not None]
    x = call.args[0]
    assert tuple(x.shape) == form.shape
    counted = sum(t.nbytes for t in (x, *results, *written, *written))
    assert counted == form.bytes_moved
    made = workload.make_output("meta")
    assert [t.shape.numel() for t in made] == [t.shape.numel() for t in results]
    assert name == "_".join((form.function, "x".join(map(str, form.shape)), form.state))


def test_kernels_are_measured_beside_the_copy(device):
    found = beside_gemm.measure()
    assert set(found) == {
        (what, backend, name)
        for what in ("time", "copy_ratio")
        for backend in ("cpu", "reference")
        for name in SMALL
    }
    assert {key: len(value) for key, value in found.items()} == dict.fromkeys(found, 5)
    assert all(isinstance(one, float) for value in found.values() for one in value)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_what_a_commit_lacks_is_na(device, monkeypatch, kind):
    monkeypatch.delattr(ptgq, FUNCTIONS[kind])
    monkeypatch.setattr(beside_gemm, "CHECKED", CHECKED)
    monkeypatch.setattr(beside_gemm, "CHECKED_BACKENDS", ("cpu",))
    absent = common.NotAvailable(f"this commit has no {FUNCTIONS[kind]}")
    for (what, _, name), value in beside_gemm.measure().items():
        needed = name.partition("_")[0] == kind or (kind, name) == ("blocks", "dequantize-blocks")
        assert (value == absent) == needed, (what, name)
        assert needed or value == 0 or isinstance(value, list), (what, name)


def test_a_preset_that_a_commit_lacks_is_na(monkeypatch):
    preset = "torch_scaled_mm_blocks"
    monkeypatch.delattr(next(c for c in ptgq.ScaleFormat.__mro__ if preset in vars(c)), preset)
    monkeypatch.setattr(beside_gemm, "FORMS", {})
    found = {key[1:]: value for key, value in beside_gemm.measure().items()}
    lacking = f"ScaleFormat of this commit has no {preset}"
    assert found["cpu", "blocks_torch_scaled_mm_blocks"] == common.NotAvailable(lacking)
    assert found["cpu", "blocks"] == 0


def test_what_the_device_has_no_memory_for_is_na(device):
    device.total_memory = beside_gemm.BUFFERS * SMALL["blocks"].bytes_moved - 1
    found = beside_gemm.measure()
    na = {name for (_, _, name), value in found.items() if not isinstance(value, list)}
    assert na == {"blocks"}
    assert (
        found["time", "cpu", "blocks"].reason == "its buffers take 0 GiB, and the device has 0 GiB"
    )


def test_without_a_device_bytes_are_compared_alone():
    if torch.cuda.is_available():
        pytest.skip("it is here")
    found = beside_gemm.measure()
    reason = common.NotAvailable("no CUDA device is visible")
    for (what, backend, *_), value in found.items():
        assert value == (0 if (what, backend) == ("bytes", "cpu") else reason)
    assert len(found) == 2 * 2 * len(FORMS) + 3 * len(CHECKED)


@pytest.mark.parametrize("part", ["q", "s_t", "padding", "residual"])
def test_one_wrong_byte_is_counted(monkeypatch, part):
    name, call = {
        "q": (FUNCTIONS["norm"], "norm_row_float32"),
        "s_t": (FUNCTIONS["transposed"], "transposed_deep_gemm_blackwell"),
        "padding": (FUNCTIONS["blocks"], "blocks_torch_scaled_mm_blocks"),
        "residual": (FUNCTIONS["norm"], "norm_residual"),
    }[part]
    right = getattr(ptgq, name)

    def wrong(*arguments, backend, **options):
        results = right(*arguments, backend=backend, **options)
        if backend == "cpu":
            changed = {"q": results[0], "s_t": results[-1], "padding": results[1]}.get(part)
            changed = options["residual"] if changed is None else changed
            storage = torch.empty(0, dtype=torch.uint8, device="cpu").set_(
                changed.untyped_storage()
            )
            storage[-1] ^= 1
        return results

    monkeypatch.setattr(ptgq, name, wrong)
    assert beside_gemm._differing(call, "cpu") == 1


@pytest.mark.gpu
def test_all_of_it_on_a_gpu(monkeypatch):
    monkeypatch.setattr(beside_gemm, "FORMS", SMALL)
    for key, value in beside_gemm.measure().items():
        assert isinstance(value, list) if key[0] != "bytes" else value == 0, (key, value)
