"""Whether ptgq's numbers move where other implementations are measured beside it.

Samples of ptgq's calls, and on a GPU of its kernels, alone and alternating with those of every
implementation that is here, in turns; status 1 if a median differs by more than LIMIT.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import peers
import torch
from measure import against, clocks, timers
from measure.configurations import STATES
from measure.kernels import Kernels
from measure.workloads import Workload

LIMIT = 0.01
TURNS, SAMPLES, CALLS = 40, 3, 500
WORKLOAD = Workload(16, 512, 128)


def timers_of(device: str) -> dict[str, tuple[timers.Timer, list[timers.Timer]]]:
    """Return ptgq's timer, and the others', by what they time."""
    own: str = "cuda" if device == "cuda" else "cpu"
    others = [name for name in peers.NAMES if peers.lacks(name, WORKLOAD, device) is None]
    print(f"beside {', '.join(others)}", flush=True)
    x, clock = WORKLOAD.make_input(device), clocks.clock_for(device)

    def timer(call: Callable[[], object], number: int) -> timers.Timer:
        return timers.loop_timer(call, number, clock, against.warm(call))

    calls = [timer(peers.bind(name, WORKLOAD, x), 10) for name in others]
    found = {"call": (timer(WORKLOAD.bind(x, backend=own), CALLS), calls)}
    if device == "cuda":
        kernels = Kernels(WORKLOAD)
        beside = [(name, against.PeerKernels(WORKLOAD, name)) for name in others]
        for state in STATES:
            those = [one.timer(name, state) for name, one in beside]
            found[f"kernel, {state}"] = kernels.timer(own, state), those
    return found


def main() -> int:
    """Print each pair of medians; 0: they are the same."""
    moved = []
    for what, (own, others) in timers_of("cuda" if torch.cuda.is_available() else "cpu").items():
        timers.sample([own, *others], 1)
        alone, beside = [], []
        for turn in range(TURNS):
            # First one, then the other: a drift falls on both.
            for together in (turn % 2 == 0, turn % 2 == 1):
                several = [own, *others] if together else [own]
                taken = timers.sample(several, SAMPLES, warmup=0)[0]
                (beside if together else alone).extend(taken)
        medians = [1e6 * statistics.median(taken) for taken in (alone, beside)]
        change = medians[1] / medians[0] - 1
        moved.append(abs(change) > LIMIT)
        print(f"{what}: alone {medians[0]:.4g} µs, beside {medians[1]:.4g} µs, {change:+.2%}")
    return int(any(moved))


if __name__ == "__main__":
    sys.exit(main())
