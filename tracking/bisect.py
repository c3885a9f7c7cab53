"""Find the commit in a range that made a benchmark slower: asv find, on this machine."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from tracking import machine


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``asv find``; it builds and measures as few commits as a bisection needs."""
    parser = argparse.ArgumentParser(prog="bisect", description=__doc__)
    add = parser.add_argument
    add("range", help="commits to search, such as v0.1..main")
    add("bench", help="matches one benchmark, such as footprint.TritonKernels.track_instructions")
    add("--invert", action="store_true", help="find what made it faster")
    options = parser.parse_args(arguments)
    name, _ = machine.register(None)
    call = [sys.executable, "-m", "asv", "find", "--skip-save", "--machine", name]
    return subprocess.run(
        [*call, *["--invert"] * options.invert, options.range, options.bench]
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
