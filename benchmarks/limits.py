"""How far this machine is from the project's bars: one row a bar, judged by its worst case.

Every row is a ratio to a yardstick that was measured alternating with it, or a time that a caller
feels. What can't be measured here is n/a, with the reason. Nothing is stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import limits_blocks
import limits_masked
import limits_measure
import limits_norm
import limits_transposed
import torch
from measure import machine

from ptgq.backends import why_unavailable


@dataclass(frozen=True)
class Row:
    """A bar, and what must be there to measure it.

    Attributes
    ----------
    what : str
        What is measured.
    bar : float
        The worst configuration's value must not be above it (`at_least`: not below).
    unit : str
        What the value counts; for a ratio, its yardstick.
    needs : tuple of str
        Which backends must be available.
    """

    what: str
    bar: float
    unit: str
    needs: tuple[str, ...]
    at_least: bool = False

    def worst(self, values: Mapping[str, float]) -> str:
        """Return the configuration that is furthest on the wrong side of the bar."""
        return (min if self.at_least else max)(values, key=values.__getitem__)

    def passes(self, value: float) -> bool:
        """Whether `value` meets the bar."""
        return value >= self.bar if self.at_least else value <= self.bar

    def stated_bar(self) -> str:
        """Return the bar as people read it."""
        return f"{'≥' if self.at_least else '≤'} {self.bar:.2f} {self.unit}"


ROWS = {
    "large": Row("CUDA kernel, 8192 × 2048 and larger", 1.00, "× copy", ("cuda",)),
    "column": Row("of these, column-major float32, groups of 64", 1.00, "× copy", ("cuda",)),
    "medium": Row("CUDA kernel, 1024 × 7168", 0.99, "× copy", ("cuda",)),
    "large_triton": Row("Triton kernel, 8192 × 2048 and larger", 1.03, "× copy", ("triton",)),
    "medium_triton": Row("Triton kernel, 1024 × 7168", 1.08, "× copy", ("triton",)),
    "small": Row(
        "CUDA kernel, default shapes, 1 × 7168", 1.60, "× empty kernel", ("cuda", "triton")
    ),
    "odd": Row("odd rows, odd groups a row, per byte", 1.05, "× even neighbour", ("cuda",)),
    "inputs": Row("groups 32, 256, 512; float16, float32; strided", 1.05, "× copy", ("cuda",)),
    "other": Row("any other group size", 2.00, "× copy", ("cuda",)),
    "formats": Row("packed and TMA-aligned scales, 8192 × 7168", 1.02, "× copy", ("cuda",)),
    "formats_triton": Row("packed and TMA-aligned scales, Triton", 1.02, "× copy", ("triton",)),
    "silu": Row("fused SiLU, 8192 × 7168", 1.03, "× copy", ("cuda",)),
    "silu_triton": Row("fused SiLU, Triton", 1.03, "× copy", ("triton",)),
    "masked_routed": Row("masked rows, 0 to 64 of 256", 1.10, "× as many + memset", ("cuda",)),
    "masked_full": Row("masked rows, 256 of 256", 1.02, "× as many", ("cuda",)),
    "masked_empty": Row("masked rows, none of 256", 2.00, "× memset", ("cuda",)),
    "blocks": Row("weights in blocks, 7168 × 7168, 256 experts", 1.05, "× copy", ("cuda",)),
    "blocks_triton": Row("weights in blocks, Triton", 1.15, "× copy", ("triton",)),
    "transposed": Row("rows and columns, 8192 × 7168", 1.10, "× copy", ("cuda",)),
    "transposed_triton": Row("rows and columns, Triton", 1.21, "× copy", ("triton",)),
    "norm": Row("fused RMSNorm, residual, 1024, 8192 × 7168", 1.05, "× copy", ("cuda",)),
    "norm_triton": Row("the same, Triton", 1.16, "× copy", ("triton",)),
    "norm_small": Row("the same, 1, 128 × 7168, produced", 0.70, "× unfused", ("cuda",)),
    "norm_call": Row("call, CUDA, fused RMSNorm", 1.50, "× torch.abs(x)", ("cuda",)),
    "call": Row("call, CUDA, allocation included", 1.50, "× torch.abs(x)", ("cuda",)),
    "call_out": Row("call, CUDA, out= given", 0.90, "× torch.abs(x)", ("cuda",)),
    "call_triton": Row("call, Triton, allocation included", 2.50, "× torch.abs(x)", ("triton",)),
    "call_formats": Row("call, CUDA, every format and function", 1.25, "× torch.abs(x)", ("cuda",)),
    "call_formats_out": Row("the same, out= given", 0.85, "× torch.abs(x)", ("cuda",)),
    "call_formats_triton": Row("the same of Triton, both", 2.20, "× torch.abs(x)", ("triton",)),
    "call_blocks": Row("call of weights in blocks", 1.50, "× torch.abs(w)", ("cuda",)),
    "call_transposed": Row("call of rows and columns", 1.80, "× torch.abs(x)", ("cuda",)),
    "python": Row("call, CUDA, Python's part", 1.00, "µs", ("cuda",)),
    "first": Row("first CUDA call in a process", 50.0, "ms", ("cuda",)),
    "cpu": Row(
        "CPU backend, 8192 × 7168, all cores", 0.80, "× rate of copy", ("cpu",), at_least=True
    ),
}
# Which rows are measured together.
MEASURES = (
    (("large", "column", "medium", "large_triton", "medium_triton"), limits_measure.served),
    (("small",), limits_measure.small),
    (("odd",), limits_measure.odd),
    (("inputs",), limits_measure.inputs),
    (("other",), limits_measure.other),
    (("formats", "formats_triton"), limits_measure.formats),
    (("silu", "silu_triton"), limits_measure.silu),
    (("masked_routed", "masked_full", "masked_empty"), limits_masked.masked),
    (("blocks", "blocks_triton"), limits_blocks.blocks),
    (("transposed", "transposed_triton"), limits_transposed.transposed),
    (("norm", "norm_triton", "norm_small", "norm_call"), limits_norm.norm),
    (("call", "call_out", "call_triton"), limits_measure.calls),
    (("call_formats", "call_formats_out", "call_formats_triton"), limits_measure.format_calls),
    (("call_blocks",), limits_blocks.block_calls),
    (("call_transposed",), limits_transposed.transposed_calls),
    (("python",), limits_measure.python),
    (("first",), limits_measure.first),
    (("cpu",), limits_measure.cpu),
)
# Seconds of the build of one architecture on two cores: not of the installed package.
BUILD = (
    "build from clean, one architecture, 2 cores",
    "≤ 40 s",
    "TORCH_CUDA_ARCH_LIST=9.0 taskset -c 0,1 pip wheel --no-build-isolation -w build .",
)


def reasons(device: str) -> dict[str, str]:
    """Return, for each backend that can't be measured here, why."""
    absent = None
    if device != "cuda":
        absent = f"--device {device}"
    elif not torch.cuda.is_available():
        absent = "no CUDA device is visible"
    found = {"cpu": why_unavailable("cpu", torch.device("cpu"))}
    for backend in ("cuda", "triton"):
        # Only a device that is there has an index.
        found[backend] = absent or why_unavailable(
            backend, torch.device("cuda", torch.cuda.current_device())
        )
    return {backend: reason for backend, reason in found.items() if reason is not None}


def facts(device: str) -> dict[str, str]:
    """What the numbers are, and of which machine."""
    on_gpu = device == "cuda" and torch.cuda.is_available()
    known = machine.describe("cuda" if on_gpu else "cpu")
    forced = os.environ.get("PTGQ_CPU_ISA")
    known["cpu instructions"] = forced or torch.backends.cpu.get_cpu_capability()
    known["ptgq"] = machine.commit()
    known["method"] = "kernels: slopes of graphs, cold; calls: events; medians, alternating"
    return known


def judged(key: str, values: Mapping[str, float] | str) -> dict[str, object]:
    """Return a row by its worst configuration, or why it is not available."""
    row = ROWS[key]
    found = {"row": key, "what": row.what, "target": row.bar, "unit": row.unit}
    found["at_least"] = row.at_least
    if isinstance(values, str):
        return {**found, "verdict": "n/a", "reason": values}
    worst = row.worst(values)
    word = "pass" if row.passes(values[worst]) else "missed"
    order = sorted(values, key=values.__getitem__, reverse=not row.at_least)
    by_distance = {configuration: values[configuration] for configuration in order}
    measured = {"measured": values[worst], "worst": worst, "values": by_distance}
    return {**found, "verdict": word, **measured}


def lines(found: Mapping[str, object], every: bool) -> list[str]:
    """Return a row as text: its verdict, then the worst configuration, or all of them."""
    row = ROWS[found["row"]]
    value = f"{found['measured']:.3f}" if "measured" in found else ""
    told = [f"{found['verdict']:<7}{value:>8}  {row.stated_bar():<23}  {row.what}"]
    if "reason" in found:
        together = f"{told[0]}: {found['reason']}"
        return [together] if len(together) <= 100 else [*told, f"{'':<17}{found['reason']}"]
    if not every:
        return [*told, f"{'':<17}worst: {found['worst']}"]
    return [*told, *(f"{'':<7}{value:>8.3f}  {name}" for name, value in found["values"].items())]


def run(device: str, every: bool, form: str = "table") -> None:
    """Measure and print all rows, each as soon as it is known; `every`: all configurations."""
    known = facts(device)
    if form == "table":
        print(*(f"# {name}: {fact}" for name, fact in known.items()), sep="\n")
        print(f"{'':<7}{'measured':>8}  {'target':<23}  what")
    missing = reasons(device)
    available = [backend for backend in ("cuda", "triton", "cpu") if backend not in missing]
    rows = []
    for keys, measure in MEASURES:
        why = {key: next(filter(None, map(missing.get, ROWS[key].needs)), None) for key in keys}
        values = measure(available) if None in why.values() else {}
        for key in keys:
            rows.append(judged(key, why[key] or values[key]))
            if form == "table":
                print(*lines(rows[-1], every), sep="\n", flush=True)
    what, bar, command = BUILD
    if form == "table":
        print(f"{'n/a':<7}{'':>8}  {bar:<23}  {what}", f"{'':<17}not measured here:", sep="\n")
        print(f"{'':<17}{command}")
    else:
        print(json.dumps({"machine": known, "rows": rows}, indent=2))
