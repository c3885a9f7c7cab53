"""Measures the GPU once a commit; the files that read it each answer their own question.

A family runs in one process of its own (asv's ``setup_cache``), where implementations and the copy
alternate sample by sample, so a drift of the machine falls on all of them alike.
"""

from __future__ import annotations

import itertools

from . import common

BACKENDS = ("cuda", "triton")
SEED_REPEAT = 12
SERVING_REPEAT = 10
# Calls a sample of eager latency, as in the table.
CALLS = 100


def _sample_kernels(workload, repeat: int) -> dict:
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
    for backend, cache in itertools.product(BACKENDS, common.CACHES):
        build = lambda b=backend, c=cache: kernel(b, c)  # noqa: E731
        to_sample[backend, cache] = common.prepared(common.missing(backend), build)
    return common.take_samples(to_sample, repeat)


def _sample_calls(workload) -> dict:
    """Latency of an eager call, allocation included, of each backend."""
    clocks, timers = common.measuring("clocks"), common.measuring("timers")

    def calls(backend):
        x = workload.make_input("cuda")
        return timers.loop_timer(
            lambda: workload.call(x, backend=backend), CALLS, clocks.EventClock()
        )

    to_sample = {b: common.prepared(common.missing(b), lambda b=b: calls(b)) for b in BACKENDS}
    return common.take_samples(to_sample, SEED_REPEAT)


def _kernel_results(workload, key: tuple, repeat: int) -> dict:
    rows = _sample_kernels(workload, repeat)
    results = {("kernel", *names, *key): rows[names] for names in rows}
    for backend in BACKENDS:
        to_copy = common.ratio(rows[backend, "cold"], rows["copy", "cold"])
        results[("to_copy", backend, *key)] = to_copy
    results[("kernel_ratio", *key)] = common.ratio(rows["cuda", "cold"], rows["triton", "cold"])
    return results


def measure_seed() -> dict:
    """Measure the seed's 30 configurations: kernels, and latency of eager calls."""
    results = {}
    for tokens, group, scale_format in itertools.product(
        common.SEED_HIDDEN, common.GROUPS, common.FORMATS
    ):
        key = (tokens, group, scale_format)
        workload = common.workload(tokens, common.SEED_HIDDEN[tokens], group, scale_format)
        results.update(_kernel_results(workload, key, SEED_REPEAT))
        calls = _sample_calls(workload)
        results[("call_ratio", *key)] = common.ratio(calls["cuda"], calls["triton"])
    return results


def measure_serving() -> dict:
    """Measure the kernels at shapes of served models."""
    results = {}
    for key in itertools.product(
        common.SERVING_TOKENS, common.SERVING_HIDDEN, common.GROUPS, common.FORMATS
    ):
        results.update(_kernel_results(common.workload(*key), key, SERVING_REPEAT))
    return results


measure_seed.timeout = 600
measure_serving.timeout = 900
