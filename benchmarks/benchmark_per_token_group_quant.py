"""Compare backends of the per-token group quantization, configuration by configuration.

By default CUDA with Triton: 30 configurations, warm-up, then one pair of events around the calls.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Callable, Sequence

import torch
from measure import clocks, machine, timers
from measure.agreement import check_agreement
from measure.kernels import COPY, STATES, Kernels
from measure.workloads import (
    DEFAULT_SCALE_FORMATS,
    DEFAULT_SHAPES,
    DTYPES,
    GROUP_SIZES,
    SCALE_FORMATS,
    SERVING_SHAPES,
    Workload,
    workloads,
)
from tqdm import tqdm

from ptgq.backends import BACKENDS, why_unavailable

LABELS = {"cuda": "CUDA", "triton": "Triton", "cpu": "CPU", "reference": "Reference"}
STATE_HELP = {
    "produced": "the kernel before has just written x, as in serving (default)",
    "hot": "x, q and s lie in the L2 cache if they fit",
    "cold": "none of them does",
}
PRESETS = {"default": DEFAULT_SHAPES, "serving": SERVING_SHAPES, "limits": ()}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> None:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive(text: str) -> int:
    """An int of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def shape(text: str) -> tuple[int, int]:
    """``TOKENSxHIDDEN``."""
    tokens, _, hidden = text.partition("x")
    if not (tokens.isdecimal() and hidden.isdecimal() and int(tokens) and int(hidden)):
        raise argparse.ArgumentTypeError(f"must be TOKENSxHIDDEN, for example 32x128, got {text!r}")
    return int(tokens), int(hidden)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and refuse what does not fit together."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dtype", choices=(*DTYPES, "both"), default="both", help="what to quantize to")
    add("--warmup-iters", type=positive, help="before the timing: by default 10 calls, 1 slope")
    add("--bench-iters", type=positive, help="as many are timed: by default 100 calls, 10 slopes")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--backend", choices=BACKENDS, action="append", help="compare these (repeat the option)")
    add("--preset", choices=PRESETS, default="default", help=(
        "which shapes; limits: how far this machine is from the project's bars, a table of its own"
    ))  # fmt: skip
    add("--every", action="store_true", help="limits: all configurations of a row, not the worst")
    add("--shape", type=shape, action="append", help="TOKENSxHIDDEN, instead of a preset's")
    add("--group-size", type=positive, action="append", help="by default 64 and 128")
    add("--scales", choices=SCALE_FORMATS, action="append", help=(
        "FP8's scale formats (repeat the option); by default the first four"
    ))  # fmt: skip
    add("--method", choices=("events", "graph"), default="events", help=(
        "events: what a caller waits for, per eager call; "
        "graph: the kernels alone, what each adds to a long CUDA graph, the median of the slopes"
    ))  # fmt: skip
    states = parser.add_mutually_exclusive_group()
    for state, text in STATE_HELP.items():
        states.add_argument(f"--{state}", dest="state", action="store_const", const=state, help=(
            f"graph: {text}"
        ))  # fmt: skip
    add("--bandwidth", action="store_true", help="columns for GB/s and %% of a same-bytes copy")
    add("--format", choices=("table", "json", "csv", "markdown"), default="table")
    options = parser.parse_args(arguments)

    if options.preset == "limits":
        for name, value in vars(options).items():
            if name not in ("preset", "device", "every") and value != parser.get_default(name):
                parser.error(f"argument --{name.replace('_', '-')}: not with --preset limits")
        return options
    if options.every:
        parser.error("argument --every: needs --preset limits")
    if options.method == "graph" and options.device == "cpu":
        parser.error("argument --method: graph needs --device cuda, got --device cpu")
    if options.state and options.method != "graph":
        parser.error(f"argument --{options.state}: needs --method graph, got --method events")
    options.state = options.state or STATES[0]
    usual = (1, 10) if options.method == "graph" else (10, 100)
    options.warmup_iters = options.warmup_iters or usual[0]
    options.bench_iters = options.bench_iters or usual[1]
    options.backend = (
        options.backend
        or {
            "cuda": ["cuda", "triton"],
            "cpu": ["cpu", "reference"],
        }[options.device]
    )
    if len(set(options.backend)) != len(options.backend):
        parser.error(f"argument --backend: each only once, got {', '.join(options.backend)}")
    dtypes = DTYPES if options.dtype == "both" else (options.dtype,)
    shapes = options.shape or PRESETS[options.preset]
    group_sizes = options.group_size or GROUP_SIZES
    for group_size in group_sizes:
        for _, hidden in shapes:
            if hidden % group_size:
                parser.error(f"argument --group-size: must divide {hidden}, got {group_size}")
    if options.scales and "fp8" not in dtypes:
        parser.error("argument --scales: needs --dtype fp8 or both, got --dtype int8")
    scale_formats = options.scales or DEFAULT_SCALE_FORMATS
    options.workloads = workloads(shapes, group_sizes, dtypes, scale_formats)
    return options


def check_device(device: str, backends: Sequence[str]) -> None:
    """Raise unless the device and all backends are there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device is visible: --device cpu compares the CPU backends")
    index = torch.device(device, torch.cuda.current_device()) if device == "cuda" else device
    for backend in backends:
        reason = why_unavailable(backend, torch.device(index))
        if reason is not None:
            raise RuntimeError(f"backend {backend} is not available: {reason}")


def measure(workload: Workload, options: argparse.Namespace) -> dict[str, object]:
    """Measure one row: seconds a call of each backend, and of the copy if asked for."""
    x = workload.make_input(options.device)
    check_agreement(workload, x, options.backend)
    clock = clocks.clock_for(options.device)
    if options.method == "graph":
        kernels = Kernels(workload)
        names = [*options.backend, *([COPY] if options.bandwidth else [])]
        take = [kernels.timer(name, options.state) for name in names]
        samples = timers.sample(take, options.bench_iters, options.warmup_iters)
    else:

        def bind(name: str) -> Callable[[], object]:
            return lambda: workload.call(x, backend=name)

        calls = [bind(name) for name in options.backend]
        if options.bandwidth:
            source = torch.empty(workload.bytes_moved // 2, dtype=torch.uint8, device=x.device)
            source.random_()
            target = torch.empty_like(source)
            calls.append(lambda: target.copy_(source))
        for call in calls:
            timers.loop_timer(call, options.warmup_iters, clock)()
        samples = [[timers.loop_timer(call, options.bench_iters, clock)()] for call in calls]
    seconds = [statistics.median(one) for one in samples]

    row: dict[str, object] = {
        "shape": (workload.tokens, workload.hidden),
        "group_size": workload.group_size,
        "column_major_scales": workload.column_major_scales,
        "use_ue8m0": workload.use_ue8m0,
        "scales": workload.scales,
        "dtype": workload.dtype,
        "bytes": workload.bytes_moved,
    }
    for name, time in zip(options.backend, seconds, strict=False):
        row[f"{name}_ms"] = time * 1e3
        if options.bandwidth:
            row[f"{name}_gb_per_s"] = workload.bytes_moved / time * 1e-9
            row[f"{name}_percent_of_copy"] = 100 * seconds[-1] / time
    for name, time in zip(options.backend[1:], seconds[1:], strict=False):
        row[f"speed_up_over_{name}"] = time / seconds[0]
    return row


def cells(row: dict[str, object], backends: Sequence[str]) -> list[str]:
    """The cells of a row for people."""
    configuration = (
        f"shape={row['shape']!s:<15}gs={row['group_size']:<5}"
        f"col_major={row['column_major_scales']!s:<7}ue8m0={row['use_ue8m0']!s:<7}"
        f"dtype={row['dtype']}"
    )
    if row["scales"] not in DEFAULT_SCALE_FORMATS:
        configuration += f" scales={row['scales']}"
    texts = [f"{configuration:<75}"]
    for name in backends:
        text = f"{LABELS[name]} {row[f'{name}_ms']:>8.4f} ms"
        if f"{name}_gb_per_s" in row:
            text += f" {row[f'{name}_gb_per_s']:>8.1f} GB/s"
            text += f" {row[f'{name}_percent_of_copy']:>6.1f} % of copy"
        texts.append(text)
    texts += [f"speed-up ×{row[f'speed_up_over_{name}']:.2f}" for name in backends[1:]]
    return texts


def headings(backends: Sequence[str], row: list[str]) -> list[str]:
    """The headings, as wide as the cells of `row`."""
    names = ["Configuration", *(f"{LABELS[name]} (ms)" for name in backends)]
    one = len(backends) == 2
    names += ["Speed-up" if one else f"over {LABELS[name]}" for name in backends[1:]]
    return [f"{name:<{len(cell)}}" for name, cell in zip(names, row, strict=True)]


def facts(options: argparse.Namespace) -> dict[str, str]:
    """What the numbers are, and of which machine."""
    method = options.method
    if method == "graph":
        method += f", {options.state}: median of {options.bench_iters} slopes"
    else:
        method += f": mean of {options.bench_iters} calls"
    return {**machine.describe(options.device), "ptgq": machine.commit(), "method": method}


def run(options: argparse.Namespace) -> None:
    """Measure and print every row, each as soon as it is known."""
    if options.preset == "limits":
        import limits

        limits.run(options.device, options.every)
        return
    check_device(options.device, options.backend)
    known = facts(options)
    if options.format in ("table", "csv"):
        # A CSV file holds the table alone.
        stream = sys.stdout if options.format == "table" else sys.stderr
        print(*(f"# {name}: {fact}" for name, fact in known.items()), sep="\n", file=stream)
    if options.format == "markdown":
        print(*(f"- {name}: {fact}" for name, fact in known.items()), "", sep="\n")
    rows = []
    # disable=None: silent where the output is no terminal.
    with tqdm(options.workloads, unit="row", leave=False, disable=None) as progress:
        for workload in progress:
            row = measure(workload, options)
            with tqdm.external_write_mode():
                show(row, options, first=not rows)
            rows.append(row)
    if options.format == "json":
        print(json.dumps({"machine": known, "rows": rows}, indent=2))


def show(row: dict[str, object], options: argparse.Namespace, first: bool) -> None:
    """Print a row in a format that is written line by line, with the headings first."""
    if options.format == "csv":
        writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
        if first:
            writer.writeheader()
        writer.writerow({**row, "shape": "x".join(map(str, row["shape"]))})
    elif options.format != "json":
        texts = cells(row, options.backend)
        titles = headings(options.backend, texts)
        line = "| {} |" if options.format == "markdown" else "{}"
        if first:
            print(line.format(" | ".join(titles)))
            if options.format == "markdown":
                print("|" + "---|" * len(titles))
        print(line.format(" | ".join(texts)), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: 0 done, 1 failed, 2 bad arguments."""
    options = parse(arguments)
    try:
        run(options)
    except RuntimeError as error:
        print(f"RuntimeError: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
