"""What a layer gains: the kernel before, the op, and an FP8 GEMM (1 x 128), in one CUDA graph.

The time of a layer with each implementation, as slopes of long graphs, sample by sample
alternating, and its ratio to that with ptgq's CUDA op.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

# Other implementations look for their own packages: peers and measure are this folder's.
sys.path.insert(0, str(Path(__file__).parent))

import peers
import torch
from measure.clocks import EventClock
from measure.timers import Call, Timer, lengths_for, sample, slope_timer
from measure.workloads import Workload

OWN = ("cuda", "triton")
TOKENS, HIDDEN, WIDTH = (16, 128, 1024), 7168, 2048
# The weights of so many layers are more than an L2 cache holds.
LAYERS = 12
SAMPLES = 15


def one(workload: Workload, name: str) -> Call:
    """Return a layer: x is written, quantized, and multiplied with the layer's own weights."""
    ahead = workload.make_input("cuda")
    x, (q, s) = workload.empty_input("cuda"), workload.make_output("cuda")
    weights = Workload(WIDTH, HIDDEN, 128, scales="column_float32")
    w, w_s = weights.call(weights.make_input("cuda"), backend="cuda")
    if name in OWN:
        quantize = workload.bind(x, backend=name, out=(q, s))
    else:
        quantize = peers.bind_into(name, workload, x, (q, s))

    def layer() -> None:
        torch.mul(ahead, 2, out=x)
        quantize()
        torch._scaled_mm(q, w.t(), s, w_s.t(), out_dtype=torch.bfloat16)

    return layer


def timer_of(workload: Workload, name: str) -> Timer:
    """Return what samples the seconds of a layer."""
    layers = [one(workload, name) for _ in range(LAYERS)]
    layers[0]()

    def calls(count: int) -> list[Call]:
        return list(islice(cycle(layers), count))

    # Its weights are read in 4 us, and three kernels launched.
    return slope_timer(calls, lengths_for(10e-6), EventClock())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="layer", description=__doc__)
    parser.add_argument(
        "--against", action="append", default=[], choices=peers.NAMES, metavar="NAME"
    )
    names = [*OWN, *parser.parse_args(arguments).against]
    if not torch.cuda.is_available():
        print("layer: error: no CUDA device is visible", file=sys.stderr)
        return 2
    print(f"us a layer, {HIDDEN} -> {WIDTH}: median [quartiles], x the first")
    print("tokens", *(f"{name:>28}" for name in names))
    for tokens in TOKENS:
        workload = Workload(tokens, HIDDEN, 128, scales="column_float32")
        for name in names[len(OWN) :]:
            if reason := peers.lacks(name, workload, "cuda"):
                print(f"layer: error: {name}: {reason}", file=sys.stderr)
                return 2
        taken = sample([timer_of(workload, name) for name in names], SAMPLES)
        cells = []
        for times in taken:
            low, middle, high = (1e6 * t for t in statistics.quantiles(times, n=4))
            ratio = statistics.median(t / own for t, own in zip(times, taken[0], strict=True))
            cells.append(f"{middle:8.2f} [{low:.2f}, {high:.2f}] {ratio:.3f}")
        print(f"{tokens:6}", *(f"{cell:>28}" for cell in cells), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
