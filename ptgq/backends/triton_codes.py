"""Codes of a tile in Triton, two elements at a time: a thread that has many has registers left."""

from __future__ import annotations

import triton
import triton.language as tl

from ptgq.backends.triton_numerics import (
    e4m3_code,
    hardware_e4m3_code,
    quotient,
    reciprocal,
    saturated,
    to_float32,
)

# The quotients of a word's two elements of x: y = x * r, e = y * scale - x, and y - e * r, with -r.
_OF_BFLOAT16 = tl.constexpr("shl.b32 a, $1, 16; and.b32 b, $1, 0xFFFF0000;")
_OF_FLOAT16 = tl.constexpr(
    "{.reg .b16 l, h; mov.b32 {l, h}, $1; cvt.f32.f16 a, l; cvt.f32.f16 b, h;}"
)
_QUOTIENTS = tl.constexpr(
    "".join(
        f" neg.f32 n, {x}; mul.rn.f32 {y}, {x}, {r}; fma.rn.f32 e, {y}, {scale}, n;"
        f" neg.f32 n, {r}; fma.rn.f32 {y}, e, n, {y};"
        for x, y, r, scale in (("a", "c", "$2", "$4"), ("b", "d", "$3", "$5"))
    )
)
_PRODUCTS = tl.constexpr(" mul.rn.f32 c, a, $2; mul.rn.f32 d, b, $3;")


@triton.jit
def e4m3_codes(
    x,
    scale,
    QMAX: tl.constexpr,
    POWER_OF_TWO: tl.constexpr,
    SATURATE: tl.constexpr,
    CAPABILITY: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """The E4M3 codes of a tile: ``x`` is ``[groups, BLOCK]``, ``scale`` ``[groups]``.

    Of 16-bit `x`, all of two elements follows each other: step by step, a thread would hold float32
    of all of its elements.
    """
    if CAPABILITY >= 89 and not SATURATE and x.dtype != tl.float32:
        halves: tl.constexpr = _OF_BFLOAT16 if x.dtype == tl.bfloat16 else _OF_FLOAT16
        quotients: tl.constexpr = _PRODUCTS if POWER_OF_TWO else _QUOTIENTS
        return tl.inline_asm_elementwise(
            "{.reg .f32 a, b, c, d, e, n; "
            + halves
            + quotients
            + " cvt.rn.satfinite.e4m3x2.f32 $0, d, c;}",
            "=h,r,f,f,f,f",
            [x, reciprocal(scale, INTERPRETED)[:, None], scale[:, None]],
            dtype=tl.uint8,
            is_pure=True,
            pack=2,
        )
    else:
        x = to_float32(x, INTERPRETED)
        y = quotient(x, scale, POWER_OF_TWO, INTERPRETED)
        if SATURATE:
            y = saturated(x, y, QMAX, False)
        return hardware_e4m3_code(y) if CAPABILITY >= 89 else e4m3_code(y)
