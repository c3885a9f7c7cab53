"""Find the commit in a range that made a benchmark slower: asv find, on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from asv.config import Config
from asv.util import UserError

from asv_plugins.environment import the_environment
from tracking import commits, machine
from tracking.arguments import Parser, pattern
from tracking.rounds import Suite


def benchmark_of(suite: Suite, wanted: str) -> str:
    """Return the one benchmark that is meant, as asv finds it."""
    if wanted in suite.selected:
        return wanted
    if len(suite.selected) != 1:
        names = ", ".join(suite.selected[:3])
        found = f"{len(suite.selected)}: {names} ..." if names else "none"
        raise ValueError(f"{wanted!r} must match one benchmark, it matches {found}")
    return suite.selected[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``asv find``; it builds and measures as few commits as a bisection needs."""
    parser = Parser(prog="bisect", description=__doc__)
    add = parser.add_argument
    add("range", help="commits to search, such as v0.1..main")
    add(
        "bench",
        type=pattern,
        help="matches one benchmark, such as footprint.TritonKernels.track_instructions",
    )
    add("--invert", action="store_true", help="find what made it faster")
    options = parser.parse_args(arguments)
    try:
        found = commits.first_parents(options.range, code_only=False)
        if len(found) < 2:
            raise ValueError(f"{options.range!r} has {len(found)} commits, to search takes two")
        conf = Config.load("asv.conf.json")
        benchmark_of(Suite(conf, [options.bench]), options.bench)
        the_environment(conf).check()
        facts = machine.identify(None)
        machine.register(facts)
    except (ValueError, UserError) as error:
        parser.error(str(error))
    call = [sys.executable, "-m", "asv", "find", "--skip-save", "--machine", facts["machine"]]
    return subprocess.run(
        [*call, *["--invert"] * options.invert, options.range, options.bench]
    ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
