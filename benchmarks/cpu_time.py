"""How long does a call take on the CPU, and how far is that from copying the same bytes?"""

from __future__ import annotations

import itertools

from benchmarks import suite

# The seed's shapes, and two of a served model.
HIDDEN = {**suite.SEED_HIDDEN, 128: 7168, 1024: 7168}
BACKENDS = ("cpu", "reference")
REPEAT = 10
# Seconds that one sample lasts at least: small calls are repeated within it.
SAMPLE_SECONDS = 2e-3


def setup_cache() -> dict:
    """Measure both backends and a copy, alternating, in one process."""
    import torch

    clocks, timers = suite.measuring("clocks"), suite.measuring("timers")
    absent = {backend: suite.missing(backend) for backend in BACKENDS}
    clock = clocks.HostClock()
    measured = {}

    def timer_of(call):
        once = timers.loop_timer(call, 1, clock)
        once()
        number = max(1, round(SAMPLE_SECONDS / once()))
        return timers.loop_timer(call, number, clock)

    def measure(workload, backends):
        x, out = workload.make_input("cpu"), workload.make_output("cpu")
        source = torch.zeros(workload.bytes_moved // 2, dtype=torch.uint8)
        target = torch.empty_like(source)
        calls = [lambda: target.copy_(source)]
        calls += [lambda b=b: workload.call(x, backend=b, out=out) for b in backends]
        return timers.sample([timer_of(call) for call in calls], REPEAT)

    for (tokens, hidden), group, scale_format in itertools.product(
        HIDDEN.items(), suite.GROUPS, suite.FORMATS
    ):
        backends = [backend for backend in BACKENDS if absent[backend] is None]
        workload = suite.workload(tokens, hidden, group, scale_format)
        rows = suite.attempt(lambda w=workload, b=backends: measure(w, b))
        for backend in BACKENDS:
            time = ratio = absent[backend] or rows
            if isinstance(time, list):
                copy, time = rows[0], rows[1 + backends.index(backend)]
                ratio = [one / other for one, other in zip(time, copy, strict=True)]
            measured["call", backend, tokens, group, scale_format] = time
            measured["copy_ratio", backend, tokens, group, scale_format] = ratio
    return measured


setup_cache.timeout = 300


class CpuTime:
    """The `cpu` and `reference` backends: every machine has a history."""

    version = "1"
    params = (BACKENDS, tuple(HIDDEN), suite.GROUPS, tuple(suite.FORMATS))
    param_names = ("backend", "tokens", "group", "format")
    setup_cache = staticmethod(setup_cache)

    def track_call(self, measured, *params):
        """Seconds a call, outputs given."""
        return suite.result_of(measured["call", *params])

    track_call.unit = "seconds"

    def track_copy_ratio(self, measured, *params):
        """Time relative to a copy of the same number of bytes in the same rounds."""
        return suite.result_of(measured["copy_ratio", *params])

    track_copy_ratio.unit = "time / copy time"
