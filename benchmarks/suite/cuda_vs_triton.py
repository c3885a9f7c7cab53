"""Which is faster, CUDA or Triton: for the caller, and on the device."""

from __future__ import annotations

from . import common, device_time


class CudaVsTriton:
    """Time ratios of paired samples, taken alternating: below 1, CUDA is faster."""

    version = "1"
    unit = "cuda / triton"
    setup_cache = staticmethod(device_time.measure_seed)
    params = common.SEED_PARAMS
    param_names = common.SEED_PARAM_NAMES

    def track_call_ratio(self, measured, *params):
        """Eager calls, allocation included: host and device."""
        return common.result_of(measured[("call_ratio", *params)])

    def track_kernel_ratio(self, measured, *params):
        """Kernels alone, cold."""
        return common.result_of(measured[("kernel_ratio", *params)])
