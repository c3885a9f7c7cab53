"""The public functions that normalize before they quantize."""

from __future__ import annotations

from collections.abc import Callable
from typing import SupportsIndex

import torch
from torch.compiler import is_dynamo_compiling

from ptgq import extension, scales
from ptgq.arguments import (
    Nonfinite,
    check_aligned,
    check_apart,
    check_device,
    check_eps,
    check_int8_scales,
    check_nonfinite,
    check_out,
    check_read,
    check_written,
    chosen_format,
)
from ptgq.backends import (
    Backend,
    check_backend,
    choose_backend,
    forced,
    is_eager,
    loaded,
    normalization,
    quantize,
)
from ptgq.quantization import MARK
from ptgq.scales import ScaleFormat
from ptgq.scales.layouts import allocate, shape_of
from ptgq.values import check_group_size, check_tensor

# Those whose data_ptr is where their elements are.
_WITH_ADDRESS = {torch.Tensor, torch.nn.Parameter}
# As extension.quantize_directly, of ``(backend, x, weight, group_size, q_dtype, ScaleFormat.code,
# saturate, eps, norm_eps, residual, norm_out, out)``.
quantize_directly: Callable[..., tuple[torch.Tensor, torch.Tensor] | None] = extension.function(
    "rms_norm"
)


def rms_norm_per_token_group_quant_fp8(
    x: torch.Tensor,
    weight: torch.Tensor,
    group_size: SupportsIndex,
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    *,
    norm_eps: float,
    residual: torch.Tensor | None = None,
    norm_out: torch.Tensor | None = None,
    eps: float = 1e-10,
    scale_dtype: torch.dtype | None = None,
    tma_aligned_scales: bool = False,
    scale_format: ScaleFormat | None = None,
    nonfinite: Nonfinite = MARK,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize the RMSNorm of `x`, or of `x` and a residual, to FP8 E4M3, in one kernel.

    The bytes are those of :func:`per_token_group_quant_fp8` of y, on all backends. Each operation
    is rounded to nearest, in float32, none contracted to a fused multiply-add:

    1. With a residual ``r = residual + x``, rounded to the dtype of `residual`, which becomes r;
       else ``r = x``.
    2. ``sum`` of the squares ``r * r`` by a tree: of each 8 neighbours, zeros behind the last one,
       by halves: elements i and i + 4, then i + 2, then i + 1; then of these sums, zeros up to a
       power of two n of them, by halves: v and v + n / 2, then v + n / 4, and so on.
    3. ``rstd = 1 / sqrt(sum / hidden_dim + norm_eps)``, IEEE division and square root; NaN where
       the sum is not finite: a NaN or an infinity in a row, or a sum that overflows, marks all
       groups of the row.
    4. ``y = (r * rstd) * weight``, rounded once to the dtype of `x`.

    Before it is rounded, y was within 2^-21 of its size of a norm in float64 of the same r, in rows
    of up to 16384 random elements.

    Parameters
    ----------
    x : torch.Tensor
        As in :func:`per_token_group_quant_fp8`.
    weight : torch.Tensor
        ``[hidden_dim]``, contiguous, in the dtype of `x` or float32.
    norm_eps : float
        Added to the mean of squares, from 1e-24; rounded to float32.
    residual : torch.Tensor, optional
        Of the shape of `x`, in its dtype or float32; written in place. Its rows have one stride.
    norm_out : torch.Tensor, optional
        Where y is written, of the shape and dtype of `x`; may be `x` itself. Its rows have one
        stride. A NaN there, or in `residual`, may have any bits.

    Other parameters, results and errors are those of :func:`per_token_group_quant_fp8`. What is
    written, from its first to its last element, must not overlap anything else. Autograd sees the
    writes; `residual` and `norm_out` must not require gradients.
    """
    return _quantize(
        x, weight, group_size, torch.float8_e4m3fn, norm_eps, residual, norm_out,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, out, backend,
    )  # fmt: skip


def rms_norm_per_token_group_quant_int8(
    x: torch.Tensor,
    weight: torch.Tensor,
    group_size: SupportsIndex,
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    *,
    norm_eps: float,
    residual: torch.Tensor | None = None,
    norm_out: torch.Tensor | None = None,
    eps: float = 1e-10,
    scale_dtype: torch.dtype | None = None,
    tma_aligned_scales: bool = False,
    scale_format: ScaleFormat | None = None,
    nonfinite: Nonfinite = MARK,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize the RMSNorm of `x`, or of `x` and a residual, to INT8, in one kernel.

    The bytes are those of :func:`per_token_group_quant_int8` of the y that
    :func:`rms_norm_per_token_group_quant_fp8` describes, as it does the parameters.
    """
    return _quantize(
        x, weight, group_size, torch.int8, norm_eps, residual, norm_out,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, out, backend,
    )  # fmt: skip


def _quantize(
    x: torch.Tensor,
    weight: torch.Tensor,
    group_size: SupportsIndex,
    q_dtype: torch.dtype,
    norm_eps: float,
    residual: torch.Tensor | None,
    norm_out: torch.Tensor | None,
    column_major_scales: bool,
    use_ue8m0: bool,
    scale_dtype: torch.dtype | None,
    tma_aligned_scales: bool,
    scale_format: ScaleFormat | None,
    eps: float,
    nonfinite: Nonfinite,
    out: tuple[torch.Tensor, torch.Tensor] | None,
    backend: Backend | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    flags = column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales
    scale_format = chosen_format(scale_format, *flags)
    saturate = False if nonfinite is MARK else check_nonfinite(nonfinite)
    accepted = scale_format.group_sizes
    # Only an int is compared: comparing a tensor would read it.
    if not is_dynamo_compiling() and (
        not accepted or (type(group_size) is int and group_size in accepted)
    ):
        name = forced.get() if backend is None else backend
        call = x, weight, group_size, q_dtype, scale_format.code, saturate, eps, norm_eps
        if isinstance(name, str) and name == "triton":
            # The first call loads it, and finds out whether it can serve.
            triton = loaded.get("triton")
            results = triton and triton.rms_norm_directly(*call, residual, norm_out, out)
        else:
            results = quantize_directly(name, *call, residual, norm_out, out)
        if results is not None:
            return results
    check_read("x", x)
    group_size = check_group_size(group_size, x.shape, "x")
    _check_operands(x, weight, residual, norm_out)
    if q_dtype is torch.int8:
        check_int8_scales(scale_format, use_ue8m0, scale_dtype)
    eps, norm_eps = check_eps(eps), check_eps(norm_eps, "norm_eps")
    check_backend(backend)
    chosen = "reference" if x.is_meta else choose_backend(backend, x.device)

    shape = shape_of(tuple(x.shape), group_size, scale_format)
    if out is None:
        q = torch.empty(x.shape, dtype=q_dtype, device=x.device)
        s = allocate(shape, scale_format, x.device)
    else:
        q, s = check_out(out, x, tuple(x.shape), q_dtype, shape, scale_format)
        memory = s
        if scale_format.tma_aligned and not torch.compiler.is_compiling():
            memory = scales.memory_of(s, scale_format)
        for name, tensor in (("out[0]", q), ("out[1]", memory)):
            for other, operand in (
                ("weight", weight), ("residual", residual), ("norm_out", norm_out),
            ):  # fmt: skip
                if operand is not None:
                    check_apart(name, tensor, other, operand)
    # Nothing depends on the number of rows where it may be data: the ops take no rows, too.
    if x.is_meta or x.shape[-1] == 0 or (is_eager(x) and x.numel() == 0):
        return q, s
    op = "rms_norm_per_token_group_quant"
    operands = weight, norm_eps, residual, norm_out, saturate
    quantize(chosen, x, q, s, group_size, eps, scale_format, op, *operands)
    return q, s


def _check_operands(
    x: torch.Tensor,
    weight: torch.Tensor,
    residual: torch.Tensor | None,
    norm_out: torch.Tensor | None,
) -> None:
    compiling = torch.compiler.is_compiling()
    both = (x.dtype,) if x.dtype is torch.float32 else (x.dtype, torch.float32)
    check_tensor("weight", weight, both)
    if weight.shape != (x.shape[-1],):
        raise ValueError(f"weight must have shape {(x.shape[-1],)}, got {tuple(weight.shape)}")
    if weight.stride(0) != 1 and len(weight) > 1:
        raise ValueError(f"weight must be contiguous, got strides {weight.stride()}")
    check_device("weight", weight, x)
    check_aligned("weight", weight)
    for name, tensor, dtypes in (
        ("residual", residual, both),
        ("norm_out", norm_out, (x.dtype,)),
    ):
        if tensor is None:
            continue
        check_tensor(name, tensor, dtypes, " (or None)")
        if tensor.shape != x.shape:
            raise ValueError(f"{name} must have shape {tuple(x.shape)}, got {tuple(tensor.shape)}")
        # Sizes may be data in compiled code, where the ops check strides.
        if not compiling and tensor.numel() > 0:
            normalization.row_stride(name, tensor)
        check_written(name, tensor, x)
        check_apart(name, tensor, "weight", weight)
        in_place = name == "norm_out" and (tensor is x or _is_same(tensor, x))
        if not in_place:
            check_apart(name, tensor, "x", x)
    if residual is not None and norm_out is not None:
        check_apart("norm_out", norm_out, "residual", residual)


def _is_same(tensor: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether a tensor that is another object has the very elements of x."""
    if torch.compiler.is_compiling() or not {type(tensor), type(x)} <= _WITH_ADDRESS:
        return False
    steps = zip(x.shape, tensor.stride(), x.stride(), strict=True)
    alike = all(size == 1 or step == of_x for size, step, of_x in steps)
    return alike and tensor.data_ptr() == x.data_ptr()
