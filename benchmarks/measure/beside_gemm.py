"""The functions before and beside the GEMM, as workloads and as calls that are checked.

They are the fused RMSNorm, results that are transposed, too, and weights in blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

import ptgq
from measure.calls import public_function
from measure.configurations import Form
from measure.workloads import Workload
from ptgq import scales

EPSILON = 1e-6
GROUP_SIZE = 128


@dataclass(frozen=True)
class NormWorkload(Workload):
    """A call of the fused RMSNorm, each on a residual of its own, unless it has none."""

    residual: bool = True

    @property
    def bytes_moved(self) -> int:
        """As usual, and the residual read and written once; the weight is small."""
        written = self.input_dtype.itemsize * self.tokens * self.hidden if self.residual else 0
        return super().bytes_moved + 2 * written

    def bind(
        self,
        x: torch.Tensor,
        *,
        backend: ptgq.Backend | None,
        out: tuple[torch.Tensor, ...] | None = None,
    ) -> Callable[[], Any]:
        """Return a call of the public function, bound to its arguments."""
        residual = torch.randn_like(x) if self.residual else None
        return partial(
            public_function("norm"), x, torch.ones_like(x[0]), self.group_size,
            norm_eps=EPSILON, residual=residual, out=out, backend=backend,
        )  # fmt: skip


@dataclass(frozen=True)
class _Allocated(Workload):
    """A call whose results are those that the function returns of an x without elements' memory."""

    @property
    def bytes_moved(self) -> int:
        """The least bytes a call moves: x read once, every result written once."""
        return sum(t.nbytes for t in (self.empty_input("meta"), *self.make_output("meta")))

    def make_output(self, device: str) -> tuple[torch.Tensor, ...]:
        """Return uninitialized results."""
        results = self.bind(self.empty_input("meta"), backend=None)()
        return tuple(torch.empty_like(t, device=device) for t in results)


@dataclass(frozen=True)
class TransposedWorkload(_Allocated):
    """A call that quantizes rows and, from the same read, columns."""

    def bind(
        self,
        x: torch.Tensor,
        *,
        backend: ptgq.Backend | None,
        out: tuple[torch.Tensor, ...] | None = None,
    ) -> Callable[[], Any]:
        """Return a call of the public function, bound to its arguments."""
        function = public_function("transposed")
        return partial(function, x, self.group_size, out=out, backend=backend)


@dataclass(frozen=True)
class BlockWorkload(_Allocated):
    """A call that quantizes a weight in blocks; `tokens` are the rows of all experts."""

    experts: int = 1

    def bind(
        self,
        x: torch.Tensor,
        *,
        backend: ptgq.Backend | None,
        out: tuple[torch.Tensor, ...] | None = None,
    ) -> Callable[[], Any]:
        """Return a call of the public function, bound to its arguments."""
        w = x.view(self.experts, -1, self.hidden) if self.experts > 1 else x
        return partial(public_function("blocks"), w, out=out, backend=backend)


def workload_of(form: Form) -> Workload:
    """Return the workload of one of :data:`measure.configurations.FORMS`.

    Raises
    ------
    NotImplementedError
        If the installed ptgq has no such function.
    """
    *leading, rows, hidden = form.shape
    kind, _, residual = form.function.partition("_")
    public_function(kind)
    if kind == "norm":
        return NormWorkload(rows, hidden, GROUP_SIZE, residual=bool(residual))
    if kind == "transposed":
        return TransposedWorkload(rows, hidden, GROUP_SIZE)
    experts = math.prod(leading)
    return BlockWorkload(experts * rows, hidden, GROUP_SIZE, experts=experts)


def written(name: str, device: str, backend: str) -> list[torch.Tensor]:
    """Return all that one of :data:`measure.configurations.CHECKED` writes, as it is on the CPU.

    Scales' padding and the residual are part of it; x is the same on every device.

    Raises
    ------
    NotImplementedError
        If the installed ptgq has no such function or preset.
    """
    kind, _, which = name.partition("_")
    function, generator = public_function(kind), torch.Generator().manual_seed(42)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).mul(8).to(torch.bfloat16).to(device)

    options: dict[str, Any] = {"backend": backend}
    if which.startswith(("deep_gemm", "torch_scaled_mm")):
        if not hasattr(ptgq.ScaleFormat, which):
            raise NotImplementedError(f"ScaleFormat of this commit has no {which}")
        options["scale_format"] = getattr(ptgq.ScaleFormat, which)()
    # Partial blocks and groups of tokens, an odd number of groups: every kind of padding.
    if kind.endswith("blocks"):
        given: tuple[Any, ...] = (drawn(2, 130, 6 * GROUP_SIZE + 20),)
    else:
        given = drawn(33, 7 * GROUP_SIZE), GROUP_SIZE
    if kind == "dequantize-blocks":
        quantized = public_function("blocks")(given[0].cpu(), backend="reference")
        return [function(*(t.to(device) for t in quantized), **options).cpu()]
    kept = []
    if kind.startswith("norm"):
        given = given[0], drawn(7 * GROUP_SIZE), GROUP_SIZE
        options["norm_eps"] = EPSILON
        if which == "residual":
            kept.append(drawn(33, 7 * GROUP_SIZE))
            options["residual"] = kept[0]
    results = list(function(*given, **options))
    if "scale_format" in options:
        results[1::2] = [scales.memory_of(s, options["scale_format"]) for s in results[1::2]]
    return [t.cpu() for t in (*results, *kept)]
