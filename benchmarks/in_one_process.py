"""Runs benchmarks of ``suite/`` in one process: a round of ``nox -s compare``.

asv forks a process for each combination of parameters; here the clock decides, and all of a round
takes one. ``tracking/rounds.py`` starts it, with the commit under test in PYTHONPATH::

    python in_one_process.py FOLDER_OF_THE_COMMIT < '{"benchmark": [indices of combinations]}'

It answers ``ready`` when it has imported what it needs, waits for a line (its turn), and answers
with the results: samples, a number, or null for a failure. What is n/a is left out.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from asv_runner.benchmarks.mark import SkipNotImplemented
from asv_runner.discovery import disc_benchmarks

# Samples of one process. Its speed is its own, so rounds count for more than samples; but calls in
# many short ones, each beside PyTorch's, as the host's speed changes within a process, too.
SAMPLES = 9
CALL_SAMPLES, CALL_SECONDS = 30, 5e-4
# Graphs half as long as the record's are captured in half the time. They say 1 to 2 % less of the
# smallest cold kernels, of both commits alike.
GRAPH_SECONDS, GRAPH_CALLS = 0.4e-3, 500


def start(folder: str) -> None:
    """Import what measuring takes, start CUDA, and check that `folder` is what is measured."""
    import torch

    import ptgq

    if Path(folder).resolve() not in Path(ptgq.__file__).resolve().parents:
        raise RuntimeError(f"ptgq is {ptgq.__file__}, not the commit in {folder}")
    if find_spec("triton"):
        import_module("triton")
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")


def restrict(benchmarks: dict, wanted: dict[str, list[int]]) -> None:
    """Take few samples, and measure nothing that no wanted row has."""
    common, call_time, cpu_time, device_time = (
        import_module(f"suite.{name}")
        for name in ("common", "call_time", "cpu_time", "device_time")
    )
    cpu_time.REPEAT = device_time.REPEAT = SAMPLES
    call_time.REPEAT, common.SAMPLE_SECONDS = CALL_SAMPLES, CALL_SECONDS
    timers = common.measuring("timers")
    timers.SHORT_SECONDS, timers.MOST = GRAPH_SECONDS, GRAPH_CALLS
    call_time.WANTED, device_time.WANTED = set(), set()
    call_time.BESIDE = {kind for name in wanted for kind in call_time.BESIDE if kind in name}
    for name, indices in wanted.items():
        file, kind, method = name.split(".")
        family = method.removeprefix("track_")
        combinations = list(itertools.product(*benchmarks[name]._params))
        for index in indices:
            row = combinations[index]
            if file == "call_latency":
                call_time.WANTED.add((family, *row))
            elif kind == "CallRatio":
                call_time.WANTED |= {(family, backend, *row) for backend in common.GPU_BACKENDS}
            elif file == "cuda_vs_triton":
                device_time.WANTED |= {(family, backend, *row) for backend in common.GPU_BACKENDS}
            elif file in ("kernel_time", "copy_distance"):
                device_time.WANTED.add((family, *row))
                if file == "copy_distance":
                    device_time.WANTED.add((family, "copy", *row[1:]))


def attempt(call: Callable[[], object]) -> object:
    """Return what a benchmark does, NaN for n/a, or None with a word on stderr if it fails."""
    try:
        return call()
    except SkipNotImplemented:
        return math.nan
    except Exception:
        traceback.print_exc()
        return None


def run(benchmark, indices: list[int], caches: dict) -> dict[int, object]:
    """Run the wanted combinations of a benchmark, as asv_runner does."""
    key = benchmark.setup_cache_key
    if key is not None and key not in caches:
        caches[key] = attempt(benchmark.do_setup_cache)
    found: dict[int, object] = {}
    for index in indices:
        if key is not None and caches[key] is None:
            found[index] = None
            continue
        benchmark.set_param_idx(index) if benchmark._params else None
        benchmark.set_cache(caches.get(key))
        value = attempt(benchmark.do_run)
        value = value["samples"] if isinstance(value, dict) else value
        if not (isinstance(value, float) and math.isnan(value)):
            found[index] = value
    return found


def main(folder: str) -> None:
    """Start, wait for the turn, measure."""
    # What benchmarks print is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    wanted = json.loads(sys.stdin.readline())
    start(folder)
    suite = str(Path(__file__).with_name("suite"))
    benchmarks = {benchmark.name: benchmark for benchmark in disc_benchmarks(suite)}
    restrict(benchmarks, wanted)
    # As timeit does.
    gc.disable()
    print("ready", file=answers, flush=True)
    if sys.stdin.readline():
        caches: dict = {}
        json.dump({n: run(benchmarks[n], i, caches) for n, i in wanted.items()}, answers)
        answers.flush()
        # The next process waits until this one has ended, and no module has to tidy up.
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
