"""Installing: what a build asks for, compiles for, and says where something is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from building import ROOT, load_setup


@pytest.fixture
def setup():
    return load_setup()


def run_backend(code: str, folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    """Run code of the build backend in a copy of the source beside a module of this text."""
    name, _, text = module.partition(": ")
    (folder / f"{name}.py").write_text(text)
    for part in ("build_backend.py", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, folder)
    command = [sys.executable, "-c", f"import build_backend as backend; {code}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_torch_is_asked_for_where_something_is_compiled(tmp_path):
    calls = ("sdist()", "wheel()", "editable()", "wheel({'--build-option': '--quiet'})")
    code = f"print(*({', '.join('backend.get_requires_for_build_' + call for call in calls)},))"
    # In an isolated build it is not there yet.
    done = run_backend(code, tmp_path, "torch: raise ModuleNotFoundError('torch')")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == " ".join(["[]", *3 * ["['torch>=2.11']"]])
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == ["torch>=2.11"]
    # What installs all of these, as asv's environments do, fetches no torch.
    assert not [name for name in project["build-system"]["requires"] if "torch" in name]


@pytest.mark.parametrize(
    ("module", "found"),
    [("__version__ = '65.5.0'", "65.5.0"), ("raise ModuleNotFoundError('setuptools')", "none")],
)
def test_an_old_setuptools_is_named(tmp_path, module, found):
    done = run_backend("", tmp_path, f"setuptools: {module}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"needs setuptools>=77, here is {found}:" in line


def test_a_missing_torch_is_named(setup, monkeypatch):
    monkeypatch.setattr(setup, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs torch>=2.11.*--no-build-isolation"):
        setup.compiled()


def test_an_old_torch_is_named(setup, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1+cu130"))
    with pytest.raises(SystemExit, match=r"needs torch>=2.11, here is 2.9.1\+cu130"):
        setup.compiled()


def test_a_checkout_is_built_without_git(setup, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert setup.commit() == ""
    Path(".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert setup.commit() == ""


def test_the_commit_is_that_of_the_source(setup, monkeypatch, tmp_path):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    for folder in ("source", "other"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        subprocess.run(["git", "init", "-q"], check=True)
        command = ["git", *identity, "commit", "-q", "--allow-empty", "-m", folder]
        subprocess.run(command, check=True)
    expected = setup.commit()
    # As git exports to its hooks.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "source" / ".git"))
    assert setup.commit() == expected != ""


@pytest.mark.parametrize(
    ("listed", "visible", "expected"),
    [
        ("", [], ["9.0"]),
        ("", ["9.0", "8.0"], ["8.0", "9.0"]),
        ("9.0;10.0", ["8.0"], ["9.0", "10.0"]),
        ("8.0, 9.0a  12.0+PTX;", [], ["8.0", "9.0a", "12.0+PTX"]),
        ("10.0f;10.0f", [], ["10.0f"]),
        ("Hopper", [], ["9.0+PTX"]),
        ("Ampere;8.0", [], ["8.0", "8.6+PTX"]),
    ],
)
def test_architectures(setup, listed, visible, expected, capsys):
    assert setup.cuda_architectures(listed, visible) == expected
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("listed", "visible", "expected"),
    [
        ("7.5 8.0 8.6 9.0 10.0 12.0+PTX", [], ["8.0", "8.6", "9.0", "10.0", "12.0+PTX"]),
        ("", ["7.5", "9.0"], ["9.0"]),
        ("", ["7.5"], []),  # a T4: the CPU code alone
    ],
)
def test_architectures_that_are_too_old_are_left_out(setup, listed, visible, expected, capsys):
    assert setup.cuda_architectures(listed, visible) == expected
    line = "ptgq: the CUDA code needs compute capability 8.0, not 7.5: left out\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("listed", ["7.5", "7.0;7.5+PTX", "sm_90", "9", "hopper", "9.0b", "Turing"])
def test_architectures_that_cannot_be_built_are_named(setup, listed):
    with pytest.raises(SystemExit) as refused:
        setup.cuda_architectures(listed, ["9.0"])
    (line,) = str(refused.value).splitlines()
    assert line.startswith("TORCH_CUDA_ARCH_LIST: ")
    assert "8.0" in line
    assert listed.split(";")[-1] in line


@pytest.mark.parametrize(
    ("architecture", "runs_on", "not_on"),
    [
        ("8.0", [(8, 0), (8, 9)], [(9, 0)]),
        ("8.9", [(8, 9)], [(8, 6), (9, 0)]),
        ("9.0+PTX", [(9, 0), (12, 1)], [(8, 9)]),
        # For one capability alone, and for its family.
        ("10.0a", [(10, 0)], [(10, 3), (12, 0)]),
        ("9.0a+PTX", [(9, 0)], [(10, 0)]),
        ("10.0f+PTX", [(10, 0), (10, 3)], [(12, 0)]),
    ],
)
def test_where_an_architecture_runs(architecture, runs_on, not_on):
    from ptgq.extension import _runs_on

    assert all(_runs_on(architecture, capability) for capability in runs_on)
    assert not any(_runs_on(architecture, capability) for capability in not_on)


@pytest.mark.parametrize("built", ["", "9.0"])
def test_a_gpu_that_is_too_old_is_named(monkeypatch, built):
    import torch

    from ptgq import extension

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    library = SimpleNamespace(cuda_architectures=built)
    monkeypatch.setattr(extension, "_C", library)
    reason = extension.why_unavailable("cuda", torch.device("cuda", 0))
    assert reason == "it needs compute capability 8.0 or newer"


def test_flags_of_an_architecture(setup):
    assert setup.gencode("9.0a") == ["-gencode=arch=compute_90a,code=sm_90a"]
    assert setup.gencode("12.0+PTX")[1] == "-gencode=arch=compute_120,code=compute_120"
