"""The measuring code, with a clock that the test controls."""

from __future__ import annotations

import math
import random
from typing import get_args

import pytest
import torch
from measure import clocks, machine, timers
from measure.configurations import BACKENDS, SERVING_SHAPES, STORED
from measure.workloads import DEFAULT_WORKLOADS, SERVING, Workload, workloads

from ptgq import Backend
from ptgq.scales import memory_of


class FakeClock:
    """Time passes only when the measured call says so."""

    def __init__(self):
        self.now = 0.0

    def start(self):
        self.begin = self.now

    def stop(self):
        return self.now - self.begin

    def takes(self, seconds):
        def call():
            self.now += seconds() if callable(seconds) else seconds

        return call


def test_loop_timer_gives_seconds_a_call():
    clock = FakeClock()
    timer = timers.loop_timer(clock.takes(0.25), 8, clock, before=clock.takes(100.0))
    assert timer() == 0.25
    assert clock.now == 102.0


def test_samples_keep_the_distribution_and_the_order():
    clock = FakeClock()
    durations = iter([9.0, 1.0, 2.0, 3.0])
    timer = timers.loop_timer(clock.takes(lambda: next(durations)), 1, clock)
    assert timers.sample([timer], 3, warmup=1) == [[1.0, 2.0, 3.0]]


def test_a_known_distribution_gives_its_median_and_interval():
    # What asv stores of 1 to 99, each once: the median, and the 99 % interval of order statistics.
    statistics = pytest.importorskip("asv_runner.statistics", reason="asv is not installed")
    clock = FakeClock()
    durations = [float(n) for n in range(1, 100)]
    random.Random(0).shuffle(durations)
    left = iter([1e9, *durations])
    timer = timers.loop_timer(clock.takes(lambda: next(left)), 1, clock)
    (samples,) = timers.sample([timer], len(durations))
    assert samples == durations
    value, stats = statistics.compute_stats(samples, 1)
    n = len(samples)
    # The k-th smallest is above the median of what it was drawn from in this share of all cases.
    above = [sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(n)]
    k = max(k for k in range(n) if above[k] <= 0.005)
    assert (value, stats["ci_99_a"], stats["ci_99_b"]) == (50, k, n + 1 - k)


def test_a_drift_falls_on_alternated_timers_alike():
    # The machine gets slower all the time: measured one after the other, equal calls differ.
    clock = FakeClock()
    steps = iter(range(1000))
    slower = [clock.takes(lambda: 1.0 + 0.01 * next(steps)) for _ in range(2)]
    a, b = timers.sample([timers.loop_timer(call, 1, clock) for call in slower], 50)
    assert max(y / x for x, y in zip(a, b, strict=True)) < 1.011
    one, other = (timers.sample([timers.loop_timer(call, 1, clock)], 50)[0] for call in slower)
    assert sum(other) / sum(one) > 1.1


def test_host_clock_moves_forward():
    clock = clocks.HostClock()
    clock.start()
    assert clock.stop() >= 0


def test_there_are_30_default_workloads():
    assert len(DEFAULT_WORKLOADS) == len(set(DEFAULT_WORKLOADS)) == 30
    assert {(w.tokens, w.hidden) for w in DEFAULT_WORKLOADS} == {(32, 128), (64, 256), (16, 512)}
    assert sum(w.dtype == "int8" for w in DEFAULT_WORKLOADS) == 6
    assert len(SERVING) == 10 * len(SERVING_SHAPES)


def test_all_backends_can_be_measured():
    assert get_args(Backend) == BACKENDS


def test_bytes_moved_are_those_of_the_tensors():
    fused = Workload(6, 384, 64, silu_and_mul=True)
    for workload in (*workloads([(6, 384)], scale_formats=STORED), fused):
        x = workload.make_input("cpu")
        q, s = workload.call(x, backend="reference")
        memory = memory_of(s, workload.scale_format)
        assert workload.bytes_moved == sum(t.numel() * t.element_size() for t in (x, q, memory))
        q_empty, s_empty = workload.make_output("cpu")
        assert (q_empty.dtype, s_empty.dtype) == (q.dtype, s.dtype)
        assert (q_empty.stride(), s_empty.stride()) == (q.stride(), s.stride())


def test_input_is_seeded_random_of_the_stated_scale():
    workload = Workload(64, 256, 64)
    x = workload.make_input("cpu")
    assert torch.equal(x, workload.make_input("cpu"))
    assert not torch.equal(x, workload.make_input("cpu", seed=1))
    assert x.float().std().item() == pytest.approx(8, rel=0.05)
    stacked = workload.make_input("cpu", copies=3)
    assert torch.equal(stacked[0], x)
    assert not torch.equal(stacked[1], x)


def test_machine_is_described():
    facts = machine.describe("cpu")
    assert facts["torch"] == torch.__version__
    assert facts["cpu"]
    assert set(facts) == {"cpu", "torch", "triton"}
    assert machine.commit()


def test_a_processor_is_described_with_its_generation(tmp_path):
    info = tmp_path / "cpuinfo"
    core = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n"
    info.write_text(f"{core}\n{core}")
    assert machine.cpu(info) == ("AMD EPYC", " (family 25 model 1)")
    info.write_text("model name\t: One\n")
    assert machine.cpu(info) == ("One", "")
    assert machine.cpu(tmp_path / "none")[0]
