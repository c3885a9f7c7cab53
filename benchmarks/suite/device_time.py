"""Measures kernels once a commit; the files that read it answer a question each.

A family runs in one process of its own (asv's ``setup_cache``), where implementations and the copy
alternate sample by sample, so a drift of the machine falls on all of them alike.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable

from . import common

# Samples of one process, which has a speed of its own: more of them would say little more.
REPEAT = 5
# nox -s compare measures few: (family, backend or "copy", state, *key); None: all.
WANTED: set[tuple] | None = None


def sample_kernels(workload, rows: Iterable[tuple[str, str]]) -> dict:
    """Return the kernel times of each (backend or ``copy``, state)."""
    absent = common.no_device() or common.lacking(workload)
    kernels = absent or common.attempt(lambda: common.measuring("kernels").Kernels(workload))

    def prepare(name, state):
        for reason in (kernels, common.missing(name) if name in common.GPU_BACKENDS else None):
            if isinstance(reason, (common.NotAvailable, common.Failed)):
                return reason
        return common.prepared(None, lambda: kernels.timer(name, state))

    return common.take_samples({row: prepare(*row) for row in rows}, REPEAT)


def _measure(family: str, params: tuple, workload_of: Callable) -> dict:
    """Measure what is wanted of a family: results by (file that reads it, *parameters)."""
    results = {}
    for key in itertools.product(*params):
        rows = [
            (name, state)
            for state, name in itertools.product(common.STATES, (*common.GPU_BACKENDS, "copy"))
            if WANTED is None or (family, name, state, *key) in WANTED
        ]
        found = sample_kernels(workload_of(*key), rows) if rows else {}
        for state in common.STATES:
            cuda, triton, copy = (found.get((name, state)) for name in ("cuda", "triton", "copy"))
            for backend, own in (("cuda", cuda), ("triton", triton)):
                results[("kernel_time", backend, state, *key)] = own
                results[("copy_distance", backend, state, *key)] = common.ratio(own, copy)
            results[("cuda_vs_triton", state, *key)] = common.ratio(cuda, triton)
    return results


def measure_default_shapes() -> dict:
    """Measure the 30 default configurations."""
    return _measure("default_shapes", common.DEFAULT_PARAMS, common.default_workload)


def measure_serving_shapes() -> dict:
    """Measure shapes of served models, with row-major float32 scales of groups of 128."""
    workload_of = functools.partial(common.workload, group=128, scale_format="fp8_row_float32")
    return _measure("serving_shapes", common.SERVING_PARAMS, workload_of)


def measure_variants() -> dict:
    """Measure the formats of known consumers, small groups, INT8 and the fused SiLU."""
    variant = common.measuring("workloads").variant
    return _measure("variants", common.VARIANT_PARAMS, variant)


for _measurement in (measure_default_shapes, measure_serving_shapes, measure_variants):
    _measurement.timeout = 600
