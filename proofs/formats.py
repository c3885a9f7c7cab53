"""What the public functions can be asked for, each with the oracle's description of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch

import ptgq
from proofs.oracle import E4M3, INT8, CodeFormat
from ptgq.backends import activation
from ptgq.scales import known


@functools.lru_cache(maxsize=4)
def _activated(x: torch.Tensor, version: int, limit: float | None) -> torch.Tensor:
    """The reference's fused SiLU, once for all formats of the same `x`, unless it was written."""
    return activation.silu_and_mul(x, limit)


@dataclass(frozen=True)
class Format:
    """One format of results: how it is called, and what its bytes are.

    `fused`: of the fused SiLU, with a limit or not, which the reference computes by itself.
    `saturate`: elements that are not finite do, instead of marking their group.
    """

    name: str
    codes: CodeFormat
    scales: known.Stored = known.FORMATS["row_float32"]
    fused: bool = False
    swiglu_limit: float | None = None
    saturate: bool = False

    @property
    def power_of_two(self) -> bool:
        """Whether scales are rounded up to powers of two."""
        return self.scales.kind == "power_of_two"

    @property
    def scale_format(self) -> ptgq.ScaleFormat:
        """The format as the public functions take it."""
        kind, dtype, layout = self.scales
        return ptgq.ScaleFormat(kind, getattr(torch, dtype), layout)

    def quantize(
        self, x: torch.Tensor, group_size: int, eps: float, backend: str, **more: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Call the public function on one backend, with `more` of its options."""
        name = "per_token_group_quant_" + ("int8" if self.codes is INT8 else "fp8")
        options: dict[str, Any] = {"nonfinite": "saturate" if self.saturate else "mark"}
        if self.fused and backend == "reference":
            x = _activated(x, x._version, self.swiglu_limit)
        elif self.fused:
            name = f"silu_and_mul_{name}"
            options["swiglu_limit"] = self.swiglu_limit
        options |= {"scale_format": self.scale_format, "eps": eps, "backend": backend, **more}
        results: tuple[torch.Tensor, torch.Tensor] = getattr(ptgq, name)(x, group_size, **options)
        return results

    def stored(self, s: torch.Tensor) -> torch.Tensor:
        """Return scales as they are stored, as integers ``[tokens, groups]``; packed, as bytes."""
        if s.dtype is torch.int32:
            # Not contiguous(), which leaves the strides of single elements.
            return torch.empty(s.shape, dtype=s.dtype, device=s.device).copy_(s).view(torch.uint8)
        return s.view(torch.uint8 if s.element_size() == 1 else torch.int32)

    def expected_scales(self, bits: torch.Tensor, groups: int) -> torch.Tensor:
        """Return what is stored of scales, as float32 bits: a token's, or each group's.

        Packed, bytes past the last group are 0.
        """
        bits = bits.view(len(bits), -1).expand(-1, groups)
        if self.scales.dtype == "float32":
            return bits.to(torch.int32)
        exponents = (bits >> 23).to(torch.uint8)
        padding = -groups % 4 if self.scales.dtype == "int32" else 0
        return torch.nn.functional.pad(exponents, (0, padding))


_MARKED = (
    *(Format(f"fp8_{name}", E4M3, scales) for name, scales in known.FORMATS.items()),
    Format("int8", INT8),
    *(
        Format(f"int8_{name}", INT8, scales)
        for name, scales in known.FORMATS.items()
        if scales.dtype == "float32" and name != "row_float32"
    ),
)


def one_a_rule(formats: Iterable[Format]) -> list[Format]:
    """Return the first format of each way to compute scales and codes, whatever their layout."""
    rules: dict[object, Format] = {}
    for fmt in formats:
        rule = fmt.codes, fmt.power_of_two, fmt.fused, fmt.swiglu_limit, fmt.saturate
        rules.setdefault(rule, fmt)
    return list(rules.values())


FORMATS = (
    *_MARKED,
    *(replace(fmt, name=f"saturated_{fmt.name}", saturate=True) for fmt in one_a_rule(_MARKED)),
)
FUSED_FORMATS = (
    *(replace(fmt, name=f"silu_{fmt.name}", fused=True) for fmt in FORMATS),
    *(
        replace(fmt, name=f"clamped_silu_{fmt.name}", fused=True, swiglu_limit=7.77)
        for fmt in one_a_rule(_MARKED)
    ),
)
# Compared in calls alone: the rules are those of other power-of-two scales.
TILED_FORMATS = tuple(
    Format(f"{prefix}fp8_{name}", E4M3, scales, fused=bool(prefix))
    for name, scales in known.TILED_FORMATS.items()
    for prefix in ("", "silu_")
)
