"""Compare two commits on this machine, measured in alternating rounds.

Status 0: nothing is slower, 1: something is, 2: something failed, 3: nothing is decided.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from asv.config import Config
from asv.util import ProcessError, UserError

from asv_plugins import same_code
from asv_plugins.environment import the_environment
from asv_plugins.verdict import threshold_for
from tracking import commits, machine, table
from tracking.arguments import Parser, pattern, whole_number
from tracking.rounds import SIDES, Comparison, Suite, unpacked
from tracking.verdict import FAILED, SLOWER, UNDECIDED, decide_table

# Rounds of each commit.
ROUNDS = 4
# What tells whether a commit is slower. On a GPU time alone: faster code may be longer. Without one
# the kernels' code is all that is known of them.
WITH_GPU = (
    r"^kernel_time\.KernelTime\.track_default_shapes\('(cuda', 'cold'|triton', 'cold', 64,)",
    r"^kernel_time\.KernelTime\.track_serving_shapes\(.*'(produced|cold)', (128|1024|8192), 7168\)",
    r"^kernel_time\.KernelTime\.track_variants\(.*'(produced|cold)', 8192,",
    r"^call_latency\.RelativeToTorch\.track_functions\('cuda', '"
    r"(fp8_(row_float32|column_ue8m0|deep_gemm_hopper|deep_gemm_blackwell_per_batch|strided_rows)"
    r"|int8|silu_(row_float32|deep_gemm_blackwell)|dequantize_fp8_row_float32)', False\)",
    r"^call_latency\.RelativeToTorch\.track_default_shapes\('triton', 16, 128, '(fp8_row_f|int8)",
)
WITHOUT_GPU = (
    r"^call_latency\.RelativeToTorch\.track_default_shapes\(",
    r"^cpu_time\..*track_call\(",
    r"^footprint\.(Triton)?Kernels\.",
)


def uncompared(base: Mapping[str, object], head: Mapping[str, object]) -> list[str]:
    """Say which rows only one of the commits has: the other has no such feature, or lost it."""
    lacking = zip(SIDES, (head.keys() - base.keys(), base.keys() - head.keys()), strict=True)
    return [
        f"not compared, n/a in {side}: {len(rows)} rows, such as {min(rows)}"
        for side, rows in lacking
        if rows
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, decide, and say it."""
    parser = Parser(prog="compare", description=__doc__)
    add = parser.add_argument
    add("base")
    add("head")
    add(
        "--bench",
        action="append",
        type=pattern,
        metavar="RE",
        help="only benchmarks that match; repeatable",
    )
    add(
        "--rounds",
        type=whole_number(3),
        default=ROUNDS,
        help="rounds of each commit, with up to six of each for calls (%(default)s)",
    )
    add(
        "--no-same-code",
        dest="same_code",
        action="store_false",
        help="judge kernels by their time also where their code is the same",
    )
    add("--export", type=Path, metavar="FILE", help="write the raw samples as JSON")
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    try:
        hashes = [commits.commit(options.base), commits.commit(options.head)]
        if hashes[0] == hashes[1]:
            raise ValueError(
                f"{options.base!r} and {options.head!r} are one commit, {hashes[0][:10]}"
            )
        conf = Config.load("asv.conf.json")
        facts = machine.facts()
        has_gpu = facts["gpu"] != "none"
        suite = Suite(conf, options.bench or (WITH_GPU if has_gpu else WITHOUT_GPU))
        suite.check(options.bench or ())
        kernels = options.same_code and has_gpu and any(map(same_code.backends_of, suite.wanted))
        equal_launches = kernels and same_code.equal_launches(*hashes)
        environment = the_environment(conf)
        environment.reserve()
    except (ValueError, UserError) as error:
        parser.error(str(error))
    os.environ["PTGQ_MEASURED_DEVICE"] = "cuda" if has_gpu else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        try:
            comparison = Comparison(suite, *unpacked(conf, environment, hashes, Path(folder)))
        except ProcessError as error:
            print(f"compare: error: a commit does not build: {error}", file=sys.stderr)
            return 2
        if equal_launches:
            suite.count(same_code.HASHES.values())

        def export() -> None:
            if options.export:
                table.export(options.export, hashes, facts, comparison.sides())

        comparison.run(options.rounds, export)
    sides = comparison.sides()
    same = same_code.equal_backends(*sides) if equal_launches else ()
    if not options.bench:
        sides = tuple(
            {row: rounds for row, rounds in side.items() if not same_code.is_hash(row)}
            for side in sides
        )
    thresholds = conf.regressions_thresholds
    verdicts = decide_table(*sides, lambda row: threshold_for(row, thresholds), same)
    units = {name: benchmark.unit for name, benchmark in suite.benchmarks.items()}
    print(*table.lines(verdicts, units), *uncompared(*sides), sep="\n")
    print(f"{table.counts(verdicts)}; {time.monotonic() - begin:.0f} s")
    words = {v.word for v in verdicts.values()}
    if words <= {FAILED}:
        what = "all rows failed" if words else "no row is available in both commits here"
        print(f"compare: error: nothing was compared: {what}", file=sys.stderr)
        return 2
    if words == {UNDECIDED}:
        print(
            "compare: nothing is decided: the noise hides it; take more --rounds", file=sys.stderr
        )
        return 3
    if FAILED in words:
        return 2
    return 1 if SLOWER in words else 0


if __name__ == "__main__":
    sys.exit(main())
