"""Buffers to rotate over, and a flush: whether the data of a measurement lay in the L2 cache."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

import ptgq
from measure.workloads import Workload

CACHES = ("cold", "hot")
# How often the rotation's bytes fill the L2 cache when it must not serve them.
_L2_FILLS = 2
# The driver's copy is up to 1.5 x slower at sizes that are no multiple of its tiles. Below 1 MiB
# the launch is most of the time, so there sizes are left as they are.
_COPY_MULTIPLE = 64 * 1024
_COPY_ROUNDED_FROM = 1024 * 1024
# A graph of at least so many calls hides its own launch; of more than that, capturing takes long.
_MIN_CALLS = 20
_MAX_CALLS = 256


def _l2_bytes() -> int:
    return torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size


def copies_for(bytes_moved: int, cache: str) -> int:
    """Return how many buffer sets a rotation has: one (hot), or more than fit in L2 (cold).

    Of small ones it has fewer than that: none is used twice in a round, and :func:`flush_for`
    clears the cache before each.
    """
    if cache not in CACHES:
        raise ValueError(f"cache must be one of {CACHES}, got {cache!r}")
    if cache == "hot":
        return 1
    return min(_MAX_CALLS, max(2, math.ceil(_L2_FILLS * _l2_bytes() / bytes_moved)))


def flush_for(cache: str) -> Callable[[], object] | None:
    """Return what to run before each round: a read of more than L2 holds (cold), or nothing.

    A read, because lines that a write leaves would have to be written back during the round.
    """
    if cache not in CACHES:
        raise ValueError(f"cache must be one of {CACHES}, got {cache!r}")
    if cache == "hot":
        return None
    other_data = torch.zeros(_L2_FILLS * _l2_bytes() // 4, dtype=torch.int32, device="cuda")
    return other_data.amax


def _rotate(calls: list[Callable[[], object]]) -> list[Callable[[], object]]:
    return calls * math.ceil(_MIN_CALLS / len(calls))


def workload_calls(
    workload: Workload, backend: ptgq.Backend, cache: str
) -> list[Callable[[], object]]:
    """Return calls of `backend` on the current CUDA device, each on the rotation's next buffers."""
    copies = copies_for(workload.bytes_moved, cache)
    inputs = workload.make_input("cuda", copies=copies)

    def bind(x: torch.Tensor, out: tuple[torch.Tensor, torch.Tensor]) -> Callable[[], object]:
        return lambda: workload.call(x, backend=backend, out=out)

    return _rotate([bind(x, workload.make_output("cuda")) for x in inputs])


def copy_calls(bytes_moved: int, cache: str) -> tuple[list[Callable[[], object]], float]:
    """Return device-to-device copies that move `bytes_moved`, half read and half written.

    Returns
    -------
    calls : list of callable
        Each copies the rotation's next buffer; from 1 MiB its size is a multiple of 64 KiB.
    share : float
        By which a measured time is multiplied, to be that of `bytes_moved`.
    """
    half = bytes_moved / 2
    multiple = _COPY_MULTIPLE if half >= _COPY_ROUNDED_FROM else 1
    size = math.ceil(half / multiple) * multiple
    copies = copies_for(2 * size, cache)
    source = torch.randint(0, 255, (copies, size), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def bind(into: torch.Tensor, out_of: torch.Tensor) -> Callable[[], object]:
        return lambda: into.copy_(out_of)

    return _rotate([bind(into, out_of) for into, out_of in zip(target, source, strict=True)]), (
        half / size
    )
