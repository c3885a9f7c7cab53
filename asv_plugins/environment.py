"""The ``host`` environment: one virtual environment on top of the interpreter that runs asv.

asv's own environments would install torch anew for every environment, and need a network for it.
This one downloads nothing. The host's torch, triton, ninja and setuptools serve, made visible by
a ``.pth`` file; the commit under test is installed before them, so nothing of the host shadows it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from asv import build_cache, environment, util
from asv.config import Config
from asv.console import log
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from asv_plugins import lock, storage, toolchain, wheels


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


class WheelCache(build_cache.BuildCache):
    """asv's cache of wheels, by commit, without those that another toolchain has built.

    A wheel that is given (:mod:`asv_plugins.wheels`) is its commit's, whatever has built it.
    """

    NAME = "toolchain.json"
    SOURCES = "sources.txt"

    def __init__(self, conf, root):
        super().__init__(conf, root)
        try:
            self.given = wheels.Wheels(os.environ.get(wheels.VARIABLE), conf.project)
        except ValueError as error:
            raise util.UserError(str(error)) from None

    def toolchain(self, commit_hash) -> dict[str, str | None] | None:
        """Return what a commit's wheel was built with, None where that is not known."""
        folder, _ = self._get_cache_dir(commit_hash)
        try:
            return json.loads(Path(folder, self.NAME).read_text())
        except (OSError, ValueError):
            return None

    def _take(self, wheel: wheels.Wheel, commit_hash) -> None:
        """Keep a given wheel as the commit's."""
        folder, _ = self._get_cache_dir(commit_hash)
        kept = Path(folder, wheel.path.name)
        known = self.toolchain(commit_hash) == wheel.toolchain and super().get_cache_dir(
            commit_hash
        )
        if known and kept.is_file() and wheels.digest(kept) == wheel.sha256:
            return
        # What is installed may be another wheel of this commit.
        Path(self._root, "asv-install-status.json").unlink(missing_ok=True)
        shutil.copy(wheel.path, self.create_cache_dir(commit_hash))
        self.finalize_cache_dir(commit_hash)

    def _other_toolchain(self, commit_hash) -> str:
        before = self.toolchain(commit_hash)
        return "not known which" if before is None else toolchain.difference(before)

    def get_cache_dir(self, commit_hash):
        """Return the folder of a commit's wheel, None if it is to be built."""
        if wheel := self.given.of(commit_hash):
            self._take(wheel, commit_hash)
            return super().get_cache_dir(commit_hash)
        folder = super().get_cache_dir(commit_hash)
        if folder is None:
            return None
        if changed := self._other_toolchain(commit_hash):
            log.warning(f"The wheel of {commit_hash[:8]} is of another toolchain: {changed}")
            self._remove_cache_dir(commit_hash)
            return None
        return folder

    def finalize_cache_dir(self, commit_hash):
        """Say what the wheel was built with, and that it is whole."""
        folder, _ = self._get_cache_dir(commit_hash)
        wheel = self.given.of(commit_hash)
        built_with = wheel.toolchain if wheel else toolchain.description()
        util.write_json(Path(folder, self.NAME), built_with)
        super().finalize_cache_dir(commit_hash)

    def wheel_of(self, sources: str) -> Path | None:
        """Return a kept wheel whose library is compiled of `sources` with this toolchain."""
        for stamp in Path(self._path).glob("*.timestamp"):
            folder = stamp.with_suffix("")
            known = folder / self.SOURCES
            same = known.is_file() and known.read_text() == sources
            if same and not self._other_toolchain(folder.name):
                return next(folder.glob("*.whl"), None)
        return None


def compiled_sources(checkout: str) -> str:
    """Return git's hashes of what a commit's library is compiled of, nothing where it has none."""
    command = ["git", "-C", checkout, "rev-parse", "--verify", "--quiet"]
    paths = ("HEAD:csrc", "HEAD:setup.py")
    runs = [subprocess.run([*command, path], capture_output=True, text=True) for path in paths]
    return "" if any(run.returncode for run in runs) else "".join(run.stdout for run in runs)


def extracted_library(wheel: Path, folder: str) -> str | None:
    """Extract the compiled library of a wheel, and return its path; None if it has none."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith(".so")), None)
        return name and archive.extract(name, folder)


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
        command = [sys.executable, "-m", "virtualenv", "--no-download", "--no-periodic-update"]
        util.check_call([*command, "--no-setuptools", "-p", sys.executable, self._path])
        self._pth.write_text("\n".join(host_packages()) + "\n")

    def _build_project(self, repo, commit_hash, build_dir):
        """Build a commit's wheel, with the library of an earlier one if it has the same sources."""
        # Without a compiler the build would leave the library out.
        if missing := toolchain.problem():
            raise util.UserError(missing)
        sources = compiled_sources(build_dir)
        wheel = self._cache.wheel_of(sources) if sources else None
        # The user's own would serve all commits.
        os.environ.pop("PTGQ_LIBRARY", None)
        with tempfile.TemporaryDirectory() as folder:
            if wheel and (library := extracted_library(wheel, folder)):
                log.info(f"Nothing to compile: {wheel.parent.name[:8]} has the same sources")
                os.environ["PTGQ_LIBRARY"] = library
            try:
                super()._build_project(repo, commit_hash, build_dir)
            finally:
                os.environ.pop("PTGQ_LIBRARY", None)
        folder, _ = self._cache._get_cache_dir(commit_hash)
        Path(folder, WheelCache.SOURCES).write_text(sources)

    def run_executable(self, executable, args, **kwargs):
        """Run a program of the environment; builds find the host's tools (ninja) on the PATH."""
        env = dict(kwargs.pop("env", os.environ))
        env["PATH"] = toolchain.search_path(env.get("PATH", os.defpath))
        return super().run_executable(executable, args, env=env, **kwargs)

    def run(self, args, **kwargs):
        """Run the environment's Python."""
        log.debug(f"Running '{' '.join(args)}' in {self.name}")
        return self.run_executable("python", args, **kwargs)

    def wheel(self, conf, repo, commit: str) -> Path:
        """Return a commit's wheel, built now unless an earlier run has kept it."""
        if self._cache.get_cache_dir(commit) is None:
            if self.installed_commit_hash == commit:
                self._set_installed_commit_hash(None)
            self.install_project(conf, repo, commit)
        (wheel,) = Path(self._cache.get_cache_dir(commit)).glob("*.whl")
        return wheel


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
