"""Mutation testing: plant faults, one at a time, and see that the tests find each.

``python tools/mutation [PATTERN ...]``, regular expressions; without one, all. A fault of ``csrc``
or ``setup.py`` costs a build. Status 0: all were found, 1: some were not, 2: the tests fail without
a fault, a fault's text is not there any more, or no fault matches.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

import torch
from kernel_mutants import Mutant
from mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
IGNORED = (".nox", ".venv", ".asv", "build", "*.so", "*.egg-info", "__pycache__")
# The copy has no history.
NEEDS_HISTORY = "tests/test_canary.py::test_it_is_a_commit_of_this_repository"
# It finds each fault by its text.
IGNORED += ("test_mutants.py",)


class Copy:
    """The project in a folder of its own, and an environment that it is installed in."""

    def __init__(self, folder: Path):
        self.source = folder / "source"
        venv.create(folder / "env", with_pip=False)
        self.python = str(folder / "env/bin/python")
        (self.installed,) = (folder / "env/lib").glob("python*/site-packages")
        # Behind its own packages, so that the copy's ptgq is found first.
        packages = (path for path in sys.path if Path(path).name == "site-packages")
        (self.installed / "host.pth").write_text("\n".join(packages))
        self.environment = dict(os.environ)
        if not torch.cuda.is_available():
            self.environment["PTGQ_CUDA"] = "0"
        shutil.copytree(ROOT, self.source, ignore=shutil.ignore_patterns(*IGNORED, ".git"))
        # Stored results are of commits that the copy has not; which benchmarks there are is not.
        for kept in ("results", "canary"):
            for results in (self.source / kept).glob("*/"):
                shutil.rmtree(results)
        # Tests that build the project's own commits need some.
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        for arguments in (("init", "-qb", "main"), ("add", "-A")):
            self.git(*arguments)
        self.git(*identity, "commit", "-qm", "Unchanged")
        objects = folder / "objects"
        objects.mkdir()
        compiler = folder / "c++"
        cache = (sys.executable, str(ROOT / "tests/compiler_cache.py"), str(objects))
        call = shlex.join([*cache, os.environ.get("CXX", "c++")])
        compiler.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        compiler.chmod(0o755)
        self.environment["CXX"] = str(compiler)

    def git(self, *arguments: str) -> None:
        """Run git in the copy."""
        subprocess.run(["git", *arguments], cwd=self.source, check=True)

    def build(self) -> None:
        """Build and install what is in the copy."""
        options = ("--no-deps", "--no-build-isolation", "--quiet", "--upgrade", "--target")
        command = [self.python, "-m", "pip", "install", *options, str(self.installed), "."]
        subprocess.run(command, cwd=self.source, env=self.environment, check=True)

    def write(self, file: str, text: str) -> None:
        """Replace a file, in what is installed, too."""
        (self.source / file).write_text(text)
        self.git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "Changed")
        if file.startswith("csrc/") or file == "setup.py":
            self.build()
        elif file.startswith("ptgq/"):
            (self.installed / file).write_text(text)

    def test(self, arguments: str) -> tuple[int, str]:
        """Run pytest until something fails; return its status and what failed."""
        # Not python -m pytest: that would test the folder ptgq, not what is installed.
        code = "import sys; sys.path.remove(''); import pytest; sys.exit(pytest.main())"
        command = [self.python, "-c", code, "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
        command += ["--deselect", NEEDS_HISTORY]
        done = subprocess.run(
            [*command, *shlex.split(arguments)],
            cwd=self.source,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", done.stdout, re.MULTILINE)
        if done.returncode > 1:
            print(done.stdout, done.stderr, file=sys.stderr)
        return done.returncode, failed[1] if failed else "nothing"


def finder(copy: Copy, mutant: Mutant) -> str | None:
    """Return the test that finds a fault, or None."""
    path = copy.source / mutant.file
    right = path.read_text()
    copy.write(mutant.file, right.replace(mutant.old, mutant.new))
    try:
        for tests in (mutant.tests, ""):
            status, failed = copy.test(tests)
            if status:
                return failed
        return None
    finally:
        copy.write(mutant.file, right)


def main(patterns: Sequence[str]) -> int:
    """Plant what matches; print the test that found it."""
    wanted = {
        name: mutant
        for name, mutant in MUTANTS.items()
        if any(re.search(pattern, name) for pattern in patterns or [""])
        and (torch.cuda.is_available() or not mutant.gpu)
    }
    if not wanted:
        print(f"no fault that can be planted here matches {' or '.join(patterns)}", file=sys.stderr)
        return 2
    for name, mutant in wanted.items():
        if (ROOT / mutant.file).read_text().count(mutant.old) != 1:
            print(f"{name}: its text is not once in {mutant.file}: {mutant.old}", file=sys.stderr)
            return 2
    lost = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        copy.build()
        for tests in dict.fromkeys(mutant.tests for mutant in wanted.values()):
            status, failed = copy.test(tests)
            if status:
                print(f"{failed} fails without a fault: {tests}", file=sys.stderr)
                return 2
        for name, mutant in wanted.items():
            begin = time.monotonic()
            found = finder(copy, mutant)
            print(f"{name}: {found or 'NOT FOUND'}, {time.monotonic() - begin:.0f} s", flush=True)
            if found is None:
                lost.append(name)
    print(f"{len(wanted) - len(lost)} of {len(wanted)} were found")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
