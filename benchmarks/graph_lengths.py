"""Whether kernel times depend on how long the graphs are: they may not, by 1 %.

For each kernel family, backend and state, the slopes between graphs of 500, 1000 and 2000 calls,
and between the lengths that the suite chooses. Status 1 if one is off by more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from measure import timers
from measure.configurations import STATES
from measure.kernels import COPY, Kernels
from measure.workloads import Workload

PAIRS = ((500, 1000), (1000, 2000), (500, 2000), None)
SAMPLES = 21
LARGEST = 0.01
FAMILIES = {
    "64 x 256": Workload(64, 256, 128),
    "128 x 7168": Workload(128, 7168, 128),
    "1024 x 7168": Workload(1024, 7168, 128),
    "columns": Workload(128, 7168, 64, scales="column_float32"),
    "TMA-aligned, packed": Workload(128, 7168, 128, scales="tma_packed"),
    "INT8": Workload(128, 7168, 128, "int8"),
    "SiLU 128 x 2048": Workload(128, 2048, 128, silu_and_mul=True),
    "SiLU 128 x 7168": Workload(128, 7168, 128, silu_and_mul=True),
    "SiLU 1024 x 7168": Workload(1024, 7168, 128, silu_and_mul=True),
}


def slopes(workload: Workload, name: str, state: str) -> list[float]:
    """Return the time of a call by each pair of lengths, in seconds."""
    take = [Kernels(workload, lengths).timer(name, state) for lengths in PAIRS]
    return [statistics.median(samples) for samples in timers.sample(take, SAMPLES)]


def off(found: Sequence[float]) -> float:
    """Return how far the worst lies from the others' median, relative to it."""
    middle = statistics.median(found)
    return max(abs(value - middle) for value in found) / middle


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row each; 1 if one is off by more than LARGEST, 2: no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, action="append", help="by default all")
    parser.add_argument("--backend", choices=("cuda", "triton", COPY), action="append")
    parser.add_argument("--state", choices=STATES, action="append")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.exit(2, "graph_lengths: error: no CUDA device is visible\n")
    wrong, begin = 0, time.monotonic()
    titles = ["500-1000", "1000-2000", "500-2000", "chosen"]
    print(f"{'us a call':44}", *(f"{title:>9}" for title in titles), "     off")
    for family in options.family or FAMILIES:
        for name in options.backend or ("cuda", "triton", COPY):
            for state in options.state or STATES:
                found = slopes(FAMILIES[family], name, state)
                wrong += off(found) > LARGEST
                times = " ".join(f"{seconds * 1e6:9.3f}" for seconds in found)
                print(f"{f'{family}, {name}, {state}':44} {times} {off(found):7.2%}", flush=True)
    print(f"{wrong} off by more than {LARGEST:.0%}; {time.monotonic() - begin:.0f} s")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
