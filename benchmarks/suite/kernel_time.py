"""How long the kernel itself runs, with its data in the L2 cache (hot) or not (cold)."""

from __future__ import annotations

from . import common, device_time


class KernelTime:
    """CUDA-graph replay over rotating buffers: seconds a launch, without the host's time."""

    version = "1"
    unit = "seconds"

    def track_seed(self, measured, *params):
        """The seed's 30 configurations."""
        return common.result_of(measured[("kernel", *params)])

    track_seed.setup_cache = device_time.measure_seed
    track_seed.params = (device_time.BACKENDS, common.CACHES, *common.SEED_PARAMS)
    track_seed.param_names = ("backend", "cache", *common.SEED_PARAM_NAMES)

    def track_serving(self, measured, *params):
        """Shapes of served models, from decoding to prefill."""
        return common.result_of(measured[("kernel", *params)])

    track_serving.setup_cache = device_time.measure_serving
    track_serving.params = (device_time.BACKENDS, common.CACHES, *common.SERVING_PARAMS)
    track_serving.param_names = ("backend", "cache", *common.SERVING_PARAM_NAMES)
