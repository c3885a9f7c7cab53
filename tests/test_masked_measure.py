"""How masked rows are measured: beside as many rows, and a memset of the other scales."""

from __future__ import annotations

import pytest
import torch
from measure import masked
from measure.configurations import MASKED

from benchmarks.suite import common, masked_rows

SECONDS = {"routed": (6.0, 4.0, 1.0), "full": (8.0, 4.0), "empty": (3.0, 2.0)}
RATIOS = {"routed": 1.2, "full": 2.0, "empty": 1.5}


class Stated:
    """Masked rows whose times the test states."""

    def __init__(self, counts, silu):
        self.counts = counts

    def timers(self, backend):
        return [lambda time=time: time for time in SECONDS[self.counts]]


def test_each_counts_has_its_yardstick(monkeypatch):
    timed = []
    monkeypatch.setattr(masked.MaskedRows, "timer", lambda self, call: timed.append(call()))
    assert set(masked.COUNTS) == set(MASKED)
    for counts, silu in ((counts, silu) for counts in MASKED for silu in (False, True)):
        del timed[:]
        rows = masked.MaskedRows(counts, silu, device="cpu", tokens=2)
        rows.timers("cpu")
        q, s = timed[0]
        assert (q.shape, s.shape) == ((32, 2, 7168), (32, 2, 56))
        exist = s.any(-1)
        assert exist.sum() == rows.rows
        others = [part if isinstance(part, torch.Tensor) else part[1] for part in timed[1:]]
        # The matrix and the memset have together as many scales as there are.
        assert sum(part.numel() for part in others) == s.numel()


def test_the_suite_divides_by_all_of_it(monkeypatch):
    monkeypatch.setattr(masked, "MaskedRows", Stated)
    monkeypatch.setattr(common, "missing", lambda backend: None)
    found = masked_rows.measure()
    for counts, ratio in RATIOS.items():
        assert found["time", "triton", counts, "silu"] == [SECONDS[counts][0]] * masked_rows.REPEAT
        assert found["relative", "cuda", counts, "fp8"] == [ratio] * masked_rows.REPEAT


def test_what_is_not_here_is_said():
    if torch.cuda.is_available():
        pytest.skip("it is here")
    assert {type(value) for value in masked_rows.measure().values()} == {common.NotAvailable}


def test_the_limits_preset_does_too(load_script, monkeypatch):
    load_script("limits_measure", "limits_measure.py")
    measure = load_script("limits_masked", "limits_masked.py")
    monkeypatch.setattr(measure, "MaskedRows", Stated)
    names = {counts: [f"{silu}32 × 256 × 7168, {counts}" for silu in ("", "SiLU, ")]
             for counts in MASKED}  # fmt: skip
    assert measure.masked(["cuda"]) == {
        f"masked_{counts}": dict.fromkeys(names[counts], RATIOS[counts]) for counts in MASKED
    }
