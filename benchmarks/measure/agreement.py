"""Whether backends agree, byte for byte: what is measured must be right."""

from __future__ import annotations

from collections.abc import Sequence

import torch

import ptgq
from measure.workloads import Workload


def differing_bytes(a: torch.Tensor, b: torch.Tensor) -> int:
    """Return how many bytes of two tensors of one shape and dtype differ, in logical order."""
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"b must be {a.dtype} {tuple(a.shape)}, got {b.dtype} {tuple(b.shape)}")
    as_bytes = (t.flatten().view(torch.uint8) for t in (a, b.to(a.device)))
    return int(torch.ne(*as_bytes).sum())


def check_agreement(workload: Workload, x: torch.Tensor, backends: Sequence[ptgq.Backend]) -> None:
    """Raise RuntimeError unless all `backends` give the first one's bytes for `x`."""
    q, s = workload.call(x, backend=backends[0])
    for backend in backends[1:]:
        other_q, other_s = workload.call(x, backend=backend)
        wrong = differing_bytes(q, other_q), differing_bytes(s, other_s)
        if any(wrong):
            raise RuntimeError(
                f"{backends[0]} and {backend} differ in {wrong[0]} bytes of q and {wrong[1]} of s "
                f"for {workload}"
            )
