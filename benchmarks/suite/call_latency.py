"""How long a caller waits for one eager call, host and device together."""

from __future__ import annotations

from . import call_time, common


class CallLatency:
    """Seconds a call. They differ between processes by half."""

    # A ``time_`` benchmark times each combination in a process of its own. These samples, in the
    # form that ``time_`` returns, alternate in one.
    version = "1"
    unit = "seconds"
    setup_cache = staticmethod(call_time.measure)
    # The part of call_time's results that a class reads.
    which = "call"

    def track_default_shapes(self, measured, *params):
        """The 30 default configurations, outputs allocated by the call."""
        return common.result_of(measured[(self.which, "default_shapes", *params)])

    track_default_shapes.params = (common.BACKENDS, *common.DEFAULT_PARAMS)
    track_default_shapes.param_names = ("backend", *common.DEFAULT_PARAM_NAMES)

    def track_functions(self, measured, *params):
        """Every function and format, of 16 × 512, with and without ``out=``."""
        return common.result_of(measured[(self.which, "functions", *params)])

    track_functions.params = call_time.FUNCTION_PARAMS
    track_functions.param_names = call_time.FUNCTION_PARAM_NAMES


class RelativeToAbs(CallLatency):
    """Time over that of ``torch.abs(x)``, of the same process, sample by sample."""

    unit = "time / torch.abs time"
    which = "RelativeToAbs"


class RelativeToTorch(CallLatency):
    """Time over that of ``torch.abs(x)`` and two ``torch.empty_like(x)``: what compare judges.

    Of the same process, sample by sample; a host that is slower for a while moves both alike.
    """

    unit = "time / torch time"
    which = "RelativeToTorch"
