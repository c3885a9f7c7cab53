"""Runs commands of nox's sessions: ``noxfile.py`` has it without the project's path."""

import os
import signal
import subprocess


def finished(command, **variables):
    """Run a command, return its status; Ctrl-C, which reaches it too, ends it in its own time."""
    process = subprocess.Popen(command, env={**os.environ, **variables})
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    if status in (-signal.SIGINT, 128 + signal.SIGINT):
        raise KeyboardInterrupt
    return status
