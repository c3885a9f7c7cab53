"""Measure commits on this machine into results/<machine>/."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from asv.config import Config
from asv.util import UserError

from asv_plugins import storage
from asv_plugins.canary import folder_of
from asv_plugins.environment import the_environment
from asv_plugins.wheels import VARIABLE, Wheels
from benchmarks.measure.configurations import peers_asked_for
from tracking import canary, commits, machine, wheels
from tracking.arguments import Parser, machine_name, pattern, shard, whole_number
from tracking.rounds import Suite

RESULTS = Path("results")
# Of what is measured first, so many wheels are built side by side.
BUILT_AHEAD = 3
# All n/a without a GPU, and most of the suite's combinations.
WITHOUT_GPU = (
    r"^(?!kernel_time\.|copy_distance\.|cuda_vs_triton\.|timed\.Kernels\.|masked_rows\.|"
    r"beside_gemm\.Kernels\.)"
)
# What is measured unless --bench says, by whether there is a GPU: no other implementations; and a
# machine that is named after its GPU may have any CPU.
BENCHMARKS = {False: r"^(?!peers\.)" + WITHOUT_GPU[1:], True: r"^(?!cpu_time\.|peers\.)"}


def parser() -> Parser:
    """Return what reads the command line."""
    parser = Parser(prog="track", description=__doc__)
    add = parser.add_argument
    add(
        "ranges",
        nargs="*",
        metavar="RANGE",
        help="commits that touch code in this range, or all up to this revision; by default "
        "those since the last measured one",
    )
    add("--all", action="store_true", help="also commits that touch no code")
    add(
        "--bench",
        action="append",
        type=pattern,
        metavar="RE",
        help="only benchmarks that match; repeatable",
    )
    add(
        "--older",
        action="append",
        type=pattern,
        metavar="RE",
        help="only benchmarks that match of all but the newest of these commits; repeatable",
    )
    add("--machine", type=machine_name, metavar="NAME", help="the machine's name in the results")
    add("--newest", type=whole_number(1), metavar="N", help="only the N newest of these commits")
    add(
        "--shard",
        type=shard,
        metavar="I/N",
        help="only each Nth of these commits, from the Ith on: N machines of one kind measure all",
    )
    add(
        "--wheels",
        type=Path,
        metavar="FOLDER",
        help="take the commits' wheels from there, whatever has built them",
    )
    add(
        "--build-only",
        action="store_true",
        help="measure nothing, build the commits' wheels into --wheels FOLDER",
    )
    add(
        "--no-canary",
        action="store_true",
        help="do not measure the one old commit that tells a machine's drift from code's",
    )
    add("--quick", action="store_true", help="run everything once and save nothing")
    add("--dry-run", action="store_true", help="measure, also what is stored, and save nothing")
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read a command line."""
    options = parser().parse_args(arguments)
    options.dry_run |= options.quick
    return options


def shard_of(selected: Sequence[str], number: int, count: int) -> Sequence[str]:
    """Return a shard's commits, `number` from 1 on: they depend on the list of commits alone.

    Neighbours go to different shards, so that each measures old and new commits.
    """
    return selected[number - 1 :: count]


def command(
    options: argparse.Namespace, name: str, hashes: Path, bench: Sequence[str]
) -> list[str]:
    """Return the call of asv for some commits."""
    call = [sys.executable, "-m", "asv", "run", f"HASHFILE:{hashes}", "--machine", name]
    # asv's --quick overwrites saved results, but for --dry-run.
    call += ["--quick"] if options.quick else []
    kept = ["--skip-existing-successful", "--record-samples"]
    call += ["--dry-run"] if options.dry_run else kept
    # What is stored has three samples of one process: eight processes take as many minutes.
    call += [] if options.quick else ["--attribute", "rounds=1", "--attribute", "repeat=3"]
    for expression in bench:
        call += ["--bench", expression]
    return [*call, "--show-stderr"]


def chosen(options: argparse.Namespace, name: str) -> tuple[list[str], list[str]]:
    """Return the commits to measure on machine `name`, and what to say of those left out."""
    code_only, notes = not options.all, []
    if options.ranges:
        found = (commits.first_parents(one, code_only=code_only) for one in options.ranges)
        selected = list(dict.fromkeys(itertools.chain(*found)))
    else:
        selected = commits.since_last_measured(RESULTS, name, code_only=code_only)
    if options.newest and len(selected) > options.newest:
        notes.append(f"{len(selected) - options.newest} older commits are left to nox -s track")
        selected = selected[: options.newest]
    if options.shard:
        number, count = options.shard
        notes.append(f"shard {number} of {count}, of {len(selected)} commits")
        selected = shard_of(selected, number, count)
    return selected, notes


def beginning(start: str, expression: str) -> str:
    """Return what matches where `expression` does, if the name begins with `start`, too."""
    # Flags must come first.
    flags = re.match(r"(?:\(\?[aiLmsux]+\))*", expression)[0]
    return rf"{flags}^{start}.*(?:{expression.removeprefix(flags)})"


def runs_of(bench: Sequence[str], has_gpu: bool) -> list[tuple[list[str], bool]]:
    """Return what each run of asv measures, and whether torch is imported for it beforehand.

    Processes want that where asv times calls. For each row that only looks a value up it takes
    15 ms more; with a GPU there are thousands.
    """
    selected = Suite(Config.load("asv.conf.json"), bench).selected
    timed = {name.startswith("timed.") for name in selected}
    if not has_gpu or len(timed) < 2:
        return [([*bench], True in timed)]
    starts = {r"(?!timed\.)": False, r"(?=timed\.)": True}
    return [([beginning(s, one) for one in bench], imports) for s, imports in starts.items()]


def prepare(options: argparse.Namespace) -> tuple[dict[str, str], list[str], list[str]]:
    """Return the machine's facts, the commits to measure, and what to say before.

    The canary is left out of the options if it can't be measured here.

    Raises
    ------
    ValueError, asv.util.UserError
        With all that asv would stop at, or leave out, hours later.
    """
    if options.shard and not options.ranges:
        raise ValueError("--shard takes a RANGE: the last measured commit may differ by machine")
    if options.build_only and not options.wheels:
        raise ValueError("--build-only takes --wheels FOLDER: where to")
    peers_asked_for(os.environ)
    conf = Config.load("asv.conf.json")
    if not options.dry_run:
        # Also of root: of a file system that is mounted to be read.
        place = RESULTS if RESULTS.exists() else Path()
        if not (options.build_only or os.access(place, os.W_OK)):
            raise ValueError(f"{place.resolve()} can't be written: there is no place for results")
        if wrong := storage.problems(RESULTS) + storage.problems(folder_of(RESULTS)):
            raise ValueError("\n".join(["repair these, or move them away:", *wrong]))
        if missing := storage.missing_branch(conf.branches[0], conf.repo):
            raise ValueError(missing)
    if wanted := [*(options.bench or ()), *(options.older or ())]:
        Suite(conf, wanted).check(wanted)
    given = None
    if options.wheels and not options.build_only:
        given = Wheels(options.wheels, conf.project)
        if not given:
            raise ValueError(f"--wheels: there is none of {conf.project} in {options.wheels}")
    facts = machine.identify(options.machine)
    selected, notes = chosen(options, facts["machine"])
    if given:
        wheels.check(given, selected, facts["gpu"] != "none")
    the_environment(conf).check(builds=given is None)
    if not options.build_only:
        others = machine.problems(facts)
        if others and not options.dry_run:
            raise ValueError(" ".join(others))
        machine.register(facts)
    if options.dry_run:
        options.no_canary = True
    elif not options.no_canary and (missing := canary.problem(given, facts["gpu"] != "none")):
        options.no_canary = True
        notes.append(missing)
    return facts, selected, notes


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Put a file back afterwards: asv writes benchmarks.json also where it is to save nothing."""
    before = path.read_bytes() if path.exists() else None
    try:
        yield
    finally:
        if before is not None:
            path.write_bytes(before)
        else:
            path.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run asv over the commits; 0: fine, 1: nothing asv could select, 2: something failed."""
    options = parse(arguments)
    try:
        facts, selected, notes = prepare(options)
    except (ValueError, UserError) as error:
        print(f"track: error: {error}", file=sys.stderr)
        return 2
    name = facts["machine"]
    has_gpu = facts["gpu"] != "none"
    print(f"machine {name}: {facts['gpu'] if has_gpu else facts['cpu']}, torch {facts['torch']}")
    if not has_gpu:
        print("no CUDA device is visible: what needs one is n/a or left out")
    for note in notes:
        print(note)
    if not selected:
        print("no commit to measure")
        return 0
    print(f"{len(selected)} commits, newest first: {' '.join(commit[:10] for commit in selected)}")
    sys.stdout.flush()
    if options.build_only:
        selected = selected if options.no_canary else dict.fromkeys([*selected, canary.COMMIT])
        return wheels.build(Config.load("asv.conf.json"), [*selected], options.wheels)
    # A GPU that disappears is then a failure on the record, not n/a.
    env = {**os.environ, "PTGQ_MEASURED_DEVICE": "cuda" if has_gpu else "cpu"}
    if options.wheels:
        env[VARIABLE] = str(options.wheels.resolve())
    else:
        first = [] if options.no_canary else [canary.COMMIT]
        wheels.build_ahead(Config.load("asv.conf.json"), [*first, *selected][:BUILT_AHEAD])
    # First: a run that is ended early has it, too.
    moved, failed = ("", 0) if options.no_canary else canary.run(name, has_gpu, env)
    parts = [(selected, options.bench or [BENCHMARKS[has_gpu]])]
    if options.older:
        start = BENCHMARKS[has_gpu].removeprefix("^")
        older = [beginning(start, expression) for expression in options.older]
        parts = [(selected[:1], parts[0][1]), (selected[1:], older)]
    statuses = []
    saved = unchanged(RESULTS / "benchmarks.json") if options.dry_run else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as folder, saved:
        hashes = Path(folder, "commits")
        for some, bench in parts:
            for rows, imports_torch in runs_of(bench, has_gpu) if some else ():
                hashes.write_text("\n".join(some) + "\n")
                call = command(options, name, hashes, rows)
                env["PTGQ_IMPORT_TORCH"] = "01"[imports_torch]
                statuses.append(subprocess.run(call, env=env).returncode)
    if moved:
        print(moved)
    return max(statuses) or failed


if __name__ == "__main__":
    raise SystemExit(main())
