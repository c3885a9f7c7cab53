"""Whether backends agree, byte for byte: what is measured must be right."""

from __future__ import annotations

from collections.abc import Sequence

import torch

import ptgq
from measure.workloads import Workload

# In the order in which functions return them.
RESULTS = ("q", "s", "q_t", "s_t")


def differing_bytes(a: torch.Tensor, b: torch.Tensor) -> int:
    """Return how many bytes of two tensors of one shape and dtype differ, in logical order."""
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(f"b must be {a.dtype} {tuple(a.shape)}, got {b.dtype} {tuple(b.shape)}")
    as_bytes = (t.flatten().view(torch.uint8) for t in (a, b.to(a.device)))
    return int(torch.ne(*as_bytes).sum())


def check_agreement(workload: Workload, x: torch.Tensor, backends: Sequence[ptgq.Backend]) -> None:
    """Raise RuntimeError unless all `backends` give the first one's bytes for `x`."""
    first = workload.call(x, backend=backends[0])
    for backend in backends[1:]:
        both = zip(RESULTS, first, workload.call(x, backend=backend), strict=False)
        wrong = {name: differing_bytes(one, other) for name, one, other in both}
        if any(wrong.values()):
            counts = ", ".join(f"{count} of {name}" for name, count in wrong.items())
            raise RuntimeError(
                f"{backends[0]} and {backend} differ in bytes, {counts}, for {workload}"
            )
