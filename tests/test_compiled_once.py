"""A commit that changes nothing that is compiled starts no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")
pytest.importorskip("virtualenv", reason="virtualenv is not installed")

from asv.config import Config
from asv.repo import get_repo
from tiny_library import MODULE, commit, git

from asv_plugins import lock
from asv_plugins.environment import the_environment

pytest_plugins = ("build_environment",)

ROOT = Path(__file__).resolve().parents[1]
# The stand-in of the compiler: it writes down what it is started for, but for its version.
COMPILER = """#!/bin/sh
case "$*" in *-version|-v|-dump*) ;; *) echo "$*" >> {log} ;; esac
exec {compiler} "$@"
"""


# The stand-in of a build: it writes down that it would start the compiler, and copies a wheel.
BUILD = """
import os, shutil, sys
log, wheel, folder = sys.argv[1:]
if "PTGQ_LIBRARY" not in os.environ:
    open(log, "a").write("compiles")
shutil.copy(wheel, folder)
"""


@pytest.fixture
def building(tmp_path, monkeypatch, built_with):
    """Build commits as asv does: the project's build, and a library of a few lines.

    What it returns builds some: to the last one's wheel, and to what the compiler was started for.
    Given a wheel, it goes as far as the call of pip.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    log, stand_in = tmp_path / "started", tmp_path / "compiler"
    stand_in.write_text(COMPILER.format(log=log, compiler=compiler))
    stand_in.chmod(0o755)
    built_with(CXX=str(stand_in), CC=str(stand_in))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # In folders of this test: pip would be compiled at each call.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    for name in ("setup.py", "build_backend.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    conf = Config.load(str(ROOT / "asv.conf.json"))
    conf.install_command = []
    git("init", "-qb", "main")
    script = tmp_path / "build.py"
    script.write_text(BUILD)

    def build(*commits, wheel=None):
        log.write_text("")
        if wheel:
            command = f"python {script} {log} {wheel} {{build_cache_dir}}"
            conf.build_command = [command]
        conf.repo, conf.env_dir, conf.plugins = str(folder), str(tmp_path / "env"), []
        environment = the_environment(conf)
        environment.create()
        *_, wheel = environment.wheels(get_repo(conf), commits)
        return zipfile.ZipFile(wheel), log.read_text().splitlines()

    yield build
    for path in tmp_path.glob("env/*.lock"):
        lock.release(path)


def test_only_what_is_compiled_starts_a_compiler(building, built_with):
    commit("ptgq/__init__.py", "")
    first = commit("csrc/bindings/module.cpp", MODULE)
    wheel, started = building(first)
    assert [line for line in started if "module.cpp" in line]
    assert wheel.read("ptgq/commit.txt").decode() == first[:10]

    python = commit("ptgq/__init__.py", "ONE = 1\n")
    again, started = building(python)
    assert started == []
    assert again.read("ptgq/_C.so") == wheel.read("ptgq/_C.so")
    assert again.read("ptgq/__init__.py") == b"ONE = 1\n"
    assert again.read("ptgq/commit.txt").decode() == python[:10]
    assert Path(again.filename).name == Path(wheel.filename).name

    # Each of these may change the library, and what pip is called for is then the same.
    kept = wheel.filename
    assert building(commit("README.md", "\n"), wheel=kept)[1] == []
    for path in ("csrc/bindings/module.cpp", "setup.py"):
        assert building(commit(path, "\n"), wheel=kept)[1]
    built_with(CXXFLAGS="-g")
    assert building(python, wheel=kept)[1]
    # The second of two that are built together waits.
    both = commit("csrc/bindings/module.cpp", "\n\n"), commit("README.md", "\n\n")
    assert building(*both, wheel=kept)[1] == ["compiles"]


def test_a_library_that_is_not_there_is_named(tmp_path):
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext"],
        env={**os.environ, "PTGQ_LIBRARY": "nowhere/_C.so"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "PTGQ_LIBRARY must be a file, got 'nowhere/_C.so'"
