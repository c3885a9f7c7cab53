"""The limits preset: how its rows are judged and printed, and the CPU row for real."""

from __future__ import annotations

import json
import re

import pytest
import torch


@pytest.fixture
def measure(load_script):
    return load_script("limits_measure", "limits_measure.py")


@pytest.fixture
def limits(measure, load_script):
    load_script("limits_blocks", "limits_blocks.py")
    return load_script("limits", "limits.py")


@pytest.fixture
def table(limits, load_script):
    return load_script("limits_table", "benchmark_per_token_group_quant.py")


@pytest.mark.parametrize(
    ("at_least", "values", "worst", "verdict"),
    [
        (False, {"a": 0.9, "b": 1.05}, "b", "pass"),
        (False, {"a": 1.06, "b": 1.05}, "a", "missed"),
        (True, {"a": 1.06, "b": 1.05}, "b", "pass"),
        (True, {"a": 1.06, "b": 1.04}, "b", "missed"),
    ],
)
def test_a_row_is_judged_by_its_worst(limits, monkeypatch, at_least, values, worst, verdict):
    row = limits.Row("this", 1.05, "× that", ("cpu",), at_least)
    monkeypatch.setitem(limits.ROWS, "this", row)
    found = limits.judged("this", values)
    assert (found["verdict"], found["worst"], found["measured"]) == (verdict, worst, values[worst])
    line, second = limits.lines(found, every=False)
    target = f"{'≥' if at_least else '≤'} 1.05 × that"
    assert line.split() == [verdict, f"{values[worst]:.3f}", *target.split(), "this"]
    assert second.split() == ["worst:", worst]
    # All of them, the worst first.
    every = limits.lines(found, every=True)
    assert [one.split()[-1] for one in every] == ["this", worst, *(set(values) - {worst})]


def test_rows_are_measured_once_or_say_why_not(limits, monkeypatch, capsys):
    keys = [key for keys, _ in limits.MEASURES for key in keys]
    assert keys == list(limits.ROWS)

    def measured(keys):
        return lambda available: {key: {f"case of {key}": 0.5} for key in keys}

    monkeypatch.setattr(limits, "MEASURES", [(keys, measured(keys)) for keys, _ in limits.MEASURES])
    monkeypatch.setattr(limits, "reasons", lambda device: {"triton": "triton is not installed"})
    limits.run("cpu", every=False)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines()[1:])) <= 100
    for key in keys:
        if "triton" in limits.ROWS[key].needs:
            assert re.search(rf"{re.escape(limits.ROWS[key].what)}(: |\n +)triton is not ", text)
        else:
            assert f"worst: case of {key}\n" in text
    assert "pip wheel" in text.splitlines()[-1]

    limits.run("cpu", every=False, form="json")
    content = json.loads(capsys.readouterr().out)
    assert content["machine"]["torch"] == torch.__version__
    by_verdict = {row["row"]: row["verdict"] for row in content["rows"]}
    needs_triton = [key for key in keys if "triton" in limits.ROWS[key].needs]
    assert [key for key, verdict in by_verdict.items() if verdict == "n/a"] == needs_triton


def test_cpu_row_is_measured(measure, limits, monkeypatch, capsys):
    monkeypatch.setattr(measure, "SECONDS", 0.0)
    monkeypatch.setattr(measure, "OTHER_BYTES", 2**20)
    values = measure.cpu(["cpu"], (64, 7168))["cpu"]
    assert len(values) == 10
    assert all(0 < value < 100 for value in values.values())
    monkeypatch.setattr(limits, "MEASURES", [(("cpu",), lambda _: {"cpu": values})])
    limits.run("cpu", every=True)
    assert "cpu: " in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_gpu_rows_are_not_available_here(limits):
    assert limits.reasons("cuda") == dict.fromkeys(("cuda", "triton"), "no CUDA device is visible")
    assert limits.reasons("cpu") == dict.fromkeys(("cuda", "triton"), "--device cpu")


def test_the_preset_runs_the_rows(table, limits, monkeypatch):
    seen = []
    monkeypatch.setattr(limits, "run", lambda *arguments: seen.append(arguments))
    assert table.main(["--preset", "limits", "--device", "cpu", "--every"]) == 0
    assert seen == [("cpu", True, "table")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--preset", "limits", "--dtype", "fp8"],
        ["--preset", "limits", "--shape", "4x64"],
        ["--preset", "limits", "--bench-iters", "5"],
        ["--preset", "limits", "--hot"],
        ["--preset", "limits", "--format", "csv"],
        ["--every"],
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit_are_refused(table, capsys, arguments):
    with pytest.raises(SystemExit) as exit_info:
        table.main(arguments)
    assert exit_info.value.code == 2
    assert "limits" in capsys.readouterr().err
