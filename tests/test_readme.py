"""The README: its examples run, and its numbers are the stored ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "pyproject.toml"
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_files_of_the_project_that_a_page_names_are_there(page):
    folders = "asv_plugins|benchmarks|csrc|proofs|ptgq|requirements|tests|tools|tracking"
    named = re.findall(
        rf"(?<![\w./])(?:{folders})/[\w/{{,}}]*\.\w+", (ROOT / page).read_text("utf-8")
    )
    assert named
    for path in named:
        before, _, rest = path.partition("{")
        choices, _, after = rest.partition("}")
        for choice in choices.split(","):
            name = before + choice + after
            # An invented one, in how to add a backend; and what a build writes.
            if "NAME" not in name and name != "ptgq/commit.txt":
                assert (ROOT / name).exists(), name


@pytest.fixture
def readme(monkeypatch):
    """The command that writes the numbers, in the project's folder."""
    pytest.importorskip("asv", reason="asv is not installed")
    from tracking import readme

    monkeypatch.chdir(ROOT)
    return readme


def test_the_first_example_prints_what_it_says(capsys):
    example = EXAMPLES[0]
    assert len(re.findall(r"^\S", example, re.MULTILINE)) == 4
    exec(example, {})
    assert capsys.readouterr().out.strip() == example.rpartition("# ")[2].strip()


@pytest.mark.parametrize("editable", [False, True], ids=["regular", "editable"])
def test_what_is_installed_is_said_from_where_the_set_up_ends(tmp_path, editable):
    # A clone, and its package with the project's own layout, but without torch and the library.
    clone, environment = tmp_path / "ptgq", tmp_path / "environment"
    for folder in ("docs", "ptgq"):
        (clone / folder).mkdir(parents=True)
    (clone / "ptgq" / "__init__.py").write_text("place = __file__")
    (clone / "ptgq" / "__main__.py").write_text("from ptgq import place; print(place)")
    find = re.search(r"\[tool.setuptools.packages.find\]\n.*\n", PROJECT.read_text("utf-8"))[0]
    head = '[build-system]\nrequires = []\nbuild-backend = "setuptools.build_meta"\n'
    about = '[project]\nname = "ptgq"\nversion = "1"\n'
    (clone / "pyproject.toml").write_text(head + about + find)
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    if editable:
        code = f"from setuptools import build_meta as b; b.build_editable({str(tmp_path)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=clone, check=True, capture_output=True)
        (wheel,) = tmp_path.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(packages)
    else:
        shutil.copytree(clone / "ptgq", packages / "ptgq")
    line = re.search(r"^.*python -m ptgq\b.*$", README, re.MULTILINE)[0]
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": ""}
    done = subprocess.run(["bash", "-c", line], cwd=clone, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = (clone if editable else packages) / "ptgq" / "__init__.py"
    assert Path(done.stdout.strip()) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("example", EXAMPLES[1:])
def test_the_other_examples_run(example):
    exec(example, {})


def test_the_first_screen_answers_in_order_with_one_table_of_times():
    screen = README.split("## Two commands")[0]
    order = ["**For** ", "**How fast**", "**GPUs:**", "**Why to trust it:**", "**Install** "]
    places = [screen.index(text) for text in [*order, "```python"]]
    assert places == sorted(places)
    tables = re.findall(r"(?:^\|.*\n)+", screen, re.MULTILINE)
    assert [table.count("\n") for table in tables] == [2 + 6, 2 + 2]
    assert tables[1] in re.search("<!-- proof: .*?<!-- end", screen, re.DOTALL)[0]
    assert screen.count("\n") <= 55


def test_numbers_say_how_old_they_are_and_percent_of_copy_as_the_site(readme):
    for name in ("numbers", "peers"):
        text = readme.pattern(name).search(README)[0]
        assert re.search(r"on 20\d\d-\d\d-\d\d: commit\s`\w{10}` of 20\d\d-\d\d-\d\d, ", text)
    (results, *_) = readme.measured()
    copies = readme.values(results, readme.COPY)
    cell = f"({100 / copies['cuda', 'produced', '1024', '7168']:.0f} %)"
    assert readme.numbers(results).split("1,024 × 7168 | ")[1].split(" | ")[0].endswith(cell)


def test_the_numbers_are_those_stored_of_their_commit(readme):
    shown = readme.pattern("numbers").search(README)[0]
    commit = re.search(r"commit `(\w{10})`", shown)[1]
    (results,) = (r for r in readme.measured() if r.commit_hash.startswith(commit))
    assert shown == readme.parts(results)["numbers"], "run python -m tracking.readme"


def test_other_implementations_are_those_stored(readme):
    shown = readme.pattern("peers").search(README)[0]
    assert shown == readme.block("peers", readme.peers()), "run python -m tracking.readme"


def test_the_table_of_other_implementations(tmp_path):
    pytest.importorskip("asv", reason="asv is not installed")
    import synthetic_peers
    import synthetic_results
    from asv.results import iter_results

    from tracking import peer_table

    assert [*peer_table.lines(None, "")] == [peer_table.NOTHING]
    axes = {**synthetic_peers.SHAPES, "tokens": (1, 128, 1024, 8192), "hidden": (7168,)}
    time = (
        peer_table.TIME,
        "seconds",
        {**synthetic_peers.NAMES, **axes, **synthetic_peers.VARIANT},
    )
    benchmarks = (*time, synthetic_peers.time, False), *synthetic_peers.BENCHMARKS[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_results, "BENCHMARKS", benchmarks)
        synthetic_results.write_results(tmp_path / "made", 2, 1, None)
    folder = str(tmp_path / "made" / "results")
    newest = max(iter_results(folder), key=lambda results: results.date)
    every = {key: {"version": "1"} for key in newest.get_all_result_keys()}
    found = peer_table.newest(folder, "h200", every)
    assert found.commit_hash == newest.commit_hash
    text = [*peer_table.lines(found, folder)]
    assert "sglang 0.5.23+kernels" in " ".join(text)
    rows = [line.strip("| ").split(" | ") for line in text if line.startswith("|")]
    assert len(rows) == 2 + 6
    assert len({len(row) for row in rows}) == 1
    # SGLang's is not exact: it says by how much.
    label, own, best, differ, compiled = rows[4]
    assert label == "1,024 × 7168, FP8"
    assert best.endswith(" (sglang)")
    assert float(best.split()[0]) == pytest.approx(0.9 * float(own), rel=0.02)
    assert float(compiled) == pytest.approx(2 * float(own), rel=0.02)
    assert differ == f"{100 * 365_000 / (1024 * 7168):.2g} %"
    assert max(map(len, text)) <= 100


def test_the_proof_is_the_newest_run(readme):
    shown = readme.pattern("proof").search(README)[0]
    assert shown == readme.parts(readme.measured()[0])["proof"], "run python -m tracking.readme"
    runs = list(filter(readme.is_whole, readme.record.read(readme.PROOFS)))
    assert runs
    assert [run["differ"] for run in runs] == [0] * len(runs)


def test_the_command_writes_the_newest_of_both(readme, monkeypatch, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(re.sub(r"\d", "0", README), encoding="utf-8")
    monkeypatch.setattr(readme, "README", path)
    assert readme.main() == 0
    written = path.read_text(encoding="utf-8")
    for part in readme.parts(readme.measured()[0]).values():
        assert part in written
        written = written.replace(part, "")
    assert not re.search(r"[1-9]", written)


def test_without_results_it_says_so_in_one_line(readme, monkeypatch, capsys):
    monkeypatch.setattr(readme, "MACHINE", "nowhere")
    assert readme.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no commit on nowhere has kernel_time." in line


def test_a_run_of_some_cases_is_no_proof_of_all(readme):
    run = {"parts": list(readme.PARTS), "formats": None, "one_case_of": 1}
    assert readme.is_whole(run)
    for some in ({"parts": ["scales"]}, {"formats": ["int8"]}, {"one_case_of": 16}):
        assert not readme.is_whole({**run, **some})
