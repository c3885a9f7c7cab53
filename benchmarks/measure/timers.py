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


def replay_timer(calls: Sequence[Call], clock: Clock, before: Call | None = None) -> Timer:
    """Capture the calls in one CUDA graph and time its replay: the kernels without the host.

    The calls are alike: the first runs before the capture, so that nothing is compiled within it.
    `before` runs ahead of each replay and is not timed.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        calls[0]()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()

    def sample() -> float:
        if before is not None:
            before()
        clock.start()
        graph.replay()
        return clock.stop() / len(calls)

    return sample


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
