"""What the public functions can be asked for, each with the oracle's description of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

import ptgq
from proofs.oracle import E4M3, INT8, CodeFormat


@dataclass(frozen=True)
class Format:
    """One format of results: how it is called, and what its bytes are.

    A new scale format is one more entry of FORMATS; one whose scales do not lie at
    ``s[token, group]`` also needs a branch in :meth:`scale_bits`.
    """

    name: str
    codes: CodeFormat
    power_of_two: bool = False
    options: dict = field(default_factory=dict)

    def quantize(
        self, x: torch.Tensor, group_size: int, eps: float, backend: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Call the public function on one backend."""
        if self.codes is INT8:
            return ptgq.per_token_group_quant_int8(x, group_size, eps=eps, backend=backend)
        return ptgq.per_token_group_quant_fp8(
            x, group_size, **self.options, eps=eps, backend=backend
        )

    def scale_bits(self, s: torch.Tensor) -> torch.Tensor:
        """Return the stored scales as integers, ``[tokens, groups]``."""
        return s.view(torch.uint8 if s.element_size() == 1 else torch.int32)

    def expected_scales(self, bits: torch.Tensor) -> torch.Tensor:
        """Return what is stored of scales given by float32 bits."""
        stored_as_byte = self.power_of_two and "scale_dtype" not in self.options
        return (bits >> 23).to(torch.uint8) if stored_as_byte else bits.to(torch.int32)


FORMATS = (
    Format("fp8_float32", E4M3),
    Format("fp8_column_float32", E4M3, options={"column_major_scales": True}),
    Format("fp8_ue8m0", E4M3, True, {"use_ue8m0": True}),
    Format("fp8_ue8m0_float32", E4M3, True, {"use_ue8m0": True, "scale_dtype": torch.float32}),
    Format("int8", INT8),
)


def one_a_rule(formats: Iterable[Format]) -> list[Format]:
    """Return the first format of each way to compute scales and codes, whatever their layout."""
    rules: dict[object, Format] = {}
    for fmt in formats:
        rules.setdefault((fmt.codes, fmt.power_of_two), fmt)
    return list(rules.values())
