"""Plugins of pytest that happen to be installed change nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# As pytest-benchmark does where xdist is active.
PLUGIN = """
import warnings

def pytest_configure(config):
    warnings.warn("a stranger's configuration")

def pytest_runtest_setup(item):
    warnings.warn("a stranger's set-up")
"""


def test_warnings_of_other_plugins_are_no_errors(tmp_path):
    installed, tests = tmp_path / "installed", tmp_path / "tests"
    (installed / "stranger-1.dist-info").mkdir(parents=True)
    (installed / "stranger.py").write_text(PLUGIN)
    metadata = {"METADATA": "Metadata-Version: 2.1\nName: stranger\nVersion: 1\n"}
    metadata["entry_points.txt"] = "[pytest11]\nstranger = stranger\n"
    for name, text in metadata.items():
        (installed / "stranger-1.dist-info" / name).write_text(text)
    tests.mkdir()
    tests.joinpath("test_one.py").write_text("def test_one():\n    pass\n")
    paths = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), str(tests)]
    done = subprocess.run(
        [*command, "-n1", "--rootdir", str(tests)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        cwd=tests,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
