"""Kernel time as a slope, in three states, on a device whose times the test states."""

from __future__ import annotations

import os
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from measure import clocks, kernels, timers
from measure.kernels import COPY, STATES, Kernels
from measure.workloads import Workload

WORKLOAD = Workload(8, 256, 64)
LAUNCH = 18e-6
# Seconds of a call, by what is called.
SECONDS = {"reference": 1e-6, "cpu": 1.5e-6, COPY: 1.25e-6, "producer": 2e-6}


def name_of(call):
    if call.func is torch.mul:
        return "producer"
    return call.keywords.get("backend", COPY)


@pytest.fixture
def device(monkeypatch):
    """Graphs that take their launch and what their calls do; `graphs` holds their calls."""
    fake = SimpleNamespace(now=0.0, graphs=[], replayed=[], flushed=0, early=0.0)
    clock = SimpleNamespace()

    def capture(calls):
        fake.graphs.append(calls)

        def replay():
            fake.replayed.append(calls)
            chain = min(len(calls), 300) * fake.early
            fake.now += LAUNCH + sum(SECONDS[name_of(call)] for call in calls) - chain

        return replay

    def flush():
        fake.flushed += 1
        fake.now += 1.0

    monkeypatch.setattr(timers, "capture", capture)
    monkeypatch.setattr(kernels, "l2_bytes", lambda: 2**20)
    monkeypatch.setattr(Kernels, "_flush", property(lambda self: flush))
    clock.start = lambda: setattr(clock, "begin", fake.now)
    clock.stop = lambda: fake.now - clock.begin
    monkeypatch.setattr(clocks, "clock_for", lambda device: clock)
    return fake


@pytest.mark.parametrize("state", STATES)
def test_a_slope_holds_neither_the_launch_nor_the_producer_nor_the_flush(device, state):
    measured = Kernels(WORKLOAD, device="cpu")
    for name in ("reference", "cpu"):
        assert measured.timer(name, state)() == pytest.approx(SECONDS[name], rel=1e-9)
    copied = 2 * 2 * kernels.copy_elements(WORKLOAD)
    share = WORKLOAD.bytes_moved / copied
    assert 0.99 < share <= 1
    assert measured.timer(COPY, state)() == pytest.approx(SECONDS[COPY] * share, rel=1e-9)


@pytest.mark.parametrize("length", [500, 1000, 2000])
def test_a_chain_that_starts_early_is_not_seen_at_any_length(device, length):
    # As dependent launch does: each of the first 300 kernels seems to take 0.4 us less.
    device.early = 0.4e-6
    for state in STATES:
        timer = Kernels(WORKLOAD, (length, 3 * length), "cpu").timer("reference", state)
        assert timer() == pytest.approx(1e-6, rel=1e-9)


def test_lengths_follow_the_time_of_a_copy_alone(device):
    slow = Kernels(Workload(64, 256, 64), device="cpu")
    assert slow.lengths == (600, 1800)
    assert timers.lengths_for(1e-9) == (timers.MOST, 3 * timers.MOST)
    assert timers.lengths_for(1.0) == (timers.LEAST, 3 * timers.LEAST)
    assert timers.lengths_for(44e-6) == (18, 54)


def test_each_state_has_its_buffers(device):
    measured = Kernels(WORKLOAD, (100, 300), "cpu")
    measured.timer("reference", "produced")
    pairs, alone = device.graphs[:2], device.graphs[2:]
    # Both graphs are equally long: as many producers, each before its call in one of them.
    for both, producers, length in zip(pairs, alone, (100, 300), strict=True):
        assert [name_of(call) for call in both] == ["producer", "reference"] * length
        assert [name_of(call) for call in producers] == ["producer"] * length
        (x,) = {call.args[0].data_ptr() for call in both[1::2]}
        assert {call.keywords["out"].data_ptr() for call in both[::2]} == {x}
    device.graphs.clear()
    measured.timer("reference", "hot")
    assert {call.args[0].data_ptr() for graph in device.graphs for call in graph} == {x}
    device.graphs.clear()
    measured.timer("reference", "cold")
    short, long = device.graphs
    assert (len(short), len(long)) == (100, 300)
    # 2 MiB, twice the L2 cache, in buffers of 6 KiB: as many as the graph is long.
    for pointers in ([call.args[0].data_ptr() for call in long],
                     [call.keywords["out"][0].data_ptr() for call in long]):  # fmt: skip
        assert set(Counter(pointers).values()) == {1}
    large = Kernels(Workload(128, 2048, 64), (4, 12), "cpu")
    device.graphs.clear()
    large.timer("reference", "cold")
    assert len({call.args[0].data_ptr() for call in device.graphs[1]}) == 3


def test_the_cache_is_flushed_before_each_cold_replay_and_else_never(device):
    measured = Kernels(WORKLOAD, (4, 12), "cpu")
    for state, flushes in (("produced", 0), ("hot", 0), ("cold", 2)):
        device.flushed = 0
        measured.timer("reference", state)()
        assert device.flushed == flushes


def test_a_producer_writes_what_x_was():
    measured = Kernels(WORKLOAD, (4, 12), "cpu")
    x = measured._one[0][0]
    before = x.clone()
    produce = measured._produce
    x.zero_()
    produce()
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "workload", [WORKLOAD, Workload(512, 2048, 128), Workload(8, 256, 64, silu_and_mul=True),
                 Workload(8, 256, 64, row_stride=320), Workload(8, 6, 1),
                 Workload(8, 256, 64, input_dtype=torch.float32)]
)  # fmt: skip
def test_a_copy_moves_the_bytes_of_the_call(workload):
    measured = Kernels(workload, (4, 12), "cpu")
    ((x, _, copied),) = measured._one
    copy = measured._bind(COPY, *measured._one[0])
    copy()
    moved = 2 * copied.numel() * copied.element_size()
    assert workload.bytes_moved <= moved <= workload.bytes_moved * 1.07
    if workload.group_size > 1:
        assert copy.args[0].data_ptr() == x.data_ptr()
        # What the producer has written.
        assert torch.equal(copied[:6], x[0, :6])


def test_an_unknown_state_is_refused(device):
    with pytest.raises(ValueError, match=r"state must be one of .* got 'warm'"):
        Kernels(WORKLOAD, (4, 12), "cpu").timer("reference", "warm")


alone = pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ, reason="measures time, so runs alone: -n 0"
)


@alone
@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton", COPY])
@pytest.mark.parametrize("state", STATES)
def test_slopes_of_two_pairs_of_lengths_agree(backend, state):
    workload = Workload(128, 7168, 128)
    found = []
    for lengths in ((500, 1000), (1000, 2000)):
        timer = Kernels(workload, lengths).timer(backend, state)
        found.append(sorted(timers.sample([timer], 9)[0])[4])
    assert 1e-7 < found[0] < 1e-4
    # A produced copy, the driver's kernel, differed by 7 % once.
    assert found[0] == pytest.approx(found[1], rel=0.1 if backend == COPY else 0.05)


@alone
@pytest.mark.gpu
def test_cold_data_are_not_in_l2():
    # 8 MB of x: read from L2 when hot.
    measured = Kernels(Workload(1024, 4096, 128))
    hot, cold = timers.sample([measured.timer(COPY, state) for state in ("hot", "cold")], 9)
    assert sorted(cold)[4] > 1.1 * sorted(hot)[4]


def test_the_check_of_lengths_says_what_depends_on_them(device, load_script, monkeypatch, capsys):
    script = load_script("graph_lengths", "graph_lengths.py")
    measured = []

    def on_the_cpu(workload, lengths):
        measured.append(lengths)
        return Kernels(workload, lengths, "cpu")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(script, "Kernels", on_the_cpu)
    monkeypatch.setattr(script, "FAMILIES", {"small": WORKLOAD})
    monkeypatch.setitem(SECONDS, "cuda", 1e-6)
    arguments = ["--family", "small", "--backend", "cuda"]
    assert script.main(arguments) == 0
    assert measured == [(500, 1000), (1000, 2000), (500, 2000), None] * 3
    assert capsys.readouterr().out.count("1.000     1.000     1.000     1.000   0.00%") == 3
    # Too short by 3 %: calls 500 to 1000 are as fast as the start of a chain.
    assert script.off([1.0, 1.0, 0.97, 1.0]) == pytest.approx(0.03)
    monkeypatch.setattr(script, "slopes", lambda *_: [0.97, 1.0, 1.0, 1.0])
    assert script.main(arguments) == 1
    assert "3 off by more than 1%" in capsys.readouterr().out
