"""How far this machine is from the project's bars: one row a bar, judged by its worst case.

Every row is a ratio to a yardstick that was measured alternating with it, or a time that a caller
feels. What can't be measured here is n/a, with the reason. Nothing is stored.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import limits_measure
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
    "call": Row("call, CUDA, allocation included", 1.50, "× torch.abs(x)", ("cuda",)),
    "call_out": Row("call, CUDA, out= given", 0.90, "× torch.abs(x)", ("cuda",)),
    "call_triton": Row("call, Triton, allocation included", 2.50, "× torch.abs(x)", ("triton",)),
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
    (("call", "call_out", "call_triton"), limits_measure.calls),
    (("python",), limits_measure.python),
    (("first",), limits_measure.first),
    (("cpu",), limits_measure.cpu),
)
# Seconds of the build of one architecture on two cores: not of the installed package.
BUILD = (
    "build from clean, one architecture, 2 cores",
    "≤ 40 s",
    "rm -rf build; time TORCH_CUDA_ARCH_LIST=9.0 taskset -c 0,1 "
    "python -m pip wheel --no-deps --no-build-isolation -w build/wheel .",
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
    known["method"] = (
        "kernels: slopes of graphs, cold; calls: events; medians of alternating samples"
    )
    return known


def lines(key: str, values: Mapping[str, float] | str, every: bool) -> list[str]:
    """Return a row as text: judged by its worst configuration, or n/a with the reason."""
    row = ROWS[key]
    start = f"{row.what:<46} | {row.stated_bar():<23} |"
    if isinstance(values, str):
        return [f"{start} {'n/a':>8} |       | {values}"]
    worst = row.worst(values)

    def text(configuration: str) -> str:
        value = values[configuration]
        verdict = "pass" if row.passes(value) else "short"
        return f"{value:>8.3f} | {verdict:<5} | {configuration}"

    told = [f"{start} {text(worst)}"]
    if every:
        order = sorted(values, key=values.__getitem__, reverse=not row.at_least)
        told += [f"{'':<72} | {text(one)}" for one in order]
    return told


def run(device: str, every: bool) -> None:
    """Measure and print all rows, each as soon as it is known; `every`: all configurations."""
    print(*(f"# {name}: {fact}" for name, fact in facts(device).items()), sep="\n")
    print(f"{'what':<46} | {'bar':<23} | {'measured':>8} |       | worst configuration")
    missing = reasons(device)
    available = [backend for backend in ("cuda", "triton", "cpu") if backend not in missing]
    for keys, measure in MEASURES:
        why = {key: next(filter(None, map(missing.get, ROWS[key].needs)), None) for key in keys}
        values = measure(available) if None in why.values() else {}
        for key in keys:
            print(*lines(key, why[key] or values[key], every), sep="\n", flush=True)
    what, bar, command = BUILD
    print(f"{what:<46} | {bar:<23} | {'n/a':>8} |       | not measured here: {command}")
