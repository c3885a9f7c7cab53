"""The numerics contract in integer arithmetic: no floating-point operation, no cast of torch.

A code rises by one where the quotient, rounded to float32, passes the midpoint of two codes. Both
roundings together are one comparison: of a magnitude with the scale times a constant of 26 bits,
which is exact in 64-bit integers. So each group has a list of thresholds, and the code of a
magnitude is how many of them it has reached.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction

import torch

FLOAT32_INFINITY = 0x7F800000
FLOAT32_NAN = 0x7FC00000


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format; the key of a magnitude is its bits without the sign."""

    dtype: torch.dtype
    integer: torch.dtype
    fraction_bits: int
    bias: int

    @property
    def infinity(self) -> int:
        """The key of infinity, which is the number of finite keys."""
        return (2 * self.bias + 1) << self.fraction_bits

    @property
    def keys(self) -> int:
        """How many keys there are; those of NaN are above infinity's."""
        return (2 * self.bias + 2) << self.fraction_bits


BFLOAT16 = FloatFormat(torch.bfloat16, torch.int16, 7, 127)
FLOAT16 = FloatFormat(torch.float16, torch.int16, 10, 15)
FLOAT32 = FloatFormat(torch.float32, torch.int32, 23, 127)


@dataclass(frozen=True)
class CodeFormat:
    """An 8-bit format: its values of codes 0, 1, ..., the code of NaN, and how a sign is set."""

    values: tuple[Fraction, ...]
    nan: int
    two_complement: bool

    @property
    def qmax(self) -> int:
        """The largest value."""
        return int(self.values[-1])

    def signed(self, codes: torch.Tensor, negative: torch.Tensor | bool) -> torch.Tensor:
        """Return the bytes of codes of magnitudes."""
        flipped = -codes.view(torch.int8) if self.two_complement else codes.view(torch.int8) | -128
        if isinstance(negative, bool):
            return flipped.view(torch.uint8) if negative else codes
        return torch.where(negative, flipped.view(torch.uint8), codes)


def _e4m3(code: int) -> Fraction:
    exponent, fraction = divmod(code, 8)
    return Fraction(fraction + 8 * (exponent > 0)) * Fraction(2) ** (max(exponent, 1) - 10)


E4M3 = CodeFormat(tuple(map(_e4m3, range(0x7F))), 0x7F, False)
INT8 = CodeFormat(tuple(map(Fraction, range(128))), 0, True)


def ulp(value: Fraction) -> Fraction:
    """Return the distance from a positive normal float32 to the next larger one."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if Fraction(2) ** exponent > value:
        exponent -= 1
    return Fraction(2) ** (exponent - 23)


@functools.cache
def rises(codes: CodeFormat) -> list[tuple[int, int, bool]]:
    """Return for each code but the last where the exact quotient leads to the next one.

    Returns
    -------
    list of (n, k, inclusive)
        The code is above this one if the quotient is larger than ``n * 2**k``, or equal and
        `inclusive`. To the even side of a midpoint goes what float32 rounds to it: up to half a
        float32 spacing away, that included, as the midpoint's significand is even.
    """
    found = []
    for code, (low, high) in enumerate(zip(codes.values, codes.values[1:], strict=False)):
        middle = (low + high) / 2
        # An odd code's midpoint is no power of two, below which spacings would halve.
        boundary = middle + ulp(middle) / (-2 if code % 2 else 2)
        k = -(boundary.denominator.bit_length() - 1)
        found.append((int(boundary * Fraction(2) ** -k), k, code % 2 == 1))
    return found


def float32_bits(value: float) -> int:
    """Return the bits of the float32 nearest to a positive number, half to even; it is normal."""
    exact = Fraction(value)
    spacing = ulp(exact)
    significand = round(exact / spacing)  # of a Fraction: half to even
    exponent = spacing.numerator.bit_length() - spacing.denominator.bit_length() + 150
    return ((exponent - 1) << 23) + significand


def bit_length(n: torch.Tensor) -> torch.Tensor:
    """Return how many bits positive 64-bit integers have."""
    length = torch.ones_like(n)
    for step in (32, 16, 8, 4, 2, 1):
        large = n >= 1 << step
        length += step * large
        n = torch.where(large, n >> step, n)
    return length


def to_float32_bits(keys: torch.Tensor, form: FloatFormat) -> torch.Tensor:
    """Return the float32 bits of finite magnitudes, exactly."""
    keys = keys.long()
    p = form.fraction_bits
    exponent, fraction = keys >> p, keys & ((1 << p) - 1)
    normal = ((exponent - form.bias + 127) << 23) + (fraction << (23 - p))
    if form.bias == 127:
        return normal
    # A subnormal of a narrower exponent is a normal float32.
    length = bit_length(fraction.clamp(min=1))
    field = length - p - form.bias + 127
    subnormal = (field << 23) + ((fraction << (24 - length)) - (1 << 23))
    subnormal = torch.where(fraction == 0, 0, subnormal)
    return torch.where(exponent == 0, subnormal, normal)


def scale_bits(absmax: torch.Tensor, eps: float, qmax: int, power_of_two: bool) -> torch.Tensor:
    """Return the float32 bits of the scales of groups, from the float32 bits of their absmax."""
    finite = absmax < FLOAT32_INFINITY
    bits = torch.where(finite, absmax, 0).clamp(min=float32_bits(eps))
    significand, exponent = (bits & 0x7FFFFF) | 0x800000, bits >> 23
    twos = (qmax & -qmax).bit_length() - 1
    numerator, divisor = significand << 27, qmax >> twos
    quotient = numerator // divisor
    dropped = bit_length(quotient) - 24
    kept = quotient >> dropped
    rest, half = quotient - (kept << dropped), torch.ones_like(kept) << (dropped - 1)
    exact = quotient * divisor == numerator
    tie = (rest == half) & exact
    kept += torch.where(tie, kept & 1, (rest >= half).long())
    field = exponent - 27 - twos + dropped
    if int(field.min()) < 1:
        raise ValueError(f"eps must give normal scales, got {eps}")
    scale = ((field - 1) << 23) + kept
    if power_of_two:
        scale = torch.where(scale & 0x7FFFFF == 0, scale, ((scale >> 23) + 1) << 23)
    return torch.where(finite, scale, FLOAT32_NAN)


def thresholds(scales: torch.Tensor, codes: CodeFormat, form: FloatFormat) -> torch.Tensor:
    """Return ``[scales, codes - 1]``: the first key of `form` whose code is above each one.

    `scales` are float32 bits of normal numbers.
    """
    n, k, inclusive = (
        torch.tensor(column, device=scales.device) for column in zip(*rises(codes), strict=True)
    )
    significand = ((scales & 0x7FFFFF) | 0x800000)[:, None]
    product = significand * n
    exponent = (scales >> 23)[:, None] - 150 + k
    # The largest key whose value is at most product * 2**exponent.
    p = form.fraction_bits
    field = bit_length(product) - 1 + exponent + form.bias
    shift = field.clamp(min=1) - form.bias - p - exponent
    shift = shift.clamp(max=62)
    if int(shift.min()) < 0:
        raise ValueError("a boundary has too few bits")
    kept = product >> shift
    exact = kept << shift == product
    key = torch.where(field >= 1, ((field - 1) << p) + kept, kept).clamp(max=form.infinity - 1)
    return key + ~(inclusive & exact)


def codes_of_range(first: list[int], start: int, size: int, device: str) -> torch.Tensor:
    """Return the codes of the keys from `start` on, given where each code begins, in order."""
    begun = sum(key <= start for key in first)
    codes = torch.full((size,), begun, dtype=torch.uint8, device=device)
    for code, key in enumerate(first[begun:], start=begun + 1):
        if key < start + size:
            codes[key - start :] = code
    return codes
