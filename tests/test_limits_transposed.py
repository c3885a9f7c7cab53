"""The rows of limits that judge transposed results, with a clock and graphs of this CPU."""

from __future__ import annotations

from functools import partial

import pytest
from measure import clocks, kernels, timers
from measure.beside_gemm import TransposedWorkload

import ptgq

WORKLOAD = TransposedWorkload(192, 512, 128)
NAME = "per_token_group_quant_fp8_transposed"


@pytest.fixture
def measure(load_script, monkeypatch):
    measure = load_script("limits_measure", "limits_measure.py")
    on_cpu = TransposedWorkload.make_input
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(measure, "Kernels", partial(kernels.Kernels, device="cpu"))
    monkeypatch.setattr(
        TransposedWorkload, "make_input", lambda self, _, **options: on_cpu(self, "cpu", **options)
    )
    monkeypatch.setattr(kernels, "l2_bytes", lambda: 2**16)
    monkeypatch.setattr(timers, "capture", lambda calls: lambda: [call() for call in calls])
    monkeypatch.setattr(timers, "SHORT_SECONDS", 1e-4)
    monkeypatch.setattr(clocks, "EventClock", clocks.HostClock)
    return measure


@pytest.fixture
def rows(measure, load_script, monkeypatch):
    rows = load_script("limits_transposed", "limits_transposed.py")
    monkeypatch.setattr(rows, "DEVICE", "cpu")
    monkeypatch.setattr(rows, "BACKEND", "cpu")
    return rows


def test_bytes_are_those_of_one_read_and_four_results():
    # x once, codes of both, scales of 4 groups a row, and of two groups a column, the last cut off.
    columns = 512 * 256 + 4 * 512 * 2
    assert WORKLOAD.bytes_moved == 192 * 512 * (2 + 1) + 4 * 192 * 4 + columns
    shapes = [tuple(t.shape) for t in WORKLOAD.make_output("cpu")]
    assert shapes == [(192, 512), (192, 4), (512, 256), (512, 2)]


def test_kernels_are_compared_with_a_copy_of_their_bytes(measure):
    (ratio,) = measure.copy_ratios(WORKLOAD, ["cpu"]).values()
    assert isinstance(ratio, float)


def test_the_copy_moves_as_many_bytes(measure):
    found = []
    timed = measure.Kernels(WORKLOAD)
    timed._slope = lambda calls, before: found.extend(calls)
    timed.timer(kernels.COPY, "cold")
    copied, source = found[0].func.__self__, found[0].args[0]
    assert copied.nbytes == source.nbytes
    assert 0 <= 2 * copied.nbytes - WORKLOAD.bytes_moved < 4


def test_wrong_bytes_are_not_timed(measure, monkeypatch):
    right = getattr(ptgq, NAME)

    def wrong(x, group_size, backend, **options):
        *others, s_t = right(x, group_size, backend=backend, **options)
        return *others, s_t * 2 if backend == "cpu" else s_t

    monkeypatch.setattr(ptgq, NAME, wrong)
    message = r"cpu and reference differ in bytes, 0 of q, 0 of s, 0 of q_t, \d+ of s_t, for"
    with pytest.raises(RuntimeError, match=message):
        measure.copy_ratios(WORKLOAD, ["cpu"])


def test_rows_are_of_both_backends(rows, monkeypatch):
    asked = []

    def ratios(workload, backends):
        asked.append((workload.tokens, workload.hidden, type(workload)))
        return dict.fromkeys(backends, 1.0)

    monkeypatch.setattr(rows.limits_measure, "copy_ratios", ratios)
    assert set(rows.transposed(["cuda", "triton", "cpu"])) == {"transposed", "transposed_triton"}
    assert set(rows.transposed(["triton"])) == {"transposed_triton"}
    assert set(asked) == {(8192, 7168, TransposedWorkload)}


def test_calls_are_compared_with_abs(rows):
    (values,) = rows.transposed_calls(["cpu"]).values()
    assert set(values) == {"allocating", "out="}
    assert all(value > 0 for value in values.values())


@pytest.mark.gpu
def test_rows_on_a_gpu(load_script, monkeypatch):
    measure = load_script("limits_measure", "limits_measure.py")
    monkeypatch.setattr(measure, "ROWS_OF_7168", (256, 512))
    rows = load_script("limits_transposed", "limits_transposed.py")
    found = rows.transposed(["cuda", "triton"]) | rows.transposed_calls(["cuda", "triton"])
    assert {*found} == {"transposed", "transposed_triton", "call_transposed"}
    assert all(value > 0 for values in found.values() for value in values.values())
