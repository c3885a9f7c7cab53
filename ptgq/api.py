"""The public functions that quantize."""

from __future__ import annotations

from typing import SupportsIndex

import torch

from ptgq.arguments import Nonfinite
from ptgq.backends import Backend
from ptgq.quantization import MARK, quantize
from ptgq.scales import ScaleFormat

_FP8 = torch.float8_e4m3fn


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
    nonfinite: Nonfinite = MARK,
    masked_m: torch.Tensor | None = None,
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
    masked_m : torch.Tensor, optional
        ``[E]``, int32 or int64, of any stride, on the device of `x`: how many rows of each batch
        exist. See the notes.
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

    Notes
    -----
    With `masked_m`, `x` is ``[E, T, hidden_dim]``, rows and batches of any strides, or
    ``[T, hidden_dim]`` of one batch. Of batch e only the first ``masked_m[e]`` rows exist; a count
    below 0 is 0, one above T is T. Other rows are not read. Their codes are not written (with `out`
    they stay as they were), and their scales are zero bytes, as all padding is. The counts are read
    on the device, without waiting for it, so a captured graph takes what they are at each replay.
    They get no gradient.

    Source: DeepGEMM, ``m_grouped_fp8_gemm_nt_masked`` (``csrc/apis/gemm.hpp``,
    ``scheduler/gemm.cuh``), fed by vLLM and SGLang from DeepEP's low-latency dispatch: `q`
    ``[E, T, hidden_dim]``, columns of `s` of each batch (``per_batch=True`` of its presets),
    contiguous int32 counts, none above T. Its contiguous layout, which has an index for each row
    (``m_indices``), is quantized without `masked_m`.

    Examples
    --------
    A decode step that was captured for 8 rows, of which 3 are requests:

    >>> x = torch.ones(8, 256, dtype=torch.bfloat16)
    >>> requests = torch.tensor([3])
    >>> q, s = per_token_group_quant_fp8(x, 128, masked_m=requests)
    >>> s[2:4].bool().tolist()
    [[True, True], [False, False]]
    """
    return quantize(
        x, group_size, _FP8, False, None,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, masked_m, out, backend,
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
    nonfinite: Nonfinite = MARK,
    masked_m: torch.Tensor | None = None,
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
    return quantize(
        x, group_size, _FP8, True, swiglu_limit,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, masked_m, out, backend,
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
    nonfinite: Nonfinite = MARK,
    masked_m: torch.Tensor | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize groups of the last dimension to INT8, each with its own float32 scale.

    ``scale = max(absmax(group), eps) / 127`` and ``q = rint(group / scale)``, half to even.
    Parameters, results and errors are those of :func:`per_token_group_quant_fp8`; `q` is
    ``int8``, and the code of NaN is 0. `s` is float32 in any layout:
    `use_ue8m0`, which rounds the scales up to powers of two, needs ``scale_dtype=torch.float32``.
    """
    return quantize(
        x, group_size, torch.int8, False, None,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, masked_m, out, backend,
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
    nonfinite: Nonfinite = MARK,
    masked_m: torch.Tensor | None = None,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize ``silu(gate) * up`` to INT8, in one kernel.

    The bytes are those of :func:`per_token_group_quant_int8` of an unfused ``silu_and_mul``, which
    :func:`silu_and_mul_per_token_group_quant_fp8` describes, as it does `x`.
    """
    return quantize(
        x, group_size, torch.int8, True, swiglu_limit,
        column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales, scale_format,
        eps, nonfinite, masked_m, out, backend,
    )  # fmt: skip
