"""The table's options: every combination that the public functions take, by the names they have."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from measure import against
from measure.configurations import STORED
from measure.workloads import Workload

import ptgq

QUICK = ["--device", "cpu", "--warmup-iters", "1", "--bench-iters", "2"]


@pytest.fixture
def table(load_script):
    return load_script("table", "benchmark_per_token_group_quant.py")


def test_every_combination_that_the_functions_take_has_a_row(table, capsys):
    base = [*QUICK, "--shape", "5x384", "--group-size", "128", "--format", "json"]
    base += [word for name in STORED for word in ("--scales", name)]
    for silu in ([], ["--silu"], ["--silu", "--swiglu-limit", "10"]):
        assert table.main([*base, *silu, "--nonfinite", "saturate"]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        named = {"fp8": [], "int8": []}
        for row in rows:
            named[row["dtype"]].append(row["scales"])
        float32 = [name for name, stored in STORED.items() if stored.dtype == "float32"]
        assert named == {"fp8": [*STORED], "int8": float32}
        limit = 10 if len(silu) > 1 else None
        options = {(row["silu_and_mul"], row["swiglu_limit"], row["nonfinite"]) for row in rows}
        assert options == {(bool(silu), limit, "saturate")}


def test_options_reach_the_function_and_the_yardstick():
    workload = Workload(130, 256, 32, "fp8", "tiled_ue8m0", silu_and_mul=True, swiglu_limit=0.5)
    x = workload.make_input("cpu")
    expected = ptgq.silu_and_mul_per_token_group_quant_fp8(
        x, 32, scale_format=ptgq.ScaleFormat.torch_scaled_mm_mx(), swiglu_limit=0.5
    )
    found = workload.call(x, backend="cpu")
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))
    exactness = against.exactness(workload, x, found)
    assert (exactness.codes, exactness.scales) == (0, 0)
    # Of what is clamped; without the clamp it would be far less.
    assert exactness.snr > 25
    x[0, 0] = torch.nan
    saturating = replace(workload, nonfinite="saturate").call(x, backend="cpu")[1]
    assert workload.call(x, backend="cpu")[1].view(torch.uint8)[0, 0] == 255
    assert saturating.view(torch.uint8)[0, 0] < 255
