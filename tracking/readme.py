"""Write the README's numbers from what is stored: ``python -m tracking.readme``.

The table is of the newest commit on MACHINE that has all of BENCHMARKS, that of other
implementations of the newest that was measured beside them, the proof of proofs/newest.json.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.results import Results, iter_results_for_machine

from proofs import PARTS, record
from tracking import peer_table

README = Path("README.md")
PROOFS = Path("proofs/newest.json")
MACHINE = "nvidia-h200"
TIME = "kernel_time.KernelTime.track_serving_shapes"
COPY = "copy_distance.DistanceToCopy.track_serving_shapes"
CALL = "call_latency.RelativeToAbs.track_functions"
BENCHMARKS = (TIME, COPY, CALL)
BACKENDS = {"cuda": "CUDA", "triton": "Triton"}
STATES = ("produced", "cold")
TOKENS = (1, 128, 1024, 8192)
HIDDEN = 7168
CALLS = {
    "fp8_row_float32": "FP8, row-major float32 scales",
    "int8": "INT8",
    "silu_row_float32": "fused SiLU and multiplication, FP8",
}


def measured() -> list[Results]:
    """Return the results of MACHINE that have all of BENCHMARKS, the newest commit first."""
    conf = Config.load("asv.conf.json")
    known = Benchmarks.load(conf)
    found = iter_results_for_machine(conf.results_dir, MACHINE)
    whole = [r for r in found if set(BENCHMARKS) <= r.get_result_keys(known)]
    return sorted(whole, key=lambda results: results.date, reverse=True)


def values(results: Results, name: str) -> dict[tuple[str, ...], float]:
    """Return a benchmark's numbers by its parameters."""
    params = results.get_result_params(name)
    keys = ([text.strip("'") for text in values] for values in params)
    return dict(zip(itertools.product(*keys), results.get_result_value(name, params), strict=True))


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Write a table, its first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]


def number(value: float) -> str:
    """Write three significant digits, 43.5 and 1.10."""
    return f"{value:#.3g}".rstrip(".")


def numbers(results: Results) -> str:
    """Return the tables of one commit's kernels and calls, and where they were measured."""
    times, copies, calls = (values(results, name) for name in BENCHMARKS)
    columns = [(state, backend) for state in STATES for backend in BACKENDS]
    kernels = []
    for tokens in TOKENS:
        cells = [f"{tokens:,} × {HIDDEN}"]
        for state, backend in columns:
            key = (backend, state, str(tokens), str(HIDDEN))
            cells.append(f"{number(1e6 * times[key])} ({100 / copies[key]:.0f} %)")
        kernels.append(cells)
    ways = [(backend, out) for backend in BACKENDS for out in ("False", "True")]
    facts = results.params
    date = peer_table.day(results.started_at[TIME])
    lines = [
        f"Measured on one {facts['gpu']} on {date}: commit `{results.commit_hash[:10]}` of "
        f"{peer_table.day(results.date)}, driver {facts['driver']}, CUDA {facts['cuda']}, "
        f"torch {facts['torch']}, triton {facts['triton']}.",
        "Kernel time in µs, and % of copy: the time of a copy of as many bytes over it;",
        "bfloat16 to FP8, groups of 128, row-major float32 scales:",
        "",
        *table(
            ["tokens × hidden", *(f"{BACKENDS[b]}, *{state}*" for state, b in columns)],
            kernels,
        ),
        "",
        "Time of an eager call of 16 × 512 over that of `torch.abs(x)`:",
        "",
        *table(
            ["call", *(BACKENDS[b] + (", `out=`" if out == "True" else "") for b, out in ways)],
            [
                [text, *(f"{calls[backend, call, out]:.2f}" for backend, out in ways)]
                for call, text in CALLS.items()
            ],
        ),
    ]
    return "\n".join(lines)


def is_whole(run: Mapping[str, object]) -> bool:
    """Whether a run checked every case of all formats; it may be older than a part."""
    return "pairs" in run["parts"] and run["formats"] is None and run["one_case_of"] == 1


def proof(runs: list[dict[str, object]]) -> str:
    """Return a table of the newest runs that checked every case, and what each left out."""
    rows = []
    for run in filter(is_whole, runs):
        backends = " and ".join(f"`{name}`" for name in run["backends"])
        if run["instruction_set"]:
            backends += f" ({run['instruction_set'].upper()})"
        for part in PARTS:
            backends += "" if part in run["parts"] else f", without {part}"
        where = f"`{run['commit']}`, torch {run['torch']}, {run['date']}"
        rows.append(
            [str(run["device"]), backends, f"{run['checked']:,}", f"{run['differ']:,}", where]
        )
    return "\n".join(table(["processor", "backends", "comparisons", "differ", "newest run"], rows))


def block(name: str, text: str) -> str:
    """Return a part of the README with the comments that bound it."""
    return f"<!-- {name}: python -m tracking.readme -->\n{text}\n<!-- end of {name} -->"


def peers() -> str:
    """Return the table of other implementations, of the newest commit that was beside them."""
    conf = Config.load("asv.conf.json")
    found = peer_table.newest(conf.results_dir, MACHINE, Benchmarks.load(conf))
    return "\n".join(peer_table.lines(found, conf.results_dir))


def parts(results: Results) -> dict[str, str]:
    """Return the README's generated parts by name."""
    return {
        "peers": block("peers", peers()),
        "numbers": block("numbers", numbers(results)),
        "proof": block("proof", proof(record.read(PROOFS))),
    }


def pattern(name: str) -> re.Pattern[str]:
    """Return what finds a generated part in the README."""
    return re.compile(f"<!-- {name}: .*?<!-- end of {name} -->", re.DOTALL)


def main() -> int:
    """Write the parts anew, of the newest results; 2: there are none."""
    found = measured()
    if not found:
        print(f"readme: error: no commit on {MACHINE} has {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    text = README.read_text(encoding="utf-8")
    for name, part in parts(found[0]).items():
        text = pattern(name).sub(lambda _, part=part: part, text)
    README.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
