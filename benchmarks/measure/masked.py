"""Masked rows of a mixture of experts, beside what they are judged by.

That is the same kernel on a matrix of as many rows, and a memset of the other rows' scales.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import peers
import torch

import ptgq
from measure import clocks, timers
from measure.calls import public_function
from measure.configurations import MASKED_SHAPE
from measure.timers import Call, Timer
from measure.workloads import Workload
from ptgq.scales import empty_scales, scale_shape

(EXPERTS, TOKENS, HIDDEN), GROUP_SIZE = MASKED_SHAPE, 128
_TRIAL = (20, 60)  # calls of the two graphs that tell how long the others have to be
# Counts of TOKENS, by the names of measure.configurations.MASKED.
COUNTS: dict[str, Callable[[torch.Generator], torch.Tensor]] = {
    "routed": lambda seeded: torch.randint(0, 65, (EXPERTS,), generator=seeded),
    "full": lambda seeded: torch.full((EXPERTS,), TOKENS),
    "empty": lambda seeded: torch.zeros(EXPERTS, dtype=torch.int64),
}


class MaskedRows:
    """Calls of ``[EXPERTS, TOKENS, HIDDEN]`` with one of COUNTS, as DeepGEMM reads them on Hopper.

    Raises
    ------
    NotImplementedError
        If the installed ptgq has no masked rows.
    """

    def __init__(self, counts: str, silu: bool, device: str = "cuda", tokens: int = TOKENS):
        self._function = public_function("silu" if silu else "fp8", "masked_m")
        self._silu, self._device = silu, device
        masked_m = COUNTS[counts](torch.Generator().manual_seed(42)).clamp(max=tokens)
        self.rows = int(masked_m.sum())
        self._masked_m = masked_m.int().to(device)
        x = torch.randn(EXPERTS, tokens, HIDDEN * (2 if silu else 1), device=device)
        self._x = x.mul_(8).to(torch.bfloat16)
        dead = EXPERTS * tokens - self.rows
        self._scales = torch.empty(dead, HIDDEN // GROUP_SIZE, device=device)

    def masked(self, backend: str) -> Call:
        """Return the call whose rows are masked."""
        f = ptgq.ScaleFormat.deep_gemm_hopper(per_batch=True)
        return self._call(self._x, f, backend, masked_m=self._masked_m)

    def flat(self, backend: str) -> Call:
        """Return the call of a matrix of as many rows."""
        f = ptgq.ScaleFormat.deep_gemm_hopper()
        return self._call(self._x.view(-1, self._x.shape[-1])[: self.rows], f, backend)

    def peer(self, name: str) -> Call:
        """Return the same call of another implementation."""
        return peers.bind_masked_into(name, self._silu, self._x, self._masked_m, self._marked())

    def of_peer(self, name: str) -> tuple[torch.Tensor, ...]:
        """Return the results of one call of it; what it does not write is NaN."""
        out = self._marked()
        returned = peers.bind_masked(name, self._silu, self._x, self._masked_m, out)()
        return out if peers.module(name).OUT else cast(tuple[torch.Tensor, ...], returned)

    def own(self, backend: str) -> tuple[torch.Tensor, ...]:
        """Return the results of one call of a backend, likewise."""
        out, f = self._marked(), ptgq.ScaleFormat.deep_gemm_hopper(per_batch=True)
        options = {"scale_format": f, "backend": backend, "masked_m": self._masked_m, "out": out}
        self._function(self._x, GROUP_SIZE, **options)
        return out

    def existing(
        self, result: tuple[torch.Tensor, ...]
    ) -> tuple[Workload, torch.Tensor, tuple[torch.Tensor, ...]]:
        """Return the rows that exist as a workload, its x, and their results.

        Raises
        ------
        ValueError
            If results have another shape, dtype or layout of scales than is measured.
        """
        for given, wanted, what in zip(result, self._marked(), "qs", strict=True):
            kinds = [(one.shape, one.dtype, one.stride()) for one in (given, wanted)]
            if kinds[0] != kinds[1]:
                raise ValueError(f"{what} is {kinds[0]}, not {kinds[1]}")
        row = torch.arange(self._x.shape[1], device=self._device)
        exist = row < self._masked_m.unsqueeze(-1)
        # By bytes: not every type is indexed.
        q = result[0].view(torch.uint8)[exist].view(result[0].dtype)
        workload = Workload(self.rows, HIDDEN, GROUP_SIZE, silu_and_mul=self._silu)
        return workload, self._x[exist], (q, result[1][exist])

    def _marked(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tensors for results, all of whose elements are NaN."""
        f = ptgq.ScaleFormat.deep_gemm_hopper(per_batch=True)
        shape = (*self._x.shape[:-1], HIDDEN)
        q = torch.full(shape, 0x7F, dtype=torch.uint8, device=self._device)
        s = empty_scales(scale_shape(shape, GROUP_SIZE, f), f, self._device).fill_(torch.nan)
        return q.view(torch.float8_e4m3fn), s

    def memset(self) -> Call:
        """Return the memset of the scales of the rows that don't exist."""
        return self._scales.zero_

    def _call(
        self, x: torch.Tensor, f: ptgq.ScaleFormat, backend: str, **options: torch.Tensor
    ) -> Call:
        named = {"scale_format": f, "backend": backend, **options}
        call = partial(self._function, x, GROUP_SIZE, **named)
        return partial(call, out=call())

    def timer(self, call: Call) -> Timer:
        """Return the timer of a call, one after the other: hot, as far as the L2 cache holds it."""
        clock = clocks.clock_for(self._device)
        trial = timers.slope_timer(lambda length: [call] * length, _TRIAL, clock)
        about = max(1e-7, sorted(trial() for _ in range(3))[1])
        lengths = timers.lengths_for(about)
        return timers.slope_timer(lambda length: [call] * length, lengths, clock)

    def timers(self, backend: str) -> list[Timer]:
        """Return the timers of what is judged, and of the parts of its yardstick."""
        parts = [self.masked(backend)]
        parts += [self.flat(backend)] if self.rows else []
        parts += [self.memset()] if len(self._scales) else []
        return [self.timer(part) for part in parts]
