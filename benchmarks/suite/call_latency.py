"""How long a caller waits for one eager call, host and device together."""

from __future__ import annotations

from . import common, device_time


class CallLatency:
    """The seed's configurations on each backend, outputs allocated by the call."""

    # A ``time_`` benchmark times in a process a configuration, and processes differ by more than
    # commits do. These samples, in the form that ``time_`` returns, alternate in one process.
    version = "2"
    unit = "seconds"
    setup_cache = staticmethod(device_time.measure_seed)
    params = (common.BACKENDS, *common.SEED_PARAMS)
    param_names = ("backend", *common.SEED_PARAM_NAMES)

    def track_call(self, measured, *params):
        """One call of the public function."""
        return common.result_of(measured[("call", *params)])
