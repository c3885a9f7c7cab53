"""Kernel time in three states of x: ``produced``, ``hot`` and ``cold``."""

from __future__ import annotations

import math
from functools import cached_property, partial
from itertools import cycle, islice
from typing import cast

import torch

import ptgq
from measure import clocks, timers
from measure.configurations import STATES
from measure.timers import Call, Timer
from measure.workloads import Workload

# Beside the backends' names: a copy of as many bytes, half read and half written.
COPY = "copy"
# How often the rotation's bytes fill the L2 cache when it must not serve them.
_L2_FILLS = 2
# The driver's copy is up to 1.5 x slower at sizes that are no multiple of its tiles. Below 1 MiB
# the launch is most of the time, so there sizes are left as they are.
_COPY_MULTIPLE = 64 * 1024
_COPY_ROUNDED_FROM = 1024 * 1024
# Calls of the two graphs that tell how long the others have to be.
_TRIAL = (20, 60)

# x, (q, s), and what a copy writes.
Buffers = tuple[torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor]


def l2_bytes() -> int:
    """Return the size of the L2 cache of the current CUDA device."""
    return torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size


def copy_elements(workload: Workload) -> int:
    """Return how many elements of x's dtype a copy of the workload's bytes reads, and writes."""
    half, itemsize = workload.bytes_moved / 2, workload.input_dtype.itemsize
    multiple = _COPY_MULTIPLE if half >= _COPY_ROUNDED_FROM else itemsize
    return math.ceil(half / multiple) * multiple // itemsize


class Kernels:
    """The kernels of one workload, and the copy of as many bytes, on the same buffers.

    Parameters
    ----------
    workload : Workload
        What is measured.
    lengths : tuple of int, optional
        Calls of the two graphs of every slope; by default chosen by the time of a copy, which does
        not depend on the commit that is measured.
    device : str
        The CUDA device; tests measure calls on the CPU by a clock of their own.
    """

    def __init__(
        self, workload: Workload, lengths: tuple[int, int] | None = None, device: str = "cuda"
    ):
        self.workload = workload
        self._device = device
        self._clock = clocks.clock_for(device)
        self.lengths = lengths or timers.lengths_for(self._about())

    def timer(self, name: str, state: str) -> Timer:
        """Return the timer of a backend's kernel, or of the COPY, in one of STATES."""
        if state == "produced":
            take = self._produced(name)
        elif state == "hot":
            take = self._slope([self._bind(name, *self._one[0])])
        elif state == "cold":
            take = self.cold([self._bind(name, *buffers) for buffers in self._rotation])
        else:
            raise ValueError(f"state must be one of {STATES}, got {state!r}")
        if name != COPY:
            return take
        copied = 2 * copy_elements(self.workload) * self.workload.input_dtype.itemsize
        share = self.workload.bytes_moved / copied
        return lambda: take() * share

    def cold(self, calls: list[Call]) -> Timer:
        """Time other calls, one after the other, when the L2 cache holds other data."""
        return self._slope(calls, before=self._flush)

    def _produced(self, name: str) -> Timer:
        both = self._slope([self._produce, self._bind(name, *self._one[0])], counted=2)
        alone = self._producer
        return lambda: both() - alone()

    def _slope(self, calls: list[Call], before: Call | None = None, counted: int = 1) -> Timer:
        """Go round `calls`, of which so many together are counted as one."""

        def of_length(length: int) -> list[Call]:
            return list(islice(cycle(calls), length * counted))

        return timers.slope_timer(of_length, self.lengths, self._clock, before)

    def _about(self, name: str = COPY) -> float:
        """Seconds of a hot copy, or of another one's call."""
        call = self._bind(name, *self._one[0])
        take = timers.slope_timer(lambda length: [call] * length, _TRIAL, self._clock)
        return max(1e-7, sorted(take() for _ in range(3))[1])

    def _bind(
        self,
        name: str,
        x: torch.Tensor,
        out: tuple[torch.Tensor, ...],
        copied: torch.Tensor,
    ) -> Call:
        if name != COPY:
            return self.workload.bind(x, backend=cast("ptgq.Backend", name), out=out)
        # Where scales take more than x, a copy reads more, too.
        within = copied.numel() <= self.workload.tokens * x.shape[-1]
        source = x.as_strided(copied.shape, (1,)) if within else torch.randn_like(copied)
        return partial(copied.copy_, source)

    def _buffers(self, sets: int) -> list[Buffers]:
        inputs = self.workload.make_input(self._device, copies=sets)
        outputs = (self.workload.make_output(self._device) for _ in range(sets))
        copied = inputs.new_empty(sets, copy_elements(self.workload))
        return list(zip(inputs, outputs, copied, strict=True))

    @cached_property
    def _one(self) -> list[Buffers]:
        return self._buffers(1)

    @cached_property
    def _rotation(self) -> list[Buffers]:
        """More than the L2 cache holds, or so many that a graph uses none twice."""
        fill = math.ceil(_L2_FILLS * l2_bytes() / self.workload.bytes_moved)
        return self._buffers(min(self.lengths[1], max(2, fill)))

    @cached_property
    def _produce(self) -> Call:
        # The values stay what they were.
        x = self._one[0][0]
        return partial(torch.mul, x / 2, 2, out=x)

    @cached_property
    def _producer(self) -> Timer:
        return self._slope([self._produce])

    @cached_property
    def _flush(self) -> Call:
        """A read of more than the L2 cache holds: what was written would be written back later."""
        elements = _L2_FILLS * l2_bytes() // 4
        return torch.zeros(elements, dtype=torch.int32, device=self._device).amax
