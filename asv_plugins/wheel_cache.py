"""asv's cache of wheels: which still serve, and what a commit shares with an earlier one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from asv import build_cache, util
from asv.console import log

from asv_plugins import toolchain, wheels


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

    def finalize_cache_dir(self, *commits):
        """Say what commits' wheels were built with, and that they are whole."""
        for commit in commits:
            folder, stamp = self._get_cache_dir(commit)
            wheel = self.given.of(commit)
            built_with = wheel.toolchain if wheel else toolchain.description()
            util.write_json(Path(folder, self.NAME), built_with)
            Path(stamp).touch()
        # Once all have their stamps: asv removes what has none.
        for commit in commits:
            super().finalize_cache_dir(commit)

    def wheel_of(self, sources: str) -> Path | None:
        """Return a kept wheel whose library is compiled of `sources` with this toolchain."""
        for stamp in Path(self._path).glob("*.timestamp"):
            folder = stamp.with_suffix("")
            known = folder / self.SOURCES
            same = known.is_file() and known.read_text() == sources
            if same and not self._other_toolchain(folder.name):
                return next(folder.glob("*.whl"), None)
        return None


def compiled_sources(repository: str, commit: str) -> str:
    """Return git's hashes of what a commit's library is compiled of, nothing where it has none."""
    command = ["git", "-C", repository, "rev-parse", "--verify", "--quiet"]
    paths = (f"{commit}:csrc", f"{commit}:setup.py")
    runs = [subprocess.run([*command, path], capture_output=True, text=True) for path in paths]
    return "" if any(run.returncode for run in runs) else "".join(run.stdout for run in runs)


def extracted_library(wheel: Path, folder: str) -> str | None:
    """Extract the compiled library of a wheel, and return its path; None if it has none."""
    with zipfile.ZipFile(wheel) as archive:
        name = next((name for name in archive.namelist() if name.endswith(".so")), None)
        return name and archive.extract(name, folder)
