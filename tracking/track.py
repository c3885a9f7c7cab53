"""Measure commits on this machine into results/<machine>/."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asv_plugins import storage
from tracking import commits, machine

RESULTS = Path("results")
# All n/a without a GPU, and most of the suite's combinations.
WITHOUT_GPU = r"^(?!.*\.track_serving)"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="track", description=__doc__)
    add = parser.add_argument
    add(
        "range",
        nargs="?",
        help="commits that touch code in this range, or all up to this revision; by default "
        "those since the last measured one",
    )
    add("--all", action="store_true", help="also commits that touch no code")
    add("--bench", action="append", metavar="RE", help="only benchmarks that match; repeatable")
    add("--machine", metavar="NAME", help="the machine's name in the results")
    add("--newest", type=int, metavar="N", help="only the N newest of these commits")
    add("--quick", action="store_true", help="run everything once and save nothing")
    return parser.parse_args(arguments)


def command(options: argparse.Namespace, name: str, has_gpu: bool, hashes: Path) -> list[str]:
    """Return the call of asv."""
    call = [sys.executable, "-m", "asv", "run", f"HASHFILE:{hashes}", "--machine", name]
    # asv's --quick overwrites saved results, but for --dry-run.
    call += ["--quick", "--dry-run"] if options.quick else ["--skip-existing-successful"]
    for pattern in options.bench or ([] if has_gpu else [WITHOUT_GPU]):
        call += ["--bench", pattern]
    return [*call, "--show-stderr"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run asv over the commits; 0: fine, 1: nothing asv could select, 2: something failed."""
    options = parse(arguments)
    code_only = not options.all
    # Before the hours that measuring takes: asv would stop at them, or leave them out.
    wrong = storage.problems(RESULTS)
    if wrong and not options.quick:
        print("track: error: repair these, or move them away:", *wrong, sep="\n", file=sys.stderr)
        return 2
    name, facts = machine.register(options.machine)
    others = machine.problems(facts)
    if others and not options.quick:
        print("track: error:", *others, file=sys.stderr)
        return 2
    try:
        if options.range:
            selected = commits.first_parents(options.range, code_only=code_only)
        else:
            selected = commits.since_last_measured(RESULTS, name, code_only=code_only)
    except ValueError as error:
        print(f"track: error: {error}", file=sys.stderr)
        return 2
    has_gpu = facts["gpu"] != "none"
    print(f"machine {name}: {facts['gpu'] if has_gpu else facts['cpu']}, torch {facts['torch']}")
    if not has_gpu:
        print("no CUDA device is visible: what needs one is n/a, the serving shapes are left out")
    if not selected:
        print("no commit to measure")
        return 0
    if options.newest and len(selected) > options.newest:
        print(f"{len(selected) - options.newest} older commits are left to nox -s track")
        selected = selected[: options.newest]
    print(f"{len(selected)} commits, newest first: {' '.join(commit[:10] for commit in selected)}")
    # A GPU that disappears is then a failure on the record, not n/a.
    env = {**os.environ, "PTGQ_MEASURED_DEVICE": "cuda" if has_gpu else "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        hashes = Path(folder, "commits")
        hashes.write_text("\n".join(selected) + "\n")
        return subprocess.run(command(options, name, has_gpu, hashes), env=env).returncode


if __name__ == "__main__":
    raise SystemExit(main())
