"""Compare backends of the per-token group quantization, each configuration: see ``--help``."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import signal
import sys
from collections.abc import Sequence

# More rows take minutes; on a CPU so do more elements: the reference quantizes some hundred million
# a second, a hundred times each.
ROWS, CPU_ELEMENTS = 60, 50_000_000


def check_device(device: str, backends: Sequence[str]) -> None:
    """Raise unless the device and all backends are there."""
    import torch

    from ptgq.backends import why_unavailable

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("no CUDA device is visible: --device cpu compares the CPU backends")
    index = torch.device(device, torch.cuda.current_device()) if device == "cuda" else device
    for backend in backends:
        reason = why_unavailable(backend, torch.device(index))
        if reason is not None:
            raise RuntimeError(f"backend {backend} is not available: {reason}")


def facts(options: argparse.Namespace) -> dict[str, str]:
    """What the numbers are, and of which machine."""
    from measure import machine

    method = options.method
    if options.against:
        method = f"calls and slopes, {options.samples} samples"
    elif method == "graph":
        method += f", {options.state}: {options.samples} slopes"
    else:
        method += f": {options.samples} samples of {options.calls} calls"
    known = {**machine.describe(options.device), "ptgq": machine.commit()}
    words = [options.input_dtype]
    words += [] if options.swiglu_limit is None else [f"swiglu_limit={options.swiglu_limit:g}"]
    words += [] if options.nonfinite == "mark" else [f"nonfinite={options.nonfinite}"]
    known["x"] = ", ".join(words)
    if options.against:
        import table_against

        known |= table_against.versions(options.against)
        method += ", alternating; medians; × to ptgq's first, ? undecided"
    else:
        method += ", alternating; medians ± half the interquartile range"
    return {**known, "method": method}


def run(options: argparse.Namespace) -> None:
    """Measure and print every row, each as soon as it is known."""
    if options.preset == "limits":
        import limits

        limits.run(options.device, options.every, options.format)
        return
    long = options.device == "cpu" and options.elements > CPU_ELEMENTS
    if long or options.rows > ROWS:
        hours = ", of large shapes on a CPU hours" if long else ""
        print(f"{options.rows} rows: this takes minutes{hours}", file=sys.stderr)
    check_device(options.device, options.backend)
    import table_rows
    from tqdm import tqdm

    measure, print_row = table_rows.measure, show
    if options.against:
        import table_against

        measure, print_row = table_against.measure, table_against.show

    known = facts(options)
    if options.format in ("table", "csv"):
        # A CSV file holds the table alone.
        stream = sys.stdout if options.format == "table" else sys.stderr
        print(*(f"# {name}: {fact}" for name, fact in known.items()), sep="\n", file=stream)
    if options.format == "markdown":
        print(*(f"- {name}: {fact}" for name, fact in known.items()), "", sep="\n")
    rows = []
    # disable=None: silent where the output is no terminal.
    with tqdm(table_rows.selected(options), unit="row", leave=False, disable=None) as progress:
        for workload in progress:
            row = measure(workload, options)
            with tqdm.external_write_mode():
                print_row(row, options, first=not rows)
            rows.append(row)
    if options.format == "json":
        print(json.dumps({"machine": known, "rows": rows}, indent=2))


def show(row: dict[str, object], options: argparse.Namespace, first: bool) -> None:
    """Print a row in a format that is written line by line, with the headings first."""
    if options.format == "csv":
        cells = {**row, "shape": "x".join(map(str, row["shape"]))}
        # A cell holds one number.
        for name in [name for name in row if name.endswith("_interval")]:
            low, high = cells.pop(name) or ("", "")
            stem = name.removesuffix("_interval")
            cells |= {f"{stem}_low": low, f"{stem}_high": high}
        writer = csv.DictWriter(sys.stdout, list(cells), lineterminator="\n")
        if first:
            writer.writeheader()
        writer.writerow(cells)
        return
    if options.format == "json":
        return
    import table_text

    # Programs read a pipe, people a terminal.
    table = table_text.Page if sys.stdout.isatty() else table_text.Lines
    table = table_text.Markdown if options.format == "markdown" else table
    form = table(options.backend, options.bandwidth)
    texts = form.cells(row)
    widths = form.widths(texts)
    if first:
        titles = [f"{name:<{width}}" for name, width in zip(form.headings(), widths, strict=True)]
        print(form.line.format(" | ".join(titles)).rstrip())
        if options.format == "markdown":
            print("|---|" + "---:|" * (len(titles) - 1))
    padded = [f"{text:<{width}}" for text, width in zip(texts, widths, strict=True)]
    print(form.line.format(" | ".join(padded)).rstrip(), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: 0 done, 2 refused or failed, in one line, 130 interrupted.

    Who reads the output may stop: that is silent, and 141, as of programs that SIGPIPE ends.
    """
    try:
        # Here: Ctrl-C while it is imported is an interruption like any other.
        import table_arguments

        run(table_arguments.parse(arguments))
        sys.stdout.flush()
    except OSError as error:
        # What is left of the output would fail again when Python ends.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 128 + signal.SIGPIPE
        print(f"error: the output can't be written: {error.strerror or error}", file=sys.stderr)
        return 2
    except Exception as error:
        stated = isinstance(error, (RuntimeError, ValueError)) and str(error)
        # The stack that PyTorch appends is left out.
        why = (stated or f"{type(error).__name__}: {error}").splitlines()[0]
        print(f"error: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: what was printed is complete", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
