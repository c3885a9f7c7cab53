"""How the functions before and beside the GEMM do: fused RMSNorm, transposed results, blocks.

Their calls are measured among all others', by ``call_latency``.
"""

from __future__ import annotations

import itertools

from measure.configurations import CHECKED, FORMS, Form

from . import common, device_time

# A copy's buffers, and those of two turns of each kernel, take no more than so many times the bytes
# that it moves.
BUFFERS = 5
# Without the reference, which is what the others are compared with.
CHECKED_BACKENDS = ("cuda", "triton", "cpu")


def measure() -> dict:
    """Measure the kernels of each form beside a copy, then compare bytes with the reference's."""
    results: dict = {}
    for name, form in FORMS.items():
        found = _sample(form)
        for backend in common.GPU_BACKENDS:
            results["time", backend, name] = found[backend]
            results["copy_ratio", backend, name] = common.ratio(found[backend], found["copy"])
    for backend, name in itertools.product(CHECKED_BACKENDS, CHECKED):
        results["bytes", backend, name] = common.missing(backend) or common.attempt(
            lambda b=backend, n=name: _differing(n, b)
        )
    return results


measure.timeout = 600


def _sample(form: Form) -> dict:
    """Return the kernel times of both backends and of the copy, in the form's state."""
    names = (*common.GPU_BACKENDS, "copy")
    absent = common.no_device() or _too_large(form)
    workload = absent or common.attempt(lambda: common.measuring("beside_gemm").workload_of(form))
    if isinstance(workload, (common.NotAvailable, common.Failed)):
        return dict.fromkeys(names, workload)
    found = device_time.sample_kernels(workload, [(name, form.state) for name in names])
    return {name: found[name, form.state] for name in names}


def _too_large(form: Form) -> common.NotAvailable | None:
    import torch

    memory = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    if BUFFERS * form.bytes_moved <= memory:
        return None
    needed, there = (f"{size / 2**30:.0f} GiB" for size in (BUFFERS * form.bytes_moved, memory))
    return common.NotAvailable(f"its buffers take {needed}, and the device has {there}")


def _differing(name: str, backend: str) -> int:
    written = common.measuring("beside_gemm").written
    count = common.measuring("agreement").differing_bytes
    both = (
        written(name, "cpu", "reference"),
        written(name, "cpu" if backend == "cpu" else "cuda", backend),
    )
    return sum(itertools.starmap(count, zip(*both, strict=True)))


class Kernels:
    """What a launch adds to a long CUDA graph, and how far that is from the hardware."""

    version = "1"
    params = (common.GPU_BACKENDS, tuple(FORMS))
    param_names = ("backend", "form")
    setup_cache = staticmethod(measure)

    def track_time(self, measured, *params):
        """Seconds; a form is a function, the shape it is given, and the state of that."""
        return common.result_of(measured[("time", *params)])

    track_time.unit = "seconds"

    def track_copy_ratio(self, measured, *params):
        """Time over that of a copy of as many bytes, in the same state and rounds."""
        return common.result_of(measured[("copy_ratio", *params)])

    track_copy_ratio.unit = "time / copy time"


class Bytes:
    """All that is written, padding and residual too, must be what the reference writes."""

    version = "1"
    unit = "bytes"
    params = (CHECKED_BACKENDS, CHECKED)
    param_names = ("backend", "call")
    setup_cache = staticmethod(measure)

    def track_differing_bytes(self, measured, *params):
        """Bytes that differ from the reference's on the CPU: must be 0."""
        return common.result_of(measured[("bytes", *params)])
