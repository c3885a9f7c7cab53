"""A library of a few lines, and how this folder's repository gets its commits."""

from __future__ import annotations

import subprocess
from pathlib import Path

MODULE = """
#include <Python.h>
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "ptgq._C"};
PyMODINIT_FUNC PyInit__C() { return PyModule_Create(&module); }
"""


def git(*arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(path, text):
    """Commit a change of one file; return the commit."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a") as file:
        file.write(text)
    git("add", "-A")
    git("commit", "-qm", path)
    return git("rev-parse", "HEAD")
