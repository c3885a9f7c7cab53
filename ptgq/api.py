"""The public functions: their arguments are checked before anything runs."""

from __future__ import annotations

from typing import SupportsIndex

import torch
from torch.compiler import is_dynamo_compiling

from ptgq import extension, scales
from ptgq.arguments import (
    INPUT_DTYPES,
    Nonfinite,
    check_aligned,
    check_alone,
    check_eps,
    check_int8_scales,
    check_nonfinite,
    check_out,
    check_swiglu_limit,
)
from ptgq.backends import (
    Backend,
    check_backend,
    choose_backend,
    forced,
    is_eager,
    loaded,
    quantize,
)
from ptgq.scales import ScaleFormat
from ptgq.scales.flags import scale_format as format_of
from ptgq.scales.layouts import allocate, shape_of
from ptgq.values import check_group_size, check_tensor

_FP8 = torch.float8_e4m3fn
_MARK: Nonfinite = "mark"
_ROW_FLOAT32 = scales.scale_format()


def per_token_group_quant_fp8(
    x: torch.Tensor,
    group_size: SupportsIndex,
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    *,
    eps: float = 1e-10,
    scale_dtype: torch.dtype | None = None,
    tma_aligned_scales: bool = False,
    scale_format: ScaleFormat | None = None,
    nonfinite: Nonfinite = _MARK,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize groups of the last dimension to FP8 E4M3, each with its own scale.

    ``scale = max(absmax(group), eps) / 448`` and ``q = e4m3(group / scale)``: IEEE float32
    division, round to nearest even, saturating. With `use_ue8m0` the scale is first rounded up
    to a power of two. All backends return the same bytes.

    Parameters
    ----------
    x : torch.Tensor
        ``[..., hidden_dim]``, bfloat16, float16 or float32, on a cuda or cpu device. The last
        dimension is contiguous. Rows may be strided; if the leading dimensions do not reduce to
        one stride, `x` is copied first. The results do not require gradients.
    group_size : int
        Elements that share a scale; divides ``hidden_dim``. A preset takes its consumer's alone.
    column_major_scales : bool
        Store `s` transposed: same shape, the tokens of a group side by side in memory.
    use_ue8m0 : bool
        Round the scales up to powers of two, and store them as ``float8_e8m0fnu`` bytes.
    eps : float
        Lower bound of the absolute maximum, from 1e-24.
    scale_dtype : torch.dtype, optional
        How `use_ue8m0` stores them instead: ``torch.float32``, or ``torch.int32``, the bytes of
        four neighbouring groups in a word; bytes past the last group are 0.
    tma_aligned_scales : bool
        Start each column of `column_major_scales` at 16 bytes; the memory between them is 0.
    scale_format : ScaleFormat, optional
        All of this in one, for example a preset: ``ptgq.ScaleFormat.deep_gemm_hopper()``. Instead
        of the other options of the scales.
    nonfinite : {"mark", "saturate"}
        What a NaN or an infinity does: mark its group, whose scale is NaN and whose codes are 0x7F;
        or saturate, so that all scales are finite: the absolute maximum is that of the finite
        elements, an infinity gets the largest code with its sign, and NaN alone the code 0x7F.
    out : tuple of torch.Tensor, optional
        ``(q, s)`` to write into, exactly as they would be returned. Autograd sees the writes.
    backend : {"cuda", "triton", "cpu", "reference"}, optional
        Force a backend for this call.

    Returns
    -------
    q : torch.Tensor
        ``[..., hidden_dim]``, ``float8_e4m3fn``, contiguous.
    s : torch.Tensor
        ``[..., hidden_dim // group_size]``: ``x ≈ q * s`` group by group; packed, a quarter of
        that, rounded up.

    Raises
    ------
    TypeError
        For an argument of a wrong type or dtype.
    ValueError
        For a wrong shape, stride or option, or for scales that nobody reads.
    RuntimeError
        If the backend is not available, or if `out` holds an inference tensor outside inference
        mode.
    """
    return _quantize(
        x, group_size, _FP8, False, None,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, out, backend,
    )  # fmt: skip


def silu_and_mul_per_token_group_quant_fp8(
    x: torch.Tensor,
    group_size: SupportsIndex,
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    *,
    eps: float = 1e-10,
    scale_dtype: torch.dtype | None = None,
    tma_aligned_scales: bool = False,
    scale_format: ScaleFormat | None = None,
    swiglu_limit: float | None = None,
    nonfinite: Nonfinite = _MARK,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize ``silu(gate) * up`` to FP8 E4M3, in one kernel.

    The bytes are those of :func:`per_token_group_quant_fp8` of an unfused ``silu_and_mul``, on all
    backends. That computes in float32, ``silu(gate) = gate * (1 / (1 + exp(-gate)))``, and rounds
    once, the product, to the dtype of `x`; as ``(F.silu(gate.float()) * up.float()).to(x.dtype)``,
    or SGLang's. (``F.silu(gate) * up`` in bfloat16, and vLLM's kernel, round the SiLU, too.) exp is
    the same sequence of operations on every device, so that the SiLU is within 2^-17.9 of the true
    one for gates within ±87: rounded, it is that of the exact function for all but one of 30,000
    bfloat16 gates and one of 2,500 float16 ones, where it is the next number. Of gates below it is
    1.6e-38 times the gate: -5 of -3e38, where the exact function is 0.

    Parameters
    ----------
    x : torch.Tensor
        ``[..., 2 * hidden_dim]``: the gates, then as many elements that they let through, up.
    swiglu_limit : float, optional
        Clamp first, in float32: ``gate = min(gate, limit)`` and ``up = clamp(up, -limit, limit)``;
        NaN stays NaN. From 1e-24; rounded to float32. It is ``swiglu_limit`` of DeepSeek-V4 (10),
        whose models print garbage without, and not gpt-oss's activation, which multiplies the
        gate within the sigmoid and adds 1 to up.

    Other parameters, results, of ``[..., hidden_dim]``, and errors are those of
    :func:`per_token_group_quant_fp8`.
    """
    return _quantize(
        x, group_size, _FP8, True, swiglu_limit,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, out, backend,
    )  # fmt: skip


def per_token_group_quant_int8(
    x: torch.Tensor,
    group_size: SupportsIndex,
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    *,
    eps: float = 1e-10,
    scale_dtype: torch.dtype | None = None,
    tma_aligned_scales: bool = False,
    scale_format: ScaleFormat | None = None,
    nonfinite: Nonfinite = _MARK,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize groups of the last dimension to INT8, each with its own float32 scale.

    ``scale = max(absmax(group), eps) / 127`` and ``q = rint(group / scale)``, half to even.
    Parameters, results and errors are those of :func:`per_token_group_quant_fp8`; `q` is
    ``int8``, and the code of NaN is 0. `s` is float32 in any layout:
    `use_ue8m0`, which rounds the scales up to powers of two, needs ``scale_dtype=torch.float32``.
    """
    return _quantize(
        x, group_size, torch.int8, False, None,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, out, backend,
    )  # fmt: skip


def silu_and_mul_per_token_group_quant_int8(
    x: torch.Tensor,
    group_size: SupportsIndex,
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    *,
    eps: float = 1e-10,
    scale_dtype: torch.dtype | None = None,
    tma_aligned_scales: bool = False,
    scale_format: ScaleFormat | None = None,
    swiglu_limit: float | None = None,
    nonfinite: Nonfinite = _MARK,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize ``silu(gate) * up`` to INT8, in one kernel.

    The bytes are those of :func:`per_token_group_quant_int8` of an unfused ``silu_and_mul``, which
    :func:`silu_and_mul_per_token_group_quant_fp8` describes, as it does `x`.
    """
    return _quantize(
        x, group_size, torch.int8, True, swiglu_limit,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, out, backend,
    )  # fmt: skip


def _quantize(
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
    out: tuple[torch.Tensor, torch.Tensor] | None,
    backend: Backend | None,
) -> tuple[torch.Tensor, torch.Tensor]:
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
    saturate = False if nonfinite is _MARK else check_nonfinite(nonfinite)
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
                x, group_size, q_dtype, code, silu_and_mul, swiglu_limit, saturate, eps, out
            )
        else:
            results = extension.quantize_directly(
                name, x, group_size, q_dtype, code, silu_and_mul, swiglu_limit, saturate, eps, out
            )
        if results is not None:
            return results
    check_tensor("x", x, INPUT_DTYPES)
    hidden_dim = x.shape[-1]
    if silu_and_mul:
        if hidden_dim % 2:
            raise ValueError(f"x must have an even last dimension, got {hidden_dim}")
        hidden_dim //= 2
    q_shape = (*x.shape[:-1], hidden_dim)
    group_size = check_group_size(group_size, q_shape, "half of x" if silu_and_mul else "x")
    if x.stride(-1) != 1 and x.shape[-1] > 1:
        raise ValueError(f"x must be contiguous in its last dimension, got strides {x.stride()}")
    check_aligned("x", x)
    if q_dtype is torch.int8:
        check_int8_scales(scale_format, use_ue8m0, scale_dtype)
    eps = check_eps(eps)
    swiglu_limit = check_swiglu_limit(swiglu_limit)
    check_backend(backend)
    chosen = "reference" if x.is_meta else choose_backend(backend, x.device)

    shape = shape_of(q_shape, group_size, scale_format)
    if out is None:
        q = torch.empty(q_shape, dtype=q_dtype, device=x.device)
        s = allocate(shape, scale_format, x.device)
    else:
        q, s = check_out(out, x, q_shape, q_dtype, shape, scale_format)
    # Nothing depends on the number of rows where it may be data: the ops take no rows, too.
    if x.is_meta or x.shape[-1] == 0 or (is_eager(x) and x.numel() == 0):
        return q, s

    op = "silu_and_mul_per_token_group_quant" if silu_and_mul else "per_token_group_quant"
    options = (swiglu_limit, saturate) if silu_and_mul else (saturate,)
    quantize(chosen, x, q, s, group_size, eps, scale_format, op, *options)
    return q, s
