"""One run at a time in asv's environment: who holds it, and what a killed run leaves behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

from asv import util

from asv_plugins import lock

ROOT = Path(__file__).resolve().parents[1]
HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from asv_plugins import lock
lock.take(Path(sys.argv[1]))
pids = [subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid]
ready, done = os.pipe()
pids.append(os.fork())
if pids[-1]:
    os.read(ready, 1)
    print(*pids, flush=True)
else:
    os.write(done, b".")
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "env" / "abc.lock"
    lock.release(tmp_path / "env" / "abc.lock")


@contextmanager
def holder(path):
    """Another process that holds the lock, and has started one child by exec, one by fork."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        children = [int(pid) for pid in process.stdout.readline().split()]
        try:
            assert len(children) == 2
            yield process
        finally:
            process.kill()
            for pid in children:
                os.kill(pid, signal.SIGKILL)


def test_a_second_process_is_refused_with_the_first_in_one_line(path):
    with holder(path) as process:
        with pytest.raises(util.UserError) as refused:
            lock.take(path)
        message = str(refused.value)
        assert f"in use by process {process.pid} on " in message
        assert f"({sys.executable} -c " in message
        assert "\n" not in message
        # A killed one holds it no more, though both of its children live.
        process.kill()
        process.wait()
        assert lock.take(path)


def test_a_lock_is_held_until_it_is_released(path):
    assert lock.take(path)
    # Once more in this process: it has it.
    assert not lock.take(path)
    lock.release(path)
    with holder(path):
        pass


def test_what_the_file_says_holds_nothing(path):
    path.parent.mkdir()
    # Of a process that is gone, whose number another has.
    path.write_text(f"process {os.getppid()} on here (asv run)")
    assert lock.take(path)
    assert path.read_text().startswith(f"process {os.getpid()} on ")


def test_where_nothing_can_be_written_one_line_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(util.UserError, match=r"file/env can't be written: Not a directory$"):
        lock.take(tmp_path / "file" / "env" / "abc.lock")


def test_a_file_system_without_locks_is_said(path, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    # Nobody is excluded, so nothing may be ended either.
    assert not lock.take(path)
    assert "no lock (No locks available)" in caplog.text


def test_what_a_killed_run_left_is_ended_and_nothing_else(tmp_path, caplog):
    ours, other = str(tmp_path / "abc"), str(tmp_path / "abcd")
    left, running = (
        subprocess.Popen(["sleep", "60"], env={**os.environ, "ASV_ENV_DIR": folder})
        for folder in (ours, other)
    )
    try:
        # Its environment shows a moment after it has started.
        while b"ASV_ENV_DIR" not in Path(f"/proc/{left.pid}/environ").read_bytes():
            time.sleep(0.01)
        lock.end_leftovers(ours)
        assert left.wait(10) == -signal.SIGKILL
        assert running.poll() is None
        assert f"ended process {left.pid} of a run that was killed: sleep 60" in caplog.text
    finally:
        for process in (left, running):
            process.kill()
            process.wait()
