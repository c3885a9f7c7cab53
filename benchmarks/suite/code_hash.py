"""Whether two commits have the same machine code: it has where the hashes are equal.

A hash is no amount: asv looks for no regressions among these (``asv.conf.json``).
"""

from __future__ import annotations

from . import common, footprint


def _result(value: object) -> object:
    return common.result_of(value["code"] if isinstance(value, dict) else value)


class CudaKernels:
    """The CUDA kernels of the built library, by family."""

    version = "1"
    unit = "hash"
    params = footprint.Kernels.params
    param_names = footprint.Kernels.param_names
    setup_cache = staticmethod(footprint.library_kernels)

    def track_hash(self, results, *key):
        """Instructions, registers, stack and shared memory of all its kernels."""
        return _result(results[key])


class TritonKernels:
    """The Triton kernels, compiled for an architecture without a device of it."""

    version = "1"
    unit = "hash"
    params = footprint.TritonKernels.params
    param_names = footprint.TritonKernels.param_names
    setup_cache = staticmethod(footprint.triton_kernels)

    def track_hash(self, results, *key):
        """Instructions, registers, stack and shared memory."""
        return _result(results[key])
