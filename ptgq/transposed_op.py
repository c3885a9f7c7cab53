"""The registered ops of per_token_group_quant_transposed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from ptgq.arguments import check_masked_m
from ptgq.op_results import check_results, named
from ptgq.scales.formats import decode_format

OP = "per_token_group_quant_transposed"
# As in extension.py; q_t and s_t are of the transpose, padded to whole groups of tokens.
_SCHEMA = (
    "(Tensor x, Tensor(a!) q, Tensor(b!) s, Tensor(c!) q_t, Tensor(d!) s_t, int group_size, "
    "float eps, int scale_format, bool saturate=False, Tensor? masked_m=None) -> ()"
)
_BACKENDS = {"": "", "_triton": "triton_transposed", "_reference": "reference"}


def transposed_shape(shape: tuple[int, ...], group_size: int) -> tuple[int, ...]:
    """Return the shape of `q_t` of an x of `shape` ``[..., num_tokens, hidden_dim]``."""
    return *shape[:-2], shape[-1], -(-shape[-2] // group_size) * group_size


def register(announce_writes: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
    """Register the op that ``csrc`` implements, and those of backends written in Python."""
    for suffix, module in _BACKENDS.items():
        name = f"ptgq::{OP}{suffix}"
        torch.library.define(name, _SCHEMA, tags=torch.Tag.pt2_compliant_tag)
        torch.library.register_fake(name, _fake)
        if module:
            torch.library.impl(
                name, "CompositeExplicitAutograd", _implementation(module, announce_writes)
            )


def _fake(*args: object) -> None:
    """The ops write into tensors that exist: there are no shapes to compute."""


def _implementation(
    module: str, announce_writes: Callable[[torch.Tensor, torch.Tensor], None]
) -> Callable[..., None]:
    def run(
        x: torch.Tensor,
        q: torch.Tensor,
        s: torch.Tensor,
        q_t: torch.Tensor,
        s_t: torch.Tensor,
        group_size: int,
        eps: float,
        scale_format: int,
        saturate: bool = False,
        masked_m: torch.Tensor | None = None,
    ) -> None:
        backend = import_module(f"ptgq.backends.{module}")
        scales = decode_format(scale_format)
        results = (*named(q, s), *named(q_t, s_t))
        if x.dim() < 2:
            raise ValueError(f"x must have at least two dimensions, got shape {tuple(x.shape)}")
        check_results(*results[:2], tuple(x.shape), group_size, scales)
        of_columns = transposed_shape(tuple(x.shape), group_size)
        check_results(*results[2:], of_columns, group_size, scales, ("q_t", "s_t"))
        check_masked_m(masked_m, x)
        announce_writes(*results[:2])
        announce_writes(*results[2:])
        if x.numel() > 0:
            getattr(backend, OP)(x, *results, group_size, eps, scales, saturate, masked_m)

    return run
