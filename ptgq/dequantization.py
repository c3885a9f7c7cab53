"""The public function that undoes quantization."""

from __future__ import annotations

from collections.abc import Callable
from typing import SupportsIndex

import torch
from torch.compiler import is_dynamo_compiling

from ptgq import extension
from ptgq.arguments import INPUT_DTYPES, check_aligned
from ptgq.backends import (
    _PREFERENCE,
    Backend,
    check_backend,
    choose_backend,
    forced,
    is_eager,
    load,
    loaded,
    reference,
)
from ptgq.dequantize_op import in_forward_mode
from ptgq.scales.formats import DTYPES
from ptgq.values import check_dtype, check_group_size, check_tensor

# Whether a tensor is one of a transform of torch.func, such as vmap.
_is_transformed: Callable[[torch.Tensor], bool] = extension._of_torch(
    "_C._functorch.is_functorch_wrapped_tensor", lambda tensor: False
)
# How many transforms a thread is within.
_transforms: Callable[[], int] = extension._of_torch(
    "_C._functorch.get_dynamic_layer_stack_depth", lambda: 0
)


def _is_transforming() -> bool:
    return _transforms() > 0


# Torch's compiler calls it while it traces, as 2.11's does not know the function in it.
_is_transforming._dynamo_marked_constant = True  # type: ignore[attr-defined]


def dequantize(
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: SupportsIndex,
    *,
    dtype: torch.dtype = torch.float32,
    backend: Backend | None = None,
) -> torch.Tensor:
    """Return ``q * s`` group by group, computed in float32 and rounded once to `dtype`.

    Finite elements can come back infinite. With power-of-two scales, from 31/32 of the power of two
    above all of its type (3.2965e38 in bfloat16 and float32, 63488 in float16), an element is coded
    as 256 times 2^120 (2^8): 2^128 (65536), which that type does not hold. With float32 scales only
    the largest float32 does, as INT8.

    Parameters
    ----------
    q : torch.Tensor
        ``[..., hidden_dim]``, ``float8_e4m3fn`` or ``int8``.
    s : torch.Tensor
        ``[..., hidden_dim // group_size]``, float32 or ``float8_e8m0fnu``, or int32 (packed), of a
        quarter of that, rounded up; in any layout.
    group_size : int
        Elements that share a scale.
    dtype : torch.dtype
        ``torch.float32``, ``torch.bfloat16`` or ``torch.float16``.
    backend : {"cuda", "triton", "cpu", "reference"}, optional
        Force a backend for this call.

    Returns
    -------
    torch.Tensor
        Contiguous, on the backends other than ``reference``. All backends return the same bytes but
        for those of a NaN, which are the device's. Where `q` or `s` requires gradients, and within
        transforms of ``torch.func``, ``reference`` serves the call.

    Raises
    ------
    TypeError
        For an argument of a wrong type or dtype.
    ValueError
        For a wrong shape or device, or an `s` that is not aligned to its elements.
    RuntimeError
        If the backend is not available.
    """
    if not (is_dynamo_compiling() or in_forward_mode()):
        name = forced.get() if backend is None else backend
        if isinstance(name, str) and name == "triton":
            # The first call loads it, and finds out whether it can serve.
            triton = loaded.get("triton_dequantize")
            y = triton and triton.dequantize_directly(q, s, group_size, dtype)
        else:
            y = extension.dequantize_directly(name, q, s, group_size, dtype)
        if y is not None:
            return y
    return _dequantize(q, s, group_size, dtype, backend)


def _dequantize(
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: SupportsIndex,
    dtype: torch.dtype,
    backend: Backend | None,
) -> torch.Tensor:
    check_tensor("q", q, (torch.float8_e4m3fn, torch.int8))
    check_tensor("s", s, DTYPES)
    group_size = check_group_size(group_size, q.shape, "q")
    check_dtype("dtype", dtype, INPUT_DTYPES)
    num_groups = q.shape[-1] // group_size
    shape = (*q.shape[:-1], -(-num_groups // 4) if s.dtype is torch.int32 else num_groups)
    if s.shape != shape:
        raise ValueError(f"s must have shape {shape}, got {tuple(s.shape)}")
    if s.device != q.device:
        raise ValueError(f"s must be on q's device {q.device}, got {s.device}")
    check_aligned("s", s)
    check_backend(backend)
    other = backend is None and q.device.type not in _PREFERENCE
    chosen = "reference" if other or q.is_meta else choose_backend(backend, q.device)
    if chosen == "reference" or is_differentiated(q, s):
        return reference.dequantize(q, s, group_size, dtype)
    if chosen == "triton" and is_eager(q):
        return load("triton_dequantize").dequantize(q, s, group_size, dtype)
    op = "dequantize_triton" if chosen == "triton" else "dequantize"
    return getattr(torch.ops.ptgq, op)(q, s, group_size, dtype)


def is_differentiated(q: torch.Tensor, s: torch.Tensor) -> bool:
    """Whether autograd or a transform of torch.func wants to see what the product consists of."""
    if torch.is_grad_enabled() and (q.requires_grad or s.requires_grad):
        return True
    if torch.compiler.is_compiling():
        return in_forward_mode() or _is_transforming()
    return in_forward_mode() or _is_transformed(q) or _is_transformed(s)
