"""How far a kernel is from the hardware: its time relative to a copy of the same bytes."""

from __future__ import annotations

from . import common, device_time


class DistanceToCopy:
    """Kernel time over that of a device-to-device copy, in the same state and rounds."""

    version = "1"
    unit = "time / copy time"

    def track_default_shapes(self, measured, *params):
        """The 30 default configurations."""
        return common.result_of(measured[("copy_distance", *params)])

    track_default_shapes.setup_cache = device_time.measure_default_shapes
    track_default_shapes.params = (common.GPU_BACKENDS, common.STATES, *common.DEFAULT_PARAMS)
    track_default_shapes.param_names = ("backend", "state", *common.DEFAULT_PARAM_NAMES)

    def track_serving_shapes(self, measured, *params):
        """Shapes of served models, from decoding to prefill: row-major float32, groups of 128."""
        return common.result_of(measured[("copy_distance", *params)])

    track_serving_shapes.setup_cache = device_time.measure_serving_shapes
    track_serving_shapes.params = (common.GPU_BACKENDS, common.STATES, *common.SERVING_PARAMS)
    track_serving_shapes.param_names = ("backend", "state", *common.SERVING_PARAM_NAMES)

    def track_variants(self, measured, *params):
        """Formats of known consumers, small groups, INT8, the fused SiLU; hidden size 7168."""
        return common.result_of(measured[("copy_distance", *params)])

    track_variants.setup_cache = device_time.measure_variants
    track_variants.params = (common.GPU_BACKENDS, common.STATES, *common.VARIANT_PARAMS)
    track_variants.param_names = ("backend", "state", *common.VARIANT_PARAM_NAMES)
