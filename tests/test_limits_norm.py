"""What the limits preset measures of the fused RMSNorm."""

from __future__ import annotations

import pytest
import torch

import ptgq


@pytest.fixture
def norm(load_script):
    load_script("limits_measure", "limits_measure.py")
    return load_script("limits_norm", "limits_norm.py")


def test_bytes_are_of_x_and_twice_of_the_residual(norm):
    workload = norm.NormWorkload(4, 256, 64)
    # x, the residual read and written, codes, scales.
    assert workload.bytes_moved == 4 * 256 * (2 + 2 + 2 + 1) + 4 * 4 * 4


def test_calls_are_of_the_public_function_and_are_checked(norm, monkeypatch):
    workload = norm.NormWorkload(4, 256, 64)
    norm.check(workload, "cpu", ["cpu"])
    x, out = workload.make_input("cpu"), workload.make_output("cpu")
    assert workload.bind(x, backend="cpu", out=out)() is out
    right = ptgq.rms_norm_per_token_group_quant_fp8

    def wrong(*call, backend, **options):
        q, s = right(*call, backend=backend, **options)
        return q, s * 2 if backend == "cpu" else s

    monkeypatch.setattr(ptgq, "rms_norm_per_token_group_quant_fp8", wrong)
    with pytest.raises(RuntimeError, match="cpu and reference differ"):
        norm.check(workload, "cpu", ["cpu"])


def test_what_it_fuses_is_the_same_but_for_rounding(norm, monkeypatch):
    monkeypatch.setattr(norm, "_compiled", lambda: norm.add_and_norm)
    workload = norm.NormWorkload(64, 256, 64)
    x = workload.make_input("cpu")
    results = []
    for backend in (norm.UNFUSED, "cpu"):
        torch.manual_seed(0)
        results.append(ptgq.dequantize(*workload.bind(x, backend=backend)(), 64))
    assert (results[0] - results[1]).norm() / results[1].norm() < 1e-2


@pytest.mark.gpu
def test_rows_on_a_gpu(norm, monkeypatch):
    monkeypatch.setattr(norm, "LARGE", ((64, 256),))
    monkeypatch.setattr(norm, "SMALL", ((1, 256),))
    found = norm.norm(["cuda", "triton"])
    assert {*found} == {"norm", "norm_triton", "norm_small", "norm_call"}
    assert all(value > 0 for values in found.values() for value in values.values())
