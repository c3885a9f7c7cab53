"""The public function that quantizes rows and columns from one read."""

from __future__ import annotations

from collections.abc import Callable
from typing import SupportsIndex

import torch
from torch.compiler import is_dynamo_compiling

from ptgq import extension
from ptgq.arguments import (
    Nonfinite,
    check_apart,
    check_eps,
    check_masked_m,
    check_nonfinite,
    check_out,
    check_read,
    chosen_format,
)
from ptgq.backends import (
    Backend,
    as_bytes,
    check_backend,
    choose_backend,
    forced,
    is_eager,
    load,
    loaded,
)
from ptgq.quantization import MARK
from ptgq.scales import ScaleFormat, memory_of
from ptgq.scales.formats import encode_format
from ptgq.scales.layouts import allocate, shape_of
from ptgq.transposed_op import OP, transposed_shape
from ptgq.values import check_group_size, shown

_FP8 = torch.float8_e4m3fn
_Results = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
# As those of ptgq.extension, of ``(backend, x, group_size, ScaleFormat.code, saturate, masked_m,
# eps, out)``; without the backend to ``(results, (addresses of x and the results), matrices,
# (num_tokens of one, hidden_dim, x_token_stride, s_groups, column_tokens and column_length of s and
# of s_t), index of the CUDA device or -1, stream)``; or None.
quantize_directly: Callable[..., _Results | None] = extension.function("quantize_transposed")
prepare = extension.function("prepare_transposed")


def per_token_group_quant_fp8_transposed(
    x: torch.Tensor,
    group_size: SupportsIndex,
    column_major_scales: bool = False,
    use_ue8m0: bool = False,
    *,
    eps: float = 1e-10,
    scale_dtype: torch.dtype | None = None,
    tma_aligned_scales: bool = False,
    scale_format: ScaleFormat | None = None,
    nonfinite: Nonfinite = MARK,
    masked_m: torch.Tensor | None = None,
    out: _Results | None = None,
    backend: Backend | None = None,
) -> _Results:
    """Quantize groups of rows and, from the same read, groups of columns to FP8 E4M3.

    `q` and `s` are those of :func:`per_token_group_quant_fp8` of `x`; `q_t` and `s_t` those of its
    transpose, whose rows are filled up with zeros to whole groups. So training reads `x` once for
    both of its GEMMs: that with the weights sums over the columns of `x`, that of the weights'
    gradient over its tokens.

    Parameters
    ----------
    x : torch.Tensor
        ``[..., num_tokens, hidden_dim]``, as for :func:`per_token_group_quant_fp8`. Each matrix of
        the last two dimensions is transposed.
    group_size : int
        Elements that share a scale, of a row and of a column; divides ``hidden_dim``.
    masked_m : torch.Tensor, optional
        ``[E]``, how many tokens of each matrix of `x` ``[E, T, hidden_dim]`` exist, as for
        :func:`per_token_group_quant_fp8`. Others count as padding of `q_t` and `s_t`.
    out : tuple of torch.Tensor, optional
        ``(q, s, q_t, s_t)`` to write into, exactly as they would be returned.

    Returns
    -------
    q, s : torch.Tensor
        As of :func:`per_token_group_quant_fp8`.
    q_t : torch.Tensor
        ``[..., hidden_dim, ceil(num_tokens / group_size) * group_size]``, ``float8_e4m3fn``,
        contiguous. Codes past the last token that exists are 0.
    s_t : torch.Tensor
        ``[..., hidden_dim, ceil(num_tokens / group_size)]``, in the format of `s`, whose tokens are
        the columns of `x`. The last group's scale is that of the tokens that exist; that of a group
        without any is zero bytes.

    Other parameters and errors are those of :func:`per_token_group_quant_fp8`.
    """
    flags = column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales
    scale_format = chosen_format(scale_format, *flags)
    saturate = False if nonfinite is MARK else check_nonfinite(nonfinite)
    accepted = scale_format.group_sizes
    # Only an int is compared: comparing a tensor would read it.
    if not is_dynamo_compiling() and (
        not accepted or (type(group_size) is int and group_size in accepted)
    ):
        name = forced.get() if backend is None else backend
        call = x, group_size, scale_format.code, saturate, masked_m, eps, out
        if isinstance(name, str) and name == "triton":
            # The first call loads it, and finds out whether it can serve.
            triton = loaded.get("triton_transposed")
            direct = triton and triton.quantize_directly(*call)
        else:
            direct = quantize_directly(name, *call)
        if direct is not None:
            return direct
    check_read("x", x)
    if x.dim() < 2:
        raise ValueError(f"x must have at least two dimensions, got shape {tuple(x.shape)}")
    group_size = check_group_size(group_size, x.shape, "x")
    eps = check_eps(eps)
    check_masked_m(masked_m, x)
    check_backend(backend)
    chosen = "reference" if x.is_meta else choose_backend(backend, x.device)

    shapes = tuple(x.shape), transposed_shape(tuple(x.shape), group_size)
    of_scales = [shape_of(shape, group_size, scale_format) for shape in shapes]
    if out is None:
        results: _Results = tuple(
            made
            for shape, s_shape in zip(shapes, of_scales, strict=True)
            for made in (
                torch.empty(shape, dtype=_FP8, device=x.device),
                allocate(s_shape, scale_format, x.device),
            )
        )  # type: ignore[assignment]
    else:
        if not isinstance(out, (tuple, list)) or len(out) != 4:
            raise TypeError(f"out must be a tuple (q, s, q_t, s_t), got {shown(out)}")
        for first in (0, 1):
            check_out(
                (out[2 * first], out[2 * first + 1]), x, shapes[first], _FP8, of_scales[first],
                scale_format, 2 * first, masked_m=masked_m,
            )  # fmt: skip
        results = (out[0], out[1], out[2], out[3])
        if not torch.compiler.is_compiling():
            s, s_t = (memory_of(part, scale_format) for part in results[1::2])
            for name, part in (("out[2]", out[2]), ("out[3]", s_t)):
                check_apart(name, part, "out[0]", out[0])
                check_apart(name, part, "out[1]", s)
    if x.is_meta or x.shape[-1] == 0 or (is_eager(x) and x.numel() == 0):
        return results
    run(chosen, x, results, group_size, eps, scale_format, saturate, masked_m)
    return results


def run(
    backend: str,
    x: torch.Tensor,
    results: _Results,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    saturate: bool,
    masked_m: torch.Tensor | None,
) -> None:
    """Run the op of `backend`: eagerly, or as registered in a graph and on fake tensors."""
    if is_eager(x) and backend in ("triton", "reference"):
        module = load("triton_transposed" if backend == "triton" else backend)
        getattr(module, OP)(x, *results, group_size, eps, scale_format, saturate, masked_m)
        extension.increment_version(results)
        return
    op = OP + {"triton": "_triton", "reference": "_reference"}.get(backend, "")
    options = () if masked_m is None else (masked_m,)
    arguments = results if is_eager(x) else tuple(map(as_bytes, results))
    code = encode_format(scale_format)
    getattr(torch.ops.ptgq, op)(x, *arguments, group_size, eps, code, saturate, *options)
