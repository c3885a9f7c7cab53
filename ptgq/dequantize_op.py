"""The registered ops of dequantize, and whether derivatives are computed forward."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch.autograd import forward_ad

from ptgq.op_results import named
from ptgq.scales.conversion import to_float32

# q is float8_e4m3fn (or its bytes) or int8; s float32, int32 or float8_e8m0fnu (or its bytes).
_SCHEMA = "(Tensor q, Tensor s, int group_size, ScalarType dtype) -> Tensor"


def register() -> None:
    """Register the op that ``csrc`` implements, and Triton's."""

    def fake(q: torch.Tensor, s: torch.Tensor, group_size: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(q.shape, dtype=dtype, device=q.device)

    def by_triton(
        q: torch.Tensor, s: torch.Tensor, group_size: int, dtype: torch.dtype
    ) -> torch.Tensor:
        module = import_module("ptgq.backends.triton_dequantize")
        return module.dequantize(*named(q, s), group_size, dtype)

    for name in ("ptgq::dequantize", "ptgq::dequantize_triton"):
        torch.library.define(name, _SCHEMA, tags=torch.Tag.pt2_compliant_tag)
        torch.library.register_fake(name, fake)
        # Without one, what is differentiated after it was traced has no gradient.
        torch.library.register_autograd(name, _backward, setup_context=_keep)
    torch.library.impl("ptgq::dequantize_triton", "CompositeExplicitAutograd", by_triton)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    q, s, ctx.group_size, _ = inputs
    ctx.save_for_backward(q, s)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Return the gradients of `q` and `s`, as those of the product in float32."""
    q, s = named(*ctx.saved_tensors)
    shape = q.shape[-1] // ctx.group_size, ctx.group_size
    groups = grad.float().unflatten(-1, shape)
    of_q = of_s = None
    if ctx.needs_input_grad[0]:
        of_q = (groups * to_float32(s, shape[0]).unsqueeze(-1)).flatten(-2).to(q.dtype)
    if ctx.needs_input_grad[1]:
        of_s = (groups * q.float().unflatten(-1, shape)).sum(-1).to(s.dtype)
    return of_q, of_s, None, None


def in_forward_mode() -> bool:
    """Whether derivatives are computed forward: dual tensors look like any other."""
    return getattr(forward_ad, "_current_level", -1) >= 0
