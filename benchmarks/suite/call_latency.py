"""How long a caller waits for one eager call, host and device together."""

from __future__ import annotations

import sys
import time

from . import common

# asv's forkserver imports the suite once and forks for each combination of parameters: what is
# imported there (CUDA is not initialized by it) no fork imports again. Elsewhere nothing is: every
# process would pay for it.
if sys.argv[1:2] == ["run_server"]:
    import ptgq  # noqa: F401


def synchronized_clock() -> float:
    """Return the time in seconds when the device has done what was asked of it so far."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


class CallLatency:
    """The seed's configurations on each backend, outputs allocated by the call."""

    version = "1"
    params = (common.BACKENDS, *common.SEED_PARAMS)
    param_names = ("backend", *common.SEED_PARAM_NAMES)
    timer = staticmethod(synchronized_clock)
    # A `setup` would run before every single call, outside the loop that is timed. So the first
    # call prepares, in the warm-up; with a given number it does not count for the calibration.
    number = 100
    warmup_time = 0.05
    repeat = (10, 10, 1.0)
    rounds = 1
    _call = None

    def time_call(self, backend, tokens, group, scale_format):
        """One call of the public function."""
        if self._call is None:
            self._call = self._prepare(backend, tokens, group, scale_format)
        self._call()

    def _prepare(self, backend, tokens, group, scale_format):
        workload = common.workload(tokens, common.SEED_HIDDEN[tokens], group, scale_format)

        def build():
            x = workload.make_input("cuda" if backend in ("cuda", "triton") else "cpu")
            return lambda: workload.call(x, backend=backend)

        call = common.prepared(common.missing(backend), build)
        if isinstance(call, common.NotAvailable):
            from asv_runner.benchmarks.mark import SkipNotImplemented

            raise SkipNotImplemented(call.reason)
        return call if callable(call) else common.result_of(call)
