"""Timers: a callable without arguments that returns one sample, in seconds a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from measure.clocks import Clock

Call = Callable[[], object]
Timer = Callable[[], float]


def loop_timer(call: Call, number: int, clock: Clock, before: Call | None = None) -> Timer:
    """Time `number` eager calls: the latency that a caller sees, host and device together.

    `before` runs ahead of each sample and is not timed.
    """

    def sample() -> float:
        if before is not None:
            before()
        clock.start()
        for _ in range(number):
            call()
        return clock.stop() / number

    return sample


def capture(calls: Sequence[Call]) -> Call:
    """Capture the calls in one CUDA graph, and return its replay.

    They are alike, or alternate between two that are: the first two run before the capture, so that
    nothing is compiled within it.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
        torch.cuda.synchronize()
        # Not torch.cuda.graph, which empties torch's caches each time.
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            for call in calls:
                call()
        finally:
            graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    # What the graph reads and writes lives as long as it does.
    kept = graph, calls
    return lambda: kept[0].replay()


def slope_timer(
    calls: Callable[[int], Sequence[Call]],
    lengths: tuple[int, int],
    clock: Clock,
    before: Call | None = None,
) -> Timer:
    """Time calls as kernels: what each adds to a CUDA graph, between a short and a long graph.

    So neither the graph's own launch is in it nor the start of the chain, where kernels that begin
    before the one ahead is done are faster, or slower, than later.

    Parameters
    ----------
    calls : callable
        Returns what is captured in a graph of so many calls; what is counted as one call may be
        several of Python's.
    lengths : tuple of int
        Calls of the short and of the long graph, see :func:`lengths_for`.
    clock : Clock
        Sees the device's work.
    before : callable, optional
        Runs ahead of each replay and is not timed.
    """
    replays = [capture(calls(length)) for length in lengths]

    def seconds(replay: Call) -> float:
        if before is not None:
            before()
        clock.start()
        replay()
        return clock.stop()

    def sample() -> float:
        short, long = map(seconds, replays)
        return (long - short) / (lengths[1] - lengths[0])

    return sample


# A launch of a graph takes 15 to 20 us and varies by some of them: little in what lies between a
# graph of this and one of three times as long. And a chain of small kernels needs some hundreds
# of them until it takes as long as it will.
SHORT_SECONDS = 0.8e-3
LEAST, MOST = 4, 600


def lengths_for(seconds: float) -> tuple[int, int]:
    """Return how many calls of about `seconds` the two graphs of a slope have."""
    short = min(MOST, max(LEAST, round(SHORT_SECONDS / seconds)))
    return short, 3 * short


def sample(timers: Sequence[Timer], repeat: int, warmup: int = 1) -> list[list[float]]:
    """Take `repeat` samples of each timer, alternating, after `warmup` rounds that are not kept.

    Alternation lets a drift of the machine (clocks, heat) fall on all timers alike.

    Returns
    -------
    list of list of float
        For each timer its samples, in seconds a call; samples of one index were taken in one round.
    """
    for _ in range(warmup):
        for timer in timers:
            timer()
    rounds = [[timer() for timer in timers] for _ in range(repeat)]
    return [list(samples) for samples in zip(*rounds, strict=True)]
