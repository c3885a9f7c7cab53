"""How far a kernel is from the hardware: its time relative to a copy of the same bytes."""

from __future__ import annotations

from benchmarks import device_time, suite


class DistanceToCopy:
    """Kernel time over that of a device-to-device copy, cold, in the same rounds."""

    version = "1"
    unit = "time / copy time"

    def track_seed(self, measured, *params):
        """The seed's 30 configurations."""
        return suite.result_of(measured[("to_copy", *params)])

    track_seed.setup_cache = device_time.measure_seed
    track_seed.params = (device_time.BACKENDS, *suite.SEED_PARAMS)
    track_seed.param_names = ("backend", *suite.SEED_PARAM_NAMES)

    def track_serving(self, measured, *params):
        """Shapes of served models, from decoding to prefill."""
        return suite.result_of(measured[("to_copy", *params)])

    track_serving.setup_cache = device_time.measure_serving
    track_serving.params = (device_time.BACKENDS, *suite.SERVING_PARAMS)
    track_serving.param_names = ("backend", *suite.SERVING_PARAM_NAMES)
