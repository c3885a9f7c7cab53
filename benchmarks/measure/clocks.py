"""Clocks: a start, and the seconds since."""

from __future__ import annotations

import time
from typing import Protocol

import torch


class Clock(Protocol):
    """What timers need of a clock; tests inject one that they control."""

    def start(self) -> None:
        """Begin a measurement."""

    def stop(self) -> float:
        """Return the seconds since :meth:`start`, when all work begun since is done."""


class HostClock:
    """The host's monotonic clock: for CPU work."""

    def start(self) -> None:
        """Begin a measurement."""
        self._begin = time.perf_counter()

    def stop(self) -> float:
        """Return the seconds since :meth:`start`."""
        return time.perf_counter() - self._begin


class EventClock:
    """A pair of CUDA events on the current stream: from the first work begun to the last done."""

    def __init__(self) -> None:
        self._begin = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def start(self) -> None:
        """Wait until the device is idle, then begin a measurement."""
        torch.cuda.synchronize()
        self._begin.record()

    def stop(self) -> float:
        """Return the seconds since :meth:`start`, when the device is done."""
        self._end.record()
        self._end.synchronize()
        return self._begin.elapsed_time(self._end) * 1e-3


def clock_for(device: str) -> Clock:
    """Return the clock that sees the work of a device type."""
    return EventClock() if device == "cuda" else HostClock()
