"""How long a call takes, and a kernel: plain asv benchmarks, each row in processes of its own.

Nothing is prepared in ``setup``, which asv would run before every single call, but at first use,
which is asv's warm-up; so ``number`` is stated. torch is imported here, once for all rows that asv
forks, and CUDA is not started.

Environment variable: PTGQ_IMPORT_TORCH=0, where none of these rows is measured. asv forks a process
for each of thousands of rows, which takes three times as long with torch.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys

from asv_runner.benchmarks.mark import SkipNotImplemented

from . import common

# asv's discovery is a process that runs nothing.
if os.environ.get("PTGQ_IMPORT_TORCH") != "0" and sys.argv[1:2] != ["discover"]:
    importlib.import_module("torch")

# Calls of a graph: its launch, 15 to 20 us, is then 1 % of 2000 kernels of 1 us.
GRAPH_CALLS = 2000


@functools.cache
def prepared(what: str, backend: str, *key):
    """Return a call of one of the default configurations, or the replay of a graph of calls."""
    on_gpu = backend in common.GPU_BACKENDS
    # Half of the rows, which need not start CUDA to know it.
    beside_gpu = os.environ.get("PTGQ_MEASURED_DEVICE") == "cuda" or not common.no_device()
    if beside_gpu and not on_gpu:
        absent = common.NotAvailable("cpu_time measures the CPU of a machine with a GPU")
    else:
        absent = common.missing(backend)
    if absent:
        raise SkipNotImplemented(absent.reason)
    workload = common.default_workload(*key)
    x = workload.make_input("cuda" if on_gpu else "cpu")
    out = None if what == "call" else workload.make_output("cuda")
    call = workload.bind(x, backend=backend, out=out)
    try:
        call()
    except NotImplementedError as error:
        # PyTorch's, for an op that a commit has no code for.
        raise SkipNotImplemented(str(error).partition("\n")[0]) from None
    return call if what == "call" else common.measuring("timers").capture([call] * GRAPH_CALLS)


class GraphClock:
    """A clock for ``timeit``: the device's seconds, divided by the calls of a graph."""

    def __init__(self):
        self._seconds, self._begin = 0.0, None

    def __call__(self) -> float:
        """Return the seconds so far; those between two readings are of what ran between them."""
        if common.no_device():
            raise SkipNotImplemented(common.no_device().reason)
        import torch

        end = torch.cuda.Event(enable_timing=True)
        end.record()
        end.synchronize()
        if self._begin is not None:
            self._seconds += self._begin.elapsed_time(end) * 1e-3 / GRAPH_CALLS
        self._begin = torch.cuda.Event(enable_timing=True)
        self._begin.record()
        return self._seconds


class _DefaultShapes:
    version = "1"
    # One sample a process, which has a speed of its own. With fewer than eight a side asv's test
    # can't call a change significant; it alternates them: asv continuous BASE HEAD -f 1.02.
    rounds = 8
    repeat = 1
    warmup_time = 0.1
    timeout = 120


class Calls(_DefaultShapes):
    """Eager calls of the 30 default configurations, outputs allocated by the call."""

    number = 500
    params = (common.BACKENDS, *common.DEFAULT_PARAMS)
    param_names = ("backend", *common.DEFAULT_PARAM_NAMES)

    def time_default_shapes(self, *key):
        """A call of the public function."""
        prepared("call", *key)()


class Kernels(_DefaultShapes):
    """Kernels of the 30 default configurations in one long CUDA graph, hot."""

    number = 1
    timer = GraphClock()
    params = (common.GPU_BACKENDS, *common.DEFAULT_PARAMS)
    param_names = ("backend", *common.DEFAULT_PARAM_NAMES)

    def time_default_shapes(self, *key):
        """A replay, which the clock divides by the graph's calls."""
        prepared("kernel", *key)()
