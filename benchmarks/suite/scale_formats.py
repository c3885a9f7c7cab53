"""What particular consumers need: is it right, and does it cost anything.

The scale formats of some, and the fused SiLU.
"""

from __future__ import annotations

import itertools

from . import common, device_time

BACKENDS = ("cuda", "triton")
TOKENS = (128, 8191, 8192)
HIDDEN = 7168
REPEAT = 10


def _workload(tokens: int, hidden: int, group: int, scales: str):
    workloads = common.measuring("workloads")
    return workloads.Workload(tokens, hidden, group, **workloads.SCALE_FORMATS[scales])


def _lacking() -> common.NotAvailable | None:
    """Return that the commit is older than these formats, or None."""
    from ptgq import scales

    if hasattr(scales, "convert"):
        return None
    return common.NotAvailable("this commit has no such scales")


def kernels() -> dict:
    """Measure the kernels of both backends, alternating with a copy of the same bytes."""
    results = {}
    for key in itertools.product(TOKENS, common.GROUPS, common.SCALE_FORMATS):
        tokens, group, scales = key
        absent = common.no_device() or _lacking()
        if absent:
            rows = dict.fromkeys((*((b, "cold") for b in BACKENDS), ("copy", "cold")), absent)
        else:
            workload = _workload(tokens, HIDDEN, group, scales)
            rows = device_time.sample_kernels(workload, REPEAT, caches=("cold",))
        for backend in BACKENDS:
            results[("kernel", backend, *key)] = rows[backend, "cold"]
            to_copy = common.ratio(rows[backend, "cold"], rows["copy", "cold"])
            results[("to_copy", backend, *key)] = to_copy
    return results


def fused_kernels() -> dict:
    """Measure the fused SiLU of both backends, alternating with a copy of the same bytes."""
    import ptgq

    absent = common.no_device()
    if not hasattr(ptgq, "silu_and_mul_per_token_group_quant_fp8"):
        absent = common.NotAvailable("this commit has no fused SiLU")
    results = {}
    for tokens, group in itertools.product(TOKENS, common.GROUPS):
        rows = dict.fromkeys((*((b, "cold") for b in BACKENDS), ("copy", "cold")), absent)
        if not absent:
            workload = common.measuring("workloads").Workload(
                tokens, HIDDEN, group, silu_and_mul=True
            )
            rows = device_time.sample_kernels(workload, REPEAT, caches=("cold",))
        for backend in BACKENDS:
            results["kernel", backend, tokens, group] = rows[backend, "cold"]
            to_copy = common.ratio(rows[backend, "cold"], rows["copy", "cold"])
            results["to_copy", backend, tokens, group] = to_copy
    return results


def differing_bytes() -> dict:
    """Compare q and all memory of s, padding too, with the reference on the CPU."""

    def differing(backend, workload):
        from ptgq import scales

        known = scales.scale_format(*workload.scale_options)
        x = workload.make_input("cpu")
        expected = workload.call(x, backend="reference")
        on_device = x if backend in ("cpu", "reference") else x.cuda()
        actual = workload.call(on_device, backend=backend)
        count = common.measuring("agreement").differing_bytes
        memory = [scales.memory_of(s, known).cpu() for s in (expected[1], actual[1])]
        return count(expected[0], actual[0].cpu()) + count(*memory)

    results = {}
    for backend, group, scales in itertools.product(
        common.BACKENDS, common.GROUPS, common.SCALE_FORMATS
    ):
        absent = _lacking() or common.missing(backend)
        # An odd number of tokens, and of groups a token: all kinds of padding.
        results[backend, group, scales] = absent or common.attempt(
            lambda b=backend, g=group, s=scales: differing(b, _workload(33, 7 * g, g, s))
        )
    return results


kernels.timeout = fused_kernels.timeout = differing_bytes.timeout = 600


class ScaleFormats:
    """Kernel time at 7168, cold."""

    version = "1"
    params = (BACKENDS, TOKENS, common.GROUPS, common.SCALE_FORMATS)
    param_names = ("backend", "tokens", "group", "scales")
    setup_cache = staticmethod(kernels)

    def track_kernel(self, results, *params):
        """Seconds a launch."""
        return common.result_of(results[("kernel", *params)])

    def track_to_copy(self, results, *params):
        """Relative to a copy of the same bytes, padding included."""
        return common.result_of(results[("to_copy", *params)])

    track_kernel.unit = "seconds"
    track_to_copy.unit = "time / copy time"


class SiluAndMul(ScaleFormats):
    """Kernel time of the fused SiLU, with row-major float32 scales, at 7168 out, cold."""

    params = (BACKENDS, TOKENS, common.GROUPS)
    param_names = ("backend", "tokens", "group")
    setup_cache = staticmethod(fused_kernels)


class ScaleBytes:
    """What a consumer reads must be what the reference writes."""

    version = "1"
    unit = "bytes"
    params = (common.BACKENDS, common.GROUPS, common.SCALE_FORMATS)
    param_names = ("backend", "group", "scales")
    setup_cache = staticmethod(differing_bytes)

    def track_differing_bytes(self, results, *params):
        """Bytes of q and of s that differ from the reference on the CPU: must be 0."""
        return common.result_of(results[params])
