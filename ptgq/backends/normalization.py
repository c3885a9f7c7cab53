"""RMSNorm in plain PyTorch: what the fused functions of the other backends must equal."""

from __future__ import annotations

import torch

from ptgq.values import names_of

# Neighbours that the sum begins with.
_NEIGHBOURS = 8
# Elements are handled so many at a time, to keep float32 intermediates small.
_CHUNK = 1 << 24


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    norm_eps: float,
    residual: torch.Tensor | None = None,
    norm_out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the RMSNorm of each row of `x`, rounded once to its type; in `norm_out`, if given.

    With a residual, that becomes its sum with `x`, rounded to its type, which is normalized
    instead. Otherwise, all is float32: each operation of
    ``r * (1 / sqrt(sum(r * r) / hidden_dim + norm_eps)) * weight`` is rounded to nearest.
    """
    hidden_dim = x.shape[-1]
    y = torch.empty_like(x, memory_format=torch.contiguous_format) if norm_out is None else norm_out
    rows, results = x.reshape(-1, hidden_dim), y.view(-1, hidden_dim)
    sums = None if residual is None else residual.view(-1, hidden_dim)
    # Constants are tensors: on CUDA, a number by a tensor may be another operation.
    one, size, eps = (
        torch.tensor(value, dtype=torch.float32, device=x.device)
        for value in (1, hidden_dim, norm_eps)
    )
    step = max(1, _CHUNK // hidden_dim)
    for start in range(0, len(rows), step):
        chunk = slice(start, start + step)
        r = rows[chunk].float()
        if sums is not None:
            sums[chunk] = (sums[chunk].float() + r).to(sums.dtype)
            r = sums[chunk].float()
        total = sum_of_squares(r)
        # float64 is used: torch's float32 square root is not rounded to nearest on every processor.
        root = (total / size + eps).double().sqrt().float()
        rstd = torch.where(total.isfinite(), one / root, torch.nan)
        results[chunk] = (r * rstd * weight.float()).to(x.dtype)
    return y


def sum_of_squares(r: torch.Tensor) -> torch.Tensor:
    """Return the sum of the squares of each row, ``[rows, 1]``, by a tree that is always the same.

    First of each 8 neighbours, then of these sums, up to a power of two; both by halves, and with
    zeros for what is missing.
    """
    neighbours = -(-r.shape[-1] // _NEIGHBOURS)
    padded = 1 << (neighbours - 1).bit_length()
    squares = torch.nn.functional.pad(r * r, (0, padded * _NEIGHBOURS - r.shape[-1]))
    sums = _by_halves(squares.unflatten(-1, (padded, _NEIGHBOURS))).squeeze(-1)
    return _by_halves(sums)


def _by_halves(sums: torch.Tensor) -> torch.Tensor:
    while sums.shape[-1] > 1:
        lower, upper = sums.chunk(2, -1)
        sums = lower + upper
    return sums


def announce_writes(
    x: torch.Tensor,
    weight: torch.Tensor,
    residual: torch.Tensor | None,
    norm_out: torch.Tensor | None,
) -> None:
    """Check the operands of `x`, or of its rows, which the ops take as they are given.

    Then let autograd count the writes to come, and torch refuse what may not be written in place.
    """
    hidden_dim = x.shape[-1]
    both = x.dtype, torch.float32
    if weight.shape != (hidden_dim,):
        raise ValueError(f"weight must have shape {(hidden_dim,)}, got {tuple(weight.shape)}")
    for name, tensor, dtypes in (
        ("weight", weight, both),
        ("residual", residual, both),
        ("norm_out", norm_out, (x.dtype,)),
    ):
        if tensor is None:
            continue
        if tensor.dtype not in dtypes:
            raise TypeError(f"{name} must have a dtype of {names_of(dtypes)}, got {tensor.dtype}")
        if name == "weight":
            continue
        if (tensor.shape[-1], tensor.numel()) != (hidden_dim, x.numel()):
            raise ValueError(f"{name} must have the shape of x, got {tuple(tensor.shape)}")
        row_stride(name, tensor)
    for tensor in (residual, norm_out):
        if tensor is not None:
            tensor.copy_(tensor)


def row_stride(name: str, tensor: torch.Tensor) -> int:
    """Return the stride between rows that are written; raise unless there is one."""
    hidden_dim = tensor.shape[-1]
    try:
        stride = tensor.view(-1, hidden_dim).stride()
    except RuntimeError:
        stride = (0, 0)
    if (tensor.numel() > hidden_dim and stride[0] < hidden_dim) or stride[1] != 1 < hidden_dim:
        raise ValueError(
            f"{name} must have contiguous rows with one stride between them, got strides "
            f"{tensor.stride()}"
        )
    return stride[0]
