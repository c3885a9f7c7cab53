"""Whether the scales that particular consumers read are right."""

from __future__ import annotations

import itertools

from . import common


def _workload(tokens: int, hidden: int, group: int, scales: str):
    return common.measuring("workloads").Workload(tokens, hidden, group, scales=scales)


def differing_bytes() -> dict:
    """Compare q and all memory of s, padding too, with the reference on the CPU."""

    def differing(backend, workload):
        from ptgq import scales

        x = workload.make_input("cpu")
        expected = workload.call(x, backend="reference")
        on_device = x if backend in ("cpu", "reference") else x.cuda()
        actual = workload.call(on_device, backend=backend)
        count = common.measuring("agreement").differing_bytes
        known = workload.scale_format
        memory = [scales.memory_of(s, known).cpu() for s in (expected[1], actual[1])]
        return count(expected[0], actual[0].cpu()) + count(*memory)

    results = {}
    for backend, group, scales in itertools.product(
        common.BACKENDS, common.GROUP_SIZES, common.READ
    ):
        # An odd number of tokens, and of groups a token: all kinds of padding.
        workload = _workload(33, 7 * group, group, scales)
        absent = common.lacking(workload) or common.missing(backend)
        results[backend, group, scales] = absent or common.attempt(
            lambda b=backend, w=workload: differing(b, w)
        )
    return results


differing_bytes.timeout = 600


class ScaleBytes:
    """What a consumer reads must be what the reference writes."""

    version = "1"
    unit = "bytes"
    params = (common.BACKENDS, common.GROUP_SIZES, common.READ)
    param_names = ("backend", "group", "scales")
    setup_cache = staticmethod(differing_bytes)

    def track_differing_bytes(self, results, *params):
        """Bytes of q and of s that differ from the reference on the CPU: must be 0."""
        return common.result_of(results[params])
