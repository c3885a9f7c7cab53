"""The public functions of weights, which are quantized in blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    check_nonfinite,
    check_out,
    check_read,
)
from ptgq.backends import (
    _OPS,
    _PREFERENCE,
    Backend,
    as_bytes,
    check_backend,
    choose_backend,
    forced,
    is_eager,
    load,
    loaded,
    reference_blocks,
)
from ptgq.block_ops import matrices_of
from ptgq.dequantization import is_differentiated
from ptgq.dequantize_op import in_forward_mode
from ptgq.quantization import MARK
from ptgq.scales import ScaleFormat
from ptgq.scales.blocks import block_shape_of, check_block_size
from ptgq.scales.flags import scale_format as format_of
from ptgq.scales.formats import encode_format
from ptgq.scales.layouts import allocate
from ptgq.values import check_dtype, check_tensor

_FP8 = torch.float8_e4m3fn
_ROW_FLOAT32 = scales.scale_format()
# The sides of a block, unless others are given.
_SIDES = (128, 128)
_Results = tuple[torch.Tensor, torch.Tensor]

# As those of ptgq.extension, of ``(backend, w, block_rows, block_columns, ScaleFormat.code,
# saturate, eps, out)``; without the backend to ``((q, s), (addresses of w, q and s), (batches, N,
# K, strides of w between matrices and rows, stride of s between rows), index of the CUDA device or
# -1, stream)``; or None.
quantize_directly: Callable[..., _Results | None] = extension.function("quantize_blocks")
prepare = extension.function("prepare_blocks")
# The same of ``(backend, q, s, block_rows, block_columns, dtype)``; to ``(y, (addresses of q, s and
# y), (batches, N, K, strides of s between matrices, rows and columns), device, stream)``; or None.
dequantize_directly: Callable[..., torch.Tensor | None] = extension.function("dequantize_blocks")
prepare_dequantize = extension.function("prepare_dequantize_blocks")


def per_block_quant_fp8(
    w: torch.Tensor,
    block_size: Sequence[SupportsIndex] = _SIDES,
    *,
    use_ue8m0: bool = False,
    eps: float = 1e-10,
    scale_dtype: torch.dtype | None = None,
    scale_format: ScaleFormat | None = None,
    nonfinite: Nonfinite = MARK,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize blocks of a weight's last two dimensions to FP8 E4M3, each with its own scale.

    The weight side of the GEMMs that read :func:`per_token_group_quant_fp8`, by the same numerics
    with a block in place of a group: ``scale = max(absmax(block), eps) / 448`` and
    ``q = e4m3(block / scale)``. All backends return the same bytes. Blocks at the lower and the
    right edge hold what is left; their scales are those of the elements that exist.

    Parameters
    ----------
    w : torch.Tensor
        ``[..., N, K]``, bfloat16, float16 or float32, on a cuda or cpu device; the dimensions
        before are experts'. The last dimension is contiguous. Rows may be strided; if the leading
        dimensions do not reduce to one stride, `w` is copied first. The results do not require
        gradients.
    block_size : tuple of int
        Rows and columns of a block, of any size; 128 x 128 is the fast one. A preset takes its
        consumer's alone.
    use_ue8m0 : bool
        Round the scales up to powers of two, and store them as ``float8_e8m0fnu`` bytes.
    eps : float
        Lower bound of the absolute maximum, from 1e-24.
    scale_dtype : torch.dtype, optional
        How `use_ue8m0` stores them instead: ``torch.float32``.
    scale_format : ScaleFormat, optional
        All of this in one, for example a preset: ``ptgq.ScaleFormat.torch_scaled_mm_blocks()``.
        Row-major, or in ``aligned_rows``. Instead of the other options of the scales.
    nonfinite : {"mark", "saturate"}
        What a NaN or an infinity does: mark its block, whose scale is NaN and whose codes are 0x7F;
        or saturate, as in :func:`per_token_group_quant_fp8`.
    out : tuple of torch.Tensor, optional
        ``(q, s)`` to write into, exactly as they would be returned. Autograd sees the writes.
    backend : {"cuda", "triton", "cpu", "reference"}, optional
        Force a backend for this call.

    Returns
    -------
    q : torch.Tensor
        ``[..., N, K]``, ``float8_e4m3fn``, contiguous.
    s : torch.Tensor
        ``[..., ceil(N / rows), ceil(K / columns)]``: ``w ≈ q * s`` block by block. Contiguous; in
        aligned rows, each is as long as the next multiple of 16 bytes, with 0 behind its blocks.

    Raises
    ------
    TypeError
        For an argument of a wrong type or dtype.
    ValueError
        For a wrong shape, stride or option, or for scales that no consumer of blocks reads.
    RuntimeError
        If the backend is not available, or if `out` holds an inference tensor outside inference
        mode.
    """
    return _quantize(
        w, block_size, use_ue8m0, scale_dtype, scale_format, eps, nonfinite, out, backend
    )


def _quantize(
    w: torch.Tensor,
    block_size: Sequence[SupportsIndex],
    use_ue8m0: bool,
    scale_dtype: torch.dtype | None,
    scale_format: ScaleFormat | None,
    eps: float,
    nonfinite: Nonfinite,
    out: tuple[torch.Tensor, torch.Tensor] | None,
    backend: Backend | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    left_out = use_ue8m0 is False and scale_dtype is None
    if scale_format is None:
        scale_format = _ROW_FLOAT32 if left_out else format_of(False, use_ue8m0, scale_dtype)
    elif not (left_out and isinstance(scale_format, ScaleFormat)):
        check_alone(scale_format, False, use_ue8m0, scale_dtype, False)
    saturate = False if nonfinite is MARK else check_nonfinite(nonfinite)
    accepted = scale_format.group_sizes
    if (
        not is_dynamo_compiling()
        and (block_size is _SIDES or _are_ints(block_size))
        and (not accepted or tuple(block_size) in accepted)
    ):
        name = forced.get() if backend is None else backend
        options = *block_size, scale_format.code, saturate, eps, out
        if isinstance(name, str) and name == "triton":
            # The first call loads it, and finds out whether it can serve.
            triton = loaded.get("triton_blocks")
            results = triton and triton.quantize_directly(w, *options)
        else:
            results = quantize_directly(name, w, *options)
        if results is not None:
            return results
    check_read("w", w)
    if w.dim() < 2:
        raise ValueError(f"w must have at least two dimensions, got shape {tuple(w.shape)}")
    size = check_block_size(block_size)
    q_shape = tuple(w.shape)
    shape = block_shape_of(q_shape, size, scale_format)
    eps = check_eps(eps)
    check_backend(backend)
    chosen = "reference" if w.is_meta else choose_backend(backend, w.device)

    if out is None:
        q = torch.empty(q_shape, dtype=_FP8, device=w.device)
        s = allocate(shape, scale_format, w.device)
    else:
        q, s = check_out(out, w, q_shape, _FP8, shape, scale_format, x_name="w")
    # Sizes may be data elsewhere: the ops take none, too.
    if w.is_meta or (is_eager(w) and w.numel() == 0):
        return q, s
    _run(chosen, w, q, s, size, eps, scale_format, saturate)
    return q, s


def _are_ints(block_size: Sequence[SupportsIndex]) -> bool:
    """Whether it is compared: comparing a tensor would read it."""
    return type(block_size) in (tuple, list) and [type(n) for n in block_size] == [int, int]


def _run(
    backend: str,
    w: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    block_size: tuple[int, int],
    eps: float,
    scale_format: ScaleFormat,
    saturate: bool,
) -> None:
    """Run the op of a backend: as ``ptgq.backends.quantize``."""
    if is_eager(w) and backend in ("triton", "reference"):
        run = load(f"{backend}_blocks").per_block_quant
        run(matrices_of(w), q, s, block_size, eps, scale_format, saturate)
        extension.increment_version((q, s))
        return
    if not is_eager(w):
        # torch's compiler can't functionalize a mutation of float8_e8m0fnu, but of bytes.
        q, s = as_bytes(q), as_bytes(s)
    run = getattr(torch.ops.ptgq, "per_block_quant" + _OPS[backend])
    run(w, q, s, *block_size, eps, encode_format(scale_format), saturate)


def dequantize_blocks(
    q: torch.Tensor,
    s: torch.Tensor,
    block_size: Sequence[SupportsIndex] = _SIDES,
    *,
    dtype: torch.dtype = torch.float32,
    backend: Backend | None = None,
) -> torch.Tensor:
    """Return ``q * s`` block by block, computed in float32 and rounded once to `dtype`.

    Otherwise as :func:`dequantize`.

    Parameters
    ----------
    q : torch.Tensor
        ``[..., N, K]``, ``float8_e4m3fn``.
    s : torch.Tensor
        ``[..., ceil(N / rows), ceil(K / columns)]``, float32 or ``float8_e8m0fnu``, of any strides.
    block_size : tuple of int
        Rows and columns of a block.
    dtype : torch.dtype
        ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.
    backend : {"cuda", "triton", "cpu", "reference"}, optional
        Force a backend for this call.

    Returns
    -------
    torch.Tensor
        ``[..., N, K]``. All backends return the same bytes but for those of a NaN, which are the
        device's. Where `q` or `s` requires gradients, and within transforms of ``torch.func``,
        ``reference`` serves the call.

    Raises
    ------
    TypeError
        For an argument of a wrong type or dtype.
    ValueError
        For a wrong shape or device, or an `s` that is not aligned to its elements.
    RuntimeError
        If the backend is not available.
    """
    if not (is_dynamo_compiling() or in_forward_mode()) and (
        block_size is _SIDES or _are_ints(block_size)
    ):
        name = forced.get() if backend is None else backend
        if isinstance(name, str) and name == "triton":
            triton = loaded.get("triton_blocks")
            y = triton and triton.dequantize_directly(q, s, *block_size, dtype)
        else:
            y = dequantize_directly(name, q, s, *block_size, dtype)
        if y is not None:
            return y
    return _dequantize(q, s, block_size, dtype, backend)


def _dequantize(
    q: torch.Tensor,
    s: torch.Tensor,
    block_size: Sequence[SupportsIndex],
    dtype: torch.dtype,
    backend: Backend | None,
) -> torch.Tensor:
    check_tensor("q", q, (_FP8,))
    check_tensor("s", s, (torch.float32, torch.float8_e8m0fnu))
    if q.dim() < 2:
        raise ValueError(f"q must have at least two dimensions, got shape {tuple(q.shape)}")
    size = check_block_size(block_size)
    check_dtype("dtype", dtype, INPUT_DTYPES)
    shape = block_shape_of(tuple(q.shape), size, None)
    if s.shape != shape:
        raise ValueError(f"s must have shape {shape}, got {tuple(s.shape)}")
    if s.device != q.device:
        raise ValueError(f"s must be on q's device {q.device}, got {s.device}")
    check_aligned("s", s)
    check_backend(backend)
    other = backend is None and q.device.type not in _PREFERENCE
    chosen = "reference" if other or q.is_meta else choose_backend(backend, q.device)
    if chosen == "reference" or is_differentiated(q, s):
        return reference_blocks.dequantize(q, s, size, dtype)
    if chosen == "triton" and is_eager(q):
        return load("triton_blocks").dequantize(q, s, size, dtype)
    op = "dequantize_blocks_triton" if chosen == "triton" else "dequantize_blocks"
    return getattr(torch.ops.ptgq, op)(q, s, *size, dtype)
