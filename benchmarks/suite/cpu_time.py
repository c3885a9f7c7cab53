"""How long a call takes on the CPU, and how far that is from copying the same bytes."""

from __future__ import annotations

import functools
import itertools

from . import common

# The default shapes, and two of a served model.
HIDDEN = {**common.DEFAULT_HIDDEN, 128: 7168, 1024: 7168}
BACKENDS = ("cpu", "reference")
REPEAT = 10


def _call_timer(workload, x, backend, out, clock):
    return common.call_timer(lambda: workload.call(x, backend=backend, out=out), clock)


def setup_cache() -> dict:
    """Measure both backends and a copy, alternating, in one process."""
    import torch

    clock = common.measuring("clocks").HostClock()
    results = {}
    for tokens, group, scale_format in itertools.product(
        HIDDEN, common.GROUP_SIZES, common.FORMATS
    ):
        workload = common.workload(tokens, HIDDEN[tokens], group, scale_format)
        x, out = workload.make_input("cpu"), workload.make_output("cpu")
        source = torch.zeros(workload.bytes_moved // 2, dtype=torch.uint8)
        target = torch.empty_like(source)
        to_sample = {"copy": common.call_timer(lambda t=target, s=source: t.copy_(s), clock)}
        for backend in BACKENDS:
            build = functools.partial(_call_timer, workload, x, backend, out, clock)
            to_sample[backend] = common.prepared(common.missing(backend), build)
        rows = common.take_samples(to_sample, REPEAT)
        for backend in BACKENDS:
            key = (backend, tokens, group, scale_format)
            results[("call", *key)] = rows[backend]
            results[("copy_ratio", *key)] = common.ratio(rows[backend], rows["copy"])
    return results


setup_cache.timeout = 300


class CpuTime:
    """The `cpu` and `reference` backends: every machine has a history."""

    version = "1"
    params = (BACKENDS, tuple(HIDDEN), common.GROUP_SIZES, tuple(common.FORMATS))
    param_names = ("backend", "tokens", "group", "format")
    setup_cache = staticmethod(setup_cache)

    def track_call(self, results, *params):
        """Seconds a call, outputs given."""
        return common.result_of(results[("call", *params)])

    track_call.unit = "seconds"

    def track_copy_ratio(self, results, *params):
        """Time relative to a copy of the same number of bytes in the same rounds."""
        return common.result_of(results[("copy_ratio", *params)])

    track_copy_ratio.unit = "time / copy time"
