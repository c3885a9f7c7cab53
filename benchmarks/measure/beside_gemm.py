"""The functions before and beside the GEMM as workloads, with row-major float32 scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from measure.calls import public_function
from measure.workloads import Workload


@dataclass(frozen=True)
class TransposedWorkload(Workload):
    """A call that quantizes rows and, from the same read, columns."""

    @property
    def bytes_moved(self) -> int:
        """The least bytes a call moves: x read once, q, s, q_t and s_t written once."""
        return sum(t.nbytes for t in (self.empty_input("meta"), *self.make_output("meta")))

    def make_output(  # type: ignore[override]  # four, where others return two
        self, device: str
    ) -> tuple[torch.Tensor, ...]:
        """Return uninitialized ``(q, s, q_t, s_t)``."""
        results = self.bind(self.empty_input("meta"), backend=None)()
        return tuple(torch.empty_like(t, device=device) for t in results)

    def bind(
        self,
        x: torch.Tensor,
        *,
        backend: str | None,
        out: tuple[torch.Tensor, ...] | None = None,
    ) -> Callable[[], Any]:
        """Return a call of the public function, bound to its arguments."""
        function = public_function("transposed")
        return partial(function, x, self.group_size, out=out, backend=backend)
