"""Eager calls of every format and function: what is bound, and what the suite samples of it."""

from __future__ import annotations

import itertools
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from every import every
from measure import calls, timers
from measure.configurations import ALL_PRESETS, CALLED_FORMATS, CALLS, PER_BATCH, known
from numeric import assert_same_bytes

import ptgq
from benchmarks.suite import call_time, common
from ptgq import ScaleFormat

# Where there is no device, CUDA's and Triton's rows are not measured.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ("cuda", "triton") if DEVICE == "cuda" else ("cpu", "reference")


@every(name=list(CALLS), backend=BACKENDS, out=[False, True])
def test_results_of_live_calls_never_share_memory(name, backend, out):
    if name.startswith("dequantize") and out:
        with pytest.raises(NotImplementedError):
            calls.bind(name, DEVICE, backend, out)
        return
    call, x = calls.bind(name, DEVICE, backend, out)
    assert x.dtype is torch.bfloat16
    first, second = ((r if isinstance(r, tuple) else (r,)) for r in (call(), call()))
    for a, b in zip(first, second, strict=True):
        assert (a.data_ptr() == b.data_ptr()) == out
        assert_same_bytes(a, b, name)


def test_every_format_and_function_is_called():
    listed = [name.removesuffix(PER_BATCH) for name in CALLED_FORMATS if name not in known.FORMATS]
    presets = {getattr(ScaleFormat, name)() for name in ALL_PRESETS}
    assert {getattr(ScaleFormat, name)() for name in listed} == presets
    functions = {name for name in ptgq.__all__ if "quant" in name}
    assert functions == set(calls.FUNCTIONS.values())
    kinds = {name.partition("_")[0] for name in CALLS}
    assert kinds == set(calls.FUNCTIONS)


def test_a_preset_that_a_commit_lacks_is_na(monkeypatch):
    monkeypatch.delattr(ScaleFormat, "torch_scaled_mm_mx")
    with pytest.raises(NotImplementedError, match="this commit has no torch_scaled_mm_mx"):
        calls.bind("fp8_torch_scaled_mm_mx", "cpu", "cpu", out=False)


def test_results_that_share_memory_are_a_failure(monkeypatch):
    kept = ptgq.per_token_group_quant_int8(torch.ones(16, 512, dtype=torch.bfloat16), 128)
    monkeypatch.setattr(ptgq, "per_token_group_quant_int8", lambda x, group, *, backend: kept)
    with pytest.raises(RuntimeError, match="int8: results of two calls share memory"):
        calls.bind("int8", "cpu", "cpu", out=False)


def test_given_tensors_that_are_not_returned_are_a_failure(monkeypatch):
    right = ptgq.per_token_group_quant_int8
    monkeypatch.setattr(
        ptgq,
        "per_token_group_quant_int8",
        lambda x, group, *, out=None, backend: right(x, group, backend=backend),
    )
    with pytest.raises(RuntimeError, match="int8: out= is not what is returned"):
        calls.bind("int8", "cpu", "cpu", out=True)


@pytest.mark.parametrize("missing", ["silu_and_mul_per_token_group_quant_fp8", "ScaleFormat"])
def test_what_a_commit_lacks_is_not_implemented(monkeypatch, missing):
    if missing == "ScaleFormat":
        plain = ptgq.per_token_group_quant_fp8
        monkeypatch.setattr(
            ptgq, "per_token_group_quant_fp8", lambda x, group, *, backend: plain(x, group)
        )
        name = "fp8_ocp_mx"
    else:
        monkeypatch.delattr(ptgq, missing)
        name = "silu_row_float32"
    with pytest.raises(NotImplementedError, match="this commit has no"):
        calls.bind(name, "cpu", "cpu", out=False)


@pytest.fixture
def sampled(monkeypatch):
    """Calls that take as many seconds as they say, and the order in which they were sampled."""
    order = []

    def call_timer(call, clock):
        if isinstance(call, partial):
            is_abs = call.func is torch.abs
            name = call.args[0].name if is_abs else call.args[0]
            kind, seconds = ("abs", 2.0) if is_abs else ("call", 3.0)
        else:
            kind, name, seconds = "torch", call(), 6.0

        def take():
            order.append((kind, name))
            return seconds

        return take

    modules = {"timers": timers, "calls": calls, "clocks": SimpleNamespace(clock_for=str)}
    monkeypatch.setattr(common, "call_timer", call_timer)
    monkeypatch.setattr(common, "measuring", modules.__getitem__)
    monkeypatch.setattr(common, "missing", lambda backend: None)
    monkeypatch.setattr(call_time, "REPEAT", 2)
    monkeypatch.setattr(call_time, "_abs_and_allocations", lambda x: lambda: x.name)
    return order


def test_each_call_is_sampled_beside_torchs_of_its_x(sampled):
    def bind(name):
        if name == "broken":
            raise OSError("illegal memory access")
        return partial(print, name), SimpleNamespace(name=name)

    bound = {("family", "cpu", name): partial(bind, name) for name in ("a", "broken", "b")}
    found = call_time.sample(bound, "cpu")
    for name in ("a", "b"):
        assert found["call", "family", "cpu", name] == [3.0, 3.0]
        assert found["RelativeToAbs", "family", "cpu", name] == [1.5, 1.5]
        assert found["RelativeToTorch", "family", "cpu", name] == [0.5, 0.5]
    failed = common.Failed("OSError: illegal memory access")
    assert found["call", "family", "cpu", "broken"] == failed
    assert found["RelativeToAbs", "family", "cpu", "broken"] == failed
    # Twice round all, after each ran once to be prepared.
    once = [(kind, name) for name in ("a", "b") for kind in ("abs", "torch", "call")]
    assert sampled[2:] == once * 2


def test_the_yardstick_allocates_twice_and_launches_once(monkeypatch):
    done = []
    monkeypatch.setattr(torch, "empty_like", lambda x: done.append(("empty_like", x)))
    monkeypatch.setattr(torch, "abs", lambda x: done.append(("abs", x)))
    call_time._abs_and_allocations("x")()
    assert done == [("empty_like", "x"), ("empty_like", "x"), ("abs", "x")]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_calls_are_measured_on_the_backends_of_the_device(device, monkeypatch):
    bound_of = {}

    def sample(bound, on):
        assert on == device
        bound_of.update(bound)
        return {("call", *key): [float(key[1] == "triton") + 1] for key in bound}

    absent = common.NotAvailable("none")
    monkeypatch.setattr(common, "no_device", lambda: None if device == "cuda" else absent)
    monkeypatch.setattr(call_time, "sample", sample)
    found = call_time.measure()
    assert len(bound_of) == 4 * 30 + 3 * len(CALLS) * 2
    ratios = [row for key, row in found.items() if key[0] == "cuda_vs_triton"]
    assert ratios == [[0.5]] * 30
    for backend in ("cuda", "triton", "cpu"):
        on_cpu = backend == "cpu"
        monkeypatch.setattr(common, "missing", lambda backend: None)
        assert (call_time._absent(backend, device) is None) == (not on_cpu or device == "cpu")
    keys = set(itertools.islice(bound_of, 3))
    bound_of.clear()
    monkeypatch.setattr(call_time, "WANTED", keys)
    call_time.measure()
    assert set(bound_of) == keys
