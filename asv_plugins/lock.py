"""One run at a time in an environment of asv.

A lock of the kernel's, which ends with the process that holds it: none is ever stale. The file says
who that is, for the next one's message, and stays: to remove it would let two hold it.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import IO

from asv import util
from asv.console import log

_held: dict[Path, IO[str]] = {}


def take(path: Path) -> bool:
    """Hold the lock until this process ends, or :func:`release`; return whether it is new.

    Raises
    ------
    asv.util.UserError
        If another process holds it: with which.
    """
    if path in _held:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Open for writing, which NFS asks for; not inherited by what is started.
        file = path.open("a+")
    except OSError as error:
        raise util.UserError(f"{path.parent} can't be written: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read() or "another process"
        file.close()
        raise util.UserError(
            f"{path.with_suffix('')} is in use by {holder}: its numbers would get mixed with these"
        ) from None
    except OSError as error:
        # Some file systems of clusters have no locks: refusing would end all measuring there.
        log.warning(f"{path}: no lock ({error.strerror}): nothing else may measure here meanwhile")
        file.close()
        return False
    file.truncate(0)
    command = " ".join(shlex.join(sys.orig_argv).split())
    file.write(f"process {os.getpid()} on {socket.gethostname()} ({command})")
    file.flush()
    _held[path] = file
    return True


def release(path: Path) -> None:
    """Let others have the lock."""
    if path in _held:
        _held.pop(path).close()


def _forked() -> None:
    # The lock stays the parent's alone: a worker that outlives it would keep it for ever.
    for file in _held.values():
        file.close()


os.register_at_fork(after_in_child=_forked)


def end_leftovers(environment: str) -> None:
    """End what a killed run has left in `environment`: asv's server waits, or measures, for ever.

    Only the lock's holder may call it. All that asv starts there has ASV_ENV_DIR.
    """
    mark = f"ASV_ENV_DIR={environment}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            started_here = mark in (process / "environ").read_bytes().split(b"\0")
            if started_here and int(process.name) != os.getpid():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                os.kill(int(process.name), signal.SIGKILL)
                log.warning(f"ended process {process.name} of a run that was killed: {command}")
        except OSError:
            # It is gone, or another user's.
            continue
