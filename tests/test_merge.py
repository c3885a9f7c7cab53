"""Results that come from another checkout: each fault of them is refused, in one line."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv import util
from exchanged_results import (
    BACKENDS,
    BENCHMARKS,
    BYTES,
    FACTS,
    KERNELS,
    LOADED,
    make,
    measure,
    write,
)

from tracking import merge


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Results beside a repository without any, in which commands run."""
    folder = make(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    return folder


def content(folder):
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def newest(folder):
    return next(
        path for path in sorted((folder / "h200").glob("*-*.json"))
        if json.loads(path.read_text())["date"] == 1_700_003_600_000
    )  # fmt: skip


@pytest.mark.parametrize(
    "own", [{"toolchain": {"nvcc": "13.0", "CXX": None}}, {"unfinished": True}]
)
def test_what_asv_does_not_write_is_kept(theirs, own):
    path, (key,) = newest(theirs), own
    told = {**json.loads(path.read_text()), **own}
    path.write_text(json.dumps(told))
    assert merge.main([str(theirs)]) == 0
    assert json.loads(Path("results", "h200", path.name).read_text()) == told
    assert sum(key in text.decode() for text in content("results").values()) == 1


@pytest.mark.parametrize("given", [".", "h200"])
def test_what_is_sound_is_merged_as_it_came_and_once(theirs, capsys, given):
    assert merge.main([str(theirs / given)]) == 0
    assert content("results") == content(theirs)
    out = capsys.readouterr().out
    commits = " ".join(sorted(path.name[:8] for path in (theirs / "h200").glob("*-*.json")))
    assert [word[:8] for word in out.split("(")[-1].split(")")[0].split()] == commits.split()
    # 2 kernels, 3 counts and a start of each commit.
    assert out.endswith("), 12 rows; 0 were here already\n")
    assert f"1 rows failed, such as {KERNELS}('reference', 16)" in out
    assert merge.main([str(theirs)]) == 0
    assert capsys.readouterr().out == "h200: merged nothing new; 2 were here already\n"


COLUMNS = {"result": 0, "params": 1, "version": 2, "started": 3, "low": 5, "high": 6, "q_25": 7}
COLUMNS |= {"repeat": 10, "samples": 11, "profile": 12}
LOST = object()


def column(name, *index, of=KERNELS):
    return ("results", of, COLUMNS[name], *index)


CHANGES = [
    (("version",), 1, "is stored in an old file format"),
    (("version",), 3, "in a format that is newer"),
    (("version",), LOST, "lacks version"),
    (("remark",), "mine", "asv would not write it so"),
    (("toolchain",), {"nvcc": 13}, "toolchain is {'nvcc': 13}, not names and texts"),
    (("unfinished",), "yes", "unfinished is 'yes', not true"),
    (("result_columns", 0), "value", "unknown data key value"),
    (("params",), [], "not in asv's form"),
    (("results", KERNELS), {}, "asv would not write it so"),
    (("results", KERNELS), 5, "not in asv's form"),
    (("results",), {}, "is empty"),
    (("results", "k<img>"), [[1], [], "2", 1_700_009_000_000], "is no benchmark's name"),
    (("results", "a"), [None, [["1"] * 99] * 9, "1", 1_700_009_000_000], "combinations of param"),
    (("commit_hash",), "f" * 40, "a result of commit ffffffff"),
    (("env_name",), "host-py3.12", "its content is that of "),
    (("python",), "3.12", "its content is that of "),
    (("requirements", "torch"), "2.12.0", "-host-py3.11-torch2.12.0-triton3.6.0.json"),
    (("params", "torch"), "2.12.0", "param torch is 2.12.0, and also 2.13.0"),
    (("params", "arch"), "aarch64", "param arch is aarch64, and also x86_64"),
    (("params", "driver"), LOST, "params lack driver"),
    (("params", "ram"), 5, "a param is no text"),
    (("params", "gpu"), "NVIDIA B200", "results of NVIDIA H200, this is NVIDIA B200"),
    (("params", "machine"), "other", "a result of machine 'other' in h200/"),
    (("date",), 1_700_000_000_000, "or has another's date"),
    (column("started"), 1_699_000_000_000, "was started before its commit"),
    (column("started"), 4_000_000_000_000, "was started in the future"),
    (column("started"), None, "not in asv's form"),
    (column("result", 0), math.inf, "an infinity"),
    (column("result", 0), -1.0, "KernelTime.track_x('cuda', 16): -1.0 was timed"),
    (column("result", 0), 0.0, "0.0 was timed"),
    (column("result", 0), 2e-5, "2e-05 is outside its interval or quartiles"),
    (column("result", 0), math.nan, "samples of nothing"),
    (column("result", 0), [1.0], "not in asv's form"),
    (column("result", 2), 1.5, "track_x('cpu', 16): seconds without samples"),
    (column("result", 0, of=BYTES), -1, "-1 is no count"),
    (column("low", 0), 2.6e-6, "is outside its interval"),
    (column("high", 0), math.nan, "is outside its interval"),
    (column("q_25", 0), 2.6e-6, "is outside its interval or quartiles"),
    (column("repeat", 0), 0, "has no samples"),
    (column("repeat", 0), 50, "is not the median of its 50 samples"),
    (column("samples", 0, 2), 9e-6, "is not the median of its 5 samples"),
    (column("samples", 0, 1), -9e-6, "is not the median of its 5 samples"),
    (column("samples", 0, 1), "1", "'1' is no number"),
    (column("samples", 0, 1), math.inf, "an infinity"),
    (column("profile"), "eJwDAAAAAAE=", "holds a profile"),
    (column("params", 0, 1), "'metal'", "has parameters that the suite's does not have"),
    (column("params"), [BACKENDS, ["16", "32"], ["1"]], "has parameters that the suite's does not"),
    (column("params"), [BACKENDS, ["16"]], "6 values of 3 combinations"),
]  # fmt: skip


def refused(folder, capsys, path, message, *options):
    """Assert that one line says what is wrong with a file, and that nothing is merged."""
    before = content("results")
    assert merge.main([str(folder), *options]) == 2
    out, err = capsys.readouterr()
    assert content("results") == before
    assert (out, err.count("\n")) == ("", 2)
    assert err.startswith(f"merge: {path}: ")
    assert message in err
    assert err.endswith("merge: nothing was merged, 1 are wrong\n")


@pytest.mark.parametrize(("place", "value", "message"), CHANGES)
def test_a_changed_file_is_refused_and_nothing_merged(theirs, capsys, place, value, message):
    path = newest(theirs)
    stored = json.loads(path.read_text())
    within = stored
    for key in place[:-1]:
        within = within[key]
    # asv leaves empty columns at a row's end out.
    if isinstance(within, list) and place[-1] == len(within):
        within.append(value)
    elif value is LOST:
        del within[place[-1]]
    else:
        within[place[-1]] = value
    path.write_text(json.dumps(stored))
    refused(theirs, capsys, path, message)


def link(path):
    target = path.with_name("elsewhere")
    path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(target.parents[2] / "elsewhere")
    return path


def text(path, content):
    path.write_text(content)
    return path


def machine_with(**changes):
    def change(folder, path):
        facts = {key: value for key, value in {**FACTS, **changes}.items() if value is not LOST}
        util.write_json(str(path.with_name("machine.json")), facts, 1)
        return path.with_name("machine.json")

    return change


def behind_a_link(folder, path):
    folder.joinpath("h200").rename(folder.parent / "elsewhere")
    folder.joinpath("h200").symlink_to("../elsewhere")
    return folder / "h200" / "machine.json"


def subfolder(folder, path):
    path.with_name("more").mkdir()
    return path.with_name("more")


FILES = {
    "half of it": (lambda f, p: text(p, p.read_text()[:99]), "unreadable"),
    "no text": (lambda f, p: text(p, "\0"), "unreadable"),
    "nested too deep": (lambda f, p: text(p, "[" * 99_999), "RecursionError"),
    "too large": (lambda f, p: text(p, " " * (2**24 + 1)), "has 16777217 bytes, more than"),
    "another name": (lambda f, p: p.rename(p.with_name(f"{p.name[:9]}x.json")), "its content is"),
    "a link": (lambda f, p: link(p), "is no regular file"),
    "a linked machine.json": (lambda f, p: link(p.with_name("machine.json")), "is no regular file"),
    "a linked folder": (behind_a_link, "is behind a link"),
    "a folder": (subfolder, "is no regular file"),
    "a pipe": (lambda f, p: os.mkfifo(p.with_name("x")) or p.with_name("x"), "is no regular file"),
    "a machine without a driver": (machine_with(driver=LOST), "lacks driver"),
    "of another name": (machine_with(machine="other"), "describes machine 'other'"),
    "a fact of a machine is no text": (machine_with(ram=5), "a fact is no text"),
    "no object": (lambda f, p: text(p.with_name("machine.json"), "[]"), "No version specified"),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_folder_that_is_not_what_it_seems_is_refused(theirs, capsys, fault):
    change, message = FILES[fault]
    path = change(theirs, newest(theirs))
    refused(theirs, capsys, path, message)


def test_a_commit_that_is_not_on_the_branch_is_refused(theirs, capsys):
    path = write(theirs, measure("e" * 40, 1))
    refused(theirs, capsys, path, "commit eeeeeeeeee is not on main here")


def test_another_machine_of_a_name_is_refused(theirs, capsys):
    assert merge.main([str(theirs)]) == 0
    capsys.readouterr()
    shutil.rmtree(theirs)
    facts = {**FACTS, "gpu": "NVIDIA B200"}
    path = write(theirs, measure("e" * 40, 1, facts), facts).with_name("machine.json")
    refused(theirs, capsys, path, "machine h200 has results of NVIDIA H200, this is NVIDIA B200")


def test_two_machines_of_a_new_name_are_refused(theirs, capsys):
    facts = {**FACTS, "gpu": "NVIDIA B200"}
    other = theirs.with_name("others")
    path = write(other, measure("e" * 40, 1, facts), facts).with_name("machine.json")
    refused(theirs, capsys, path, "this is NVIDIA B200", str(other))


def test_a_time_of_a_gpu_is_refused_without_one(theirs, capsys):
    facts = {**FACTS, "machine": "box", "gpu": "none"}
    stored = json.loads(newest(theirs).read_text())
    path = write(theirs, measure(stored["commit_hash"], 1, facts), facts)
    sound = path.read_text()
    stored["params"] |= {"machine": "box", "gpu": "none"}
    path.write_text(json.dumps(stored))
    refused(theirs, capsys, path, f"{KERNELS}('cuda', 16): needs a GPU, on a machine without one")
    path.write_text(sound)
    assert merge.main([str(theirs)]) == 0


def test_other_results_of_a_commit_are_refused_unless_they_are_newer(theirs, capsys):
    assert merge.main([str(theirs)]) == 0
    path = newest(theirs)
    here = Path("results", "h200", path.name)
    stored = json.loads(path.read_text())
    for hours, message in ((-1, "a newer result of its commit is here"), (1, None)):
        changed = json.loads(json.dumps(stored))
        for row in changed["results"].values():
            row[COLUMNS["started"]] += hours * 600_000
        path.write_text(json.dumps(changed))
        capsys.readouterr()
        refused(theirs, capsys, path, "another result of its commit is here: --replace")
        if message:
            refused(theirs, capsys, path, message, "--replace")
    assert merge.main([str(theirs), "--replace"]) == 0
    assert here.read_bytes() == path.read_bytes()


def test_two_results_of_a_commit_are_refused(theirs, capsys):
    stored = json.loads(newest(theirs).read_text())
    other = theirs.with_name("others")
    path = write(other, measure(stored["commit_hash"], 1, scale=1.5))
    refused(theirs, capsys, path, "another result of its commit is here", str(other), "--replace")


def test_bytes_that_differ_are_pointed_out(theirs, capsys):
    stored = json.loads(newest(theirs).read_text())
    path = write(theirs, measure(stored["commit_hash"], 1, differing=7))
    assert merge.main([str(theirs)]) == 0
    row = f"{BYTES}('cpu')"
    said = f"{path}: 1 rows whose bytes differ from the reference's, such as {row}\n"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"version": "1"}, None], ids=["version", "gone"])
def test_what_the_suite_has_no_more_is_kept_and_named(theirs, capsys, change):
    known = {name: found for name, found in BENCHMARKS.items() if name != LOADED or change}
    known |= {LOADED: {**BENCHMARKS[LOADED], **change}} if change else {}
    util.write_json("results/benchmarks.json", known, 2)
    assert merge.main([str(theirs)]) == 0
    said = "1 benchmarks of no or another version in this suite: kept, not shown, such as "
    assert said + LOADED in capsys.readouterr().out
    assert content("results/h200") == content(theirs / "h200")
