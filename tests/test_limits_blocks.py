"""The rows of limits that judge blocks, with a clock and graphs of this machine's CPU."""

from __future__ import annotations

import pytest
import torch
from measure import clocks, timers


@pytest.fixture
def measured(load_script, monkeypatch):
    measure = load_script("limits_measure", "limits_measure.py")
    blocks = load_script("limits_blocks", "limits_blocks.py")
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(blocks, "DEVICE", "cpu")
    monkeypatch.setattr(blocks, "BACKENDS", ("cpu",))
    monkeypatch.setattr(blocks, "WEIGHTS", {"large": (256, 512), "experts": (3, 130, 256)})
    monkeypatch.setattr(timers, "capture", lambda calls: lambda: [call() for call in calls])
    monkeypatch.setattr(clocks, "EventClock", clocks.HostClock)
    return blocks


def test_kernels_are_compared_with_a_copy_of_their_bytes(measured):
    (values,) = measured.blocks(["cpu"]).values()
    assert set(values) == {"large", "experts"}
    assert all(isinstance(value, float) for value in values.values())


def test_calls_are_compared_with_abs(measured):
    (values,) = measured.block_calls(["cpu"]).values()
    assert set(values) == {"allocating", "out="}
    assert all(value > 0 for value in values.values())


def test_wrong_bytes_are_not_timed(measured, monkeypatch):
    right = measured.ptgq.per_block_quant_fp8

    def wrong(w, backend="cpu", **options):
        q, s = right(w, backend=backend, **options)
        return (q, s * 2) if backend == "cpu" else (q, s)

    monkeypatch.setattr(measured.ptgq, "per_block_quant_fp8", wrong)
    with pytest.raises(RuntimeError, match="cpu does not give the reference's bytes"):
        measured.checked(torch.ones(2, 8, 8), "cpu")
