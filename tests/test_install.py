"""Installing: what a build asks for, and says where something is missing."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup():
    """The functions of setup.py."""
    spec = importlib.util.spec_from_file_location("setup_py", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
