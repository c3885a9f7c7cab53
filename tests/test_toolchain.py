"""What a wheel is built with and on, and that one of another toolchain is not used."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv.config import Config
from asv.environment import EnvironmentUnavailable

from asv_plugins import environment, toolchain
from asv_plugins.environment import Host, host_packages, host_version
from asv_plugins.wheel_cache import WheelCache

pytest_plugins = ("build_environment",)


def test_a_wheel_of_another_toolchain_is_not_used(tmp_path, built_with, caplog):
    cache = WheelCache(SimpleNamespace(build_cache_size=9, project="toy"), str(tmp_path))

    def store():
        Path(cache.create_cache_dir("a" * 40), "toy.whl").touch()
        cache.finalize_cache_dir("a" * 40)
        return cache.get_cache_dir("a" * 40)

    for name in ("TORCH_CUDA_ARCH_LIST", "CXXFLAGS", "NVCC_APPEND_FLAGS", "CUDA_HOME"):
        assert store()
        built_with(**{name: f"other {name}"})
        assert cache.get_cache_dir("a" * 40) is None
        assert f"toolchain: {name} was None, is other {name}" in caplog.messages.pop()
    # What does not change what is built, does not matter.
    assert store()
    built_with(MAX_JOBS="7")
    folder = Path(cache.get_cache_dir("a" * 40))
    # Of before this was stored.
    (folder / "toolchain.json").unlink()
    assert cache.get_cache_dir("a" * 40) is None


def fake(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\n")
    path.chmod(0o755)


def test_a_toolchain_is_its_compilers(tmp_path, monkeypatch, built_with):
    fake(tmp_path, "c++", "c++ (Debian) 12.2.0")
    fake(tmp_path, "nvcc", "Cuda compilation tools, release 13.0, V13.0.88")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    for name in ("CUDA_HOME", "CUDA_PATH", "CXX"):
        monkeypatch.delenv(name, raising=False)
    built_with(PATH=path, PTGQ_CUDA="auto")
    before = toolchain.description()
    assert before["C++ compiler"] == "c++ (Debian) 12.2.0"
    assert before["nvcc"] == "Cuda compilation tools, release 13.0, V13.0.88"
    assert toolchain.difference(before) == ""
    fake(tmp_path, "nvcc", "Cuda compilation tools, release 13.1, V13.1.5")
    fake(tmp_path, "c++", "clang version 18.1.3")
    built_with(PATH=path, PTGQ_CUDA="auto")
    assert toolchain.difference(before) == (
        "C++ compiler was c++ (Debian) 12.2.0, is clang version 18.1.3, nvcc was Cuda compilation "
        "tools, release 13.0, V13.0.88, is Cuda compilation tools, release 13.1, V13.1.5"
    )
    built_with(PTGQ_CUDA="0")
    assert toolchain.description()["nvcc"] is None


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CXX": "no-such-compiler"}, "no C++ compiler: 'no-such-compiler' does not run; "),
        ({"PATH": "/nowhere"}, "no C++ compiler: 'c++' does not run; "),
        ({"PTGQ_CUDA": "yes"}, "PTGQ_CUDA must be auto, 0 or 1, got 'yes'"),
        ({"PTGQ_CUDA": "1"}, "PTGQ_CUDA=1 needs nvcc, "),
    ],
)
def test_what_is_missing_is_named(monkeypatch, built_with, variables, message):
    monkeypatch.delenv("CXX", raising=False)
    if "PATH" not in variables and "CXX" not in variables:
        assert toolchain.problem() is None
    built_with(**variables)
    if variables == {"PTGQ_CUDA": "1"}:
        monkeypatch.setattr(toolchain, "find_nvcc", lambda: None)
    assert toolchain.problem().startswith(message)


def test_source_trees_are_no_host_packages(tmp_path):
    site, tree = tmp_path / "site", tmp_path / "tree"
    (site / "thing-1.dist-info").mkdir(parents=True)
    (tree / "toy.egg-info").mkdir(parents=True)
    assert host_packages([str(tree), str(site), str(tmp_path / "none"), str(site)]) == [str(site)]


def test_requirements_are_checked_against_the_host():
    from importlib.metadata import version

    found = version("asv")
    assert host_version("asv", "") == host_version("pip+asv", found) == found
    with pytest.raises(EnvironmentUnavailable, match="requires asv >=99"):
        host_version("asv", ">=99")
    with pytest.raises(EnvironmentUnavailable, match="requires no-such-thing, which"):
        host_version("no-such-thing", "")


def test_only_the_version_of_the_host_is_offered():
    assert Host.matches(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert not Host.matches("2.7")


@pytest.mark.parametrize("packages", [host_packages(), []], ids=["the host's", "its own"])
def test_pip_is_the_hosts_where_it_has_one(tmp_path, monkeypatch, packages):
    pytest.importorskip("virtualenv", reason="virtualenv is not installed")
    # Not by find_spec: for pip, setuptools warns of distutils where that was imported before.
    if packages and not any(Path(folder, "pip").is_dir() for folder in packages):
        pytest.skip("the host has no pip")
    conf = Config.load(str(Path(__file__).parents[1] / "asv.conf.json"))
    conf.env_dir = str(tmp_path)
    made = environment.the_environment(conf)
    monkeypatch.setattr(environment, "host_packages", lambda: packages)
    made._setup()
    (site,) = Path(made._path).glob("lib/*/site-packages")
    assert (site / "pip").is_dir() == (packages == [])
    assert made.run_executable("pip", ["--version"]).startswith("pip ")
