"""What the rows of the limits preset measure: of which configurations, from which times."""

from __future__ import annotations

import statistics
import subprocess

import pytest
import torch
from measure import timers
from measure.configurations import CONSUMED, SCALE_FORMATS
from measure.workloads import Workload


@pytest.fixture
def measure(load_script):
    return load_script("limits_measure", "limits_measure.py")


class FakeGpu:
    """A GPU whose times the test states: seconds of a call, by what is called."""

    def __init__(self, measure, monkeypatch, seconds):
        self.checked = []

        class Kernels:
            def __init__(self, workload):
                self.workload = workload

            def timer(self, name, state):
                assert state == "cold"
                return lambda: seconds(self.workload, name)

            def cold(self, calls):
                return calls[0]

        monkeypatch.setattr(measure, "Kernels", Kernels)
        monkeypatch.setattr(timers, "loop_timer", self.loop)
        monkeypatch.setattr(measure.clocks, "EventClock", object)
        monkeypatch.setattr(measure, "check_agreement", lambda *a: self.checked.append(a))
        monkeypatch.setattr(Workload, "make_input", lambda self, device: "x")
        monkeypatch.setattr(Workload, "make_output", lambda self, device: ("q", "s"))
        monkeypatch.setattr(measure, "empty_kernel", lambda: lambda: seconds(None, "empty"))
        self.seconds = seconds

    def loop(self, call, number, clock):
        name = "abs"
        if call.func is not torch.abs:
            name = call.keywords["backend"] + ("_out" if "out" in call.keywords else "")
        return lambda: self.seconds(None, name)


def test_kernels_are_compared_with_the_copy_of_their_own_bytes(measure, monkeypatch):
    def seconds(what, name):
        if name == "copy":
            return 1.0 * what.bytes_moved
        slow = what.scales.startswith("column") and what.group_size == 64 and what.tokens == 32768
        return what.bytes_moved * ({"cuda": 0.5, "triton": 3.0}[name] + slow)

    gpu = FakeGpu(measure, monkeypatch, seconds)
    found = measure.served(["cuda", "triton", "cpu"])
    assert {key: len(values) for key, values in found.items()} == {
        "large": 40,
        "large_triton": 40,
        "medium": 10,
        "medium_triton": 10,
        "column": 4,
    }
    assert max(found["large"].values()) == max(found["column"].values()) == 1.5
    assert set(found["medium"].values()) == {0.5}
    assert set(found["medium_triton"].values()) == {3.0}
    assert {tuple(one[2]) for one in gpu.checked} == {("cuda", "triton", "reference")}


def test_without_one_of_the_backends_its_rows_are_left_out(measure, monkeypatch):
    FakeGpu(measure, monkeypatch, lambda what, name: 1.0)
    assert set(measure.served(["triton"])) == {"large_triton", "medium_triton"}
    assert set(measure.silu(["triton"])) == {"silu_triton"}
    assert set(measure.silu(["cuda", "triton"])) == {"silu", "silu_triton"}
    assert set(measure.calls(["triton"])) == {"call_triton"}


def test_small_kernels_are_compared_with_an_empty_one(measure, monkeypatch):
    FakeGpu(measure, monkeypatch, lambda what, name: 0.5 if name == "empty" else 0.75)
    (values,) = measure.small(["cuda"]).values()
    assert len(values) == 40
    assert set(values.values()) == {1.5}


def test_odd_sizes_are_compared_per_byte(measure, monkeypatch):
    def seconds(what, name):
        odd = what.tokens % 2 or what.hidden // what.group_size % 2
        return what.bytes_moved * (1.25 if odd else 1.0)

    FakeGpu(measure, monkeypatch, seconds)
    (values,) = measure.odd(["cuda"]).values()
    assert len(values) == 3 * 10 + 3 * 2 * 5
    assert all(value == pytest.approx(1.25) for value in values.values())


def test_sets_of_inputs(measure, monkeypatch):
    FakeGpu(measure, monkeypatch, lambda what, name: 1.0)
    inputs, other = measure.unusual_inputs(), measure.other(["cuda"])["other"]
    assert {w.group_size for w in inputs} == {32, 64, 128, 256, 512}
    assert {w.input_dtype for w in inputs} == {torch.bfloat16, torch.float16, torch.float32}
    assert {w.row_stride for w in inputs} == {0, 7232, 14336}
    assert len(measure.inputs(["cuda"])["inputs"]) == len(inputs)
    assert len(other) == 5 * 10


def test_sets_of_formats(measure, monkeypatch):
    checked = FakeGpu(measure, monkeypatch, lambda what, name: 1.0).checked
    formats, silu = measure.formats(["cuda"])["formats"], measure.silu(["cuda"])["silu"]
    assert len(formats) == 3 * len(CONSUMED)
    assert len(silu) == 2 * len(SCALE_FORMATS) + 4
    assert all(w.silu_and_mul for w, *_ in checked[len(formats) :])
    assert {w.scales for w, *_ in checked[: len(formats)]} == set(CONSUMED)
    assert "SiLU, 8192 × 7168, group 128, FP8, tma packed" in silu


def test_calls_are_compared_with_abs(measure, monkeypatch):
    seconds = {"abs": 4.0, "cuda": 6.0, "cuda_out": 3.0, "triton": 16.0}
    FakeGpu(measure, monkeypatch, lambda what, name: seconds[name])
    found = measure.calls(["cuda", "triton"])
    assert [len(values) for values in found.values()] == [30, 30, 30]
    assert {key: set(values.values()) for key, values in found.items()} == {
        "call": {1.5},
        "call_out": {0.75},
        "call_triton": {4.0},
    }


def test_python_side_is_a_call_without_its_library(measure, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 0.01)
    make_input = Workload.make_input
    monkeypatch.setattr(Workload, "make_input", lambda self, device: make_input(self, "cpu"))
    make_output = Workload.make_output
    monkeypatch.setattr(Workload, "make_output", lambda self, device: make_output(self, "cpu"))
    (values,) = measure.python(["cuda"]).values()
    assert len(values) == 10
    # On the CPU, backend="cuda" would raise if the library were asked.
    assert all(0 < value < 100 for value in values.values())


def test_first_call_is_the_median_of_processes(measure, monkeypatch):
    prints = iter(["40.0", "warning\n90.0\n", "50.0"])

    def start(command, **_):
        assert "backend=" in command[-1]
        return subprocess.CompletedProcess(command, 0, next(prints), "")

    monkeypatch.setattr(measure.subprocess, "run", start)
    (values,) = measure.first(["cuda"])["first"].values()
    assert values == 50.0


def test_a_first_call_that_fails_says_why(measure, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "no kernel image")
    monkeypatch.setattr(measure.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="no kernel image"):
        measure.first(["cuda"])


def test_ratios_are_taken_round_by_round(measure):
    # The machine got ten times slower on the way: of both, so their ratio stays.
    assert measure.median_ratio([2.0, 20.0, 21.0], [1.0, 10.0, 10.0]) == 2.0


def test_slow_rounds_are_fewer(measure, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(measure, "MIN_REPEAT", 3)
    assert [len(one) for one in measure.rounds([lambda: 1.0, lambda: 2.0])] == [3, 3]
    monkeypatch.setattr(measure, "SECONDS", 100.0)
    assert [len(one) for one in measure.rounds([lambda: 1.0])] == [measure.REPEAT]


def test_strided_and_float_inputs_are_what_they_say():
    workload = Workload(4, 64, 32, input_dtype=torch.float32, row_stride=96)
    x = workload.make_input("cpu", copies=2)
    assert (x.shape, x.dtype, x[0].stride()) == ((2, 4, 64), torch.float32, (96, 1))
    assert workload.bytes_moved == 4 * 64 * 5 + 4 * 2 * 4
    q, s = workload.bind(x[0], backend="reference")()
    assert q.equal(workload.call(x[0], backend="reference")[0])
    workload.bind(x[0], backend="cpu", out=(q.fill_(0), s))()
    assert q.view(torch.uint8).equal(workload.call(x[0], backend="reference")[0].view(torch.uint8))


def test_the_cpu_row_is_the_copys_time_over_the_backends(measure, monkeypatch):
    # The copy of bytes takes 2 s, that of floats 3 s: the faster one counts.
    monkeypatch.setattr(measure, "OTHER_BYTES", 64)

    def fake(call, number, clock, before):
        assert before().item() == 1  # the caches hold other data
        if call.func.__name__ != "copy_":
            return lambda: 4.0
        seconds = 2.0 if call.func.__self__.dtype is torch.uint8 else 3.0
        return lambda: seconds

    monkeypatch.setattr(timers, "loop_timer", fake)
    values = measure.cpu(["cpu"], (4, 128))["cpu"]
    assert set(values.values()) == {0.5}
    assert all(name.endswith("copied as bytes") for name in values)


@pytest.mark.gpu
def test_every_kind_of_row_on_a_gpu(measure, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(measure, "LARGE", ((1024, 2048),))
    monkeypatch.setattr(measure, "DEFAULT_WORKLOADS", measure.DEFAULT_WORKLOADS[:2])
    available = ["cuda", "triton", "cpu"]
    for function in (measure.served, measure.small, measure.calls, measure.python, measure.first):
        for values in function(available).values():
            assert all(0 < abs(value) < 1e4 for value in values.values())
    assert 0.1 < statistics.median(measure.served(available)["medium"].values()) < 10
