"""Measures eager calls once a commit, each beside PyTorch's of the same x.

A host's speed varies, by half between two processes. It moves ``torch.abs`` less than a call, which
does more in Python and allocates two tensors, so their ratio moves, too: by 6 % from process to
process on a busy host, and ratios to an ``abs`` and two allocations by 4 %.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

from measure.configurations import CALLS

from . import common

REPEAT = 7
# nox -s compare measures few: ("default_shapes" or "functions", *parameters); None: all.
WANTED: set[tuple] | None = None
# Each call is measured beside PyTorch's: these classes of call_latency read the ratios.
BESIDE = {"RelativeToAbs", "RelativeToTorch"}
# Without the reference, whose calls nobody waits for.
BACKENDS = ("cuda", "triton", "cpu")
FUNCTION_PARAMS = (BACKENDS, CALLS, (False, True))
FUNCTION_PARAM_NAMES = ("backend", "call", "out")


def _absent(backend: str, device: str) -> common.NotAvailable | None:
    if device == "cuda" and backend not in ("cuda", "triton"):
        return common.NotAvailable("cpu_time measures the CPU of a machine with a GPU")
    return common.missing(backend)


def _abs_and_allocations(x) -> object:
    """Do what a call must: allocate what q and s are, and launch a kernel."""
    import torch

    empty_like, absolute = torch.empty_like, torch.abs

    def call():
        empty_like(x)
        empty_like(x)
        absolute(x)

    return call


def sample(bound: dict[tuple, Callable[[], tuple]], device: str) -> dict:
    """Return samples of each call, and their ratios to PyTorch's calls of its x.

    `bound` returns a call and its x; all alternate: what disturbs the host for a while costs each
    a sample, and not one all of its.
    """
    import torch

    clock = common.measuring("clocks").clock_for(device)
    timers: dict[tuple, object] = {}
    for key, bind in bound.items():

        def build(key=key, bind=bind):
            call, x = bind()
            others = {
                "RelativeToAbs": functools.partial(torch.abs, x),
                "RelativeToTorch": _abs_and_allocations(x),
            }
            for kind in sorted(BESIDE):
                timers[(kind, *key)] = common.call_timer(others[kind], clock)
            return common.call_timer(call, clock)

        timers[("call", *key)] = common.prepared(_absent(key[1], device), build)
    found = common.take_samples(timers, REPEAT)
    results = {}
    for key in bound:
        own = results[("call", *key)] = found[("call", *key)]
        for kind in BESIDE:
            results[(kind, *key)] = common.ratio(own, found.get((kind, *key)))
    return results


def _default(device: str, backend: str, key: tuple) -> tuple:
    workload = common.default_workload(*key)
    x = workload.make_input(device)
    return workload.bind(x, backend=backend), x


def measure() -> dict:
    """Measure calls of the default configurations, and of every function and format."""
    device = "cpu" if common.no_device() else "cuda"
    calls = common.measuring("calls")
    bound = {}
    for backend, *key in itertools.product(common.BACKENDS, *common.DEFAULT_PARAMS):
        build = functools.partial(_default, device, backend, tuple(key))
        bound[("default_shapes", backend, *key)] = build
    for backend, name, out in itertools.product(*FUNCTION_PARAMS):
        build = functools.partial(calls.bind, name, device, backend, out)
        bound["functions", backend, name, out] = build
    wanted = bound.keys() if WANTED is None else WANTED & bound.keys()
    results = sample({key: bound[key] for key in bound if key in wanted}, device)
    for key in itertools.product(*common.DEFAULT_PARAMS):
        rows = [("call", "default_shapes", name, *key) for name in ("cuda", "triton")]
        results[("cuda_vs_triton", *key)] = common.ratio(*map(results.get, rows))
    return results


measure.timeout = 600
