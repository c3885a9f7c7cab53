"""A C++ compiler that compiles equal code once: ``compiler_cache.py FOLDER COMPILER ARGUMENTS``.

Several tests build the same sources, each in a folder of its own and some with another definition,
and most of their time is the compiler's. An object is that of an earlier call if the source is the
same, what it includes of its own project, and those arguments that these can see. What others have,
torch's headers, does not change meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

WITH_VALUE = ("-o", "-MF", "-I", "-isystem")
INCLUDE = re.compile(rb'^ *# *include "(.+)"', re.MULTILINE)


def text_of(source: Path, folders: list[Path], seen: dict[Path, bytes]) -> dict[Path, bytes]:
    """Return the text of a source and of the files that it includes by their names in quotes."""
    if source not in seen:
        seen[source] = source.read_bytes()
        for name in map(os.fsdecode, INCLUDE.findall(seen[source])):
            for folder in (source.parent, *folders):
                if (folder / name).is_file():
                    text_of(folder / name, folders, seen)
                    break
    return seen


def key_of(compiler: str, arguments: list[str]) -> tuple[str, str]:
    """Return the object's path, and what decides on it."""
    target, folders, deciding, definitions, seen = "", [], [compiler], [], {}
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            value = next(rest)
            target = value if argument == "-o" else target
            folders += [Path(value)] if argument == "-I" else []
        elif argument.startswith("-I"):
            folders.append(Path(argument[2:]))
        elif argument.startswith("-D"):
            definitions.append(argument)
        elif not argument.startswith("-M") and not argument.endswith(".cpp"):
            deciding.append(argument)
    own = [folder for folder in folders if folder.name == "csrc"]
    (source,) = (argument for argument in arguments if argument.endswith(".cpp"))
    text = b"\0".join(text_of(Path(source), own, seen).values())
    # The project's own are seen where they are named.
    names = {d: os.fsencode(d[2:].partition("=")[0]) for d in definitions}
    deciding += [d for d, name in names.items() if not name.startswith(b"PTGQ_") or name in text]
    parts = [text, *map(os.fsencode, deciding)]
    return target, hashlib.sha256(b"\0".join(parts)).hexdigest()


def main(folder: str, compiler: str, *arguments: str) -> int:
    """Compile, unless it has been done; everything else is the compiler's."""
    if "-c" not in arguments:
        return subprocess.run([compiler, *arguments]).returncode
    target, key = key_of(compiler, list(arguments))
    kept = Path(folder, f"{key}.o")
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
