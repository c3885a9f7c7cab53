"""SiLU and product in plain PyTorch: what the fused functions of the other backends must equal."""

from __future__ import annotations

import torch

# 2^f for |f| <= 0.5 as a polynomial, within 2^-18.4: a bfloat16 is within 2^-9, a code within 2^-4.
_LOG2_E = float.fromhex("0x1.715476p+0")
_POWER = (
    float.fromhex("0x1.3a0458p-7"),
    float.fromhex("0x1.c9fc74p-5"),
    float.fromhex("0x1.ec0372p-3"),
    float.fromhex("0x1.62e12cp-1"),
    1.0,
)
_SHIFT = 1.5 * 2**23
_Number = torch.Tensor | float


def silu_and_mul(x: torch.Tensor, swiglu_limit: float | None = None) -> torch.Tensor:
    """Return ``silu(gate) * up`` for `x` ``[..., gate and up]``, rounded once to the type of `x`.

    Between, all is float32: ``silu(gate) = gate * (1 / (1 + exp(-gate)))``, each operation rounded
    to nearest. exp is computed as written here, so that every device gives the same bits; its
    argument is kept within ±87. With a limit, rounded to float32, ``gate`` is at most that, and
    ``up`` within ± it; NaN stays NaN.
    """
    gate, up = x.float().chunk(2, -1)
    if swiglu_limit is not None:
        limit = torch.tensor(swiglu_limit, dtype=torch.float32, device=x.device)
        gate, up = gate.minimum(limit), up.minimum(limit).maximum(-limit)
    # 1 is a tensor: on CUDA, a number by a tensor may be another operation.
    one = torch.ones((), device=x.device)
    return (gate * (one / (one + _exp_of_minus(gate.clamp(-87, 87)))) * up).to(x.dtype)


def _exp_of_minus(x: torch.Tensor) -> torch.Tensor:
    shifted = _multiply_add(x, -_LOG2_E, _SHIFT)  # the integer part in the last bits
    f = _multiply_add(x, -_LOG2_E, _SHIFT - shifted)
    power = torch.full_like(x, _POWER[0])
    for coefficient in _POWER[1:]:
        power = _multiply_add(power, f, coefficient)
    return (power.view(torch.int32) + (shifted.view(torch.int32) << 23)).view(torch.float32)


def _multiply_add(
    a: torch.Tensor, b: torch.Tensor | float, c: torch.Tensor | float
) -> torch.Tensor:
    """``a * b + c``, rounded once to float32.

    The product is exact in float64. The sum is rounded to odd there, by its error (Knuth's
    TwoSum), which makes the second rounding harmless (Boldo and Melquiond, 2008).
    """
    product = a.double() * b
    total = product + c
    rest = total - product
    error = (product - (total - rest)) + (c - rest)
    bits = total.view(torch.int64)
    step = torch.where((error > 0) == (total > 0), 1, -1)
    inexact_and_even = (error != 0) & (bits & 1 == 0)
    return (bits + step * inexact_and_even).view(torch.float64).float()
