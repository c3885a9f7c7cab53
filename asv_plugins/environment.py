"""The ``host`` environment: one virtual environment on top of the interpreter that runs asv.

asv's own environments would install torch anew for every environment, and need a network for it.
This one downloads nothing. The host's torch, triton, ninja, setuptools and pip serve, made visible
by a ``.pth`` file; the commit under test is installed before them: nothing of the host shadows it.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import venv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from asv import environment, util
from asv.config import Config
from asv.console import log
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from asv_plugins import lock, storage, toolchain
from asv_plugins.wheel_cache import WheelCache, compiled_sources, extracted_library


def host_packages(path: list[str] | None = None) -> list[str]:
    """Return the directories of `path` (``sys.path``) that distributions are installed in.

    A source tree is none of them (it holds ``.egg-info`` at most), so an editable installation of
    the project stays invisible. asv was imported from one, and asv_runner with it.
    """
    entries = (Path(entry).resolve() for entry in (sys.path if path is None else path))
    return list(dict.fromkeys(str(entry) for entry in entries if any(entry.glob("*.dist-info"))))


def host_version(name: str, wanted: str) -> str:
    """Return the host's version of a requirement of the matrix, or raise if it can't serve.

    Parameters
    ----------
    name : str
        A distribution, with or without asv's ``pip+``.
    wanted : str
        A version, a specifier such as ``>=2.11``, or ``""`` for any.
    """
    name = name.removeprefix("pip+")
    try:
        found = version(name)
    except PackageNotFoundError:
        raise environment.EnvironmentUnavailable(
            f"the matrix requires {name}, which {sys.executable} does not have: install it there"
        ) from None
    try:
        accepted = SpecifierSet(wanted)
    except InvalidSpecifier:
        accepted = SpecifierSet(f"=={wanted}")
    if not accepted.contains(found, prereleases=True):
        raise environment.EnvironmentUnavailable(
            f"the matrix requires {name} {accepted}, {sys.executable} has {found}"
        )
    return found


class Host(environment.Environment):
    """A virtual environment that holds the commit under test and sees the host's packages."""

    tool_name = "host"

    def __init__(self, conf, python, requirements, tagged_env_vars):
        # The versions found name the environment: another torch is another series.
        found = {name: host_version(name, wanted) for name, wanted in requirements.items()}
        # asv's own __init__ reads the name, which these make up.
        self._python = python
        self._requirements = found
        super().__init__(conf, python, found, tagged_env_vars)
        self._cache = WheelCache(conf, self._path)
        storage.toolchain_of = self._cache.toolchain
        self._lock = Path(self._path).with_suffix(".lock")
        self._library: str | None = None

    @classmethod
    def matches(cls, python):
        """Whether `python` is the version of the interpreter that runs asv."""
        return python == f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def _pth(self) -> Path:
        version_dir = f"python{self._python}"
        return Path(self._path, "lib", version_dir, "site-packages", "host-packages.pth")

    def check_presence(self):
        """Whether the environment exists and still stands on this host's packages."""
        expected = "\n".join(host_packages()) + "\n"
        return (
            super().check_presence() and self._pth.is_file() and (self._pth.read_text() == expected)
        )

    def reserve(self, builds=True):
        """Keep the environment for this process, once nothing is known to keep it from building.

        `builds` is whether anything is to be built.

        Raises
        ------
        asv.util.UserError
            If another process uses it, or a tool is missing: in one line.
        """
        # A build that is tried although wheels are given says it then.
        if builds and not self._cache.given and (missing := toolchain.problem()):
            raise util.UserError(missing)
        if lock.take(self._lock):
            lock.end_leftovers(self._path)

    def check(self, builds=True):
        """Raise as :meth:`reserve` does, and leave the environment to an asv that is run next."""
        self.reserve(builds)
        lock.release(self._lock)

    def create(self):
        """Make the environment, or take what is there; the run ends where it can't have it."""
        try:
            self.reserve()
        except util.UserError as error:
            log.error(str(error))
            raise SystemExit(2) from error
        super().create()
        installed = self.installed_commit_hash
        if installed and self._cache.get_cache_dir(installed) is None:
            # Of another toolchain, or no longer kept.
            self._set_installed_commit_hash(None)

    def _setup(self):
        log.info(f"Creating a virtual environment for {self.name}")
        # The host's pip is byte-compiled already; some hosts have none (uv's).
        if any(Path(folder, "pip").is_dir() for folder in host_packages()):
            venv.create(self._path, symlinks=True)
            # asv looks for it.
            pip = Path(self._path, "bin", "pip")
            pip.write_text('#!/bin/sh\nexec "${0%/*}/python" -m pip "$@"\n')
            pip.chmod(0o755)
        else:
            command = [sys.executable, "-m", "virtualenv", "--no-download", "--no-periodic-update"]
            util.check_call([*command, "--no-setuptools", "-p", sys.executable, self._path])
        self._pth.write_text("\n".join(host_packages()) + "\n")

    def _build_project(self, repo, commit_hash, build_dir):
        """Build a commit's wheel, with the library of an earlier one if it has the same sources."""
        # Without a compiler the build would leave the library out.
        if missing := toolchain.problem():
            raise util.UserError(missing)
        sources = compiled_sources(build_dir, commit_hash)
        wheel = self._cache.wheel_of(sources) if sources else None
        # The user's own would serve all commits.
        os.environ.pop("PTGQ_LIBRARY", None)
        with tempfile.TemporaryDirectory() as folder:
            if wheel and (library := extracted_library(wheel, folder)):
                log.info(f"Nothing to compile: {wheel.parent.name[:8]} has the same sources")
                self._library = library
            try:
                super()._build_project(repo, commit_hash, build_dir)
            finally:
                self._library = None
        folder, _ = self._cache._get_cache_dir(commit_hash)
        Path(folder, WheelCache.SOURCES).write_text(sources)

    @property
    def build_env_vars(self):
        """The matrix's variables for builds, and the library that saves compiling."""
        library = {"PTGQ_LIBRARY": self._library} if self._library else {}
        return {**super().build_env_vars, **library}

    def run_executable(self, executable, args, **kwargs):
        """Run a program of the environment; builds find the host's tools (ninja) on the PATH."""
        env = dict(kwargs.pop("env", os.environ))
        env["PATH"] = toolchain.search_path(env.get("PATH", os.defpath))
        # pip removes bytecode that it wrote beside the source: elsewhere the last commit's stays.
        env.pop("PYTHONPYCACHEPREFIX", None)
        return super().run_executable(executable, args, env=env, **kwargs)

    def run(self, args, **kwargs):
        """Run the environment's Python."""
        log.debug(f"Running '{' '.join(args)}' in {self.name}")
        return self.run_executable("python", args, **kwargs)

    def _build_in(self, place: str, repo, commit: str) -> None:
        """Build a commit's wheel as asv's install_project does, but install nothing."""
        if self.installed_commit_hash == commit:
            self._set_installed_commit_hash(None)
        # Each builder has its own folders.
        builder = copy.copy(self)
        builder._global_env_vars = dict(self._global_env_vars)
        builder._build_root = str(Path(self._path, place))
        builder.checkout_project(repo, commit)
        builder._set_build_dirs(builder._build_root, self._cache.create_cache_dir(commit))
        builder._build_project(repo, commit, builder._build_root)

    def _build(self, repo, commits: Sequence[str]) -> None:
        """Build commits' wheels side by side; those that are built are kept if another is not."""
        with ThreadPoolExecutor() as pool:
            places = ("project", *(f"project-{number}" for number in range(1, len(commits))))
            builds = [
                pool.submit(self._build_in, place, repo, commit)
                for place, commit in zip(places, commits, strict=True)
            ]
        built = zip(commits, builds, strict=True)
        self._cache.finalize_cache_dir(*(commit for commit, one in built if not one.exception()))
        for one in builds:
            one.result()

    def wheels(self, repo, commits: Sequence[str]) -> list[Path]:
        """Return commits' wheels, built now unless an earlier run has kept them."""
        missing = [commit for commit in commits if self._cache.get_cache_dir(commit) is None]
        # What has the sources of another takes its library.
        first = {compiled_sources(repo._path, commit) or commit: commit for commit in missing}
        for some in (list(first.values()), [c for c in missing if c not in first.values()]):
            if some:
                self._build(repo, some)
        folders = (Path(self._cache.get_cache_dir(commit)) for commit in commits)
        return [next(folder.glob("*.whl")) for folder in folders]


def the_environment(conf: Config) -> Host:
    """Return the environment of a configuration.

    Raises
    ------
    asv.util.UserError
        If this host can't serve what the matrix requires: with why.
    """
    (entries,) = environment.iter_matrix(conf.environment_type, conf.pythons, conf)
    try:
        return Host(conf, *environment._parse_matrix_entries(entries))
    except environment.EnvironmentUnavailable as error:
        raise util.UserError(str(error)) from None
