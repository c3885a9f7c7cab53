"""Which is faster, CUDA or Triton: for the caller, and on the device."""

from __future__ import annotations

from . import call_time, common, device_time


class KernelRatio:
    """Kernel times of paired samples, taken alternating: below 1, CUDA is faster."""

    version = "1"
    unit = "cuda / triton"

    def track_default_shapes(self, measured, *params):
        """The 30 default configurations."""
        return common.result_of(measured[("cuda_vs_triton", *params)])

    track_default_shapes.setup_cache = device_time.measure_default_shapes
    track_default_shapes.params = (common.STATES, *common.DEFAULT_PARAMS)
    track_default_shapes.param_names = ("state", *common.DEFAULT_PARAM_NAMES)

    def track_serving_shapes(self, measured, *params):
        """Shapes of served models, from decoding to prefill: row-major float32, groups of 128."""
        return common.result_of(measured[("cuda_vs_triton", *params)])

    track_serving_shapes.setup_cache = device_time.measure_serving_shapes
    track_serving_shapes.params = (common.STATES, *common.SERVING_PARAMS)
    track_serving_shapes.param_names = ("state", *common.SERVING_PARAM_NAMES)

    def track_variants(self, measured, *params):
        """Formats of known consumers, small groups, INT8, the fused SiLU; hidden size 7168."""
        return common.result_of(measured[("cuda_vs_triton", *params)])

    track_variants.setup_cache = device_time.measure_variants
    track_variants.params = (common.STATES, *common.VARIANT_PARAMS)
    track_variants.param_names = ("state", *common.VARIANT_PARAM_NAMES)


class CallRatio:
    """Eager calls of paired samples, allocation included: below 1, CUDA is faster."""

    version = "1"
    unit = "cuda / triton"
    setup_cache = staticmethod(call_time.measure)
    params = common.DEFAULT_PARAMS
    param_names = common.DEFAULT_PARAM_NAMES

    def track_default_shapes(self, measured, *params):
        """The 30 default configurations."""
        return common.result_of(measured[("cuda_vs_triton", *params)])
