"""What compare says of rounds: its table, its status, and the samples that it writes."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv_plugins import environment
from tracking import compare, deal, table
from tracking.verdict import Verdict

pytest_plugins = ("tracked_history",)


def test_the_table_is_sorted_by_change_in_units_for_people():
    nan = float("nan")
    verdicts = {
        "kernel_time.K.track_a('cuda', 16)": Verdict("same", 41.5e-6, 41.52e-6, 0.004),
        "call_latency.R.track_b('cuda')": Verdict("slower", 1.0, 3.0, 0.03),
        "kernel_time.K.track_a('cuda', 8)": Verdict("faster", 2e-6, 1e-6, 0.01),
        "call_latency.R.track_b('cpu')": Verdict("failed", nan, nan),
        "footprint.Library.track_bytes": Verdict("undecided", 100.0, 101.0),
    }
    units = {"kernel_time.K.track_a": "seconds", "call_latency.R.track_b": "ratio"}
    lines = table.lines(verdicts, units)
    assert [line.split() for line in lines] == [
        ["base", "head", "change", "smallest", "verdict"],
        ["call_latency.R.track_b,", "ratio"],
        ["'cpu'", "failed"],
        ["'cuda'", "1", "3", "+200.0%", "3.0%", "slower"],
        ["footprint.Library.track_bytes,"],
        ["100", "101", "+1.0%", "0.0%", "undecided"],
        ["kernel_time.K.track_a"],
        ["'cuda',", "16", "41.5", "µs", "41.52", "µs", "+0.0%", "0.4%", "same"],
        ["'cuda',", "8", "2", "µs", "1", "µs", "-50.0%", "1.0%", "faster"],
    ]
    assert max(map(len, lines)) <= 100
    assert table.counts(verdicts) == "1 slower, 1 faster, 1 same, 1 undecided, 1 failed"


def run_compare(monkeypatch, base, head, *options):
    """Run compare on what measuring is to give: the rounds of each row, for both commits."""

    class Measured:
        def __init__(self, suite):
            pass

        def run(self, rounds, after):
            after()

        def sides(self):
            return base, head

    monkeypatch.setattr(compare, "unpacked", lambda *arguments: ())
    monkeypatch.setattr(compare, "Comparison", Measured)
    # It sets what its processes inherit.
    monkeypatch.setenv("PTGQ_MEASURED_DEVICE", "")
    monkeypatch.setattr(environment.Host, "reserve", lambda self: None)
    return compare.main(["main~1", "main", *options])


FAILED_ROUNDS = {"call_latency.a": [None] * 3}


@pytest.mark.parametrize(
    ("base", "head", "reason"),
    [
        ({}, {}, "no row is available in both commits here"),
        ({}, {"call_latency.a": [[1.0]] * 3}, "no row is available in both commits here"),
        (FAILED_ROUNDS, FAILED_ROUNDS, "all rows failed"),
        (FAILED_ROUNDS, {"call_latency.a": [[1.0]] * 3}, "all rows failed"),
    ],
)
def test_a_comparison_of_nothing_has_failed(
    history, asv_calls, monkeypatch, capsys, base, head, reason
):
    assert run_compare(monkeypatch, base, head) == 2
    assert capsys.readouterr().err == f"compare: error: nothing was compared: {reason}\n"


def test_rows_that_one_commit_lacks_are_named(history, asv_calls, monkeypatch, capsys):
    rounds = [[1.0]] * 3
    base = {"call_latency.a": rounds, "call_latency.b": rounds, "call_latency.c": rounds}
    assert run_compare(monkeypatch, base, {"call_latency.a": rounds}) == 0
    out = capsys.readouterr().out
    assert "not compared, n/a in head: 2 rows, such as call_latency.b\n" in out
    assert "n/a in base" not in out


@pytest.mark.parametrize(
    ("heads", "status"),
    [
        ([1.0, 1.0, 1.0], 0),
        ([0.9, 0.9, 0.9], 0),
        ([1.1, 1.1, 1.1], 1),
        # The noise is larger than what is called, and than what is none.
        ([0.9, 1.0, 1.2], 3),
    ],
)
def test_the_status_says_slower_or_nothing_decided(history, asv_calls, monkeypatch, heads, status):
    row = "call_latency.RelativeToTorch.track_default_shapes('cuda', 16, 64, 'int8')"
    head = {row: [[value] for value in heads]}
    assert run_compare(monkeypatch, {row: [[1.0]] * 3}, head) == status
    if status == 3:
        # One row that is decided is something.
        head["call_latency.other"] = [[1.0]] * 3
        base = {row: [[1.0]] * 3, "call_latency.other": [[1.0]] * 3}
        assert run_compare(monkeypatch, base, head) == 0


def test_raw_samples_are_written_and_dealt(history, asv_calls, monkeypatch, tmp_path, capsys):
    row = "kernel_time.KernelTime.track_default_shapes('cuda', 'cold', 16, 64, 'int8')"
    rounds = [[1e-6 * (1 + (index % 3) / 1000)] * 5 for index in range(12)]
    base, head = {row: rounds}, {row: [*rounds[:9], *([2e-6] for _ in range(3))]}
    path = tmp_path / "samples.json"
    assert run_compare(monkeypatch, base, head, "--export", str(path)) == 3
    written = json.loads(path.read_text())
    assert written["rounds"] == {row: [base[row], head[row]]}
    assert written["commits"] == [history["setup"], history["last"]]
    assert written["machine"]["torch"] == "2.13.0"

    capsys.readouterr()
    assert deal.main([str(path), "--tables", "4"]) == 0
    kind = "kernel_time.KernelTime, 'cuda', 'cold'"
    assert capsys.readouterr().out == f"{kind}: 3 same, 1 slower\nall: 3 same, 1 slower\n"
    with pytest.raises(SystemExit) as ended:
        deal.main([str(path), "--tables", "5"])
    assert ended.value.code == 2
    assert "--tables 5 takes 15 rounds, the file has 12" in capsys.readouterr().err
