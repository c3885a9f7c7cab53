"""How far a kernel is from the hardware: its time relative to a copy of the same bytes."""

from __future__ import annotations

from . import common, device_time


class DistanceToCopy:
    """Kernel time over that of a device-to-device copy, cold, in the same rounds."""

    version = "1"
    unit = "time / copy time"

    def track_seed(self, measured, *params):
        """The seed's 30 configurations."""
        return common.result_of(measured[("to_copy", *params)])

    track_seed.setup_cache = device_time.measure_seed
    track_seed.params = (device_time.BACKENDS, *common.SEED_PARAMS)
    track_seed.param_names = ("backend", *common.SEED_PARAM_NAMES)

    def track_serving(self, measured, *params):
        """Shapes of served models, from decoding to prefill."""
        return common.result_of(measured[("to_copy", *params)])

    track_serving.setup_cache = device_time.measure_serving
    track_serving.params = (device_time.BACKENDS, *common.SERVING_PARAMS)
    track_serving.param_names = ("backend", *common.SERVING_PARAM_NAMES)
