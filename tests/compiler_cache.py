"""A C++ compiler that compiles equal code once: ``compiler_cache.py FOLDER COMPILER ARGUMENTS``.

Several tests build the same sources, each in a folder of its own and some with another definition,
and most of their time is the compiler's. An object is that of an earlier call if the preprocessed
source is the same, and so are the other arguments.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

# What the preprocessor has dealt with, and what names files.
PREPROCESSED = ("-I", "-D", "-M")
WITH_VALUE = ("-o", "-MF", "-I", "-isystem")


def split(arguments: list[str]) -> tuple[str, list[str], list[str]]:
    """Return the object, the arguments that decide on it, and those of the preprocessor alone."""
    target, deciding, preprocessor = "", [], []
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            value = next(rest)
            if argument == "-o":
                target = value
            else:
                preprocessor += [argument, value]
        elif argument.startswith(PREPROCESSED) or argument.endswith(".cpp"):
            preprocessor.append(argument)
        elif argument != "-c":
            deciding.append(argument)
    return target, deciding, preprocessor


def main(folder: str, compiler: str, *arguments: str) -> int:
    """Compile, unless it has been done; everything else is the compiler's."""
    if "-c" not in arguments:
        return subprocess.run([compiler, *arguments]).returncode
    target, deciding, preprocessor = split(list(arguments))
    # Without line markers: they name the folder. It writes the list of dependencies, too.
    command = [compiler, *deciding, *preprocessor, "-E", "-P", "-MT", target]
    source = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    key = hashlib.sha256(b"\0".join([source, compiler.encode(), *map(os.fsencode, deciding)]))
    kept = Path(folder, f"{key.hexdigest()}.o")
    with kept.with_suffix(".lock").open("w") as lock:
        # Other processes wait for the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            status = subprocess.run([compiler, *arguments]).returncode
            if status:
                return status
            shutil.copyfile(target, kept.with_suffix(".new"))
            kept.with_suffix(".new").rename(kept)
    shutil.copyfile(kept, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
