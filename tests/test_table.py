"""The benchmark script: rows, formats, exit statuses, and that it refuses wrong kernels."""

from __future__ import annotations

import csv
import importlib.util
import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import table_rows
import torch

from ptgq.backends import load

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "benchmark_per_token_group_quant.py"
QUICK = ["--device", "cpu", "--warmup-iters", "1", "--bench-iters", "2"]
ONE = [*QUICK, "--dtype", "int8", "--shape", "4x64", "--group-size", "64"]


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["table"] = module
    spec.loader.exec_module(module)
    return module


def test_table_has_the_30_rows_in_the_stated_form(table, capsys):
    assert table.main(QUICK) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:1] != "#"]
    assert re.match(r"Configuration +\| CPU \(ms\) +\| Reference \(ms\) +\| Speed-up", lines[0])
    row = re.compile(
        r"shape=\(\d+, \d+\) +gs=\d+ +col_major=(True|False) +ue8m0=(True|False) +dtype=(fp8|int8)"
        r" +\| CPU +\d+\.\d+ ms +\| Reference +\d+\.\d+ ms +\| speed-up ×\d+\.\d\d( undecided)?"
        r"( +\| +\d+(\.\d+)? ±\d+%){2}"
    )
    assert len(lines) == 31
    assert all(row.fullmatch(line) for line in lines[1:])


def test_people_get_at_most_100_columns(table, capsys, monkeypatch):
    monkeypatch.setattr(table.sys.stdout, "isatty", lambda: True)
    measure = table_rows.measure
    # What is measured is small, what is printed is not.
    large = {"shape": (32768, 192), "cpu_ms": 12.345, "reference_ms": 345.67}
    large["speed_up_over_reference_interval"] = None
    large |= {"cpu_gb_per_s": 0.061447, "cpu_percent_of_copy": 0.84251}
    large |= {"reference_gb_per_s": 0.0093147, "reference_percent_of_copy": 0.0084251}
    monkeypatch.setattr(
        table_rows,
        "measure",
        lambda workload, options: {
            **measure(workload, options),
            **(large if workload.silu_and_mul else {}),
        },
    )
    wide = [*QUICK, "--shape", "4x192", "--group-size", "192", "--silu"]
    fp8 = [*wide, "--scales", "column_ue8m0_float32", "--dtype", "fp8"]
    wide += ["--scales", "column_ue8m0_float32", "--dtype", "int8"]
    held = ["--input-dtype", "float16", "--swiglu-limit", "10", "--nonfinite", "saturate"]
    for bandwidth in ([], ["--bandwidth"]):
        assert table.main([*wide, *held, *bandwidth]) == 0
        assert table.main([*ONE, *bandwidth]) == 0
    assert table.main([*fp8, "--bandwidth"]) == 0
    found = capsys.readouterr().out.splitlines()
    assert "# x: float16, swiglu_limit=10, nonfinite=saturate" in found
    lines = [line for line in found if line[:1] != "#"]
    assert max(map(len, lines)) <= 100
    assert lines[0].split(" | ")[1].strip() == "CPU µs"
    assert lines[1].startswith("32768 × 192, 192, INT8 column ue8m0, SiLU   | ")
    assert lines[5].split(" | ")[2].split() == ["346000", "0.0093", "0.008"]
    assert lines[3].startswith("4 × 64, 64, INT8 ")
    # With the most that a configuration has.
    for line in (lines[5], lines[9]):
        column = line.split(" | ")[0]
        assert len(column.rstrip()) + len("7168, 128") - len("192, 192") <= len(column)


def test_numbers_have_three_digits_and_say_when_noise_wins(load_script):
    text = load_script("table_text", "table_text.py")
    found = [text.three_digits(value) for value in (0.9651, 1.04, 12.34, 123.4, 1234.5, 999.9)]
    assert found == ["0.965", "1.04", "12.3", "123", "1230", "1000"]
    assert [text.three_digits(value) for value in (24992, 0.06144)] == ["25000", "0.0614"]
    found = [text.in_column(value, 6) for value in (0.9651, 0.009314, 6.1e-5, 1234567)]
    assert found == [" 0.965", "0.0093", "0.0001", "1230000"]
    cases = (([0.9, 1.2], False), ([1.01, 1.2], True), ([0.8, 0.9], True), (None, False))
    for interval, expected in cases:
        assert text.decided({"speed_up_over_b_interval": interval}, "b") is expected


@pytest.mark.parametrize(
    ("count", "expected"), [(1, None), (7, None), (8, (1, 8)), (12, (2, 11)), (100, (37, 64))]
)
def test_the_interval_of_a_median(load_script, count, expected):
    # As tables of the binomial distribution have it.
    rows = load_script("table_rows", "table_rows.py")
    assert rows.interval(list(range(count, 0, -1))) == expected


def test_help_takes_no_torch_and_names_every_default():
    code = f"""if True:
        import runpy, sys
        sys.argv[1:], sys.modules["torch"] = ["--help"], None
        sys.path.insert(0, {str(SCRIPT.parent)!r})
        runpy.run_path({str(SCRIPT)!r}, run_name="__main__")"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert max(map(len, run.stdout.splitlines())) <= 100
    stated = run.stdout.split("what is measured:")[1].split("examples:")[0]
    options = re.findall(r"^  --([a-z-]+)", stated, re.MULTILINE)
    without = {"every", "shape", "silu", "hot", "cold"}
    for option in set(options) - without:
        (text,) = re.findall(rf"^  --{option} (.*?)(?=^  --|\n\n|\Z)", stated, re.M | re.S)
        assert "default" in text, option


def test_a_run_of_minutes_says_so(table, capsys, monkeypatch):
    monkeypatch.setattr(table, "check_device", lambda *_: 1 / 0)
    end = "error: ZeroDivisionError: division by zero\n"
    for arguments, said in (
        (["--preset", "serving", "--device", "cpu"], ", of large shapes on a CPU hours\n"),
        (["--preset", "serving", "--device", "cuda"], "\n"),
    ):
        assert table.main(arguments) == 2
        assert capsys.readouterr().err == f"350 rows: this takes minutes{said}{end}"
    assert table.main(["--device", "cpu"]) == 2
    assert capsys.readouterr().err == end


def test_header_names_the_machine_and_the_method(table, capsys):
    assert table.main(ONE) == 0
    header = [line for line in capsys.readouterr().out.splitlines() if line[:1] == "#"]
    for fact in ("cpu: ", "torch: ", "triton: ", "ptgq: ", "method: events"):
        assert any(line.startswith(f"# {fact}") for line in header), fact


def test_scales_select_rows_and_are_named(table, capsys):
    arguments = [*QUICK, "--shape", "5x384", "--dtype", "fp8", "--group-size", "64"]
    chosen = ["--scales", "tma_packed", "--scales", "row_float32"]
    assert table.main([*arguments, *chosen, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["scales"] for row in rows] == ["tma_packed", "row_float32"]
    assert rows[0]["bytes"] == 3 * 5 * 384 + 8 * 2 * 4  # 8 rows of 2 words
    assert table.main([*arguments, *chosen]) == 0
    assert capsys.readouterr().out.count(" scales=") == 1


def test_shapes_may_be_written_as_the_table_prints_them(load_script):
    read = load_script("table_arguments", "table_arguments.py").parse
    shapes = ["8x128", "8X128", "8×128", "8 × 128"]
    options = read([f"--shape={text}" for text in shapes] + ["--group-size", "64"])
    assert options.shapes == [(8, 128)] * 4


@pytest.mark.parametrize(("dtype", "rows"), [("fp8", 24), ("int8", 6)])
def test_dtype_selects_rows(table, capsys, dtype, rows):
    assert table.main([*QUICK, "--dtype", dtype, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["dtype"] for row in data["rows"]] == [dtype] * rows
    assert data["machine"]["torch"] == torch.__version__


def test_csv_is_the_table_alone(table, capsys):
    assert table.main([*ONE, "--format", "csv", "--bandwidth", "--bench-iters", "10"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["shape"] == "4x64"
    rate = float(row["bytes"]) / float(row["cpu_ms"]) * 1e-6
    assert float(row["cpu_gb_per_s"]) == pytest.approx(rate)
    low, high = (float(row[f"speed_up_over_reference_{end}"]) for end in ("low", "high"))
    assert low <= float(row["speed_up_over_reference"]) <= high


def test_markdown_is_a_table(table, capsys):
    for bandwidth, columns in (([], 4), (["--bandwidth"], 8)):
        assert table.main([*ONE, "--format", "markdown", *bandwidth]) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        assert len(lines) == 3
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert {len(row) for row in cells} == {columns}
    assert cells[0][1:4] == ["CPU µs", "CPU GB/s", "CPU % of copy"]
    assert all(re.fullmatch(r"[\d.]+ ±\d+%", cells[2][column]) for column in (1, 4))
    for column in (2, 3, 5, 6):
        # 0 GB/s, as which it would be rounded, says nothing.
        assert float(cells[2][column]) > 0


def test_lines_with_bandwidth_have_three_digits(table, capsys):
    assert table.main([*ONE, "--bandwidth"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    numbers = re.findall(r"ms +([\d.]+) GB/s +([\d.]+) % of copy", line)
    assert len(numbers) == 2
    for number in itertools.chain(*numbers):
        assert number == f"{float(number):#.3g}".rstrip(".")


def test_more_than_two_backends(table, capsys):
    arguments = [*ONE, *(f"--backend={name}" for name in ("reference", "cpu"))]
    assert table.main([*arguments, "--bench-iters", "8", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["speed_up_over_cpu"] == pytest.approx(row["cpu_ms"] / row["reference_ms"], rel=0.5)
    low, high = row["speed_up_over_cpu_interval"]
    assert low <= row["speed_up_over_cpu"] <= high


@pytest.mark.parametrize(
    "arguments",
    [
        ["--dtype", "fp16"],
        ["--bench-iters", "0"],
        ["--bench-iters", "many"],
        ["--shape", "32"],
        ["--shape", "0x128"],
        ["--shape", "4x×128"],
        ["--shape", "4x100"],
        ["--backend", "vulkan"],
        ["--backend", "cpu", "--backend", "cpu"],
        ["--method", "graph", "--device", "cpu"],
        ["--dtype", "int8", "--scales", "tma_packed"],
        ["--swiglu-limit", "10"],
        ["--silu", "--swiglu-limit", "0"],
        ["--silu", "--swiglu-limit", "nan"],
        ["--nonfinite", "ignore"],
        ["--preset", "serving", "--shape", "4x64"],
        ["--cold"],
        ["--cold", "--hot"],
        ["--produced"],
        ["--unknown"],
    ],
    ids=" ".join,
)
def test_bad_arguments_give_one_line_and_status_2(table, capsys, arguments):
    with pytest.raises(SystemExit) as exit_info:
        table.main(arguments)
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "error: " in captured.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_cuda_device_it_says_what_to_do(table, capsys):
    assert table.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no CUDA device is visible")
    assert "--device cpu" in line


def test_an_unavailable_backend_is_named(table, capsys):
    assert table.main([*ONE, "--backend", "cpu", "--backend", "cuda"]) == 2
    assert capsys.readouterr().err.startswith("error: backend cuda is not available: ")


def test_a_wrong_backend_is_not_timed(table, capsys, monkeypatch):
    reference = load("reference")
    right = reference.per_token_group_quant

    def wrong(x, q, s, *rest):
        right(x, q, s, *rest)
        q.view(torch.uint8)[0, 0] += 1

    monkeypatch.setattr(reference, "per_token_group_quant", wrong)
    assert table.main(ONE) == 2
    captured = capsys.readouterr()
    assert "cpu and reference differ in bytes, 1 of q, 0 of s, for" in captured.err
    assert "×" not in captured.out


@pytest.mark.gpu
@pytest.mark.parametrize(
    "method", [["events"], ["graph", "--produced"], ["graph", "--cold"], ["graph", "--hot"]]
)
def test_cuda_against_triton(table, capsys, method):
    arguments = ["--bench-iters", "5", "--bandwidth", "--format", "json", "--method", *method]
    assert table.main(arguments) == 0
    data = json.loads(capsys.readouterr().out)
    assert len(data["rows"]) == 30
    assert {"gpu", "driver", "cuda"} <= set(data["machine"])
    assert all(row["cuda_ms"] > 0 and row["triton_percent_of_copy"] > 0 for row in data["rows"])
