"""Measures the rows of ``limits`` that judge weights in blocks."""

from __future__ import annotations

from functools import partial

import torch
from limits_measure import Values, loop, median_ratio, rounds
from measure import clocks, timers

import ptgq

DEVICE = "cuda"
BACKENDS = ("cuda", "triton")
# A projection, and a layer's experts.
WEIGHTS = {"7168 × 7168": (7168, 7168), "256 × 2048 × 7168": (256, 2048, 7168)}
# The driver's copy is slower at other sizes, see measure.kernels.
COPY_MULTIPLE = 64 * 1024
# Calls of the two graphs that tell how long the others have to be; each reads and writes more than
# the L2 cache holds.
TRIAL = (2, 6)
SMALL = (16, 512)


def weight(shape: tuple[int, ...]) -> torch.Tensor:
    """Return random numbers."""
    generator = torch.Generator(DEVICE).manual_seed(42)
    return torch.empty(shape, dtype=torch.bfloat16, device=DEVICE).normal_(generator=generator)


def checked(w: torch.Tensor, backend: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return results, of which the last matrix has the reference's bytes."""
    results = ptgq.per_block_quant_fp8(w, backend=backend)
    last = tuple(t.view(-1, *t.shape[-2:])[-1] for t in (w, *results))
    expected = ptgq.per_block_quant_fp8(last[0], backend="reference")
    for one, other in zip(last[1:], expected, strict=True):
        if not torch.equal(one.view(torch.uint8), other.view(torch.uint8)):
            raise RuntimeError(f"{backend} does not give the reference's bytes of {tuple(w.shape)}")
    return results


def slope(call: timers.Call, lengths: tuple[int, int]) -> timers.Timer:
    """Time a call as a kernel."""
    return timers.slope_timer(lambda n: [call] * n, lengths, clocks.clock_for(DEVICE))


def blocks(available: list[str]) -> Values:
    """Kernels of weights in blocks of 128 x 128, cold, relative to a copy of as many bytes."""
    found = {}
    backends = [backend for backend in BACKENDS if backend in available]
    for name, shape in WEIGHTS.items():
        w = weight(shape)
        outs = {backend: checked(w, backend) for backend in backends}
        moved = sum(t.nbytes for t in (w, *outs[backends[0]]))
        half = -(-moved // 2 // COPY_MULTIPLE) * COPY_MULTIPLE
        source, copied = torch.ones(2, half, dtype=torch.uint8, device=DEVICE)
        calls = [partial(copied.copy_, source)]
        calls += [
            partial(ptgq.per_block_quant_fp8, w, out=out, backend=backend)
            for backend, out in outs.items()
        ]
        lengths = timers.lengths_for(max(1e-7, slope(calls[0], TRIAL)()))
        slopes = [slope(call, lengths) for call in calls]
        copy, *times = rounds(slopes)
        for backend, samples in zip(backends, times, strict=True):
            key = "blocks_triton" if backend == "triton" else "blocks"
            ratio = median_ratio(samples, copy) * 2 * half / moved
            found.setdefault(key, {})[name] = ratio
    return found


def block_calls(available: list[str]) -> Values:
    """Eager calls, relative to ``torch.abs`` of their weight."""
    w = weight(SMALL)
    out = ptgq.per_block_quant_fp8(w)
    given = {"allocating": {}, "out=": {"out": out}}
    backend = BACKENDS[0]
    timed = [partial(ptgq.per_block_quant_fp8, w, backend=backend, **g) for g in given.values()]
    yardstick, *samples = rounds([loop(call) for call in (partial(torch.abs, w), *timed)])
    ratios = (median_ratio(times, yardstick) for times in samples)
    return {"call_blocks": dict(zip(given, ratios, strict=True))}
