"""How long the kernels of masked rows run, and how far they are from what they could take.

Of 32 × 256 rows of 7168, with as many rows an expert as a router gives, all or none.
"""

from __future__ import annotations

import itertools

from measure.configurations import MASKED

from . import common

REPEAT = 5
PARAMS = (common.GPU_BACKENDS, MASKED, ("fp8", "silu"))


def measure() -> dict:
    """Measure each, and its ratio to the matrix of as many rows and the memset of other scales."""
    results = {}
    for backend, counts, function in itertools.product(*PARAMS):
        key = backend, counts, function
        absent = common.missing(backend)
        timers = absent or common.attempt(
            lambda b=backend, c=counts, silu=function == "silu": (
                common.measuring("masked").MaskedRows(c, silu).timers(b)
            )
        )
        if not isinstance(timers, list):
            results[("time", *key)] = results[("relative", *key)] = timers
            continue
        found = common.take_samples(dict(enumerate(timers)), REPEAT)
        own = results[("time", *key)] = found.pop(0)
        whole = _sum_of([*found.values()])
        results[("relative", *key)] = common.ratio(own, whole)
    return results


def _sum_of(parts: list) -> object:
    failed = [part for part in parts if not isinstance(part, list)]
    return failed[0] if failed else [sum(values) for values in zip(*parts, strict=True)]


measure.timeout = 600


class MaskedTime:
    """What a launch adds to a long CUDA graph: seconds."""

    version = "1"
    unit = "seconds"
    params = PARAMS
    param_names = ("backend", "counts", "function")
    setup_cache = staticmethod(measure)
    # The part of the results that a class reads.
    which = "time"

    def track_masked_rows(self, measured, *params):
        """32 × 256 × 7168, for DeepGEMM on Hopper."""
        return common.result_of(measured[(self.which, *params)])


class MaskedDistance(MaskedTime):
    """Time over that of a matrix of as many rows, and a memset of the other rows' scales."""

    unit = "time / (time of as many rows + memset)"
    which = "relative"
