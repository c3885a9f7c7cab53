"""The command line of the table, without torch: ``--help`` and what is refused take no second."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Sequence
from typing import TextIO

import peers
from measure.configurations import (
    BACKENDS,
    DEFAULT_SCALE_FORMATS,
    DEFAULT_SHAPES,
    DTYPES,
    GROUP_SIZES,
    INPUT_DTYPES,
    SERVING_SHAPES,
    STATES,
    STORED,
)

# Samples of each backend, alternating: fewer than eight decide nothing.
SAMPLES = 10
# Rows with other implementations have these, unless the command line says.
AGAINST_GROUP_SIZES, AGAINST_SCALES = (128,), ("row_float32",)
INT8_SCALES = ("row_float32",)
_STATES = {
    "produced": "the kernel before has just written x, as in serving (default)",
    "hot": "x, q and s lie in the L2 cache if they fit",
    "cold": "none of them does",
}
SHAPES = {"default": DEFAULT_SHAPES, "serving": SERVING_SHAPES, "limits": ()}

DESCRIPTION = """\
Compare backends of the per-token group quantization on this machine: by default CUDA with Triton,
in 30 configurations. Each row's backends return the same bytes, or it ends; their samples
alternate. A time is the median; a speed-up is undecided if its 99 % interval holds 1."""
EXAMPLES = """\
examples:
  # your model's shapes, kernels alone, x just written by the kernel before
  %(prog)s --shape 128x7168 --shape 1024x7168 --method graph --bandwidth
  # the fused SiLU, in the format that DeepGEMM reads on Blackwell
  %(prog)s --silu --shape 1024x7168 --scales tma_packed --method graph
  # every other implementation that is installed
  %(prog)s --against all --shape 128x7168
  # no GPU: the C++ backend, as Markdown
  %(prog)s --device cpu --format markdown
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> None:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def print_help(self, file: TextIO | None = None) -> None:
        """Print it, or raise an OSError, which argparse would hide."""
        print(self.format_help(), end="", file=file, flush=True)


def positive(text: str) -> int:
    """An int of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def limit(text: str) -> float:
    """A limit that the functions take."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e-24 <= value <= 3.4028235e38:
        raise argparse.ArgumentTypeError(f"must lie between 1e-24 and 3.4028235e38, got {text!r}")
    return value


def shape(text: str) -> tuple[int, int]:
    """``TOKENSxHIDDEN``, also as the table prints it."""
    found = re.fullmatch(r"([0-9]+) ?[xX×] ?([0-9]+)", text)
    if not (found and int(found[1]) and int(found[2])):
        raise argparse.ArgumentTypeError(f"must be TOKENSxHIDDEN, for example 32x128, got {text!r}")
    return int(found[1]), int(found[2])


def parser() -> Parser:
    """Return what reads the command line."""
    found = Parser(
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = found.add_argument_group("what is measured")
    add = what.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="where (default: cuda)")
    add(
        "--backend",
        choices=BACKENDS,
        action="append",
        help="compare these, the first with each other one; repeatable "
        "(default: cuda and triton; with --device cpu, cpu and reference)",
    )
    add(
        "--preset",
        choices=SHAPES,
        help="which shapes (default: default, three small ones); limits: how far this machine is "
        "from the project's targets, a table of its own",
    )
    add("--every", action="store_true", help="limits: each configuration of a row, not the worst")
    add(
        "--shape",
        type=shape,
        action="append",
        metavar="TOKENSxHIDDEN",
        help="this shape, instead of a preset's; repeatable",
    )
    add(
        "--group-size",
        type=positive,
        action="append",
        metavar="N",
        help="elements that share a scale; repeatable (default: 64 and 128)",
    )
    add("--dtype", choices=(*DTYPES, "both"), default="both", help="quantize to (default: both)")
    add(
        "--input-dtype",
        choices=INPUT_DTYPES,
        default="bfloat16",
        help="what x is (default: bfloat16)",
    )
    add(
        "--scales",
        choices=STORED,
        action="append",
        metavar="FORMAT",
        help=f"of the scales: {', '.join(STORED)}; INT8 has those in float32; repeatable "
        "(default: of FP8 the first four, of INT8 row_float32)",
    )
    add("--silu", action="store_true", help="the fused silu_and_mul (default: the op alone)")
    add(
        "--swiglu-limit",
        type=limit,
        metavar="L",
        help="--silu: clamp gate and up before, as DeepSeek-V4 does at 10 (default: no clamp)",
    )
    add(
        "--nonfinite",
        choices=("mark", "saturate"),
        default="mark",
        help="what a NaN or an infinity does (default: mark its group)",
    )
    add(
        "--against",
        choices=(*peers.NAMES, "all"),
        action="append",
        metavar="NAME",
        help=f"this implementation, too, or all: {', '.join(peers.NAMES)}; call latency and, on a "
        "GPU, kernel time in each state, with the ratio to ptgq's, and how many codes and scales "
        "differ from the numerics contract; repeatable (default: none; with it FP8 and INT8 in "
        "row-major float32 scales of 128, unless others are named)",
    )
    how = found.add_argument_group("how")
    add = how.add_argument
    add(
        "--method",
        choices=("events", "graph"),
        default="events",
        help="events: what a caller waits for, per eager call (default); graph: the kernels alone, "
        "what each adds to a long CUDA graph",
    )
    states = how.add_mutually_exclusive_group()
    for state in STATES:
        states.add_argument(
            f"--{state}",
            dest="state",
            action="store_const",
            const=state,
            help=f"graph: {_STATES[state]}",
        )
    add(
        "--warmup-iters",
        type=positive,
        metavar="N",
        help="before the timing (default: 10 calls; graph: 1 slope)",
    )
    add(
        "--bench-iters",
        type=positive,
        metavar="N",
        help="as many are timed, or more: 10 samples (default: 100 calls; graph: 10 slopes)",
    )
    add(
        "--bandwidth",
        action="store_true",
        help="add GB/s, and the percent of a copy of as many bytes (default: neither)",
    )
    add(
        "--format",
        choices=("table", "json", "csv", "markdown"),
        default="table",
        help="of the output (default: table)",
    )
    return found


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and refuse what does not fit together.

    Added are ``shapes`` and ``dtypes``; ``samples`` of a row, each of so many ``calls``; and how
    many ``rows`` and ``elements`` are to be measured.
    """
    reader = parser()
    options = reader.parse_args(arguments)
    if options.preset == "limits":
        for name, value in vars(options).items():
            kept = ("preset", "device", "every", "format")
            if name not in kept and value != reader.get_default(name):
                reader.error(f"argument --{name.replace('_', '-')}: not with --preset limits")
        if options.format not in ("table", "json"):
            reader.error(
                f"argument --format: limits is a table or json, got --format {options.format}"
            )
        return options
    int8_scales = [name for name in options.scales or () if STORED[name].dtype == "float32"]
    refusals = (
        (options.every, "--every: needs --preset limits"),
        (options.preset and options.shape, "--shape: not with --preset, which has its own"),
        (
            options.method == "graph" and options.device == "cpu",
            "--method: graph needs --device cuda, got --device cpu",
        ),
        (
            options.against and (options.method == "graph" or options.bandwidth),
            "--against: not with --method or --bandwidth: it times calls and kernels",
        ),
        (
            options.state and options.method != "graph",
            f"--{options.state}: needs --method graph, got --method events",
        ),
        (
            options.swiglu_limit is not None and not options.silu,
            "--swiglu-limit: needs --silu",
        ),
        (
            options.dtype == "int8" and options.scales and not int8_scales,
            "--scales: --dtype int8 has float32 scales alone, got "
            f"--scales {' --scales '.join(options.scales or ())}",
        ),
    )
    for refused, why in refusals:
        if refused:
            reader.error(f"argument {why}")
    options.state = options.state or STATES[0]
    usual = (1, 10) if options.method == "graph" else (10, 100)
    options.warmup_iters = options.warmup_iters or usual[0]
    options.bench_iters = options.bench_iters or usual[1]
    options.samples = min(SAMPLES, options.bench_iters)
    # Calls of a sample, at least as many in all as asked for.
    options.calls = -(-options.bench_iters // options.samples)
    if options.method == "graph":
        options.samples, options.calls = options.bench_iters, 1
    options.backend = options.backend or {
        "cuda": ["cuda", "triton"],
        # The reference is among the others: torch-eager.
        "cpu": ["cpu"] if options.against else ["cpu", "reference"],
    }[options.device]  # fmt: skip
    if len(set(options.backend)) != len(options.backend):
        reader.error(f"argument --backend: each only once, got {', '.join(options.backend)}")
    options.int8_scales = int8_scales if options.scales else INT8_SCALES
    if options.against:
        # Each other one is asked for what it can, and some are compiled for each of these.
        options.group_size = options.group_size or AGAINST_GROUP_SIZES
        options.scales = options.scales or AGAINST_SCALES
        every = peers.NAMES if "all" in options.against else tuple(options.against)
        options.against = list(dict.fromkeys(every))
    options.dtypes = DTYPES if options.dtype == "both" else (options.dtype,)
    options.shapes = options.shape or SHAPES[options.preset or "default"]
    options.group_size = options.group_size or GROUP_SIZES
    for group_size, (_, hidden) in itertools.product(options.group_size, options.shapes):
        if hidden % group_size:
            reader.error(f"argument --group-size: must divide {hidden}, got {group_size}")
    options.scales = options.scales or DEFAULT_SCALE_FORMATS
    formats = {"fp8": len(options.scales), "int8": len(options.int8_scales)}
    each = len(options.group_size) * sum(formats[dtype] for dtype in options.dtypes)
    options.rows = each * len(options.shapes)
    options.elements = each * sum(tokens * hidden for tokens, hidden in options.shapes)
    return options
