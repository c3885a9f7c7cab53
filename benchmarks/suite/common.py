"""What the suite's files share: parameters, the form of results, and the code that measures.

asv takes the benchmarks from the working tree and the project from the commit under test, so this
runs against every commit, and all commits are measured by the same code.

Nothing here imports torch or ptgq before a benchmark runs: asv imports these files in every
process, and most processes only look a value up.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from measure.configurations import (
    BACKENDS,
    CONSUMED,
    DEFAULT_SHAPES,
    FORMATS,
    GROUP_SIZES,
    SERVING_TOKENS,
    VARIANTS,
    known,
)
from measure.configurations import (
    STATES as STATES,
)


@atexit.register
def _end_without_search() -> None:
    """Don't look through all of torch, for half a second; Triton would say that objects leak."""
    if "triton" not in sys.modules:
        gc.freeze()


GPU_BACKENDS = BACKENDS[:2]
# What none but particular consumers read.
READ = (*CONSUMED, *known.TILED_FORMATS)
# The tokens of the default shapes, each with its hidden size.
DEFAULT_HIDDEN = dict(sorted(DEFAULT_SHAPES))
SERVING_HIDDEN = (2048, 4096, 7168)
VARIANT_TOKENS = (128, 1024, 8192)

# Seconds that a sample of eager calls lasts at least.
SAMPLE_SECONDS = 2e-3

DEFAULT_PARAMS = (tuple(DEFAULT_HIDDEN), GROUP_SIZES, tuple(FORMATS))
DEFAULT_PARAM_NAMES = ("tokens", "group", "format")
SERVING_PARAMS = (SERVING_TOKENS, SERVING_HIDDEN)
SERVING_PARAM_NAMES = ("tokens", "hidden")
VARIANT_PARAMS = (VARIANT_TOKENS, tuple(VARIANTS))
VARIANT_PARAM_NAMES = ("tokens", "variant")


@dataclass(frozen=True)
class NotAvailable:
    """Why a value can't be measured here: n/a on the record."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """What went wrong: a failure on the record."""

    error: str


def samples(values: Iterable[float]) -> dict:
    """Return samples as asv_runner's ``time_`` benchmarks do, so that asv treats them alike.

    asv then computes the median, its 99 % interval and the quartiles, and compares by
    Mann-Whitney. The form is not documented: a test pins it.
    """
    return {"samples": [float(value) for value in values], "number": 1}


def result_of(value: object) -> object:
    """Return what a ``track_`` function returns to asv for a measured value.

    Raises
    ------
    RuntimeError
        If the value is a failure.
    """
    if isinstance(value, NotAvailable):
        # nox -s track says once what is not here; a plain asv --show-stderr says it for each row.
        if "PTGQ_MEASURED_DEVICE" not in os.environ:
            print(f"n/a: {value.reason}")
        return math.nan
    if isinstance(value, Failed):
        raise RuntimeError(value.error)
    return samples(value) if isinstance(value, list) else value


def attempt(measurement: Callable[[], object]) -> object:
    """Return what `measurement` returns, or its failure: the others of its family go on.

    PyTorch raises NotImplementedError for an op that a commit has no code for: n/a.
    """
    try:
        return measurement()
    except NotImplementedError as error:
        return NotAvailable(str(error).partition("\n")[0])
    except Exception as error:
        return Failed(f"{type(error).__name__}: {error}")


def prepared(absent: NotAvailable | Failed | None, build: Callable[[], Callable]) -> object:
    """Return the timer that `build` makes, run once, or why there is none."""

    def run_once():
        timer = build()
        timer()
        return timer

    return absent or attempt(run_once)


def call_timer(call: Callable[[], object], clock, before: Callable[[], object] | None = None):
    """Return a timer of eager calls, of as many as SAMPLE_SECONDS take, once they are warm.

    `before` runs ahead of each sample and is not timed.
    """
    loop_timer = measuring("timers").loop_timer
    once = loop_timer(call, 1, clock)
    once()
    seconds = min(once() for _ in range(3))
    return loop_timer(call, max(1, round(SAMPLE_SECONDS / seconds)), clock, before)


def take_samples(timers: dict, repeat: int) -> dict:
    """Return each timer's samples, taken alternating; what is no timer is returned as it is."""
    runnable = {key: timer for key, timer in timers.items() if callable(timer)}
    # Each has run once, when it was prepared.
    rows = attempt(lambda: measuring("timers").sample([*runnable.values()], repeat, warmup=0))
    if not isinstance(rows, list):
        return {**timers, **dict.fromkeys(runnable, rows)}
    return {**timers, **dict(zip(runnable, rows, strict=True))}


def ratio(one: object, other: object) -> object:
    """Return the ratios of paired samples, or why there are none."""
    for value in (one, other):
        if not isinstance(value, list):
            return value
    return [a / b for a, b in zip(one, other, strict=True)]


def measuring(module: str):
    """Return ``measure.<module>`` of the working tree, which calls the installed ``ptgq``."""
    return importlib.import_module(f"measure.{module}")


def workload(tokens: int, hidden: int, group: int, scale_format: str):
    """Return the :class:`measure.workloads.Workload` of a combination of parameters."""
    return measuring("workloads").Workload(tokens, hidden, group, **FORMATS[scale_format])


def default_workload(tokens: int, group: int, scale_format: str):
    """Return the workload of one of the default configurations."""
    return workload(tokens, DEFAULT_HIDDEN[tokens], group, scale_format)


def lacking(workload) -> NotAvailable | None:
    """Return what of a workload the commit is older than, or None."""
    import ptgq
    from ptgq import scales

    if workload.silu_and_mul and not hasattr(ptgq, "silu_and_mul_per_token_group_quant_fp8"):
        return NotAvailable("this commit has no fused SiLU")
    if (workload.scales in CONSUMED or workload.is_tiled) and not hasattr(scales, "convert"):
        return NotAvailable("this commit has no such scales")
    if workload.is_tiled and not hasattr(ptgq.ScaleFormat, "torch_scaled_mm_mx"):
        return NotAvailable("this commit has no scales in tiles")
    return None


@functools.cache
def no_device() -> NotAvailable | None:
    """Return that there is no CUDA device, or None if there is one.

    Raises
    ------
    RuntimeError
        If this machine is measured with a GPU (``nox -s track`` says so) that is gone.
    """
    import torch

    if torch.cuda.is_available():
        return None
    if os.environ.get("PTGQ_MEASURED_DEVICE") == "cuda":
        raise RuntimeError("the GPU that was here when the run began is gone")
    return NotAvailable("no CUDA device is visible")


@functools.cache
def missing(backend: str) -> NotAvailable | Failed | None:
    """Return why `backend` can't run here on the device it is meant for, or None if it can.

    Where the device is here and the library was built without it (no nvcc), that is a failure: once
    it is built, it is measured.
    """
    import torch

    from ptgq.backends import why_unavailable

    device = "cuda" if backend in ("cuda", "triton") else "cpu"
    if device == "cuda" and no_device():
        return no_device()
    if backend == "triton" and importlib.util.find_spec("ptgq.backends.triton") is None:
        return NotAvailable("this commit has no Triton backend")
    reason = why_unavailable(backend, torch.device(device, 0 if device == "cuda" else None))
    if reason is None:
        return None
    return Failed(reason) if backend == device else NotAvailable(reason)
