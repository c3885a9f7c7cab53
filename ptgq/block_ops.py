"""The registered ops of blocks; what the CPU's and CUDA's do is in ``csrc``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch.nn.functional import pad

from ptgq.scales import check_memory, has_strides, scale_strides, to_float32
from ptgq.scales.blocks import block_shape_of, check_block_size, of_elements, sides_inside
from ptgq.scales.formats import check_in_format, decode_format

# q and s may be given as bytes, as to the ops of groups (see ptgq.extension).
QUANTIZE = (
    "(Tensor w, Tensor(a!) q, Tensor(b!) s, int block_rows, int block_columns, float eps, "
    "int scale_format, bool saturate=False) -> ()"
)
DEQUANTIZE = "(Tensor q, Tensor s, int block_rows, int block_columns, ScalarType dtype) -> Tensor"


def register(announce_writes: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
    """Register the ops that ``csrc`` implements, and those of the backends written in Python."""
    for suffix in ("", "_triton", "_reference"):
        _define(f"ptgq::per_block_quant{suffix}", QUANTIZE)
        torch.library.register_fake(f"ptgq::per_block_quant{suffix}", _no_shapes)
    for backend in ("triton", "reference"):
        _register_python_backend(backend, announce_writes)
    for name in ("ptgq::dequantize_blocks", "ptgq::dequantize_blocks_triton"):
        _define(name, DEQUANTIZE)
        torch.library.register_fake(name, _empty_product)
        # Without one, what is differentiated after it was traced has no gradient.
        torch.library.register_autograd(name, _backward, setup_context=_keep)
    torch.library.impl(
        "ptgq::dequantize_blocks_triton", "CompositeExplicitAutograd", _dequantize_by_triton
    )


def _define(name: str, schema: str) -> None:
    torch.library.define(name, schema, tags=torch.Tag.pt2_compliant_tag)


def _no_shapes(*args: object) -> None:
    """The ops write into tensors that exist."""


def matrices_of(w: torch.Tensor) -> torch.Tensor:
    """Return `w` as ``[batches, N, K]``: a view where matrices have one stride, else a copy."""
    return w.resolve_neg().reshape(-1, *w.shape[-2:])


def _named(q: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the ops take as bytes, too, in its own dtypes."""
    q = q.view(torch.float8_e4m3fn) if q.dtype is torch.uint8 else q
    return q, s.view(torch.float8_e8m0fnu) if s.dtype is torch.uint8 else s


def _register_python_backend(
    backend: str, announce_writes: Callable[[torch.Tensor, torch.Tensor], None]
) -> None:
    def run(
        w: torch.Tensor,
        q: torch.Tensor,
        s: torch.Tensor,
        block_rows: int,
        block_columns: int,
        eps: float,
        scale_format: int,
        saturate: bool = False,
    ) -> None:
        module = import_module(f"ptgq.backends.{backend}_blocks")
        q, s = _named(q, s)
        f = decode_format(scale_format)
        check_in_format("s", s, f)
        block_size = check_block_size((block_rows, block_columns))
        if w.dim() < 2:
            raise ValueError(f"w must have at least two dimensions, got {w.dim()}")
        s_shape = block_shape_of(tuple(w.shape), block_size, f)
        if (q.shape, s.shape) != (w.shape, s_shape):
            raise ValueError(
                f"q and s must have shapes {tuple(w.shape)} and {s_shape}, got {tuple(q.shape)} "
                f"and {tuple(s.shape)}"
            )
        if not (q.is_contiguous() and has_strides(s, scale_strides(s_shape, f))):
            raise ValueError(
                f"q must be contiguous and s {f.layout}, got strides {q.stride()} and {s.stride()}"
            )
        check_memory(s, f)
        announce_writes(q, s)
        if w.numel() > 0:
            module.per_block_quant(matrices_of(w), q, s, block_size, eps, f, saturate)

    name = f"ptgq::per_block_quant_{backend}"
    torch.library.impl(name, "CompositeExplicitAutograd", run)


def _empty_product(
    q: torch.Tensor, s: torch.Tensor, block_rows: int, block_columns: int, dtype: torch.dtype
) -> torch.Tensor:
    return torch.empty(q.shape, dtype=dtype, device=q.device)


def _dequantize_by_triton(
    q: torch.Tensor, s: torch.Tensor, block_rows: int, block_columns: int, dtype: torch.dtype
) -> torch.Tensor:
    module = import_module("ptgq.backends.triton_blocks")
    return module.dequantize(*_named(q, s), (block_rows, block_columns), dtype)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    q, s, rows, columns, _ = inputs
    ctx.block_size = rows, columns
    ctx.save_for_backward(q, s)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Return the gradients of `q` and `s`, as those of the product in float32."""
    q, s = _named(*ctx.saved_tensors)
    of_q = of_s = None
    if ctx.needs_input_grad[0]:
        of_q = (grad.float() * of_elements(to_float32(s), q.shape, ctx.block_size)).to(q.dtype)
    if ctx.needs_input_grad[1]:
        rows, columns = sides_inside(q.shape, ctx.block_size)
        missing = (0, -q.shape[-1] % columns, 0, -q.shape[-2] % rows)
        blocks = pad(grad.float() * q.float(), missing).unflatten(-1, (-1, columns))
        of_s = blocks.unflatten(-3, (-1, rows)).sum((-1, -3)).to(s.dtype)
    return of_q, of_s, None, None, None
