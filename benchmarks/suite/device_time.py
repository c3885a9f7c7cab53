"""Measures kernels and calls once a commit; the files that read it answer a question each.

A family runs in one process of its own (asv's ``setup_cache``), where implementations and the copy
alternate sample by sample, so a drift of the machine falls on all of them alike.
"""

from __future__ import annotations

import functools
import itertools

from . import common

BACKENDS = ("cuda", "triton")
SEED_REPEAT = 12
SERVING_REPEAT = 10
# nox -s compare measures few of them.
SERVING_SHAPES = tuple(itertools.product(common.SERVING_TOKENS, common.SERVING_HIDDEN))


def sample_kernels(workload, repeat: int, caches=common.CACHES) -> dict:
    """Kernel time of each (backend, cache), and of the cold copy of the same bytes."""
    clocks, rotation, timers = map(common.measuring, ("clocks", "rotation", "timers"))

    def copy():
        calls, share = rotation.copy_calls(workload.bytes_moved, "cold")
        replay = timers.replay_timer(calls, clocks.EventClock(), rotation.flush_for("cold"))
        return lambda: replay() * share

    def kernel(backend, cache):
        calls = rotation.workload_calls(workload, backend, cache)
        return timers.replay_timer(calls, clocks.EventClock(), rotation.flush_for(cache))

    to_sample = {("copy", "cold"): common.prepared(common.no_device(), copy)}
    for backend, cache in itertools.product(BACKENDS, caches):
        build = functools.partial(kernel, backend, cache)
        to_sample[backend, cache] = common.prepared(common.missing(backend), build)
    return common.take_samples(to_sample, repeat)


def _sample_calls(workloads: dict) -> dict:
    """Latency of an eager call, allocation included, of each (backend, *key of a workload).

    On the backends of this machine's device. One sample of all is taken before the next: what
    disturbs the host for a while then costs each a sample, and not one all of its.
    """
    device = "cpu" if common.no_device() else "cuda"
    clock = common.measuring("clocks").clock_for(device)
    other = common.NotAvailable("cpu_time measures the CPU of a machine with a GPU")

    def absent(backend):
        on_cpu = backend not in BACKENDS
        return other if on_cpu and device == "cuda" else common.missing(backend)

    def calls(workload, backend):
        x = workload.make_input(device)
        return common.call_timer(lambda: workload.call(x, backend=backend), clock)

    to_sample = {}
    for (key, workload), backend in itertools.product(workloads.items(), common.BACKENDS):
        build = functools.partial(calls, workload, backend)
        to_sample[(backend, *key)] = common.prepared(absent(backend), build)
    return common.take_samples(to_sample, SEED_REPEAT)


def _kernel_results(workload, key: tuple, repeat: int) -> dict:
    rows = sample_kernels(workload, repeat)
    results = {("kernel", *names, *key): rows[names] for names in rows}
    for backend in BACKENDS:
        to_copy = common.ratio(rows[backend, "cold"], rows["copy", "cold"])
        results[("to_copy", backend, *key)] = to_copy
    results[("kernel_ratio", *key)] = common.ratio(rows["cuda", "cold"], rows["triton", "cold"])
    return results


def measure_seed() -> dict:
    """Measure the seed's 30 configurations: kernels, and latency of eager calls."""
    workloads = {
        (tokens, *format_): common.workload(tokens, common.SEED_HIDDEN[tokens], *format_)
        for tokens, *format_ in itertools.product(*common.SEED_PARAMS)
    }
    results = {}
    for key, workload in workloads.items():
        results.update(_kernel_results(workload, key, SEED_REPEAT))
    calls = _sample_calls(workloads)
    results.update({("call", *names): row for names, row in calls.items()})
    for key in workloads:
        results[("call_ratio", *key)] = common.ratio(calls[("cuda", *key)], calls[("triton", *key)])
    return results


def measure_serving() -> dict:
    """Measure the kernels at shapes of served models."""
    results = {}
    for shape, *format_ in itertools.product(SERVING_SHAPES, common.GROUPS, common.FORMATS):
        key = (*shape, *format_)
        results.update(_kernel_results(common.workload(*key), key, SERVING_REPEAT))
    return results


measure_seed.timeout = 600
measure_serving.timeout = 900
