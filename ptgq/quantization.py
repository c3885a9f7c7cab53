"""A call that quantizes: its arguments are checked before anything runs."""

from __future__ import annotations

from typing import SupportsIndex

import torch
from torch.compiler import is_dynamo_compiling

from ptgq import backends, extension, scales
from ptgq.arguments import (
    Nonfinite,
    check_alone,
    check_eps,
    check_int8_scales,
    check_masked_m,
    check_nonfinite,
    check_out,
    check_read,
    check_swiglu_limit,
)
from ptgq.backends import Backend, check_backend, choose_backend, forced, is_eager, loaded
from ptgq.scales import ScaleFormat
from ptgq.scales.flags import scale_format as format_of
from ptgq.scales.layouts import allocate, shape_of
from ptgq.values import check_group_size

MARK: Nonfinite = "mark"
_ROW_FLOAT32 = scales.scale_format()


def quantize(
    x: torch.Tensor,
    group_size: SupportsIndex,
    q_dtype: torch.dtype,
    silu_and_mul: bool,
    swiglu_limit: float | None,
    column_major_scales: bool,
    use_ue8m0: bool,
    scale_dtype: torch.dtype | None,
    tma_aligned_scales: bool,
    scale_format: ScaleFormat | None,
    eps: float,
    nonfinite: Nonfinite,
    masked_m: torch.Tensor | None,
    out: tuple[torch.Tensor, torch.Tensor] | None,
    backend: Backend | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize `x`, or SiLU and product of its halves: what the public functions say."""
    left_out = (
        column_major_scales is use_ue8m0 is tma_aligned_scales is False and scale_dtype is None
    )
    if scale_format is None:
        scale_format = (
            _ROW_FLOAT32
            if left_out
            else format_of(column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales)
        )
    elif not (left_out and isinstance(scale_format, ScaleFormat)):
        check_alone(scale_format, column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales)
    saturate = False if nonfinite is MARK else check_nonfinite(nonfinite)
    accepted = scale_format.group_sizes
    # Only an int is compared: comparing a tensor would read it.
    if not is_dynamo_compiling() and (
        not accepted or (type(group_size) is int and group_size in accepted)
    ):
        name = forced.get() if backend is None else backend
        code = scale_format.code
        if isinstance(name, str) and name == "triton":
            # The first call loads it, and finds out whether it can serve.
            triton = loaded.get(name)
            results = triton and triton.quantize_directly(
                x,
                group_size,
                q_dtype,
                code,
                silu_and_mul,
                swiglu_limit,
                saturate,
                masked_m,
                eps,
                out,
            )
        else:
            results = extension.quantize_directly(
                name, x, group_size, q_dtype, code, silu_and_mul, swiglu_limit, saturate, masked_m,
                eps, out,
            )  # fmt: skip
        if results is not None:
            return results
    check_read("x", x)
    hidden_dim = x.shape[-1]
    if silu_and_mul:
        if hidden_dim % 2:
            raise ValueError(f"x must have an even last dimension, got {hidden_dim}")
        hidden_dim //= 2
    q_shape = (*x.shape[:-1], hidden_dim)
    group_size = check_group_size(group_size, q_shape, "half of x" if silu_and_mul else "x")
    if q_dtype is torch.int8:
        check_int8_scales(scale_format, use_ue8m0, scale_dtype)
    eps = check_eps(eps)
    swiglu_limit = check_swiglu_limit(swiglu_limit)
    check_masked_m(masked_m, x)
    check_backend(backend)
    chosen = "reference" if x.is_meta else choose_backend(backend, x.device)

    shape = shape_of(q_shape, group_size, scale_format)
    if out is None:
        q = torch.empty(q_shape, dtype=q_dtype, device=x.device)
        s = allocate(shape, scale_format, x.device)
    else:
        q, s = check_out(out, x, q_shape, q_dtype, shape, scale_format, masked_m=masked_m)
    # Nothing depends on the number of rows where it may be data: the ops take no rows, too.
    if x.is_meta or x.shape[-1] == 0 or (is_eager(x) and x.numel() == 0):
        return q, s

    op = "silu_and_mul_per_token_group_quant" if silu_and_mul else "per_token_group_quant"
    options = (swiglu_limit, saturate) if silu_and_mul else (saturate,)
    backends.quantize(
        chosen, x, q, s, group_size, eps, scale_format, op, *options, masked_m=masked_m
    )
    return q, s
