"""Under a git hook, which exports the user's repository, nothing here works on that one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

ROOT = Path(__file__).parents[1]
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")
# Each makes a repository of its own, and commits to it.
TESTS = (
    "tests/test_tracking.py::test_nothing_new_is_fine",
    "tests/test_storage.py::test_results_of_a_rewritten_branch_are_kept_and_named",
    "tests/test_asv_environment.py::test_the_project_has_its_own_commits",
    "tests/test_wheel.py::test_a_copy_of_the_source_is_committed_to_its_own_repository",
)


def git(folder, *arguments):
    command = ["git", *IDENTITY, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def hook(tmp_path):
    """A linked worktree of a user's repository, and the environment of its hooks."""
    main, linked = tmp_path / "main", tmp_path / "linked"
    main.mkdir()
    git(main, "init", "-qb", "main")
    git(main, "commit", "-q", "--allow-empty", "-m", "theirs")
    git(main, "worktree", "add", "-q", "-b", "work", str(linked))
    folder = git(linked, "rev-parse", "--absolute-git-dir").strip()
    exported = {"GIT_DIR": folder, "GIT_INDEX_FILE": f"{folder}/index", "GIT_PREFIX": ""}
    exported["GIT_WORK_TREE"] = str(linked)
    return main, {**os.environ, **exported}


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_tests_leave_the_repository_of_a_hook_alone(hook):
    main, environment = hook
    before = content(main)
    code = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-q", "--assert=plain", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(TESTS)} passed" in done.stdout
    assert content(main) == before


@pytest.mark.parametrize("module", ["tracking.commits", "asv_plugins.storage"])
def test_the_repository_of_the_folder_is_meant(hook, tmp_path, module):
    own = tmp_path / "own"
    own.mkdir()
    git(own, "init", "-qb", "main")
    git(own, "commit", "-q", "--allow-empty", "-m", "ours")
    main, environment = hook
    # A container's own settings stay.
    environment |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "a.b",
        "GIT_CONFIG_VALUE_0": "kept",
    }
    environment["PYTHONPATH"] = str(ROOT)
    code = f"import {module}, os; os.system('git rev-parse main; git config a.b')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=own, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [git(own, "rev-parse", "main").strip(), "kept"]
    assert done.stdout.split()[0] != git(main, "rev-parse", "main").strip()
