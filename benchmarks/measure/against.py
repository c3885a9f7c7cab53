"""How fast other implementations are, and how near to the numerics contract."""

from __future__ import annotations

import time
from dataclasses import dataclass

import peers
import torch
from torch.nn import functional

from measure import timers
from measure.kernels import Kernels
from measure.timers import Call
from measure.workloads import Workload
from ptgq import ScaleFormat
from ptgq.scales import convert, to_float32

Result = tuple[torch.Tensor, ...]


# Calls ahead of each sample take so long, untimed: another implementation has filled the caches.
WARM_SECONDS = 1e-3


def warm(call: Call) -> Call:
    """Return what runs ahead of each sample of `call`, so that it is as if it was alone."""

    def several() -> None:
        begin = time.perf_counter()
        while time.perf_counter() < begin + WARM_SECONDS:
            call()

    return several


@dataclass(frozen=True)
class Exactness:
    """How results differ from the contract's: other roundings are legitimate, too.

    Attributes
    ----------
    codes, scales : int
        How many of them differ.
    snr : float
        Of the dequantized values, in dB, to what was to be quantized.
    """

    codes: int
    scales: int
    snr: float


def _signal(workload: Workload, x: torch.Tensor) -> torch.Tensor:
    if not workload.silu_and_mul:
        return x.double()
    gate, up = x.double().chunk(2, -1)
    if (limit := workload.swiglu_limit) is not None:
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return functional.silu(gate) * up


def _factors(workload: Workload, s: torch.Tensor) -> torch.Tensor:
    groups = workload.hidden // workload.group_size
    if workload.is_tiled:
        rows = ScaleFormat("power_of_two", torch.float32)
        return convert(s, workload.scale_format, rows, shape=(workload.tokens, groups))
    return to_float32(s, groups)


def exactness(workload: Workload, x: torch.Tensor, result: Result) -> Exactness:
    """Compare results for `x` with the reference's."""
    expected = workload.call(x, backend="reference")
    q, s = result
    groups = workload.hidden // workload.group_size
    factors, right = (_factors(workload, scales) for scales in (s, expected[1]))
    # By their bits: a NaN equals itself.
    scales = torch.ne(*(one.contiguous().view(torch.int32) for one in (factors, right)))
    codes = torch.ne(*(one.view(torch.uint8) for one in (q, expected[0])))
    values = (q.float().unflatten(-1, (groups, -1)) * factors.unsqueeze(-1)).flatten(-2)
    signal = _signal(workload, x)
    noise = (values.double() - signal).square().sum()
    snr = 10 * torch.log10(signal.square().sum() / noise)
    return Exactness(int(codes.sum()), int(scales.sum()), float(snr))


def checked(name: str, workload: Workload, x: torch.Tensor) -> Exactness:
    """Call an implementation once, and compare what it returns.

    Raises
    ------
    Exception
        Whatever it raises; ValueError if it returns tensors of other shapes or dtypes.
    """
    returned = peers.bind(name, workload, x)()
    return exactness(workload, x, peers.results(name, workload, returned))


class PeerKernels(Kernels):
    """The kernels of another implementation, on the same buffers as :class:`Kernels` makes.

    One call may be many kernels: its graphs have fewer of them, of as much time.
    """

    def __init__(self, workload: Workload, name: str, device: str = "cuda"):
        self._name = name
        if workload.scales in peers.module(name).CAN.waiting:
            raise NotImplementedError("a call waits for the device: no CUDA graph holds it")
        super().__init__(workload, device=device)
        self.lengths = timers.lengths_for(max(self._about(), self._about(name)))

    def _bind(self, name: str, x: torch.Tensor, out: Result, copied: torch.Tensor) -> Call:
        if name == self._name:
            return peers.bind_into(name, self.workload, x, out)
        return super()._bind(name, x, out, copied)
