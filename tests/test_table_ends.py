"""What ends the benchmark script early: one line, or none, and its exit status."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "benchmark_per_token_group_quant.py"
QUICK = ["--device", "cpu", "--warmup-iters", "1", "--bench-iters", "2"]
ONE = [*QUICK, "--dtype", "int8", "--shape", "4x64", "--group-size", "64"]


@pytest.fixture
def table(load_script):
    return load_script("table", SCRIPT.name)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(28, "No space left on device"), 2, "can't be written: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted: "),
        (RuntimeError("CUDA error: a\nstack\n\nof it"), 2, "error: CUDA error: a"),
        (ValueError("group_size must be"), 2, "error: group_size must be"),
        (MemoryError(), 2, "error: MemoryError: "),
        (ImportError("No module named 'triton'"), 2, "error: ImportError: No module named"),
    ],
    ids=["full disk", "Ctrl-C", "CUDA", "argument", "memory", "import"],
)
def test_what_ends_it_is_one_line(table, capsys, monkeypatch, error, status, said):
    def ended(*_, **__):
        raise error

    monkeypatch.setattr(table, "show", ended)
    assert table.main(ONE) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


# How it ends is the same for each format: the next test has the table.
@pytest.mark.parametrize(
    "arguments", [[*ONE, "--format", "json"], ["--help"]], ids=["json", "help"]
)
def test_a_full_disk_is_one_line_when_it_ends_too(arguments):
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(SCRIPT), *arguments]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 2
    assert run.stderr == "error: the output can't be written: No space left on device\n"


@pytest.mark.parametrize("arguments", [ONE, ["--help"]], ids=["table", "help"])
def test_who_stops_reading_is_no_error(arguments):
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode == 128 + signal.SIGPIPE


def test_ctrl_c_during_imports_is_one_line():
    with subprocess.Popen(
        [sys.executable, "-v", str(SCRIPT), *ONE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ignored by what a shell has put in the background, tests too, and inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        next(line for line in run.stderr if "benchmarks/table_arguments.py" in line)
        run.send_signal(signal.SIGINT)
        said = run.stderr.read()
    assert run.returncode == 130
    assert "Traceback" not in said
    assert said.count("interrupted: ") == 1
