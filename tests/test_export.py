"""All stored numbers in one file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv.config import Config
from asv.results import iter_results
from asv_runner.discovery import disc_benchmarks
from exchanged_results import BACKENDS, BENCHMARKS, BYTES, FACTS, KERNELS, LOADED, make

from tracking import export, merge

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Results beside a repository without any, in which commands run."""
    folder = make(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_one_file_has_every_number_that_is_stored(theirs, tmp_path, capsys):
    assert merge.main([str(theirs)]) == 0
    path = tmp_path / "all.csv"
    assert export.main([str(path)]) == 0
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    expected = []
    for results in iter_results("results"):
        shared = {"date": results.date, "commit": results.commit_hash, "driver": "580.95"}
        for backend, value in zip(
            BACKENDS, results.get_result_value(BYTES, [BACKENDS]), strict=True
        ):
            row = {"benchmark": BYTES, "backend": backend[1:-1], "tokens": "", "sample": "0"}
            expected.append(shared | row | {"value": value, "low": "", "unit": "bytes"})
        params = BENCHMARKS[KERNELS]["params"]
        stats = results.get_result_stats(KERNELS, params)
        for index, samples in enumerate(results.get_result_samples(KERNELS, params)[:2]):
            for position, value in enumerate(samples):
                row = {"benchmark": KERNELS, "backend": "cuda", "tokens": ("16", "32")[index]}
                row |= {"sample": str(position), "samples": "5", "unit": "seconds"}
                low = str(stats[index]["ci_99_a"])
                expected.append(shared | row | {"value": value, "low": low})
        # Its samples were not kept.
        row = {"benchmark": LOADED, "backend": "", "sample": "", "samples": "3", "value": 0.5}
        expected.append(shared | row)
    assert len(found) == len(expected) == 28
    # One file of results after the other, and in it one benchmark.
    expected.sort(key=lambda row: (row["date"], row["benchmark"]))
    for row, wanted in zip(found, expected, strict=True):
        row["value"] = float(row["value"])
        del wanted["date"]
        assert {key: row[key] for key in wanted} == wanted
    assert {row["commit_date"] for row in found} == {
        "2023-11-14T22:13:20+00:00",
        "2023-11-14T23:13:20+00:00",
    }
    assert capsys.readouterr().out.endswith("28 rows, 2 of them medians of samples not stored\n")
    assert export.main([str(path), "--bench", "Startup", "--machine", "h200"]) == 0
    assert path.read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["all.csv", "--machine", "other"], "no stored number of the suite's benchmarks matches"),
        (["all.csv", "--bench", "NoSuch"], "no stored number of the suite's benchmarks matches"),
        (["nowhere/all.csv"], "nowhere/all.csv: No such file or directory"),
        ([], "the following arguments are required: FILE.csv"),
    ],
)
def test_what_can_not_be_exported_is_one_line(theirs, capsys, call, message):
    assert merge.main([str(theirs)]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        export.main(call)
    assert left.value.code == 2
    assert capsys.readouterr().err == f"export: error: {message}\n"
    assert not Path("all.csv").exists()


def test_no_parameter_has_the_name_of_another_column():
    conf = Config.load(str(ROOT / "asv.conf.json"))
    names = {
        name for b in disc_benchmarks(str(ROOT / conf.benchmark_dir)) for name in b.param_names
    }
    others = {*FACTS, "python", "commit", "commit_date", "measured", "benchmark", "unit"}
    assert names
    assert not names & {*others, *export.LAST}
