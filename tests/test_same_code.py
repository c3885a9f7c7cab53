"""A kernel whose machine code and launch are unchanged is neither faster nor slower."""

from __future__ import annotations

import subprocess

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv_plugins import environment, record, same_code
from asv_plugins.series import Series
from asv_plugins.verdict import Measurement
from tracking import compare, machine
from tracking.verdict import decide_table

pytest_plugins = ("tracked_history",)

CUDA, TRITON = same_code.HASHES.values()
CPP = """// A kernel's launch.
/* Two
   lines. */ const char* address = "http://x";  // it's here
launch<<<1, 2>>>('"', x / 2);
"""
PYTHON = '''"""Docstring."""
# A comment.
def launch(x):
    """Launch."""
    return x + 1
'''


@pytest.mark.parametrize(
    ("text", "equal"),
    [
        (CPP, True),
        (CPP.replace("Two", "Three"), True),
        (CPP.replace("// it's here", ""), True),
        (CPP.replace("launch<<<1", "\n\n  launch<<<1"), True),
        (CPP.replace("1, 2", "1, 3"), False),
        (CPP.replace("http://x", "http://y"), False),
        (CPP.replace("x / 2", "x / 4"), False),
        (CPP.replace("'\"'", "'\\''"), False),
    ],
)
def test_comments_of_cpp_do_not_matter(text, equal):
    assert (same_code.without_comments(text) == same_code.without_comments(CPP)) is equal


@pytest.mark.parametrize(
    ("text", "equal"),
    [
        (PYTHON.replace("A comment", "Another"), True),
        (PYTHON.replace('"""Launch."""', '"""Launch it."""'), True),
        (PYTHON.replace("x + 1", "x + 2"), False),
        (PYTHON.replace("x + 1", "'text'"), False),
    ],
)
def test_docstrings_do_not_matter(text, equal):
    plain = same_code.without_docstrings(PYTHON)
    assert (same_code.without_docstrings(text) == plain) is equal


def test_sources_of_a_launch_are_all_but_the_cpus(tmp_path):
    def commit(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        for arguments in (("add", "-A"), ("commit", "-qm", name), ("rev-parse", "HEAD")):
            command = ["git", "-C", str(tmp_path), *identity, *arguments]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    without = commit("README.md", "")
    commit("csrc/cuda.cu", CPP)
    base = commit("ptgq/api.py", PYTHON)
    for name, text, equal in (
        ("csrc/cuda.cu", CPP.replace("Two", "Three"), True),
        ("csrc/cpu_groups.h", "int x;", True),
        ("ptgq/api.py", PYTHON.replace("A comment", "Another"), True),
        ("ptgq/measure/timers.py", "x = 1", True),
        ("ptgq/api.py", PYTHON.replace("x + 1", "x + 2"), False),
        ("ptgq/api.py", PYTHON, True),
        ("csrc/new.cu", "", False),
    ):
        head = commit(name, text)
        assert same_code.equal_launches(base, head, str(tmp_path)) is equal, name
    # What is not known is not equal.
    assert not same_code.equal_launches(without, without, str(tmp_path))


@pytest.mark.parametrize(
    ("row", "backends"),
    [
        ("kernel_time.KernelTime.track_seed('cuda', 'cold', 16)", {"'cuda'"}),
        ("copy_distance.DistanceToCopy.track_serving('triton', 16)", {"'triton'"}),
        ("timed.Kernels.time_default_shapes('cuda', 16)", {"'cuda'"}),
        ("scale_formats.SiluAndMul.track_kernel('cuda', 16)", {"'cuda'"}),
        ("masked_rows.MaskedTime.track_masked_rows('cuda', 'full', 'fp8')", {"'cuda'"}),
        ("beside_gemm.Kernels.track_copy_ratio('triton', 'norm')", {"'triton'"}),
        ("cuda_vs_triton.KernelRatio.track_variants(128)", {"'cuda'", "'triton'"}),
        # Calls, accuracy.
        ("call_latency.CallLatency.track_call('cuda', 16)", set()),
        ("cuda_vs_triton.CudaVsTriton.track_call_ratio(16)", set()),
        ("timed.Calls.time_default_shapes('cuda', 16)", set()),
        ("scale_formats.ScaleBytes.track_differing_bytes('cuda')", set()),
        ("beside_gemm.Bytes.track_differing_bytes('cuda', 'norm')", set()),
    ],
)
def test_rows_that_time_kernels_alone(row, backends):
    assert same_code.backends_of(row) == backends
    assert same_code.is_same(row, {"'cuda'", "'triton'"}) is bool(backends)
    assert same_code.is_same(row, {"'cuda'"}) is (backends == {"'cuda'"})


BASE = {f"{CUDA}('all')": [7.0], f"{CUDA}('tile')": [8.0], f"{TRITON}(90)": [9.0]}


@pytest.mark.parametrize(
    ("changed", "equal"),
    [
        ({}, {"'cuda'", "'triton'"}),
        ({f"{CUDA}('all')": [6.0]}, {"'triton'"}),
        ({f"{TRITON}(90)": [9.5]}, {"'cuda'"}),
        # A failure says nothing.
        ({f"{TRITON}(90)": [None]}, {"'cuda'"}),
        ({f"{CUDA}('new')": [6.0]}, {"'cuda'", "'triton'"}),
    ],
)
def test_all_hashes_must_be_equal(changed, equal):
    assert same_code.equal_backends(BASE, {**BASE, **changed}) == equal
    assert same_code.equal_backends({**BASE, **changed}, BASE) == equal


def test_a_kernel_with_the_same_code_is_never_slower():
    row = "kernel_time.KernelTime.track_seed('{}', 'cold', 16)".format
    call = "call_latency.CallLatency.track_call('cuda', 16)"
    before, after = [[1.0], [1.01], [1.0]], [[2.0], [2.01], [2.0]]
    names = (
        row("cuda"),
        row("triton"),
        call,
        f"{CUDA}('all')",
        f"{TRITON}(90)",
        "kernel_time.x('cuda')",
    )
    base = dict.fromkeys(names, before)
    head = {**dict.fromkeys(names, after), names[3]: before, names[5]: [None] * 3}
    found = decide_table(base, head, lambda row: 0.05, {"'cuda'"})
    assert [found[name].word for name in names] == [
        "same code", "slower", "slower", "same code", "other code", "failed"
    ]  # fmt: skip
    assert found[names[0]].change == pytest.approx(1, rel=0.01)
    found = decide_table(base, head, lambda row: 0.05)
    assert found[names[0]].word == "slower"


def test_the_record_says_same_code(monkeypatch):
    kernel, call = "kernel_time.KernelTime.track_seed", "call_latency.CallLatency.track_call"
    backends = [["'cuda'", "'triton'"]]
    params = {kernel: backends, call: backends, CUDA: [["'all'"]], TRITON: [["90"]]}
    stored = {
        "old": {kernel: (1, 1), call: (1, 1), CUDA: (5,), TRITON: (6,)},
        "new": {kernel: (2, 2), call: (2, 2), CUDA: (5,), TRITON: (7,)},
    }
    series = Series({})
    series.commits.update(old=[], new=[])

    def read(commit, name, params):
        return [Measurement(float(v), float(v), float(v)) for v in stored[commit][name]]

    monkeypatch.setattr(series, "read", read)
    benchmarks = {name: {"params": values} for name, values in params.items()}
    given = (series, {"old": 0, "new": 1}, benchmarks, {})
    cells = record.snapshot(*given, lambda one, other: (one, other) == ("old", "new"))["cells"]
    assert cells[kernel] == [[2, 1, "same code", 0.05], [2, 1, "worse", 0.05]]
    # Calls' times are not judged.
    assert cells[call] == [[2, 1]] * 2
    # A hash is neither better nor worse.
    assert (cells[CUDA], cells[TRITON]) == ([[5]], [[7]])
    cells = record.snapshot(*given, lambda one, other: False)["cells"]
    assert cells[kernel] == [[2, 1, "worse", 0.05]] * 2


def test_compare_asks_for_the_code_of_kernels(history, asv_calls, monkeypatch, capsys):
    asked = []
    kernel = "kernel_time.KernelTime.track_seed('cuda', 'cold', 16, 64, 'int8')"
    base = {kernel: [[1.0]] * 3, f"{CUDA}('all')": [7.0]}
    head = {**base, kernel: [[2.0]] * 3}

    class Measured:
        def __init__(self, suite):
            self.suite = suite

        def run(self, rounds, after):
            asked.append([name for request in self.suite.counted for name in request])

        def sides(self):
            return base, head

    facts = {**machine.facts(), "gpu": "NVIDIA H200"}
    monkeypatch.setattr(machine, "facts", lambda: facts)
    monkeypatch.setattr(compare, "unpacked", lambda *arguments: ())
    monkeypatch.setattr(compare, "Comparison", Measured)
    monkeypatch.setattr(environment.Host, "reserve", lambda self: None)
    monkeypatch.setenv("PTGQ_MEASURED_DEVICE", "")
    # A page is between these, and code between those.
    assert compare.main(["main~1", "main"]) == 0
    assert "1 same code" in capsys.readouterr().out.splitlines()[-1]
    assert compare.main([history["code"], "main"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("1 slower, 0 faster, 0 same, 0 undecided, 0 failed; ")
    # Nor is code asked for where no kernel is timed.
    compare.main(["main~1", "main", "--bench", "call_latency"])
    assert asked == [[CUDA, TRITON], [], []]
