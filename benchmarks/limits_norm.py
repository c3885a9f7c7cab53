"""Measures the rows of ``limits`` of the fused RMSNorm, with a residual: x and it are read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import limits_measure
import torch
from measure import beside_gemm
from measure.beside_gemm import EPSILON
from measure.kernels import COPY, Kernels

import ptgq

LARGE = ((1024, 7168), (8192, 7168))
SMALL = ((1, 7168), (128, 7168))
# In place of a backend: what torch.compile makes of the norm, then ptgq's quantization.
UNFUSED = "unfused"


class NormWorkload(beside_gemm.NormWorkload):
    """A call of the fused RMSNorm, each on a residual of its own."""

    def bind(
        self,
        x: torch.Tensor,
        *,
        backend: str | None,
        out: tuple[torch.Tensor, ...] | None = None,
    ) -> Callable[[], Any]:
        """Return a call of the public function or, UNFUSED, of both that it fuses."""
        if backend != UNFUSED:
            return super().bind(x, backend=backend, out=out)
        return partial(
            _unfused, x, torch.ones_like(x[0]), torch.randn_like(x), self.group_size, out
        )


def add_and_norm(x: torch.Tensor, weight: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """The norm as models write it; the residual becomes its sum with x."""
    residual.add_(x)
    r = residual.float()
    return (r * torch.rsqrt(r.square().mean(-1, keepdim=True) + EPSILON) * weight).to(x.dtype)


@cache
def _compiled() -> Callable[..., torch.Tensor]:
    return torch.compile(add_and_norm, fullgraph=True, dynamic=False)


def _unfused(
    x: torch.Tensor,
    weight: torch.Tensor,
    residual: torch.Tensor,
    group_size: int,
    out: tuple[torch.Tensor, ...] | None,
) -> object:
    y = _compiled()(x, weight, residual)
    return ptgq.per_token_group_quant_fp8(y, group_size, out=out)


def check(workload: NormWorkload, device: str, backends: Sequence[str]) -> None:
    """Raise RuntimeError unless the backends give the reference's bytes, the residual's too."""
    x = workload.make_input(device)
    results = []
    for backend in (*backends, "reference"):
        torch.manual_seed(0)  # of the residual
        call = workload.bind(x, backend=backend)
        q, s = call()
        results.append([t.view(torch.uint8) for t in (q, s, call.keywords["residual"])])
    for backend, found in zip(backends, results, strict=False):
        if not all(map(torch.equal, found, results[-1])):
            raise RuntimeError(f"{backend} and reference differ for {workload}")


def norm(available: Sequence[str]) -> limits_measure.Values:
    """Kernels of many rows against the copy, cold; of few, produced, against what they fuse."""
    backends = [name for name in ("cuda", "triton") if name in available]
    found: limits_measure.Values = {}
    for tokens, hidden in LARGE:
        workload = NormWorkload(tokens, hidden, 128)
        check(workload, "cuda", backends)
        kernels = Kernels(workload)
        cold = [kernels.timer(name, "cold") for name in (COPY, *backends)]
        copy, *times = limits_measure.rounds(cold)
        for backend, samples in zip(backends, times, strict=True):
            key = "norm" if backend == "cuda" else "norm_triton"
            ratio = limits_measure.median_ratio(samples, copy)
            found.setdefault(key, {})[f"{tokens} × {hidden}"] = ratio
    for tokens, hidden in SMALL if "cuda" in backends else ():
        workload = NormWorkload(tokens, hidden, 128)
        check(workload, "cuda", ["cuda"])
        kernels = Kernels(workload)
        both = [kernels.timer(name, "produced") for name in (UNFUSED, "cuda")]
        unfused, samples = limits_measure.rounds(both)
        ratio = limits_measure.median_ratio(samples, unfused)
        found.setdefault("norm_small", {})[f"{tokens} × {hidden}"] = ratio
    if "cuda" in backends:
        workload = NormWorkload(16, 512, 128)
        x = workload.make_input("cuda")
        calls = [partial(torch.abs, x), workload.bind(x, backend="cuda")]
        yardstick, samples = limits_measure.rounds([limits_measure.loop(call) for call in calls])
        ratio = limits_measure.median_ratio(samples, yardstick)
        found["norm_call"] = {"16 × 512": ratio}
    return found
