"""The numerics contract in Triton: what ``numerics.h`` and ``silu.h`` of ``csrc`` are in C++."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def e4m3_code(y):
    """float32 to E4M3 in integer arithmetic: round to nearest even, saturate; NaN is 0x7F.

    For devices without the conversion (before 8.9), and for the interpreter, which rounds wrongly.
    """
    bits = y.to(tl.uint32, bitcast=True)
    # As csrc/cpu/numerics.h: 448 is 0x43E00000, 2^-6 is 0x3C800000, 2^14 is 0x46800000.
    magnitude = tl.minimum(bits & 0x7FFFFFFF, 0x43E00000)
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - 960
    shifted = magnitude.to(tl.float32, bitcast=True) + 16384.0
    subnormal = shifted.to(tl.uint32, bitcast=True) - 0x46800000
    code = ((bits >> 24) & 0x80) | tl.where(magnitude < 0x3C800000, subnormal, normal)
    return tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7F, code).to(tl.uint8)


@triton.jit
def hardware_e4m3_code(y):
    """float32 to E4M3 by the instruction that devices have from 8.9 on: as `e4m3_code`.

    Not by Triton's conversion, which before its release 3.9 rounds twice for 8.9.
    """
    return tl.inline_asm_elementwise(
        "cvt.rn.satfinite.e4m3x2.f32 $0, $2, $1;",
        "=h,f,f",
        [y],
        dtype=tl.uint8,
        is_pure=True,
        pack=2,
    )


@triton.jit
def int8_code(y):
    """float32 to INT8, half to even: the last bits of y + 1.5 * 2^23; not for NaN."""
    return (y + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)


@triton.jit
def to_float32(x, INTERPRETED: tl.constexpr):
    """`x` in float32, exactly: the interpreter does not convert subnormals of bfloat16 so."""
    if x.dtype != tl.bfloat16:
        return x.to(tl.float32)
    elif INTERPRETED:
        return (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        # An instruction each: of the upper half, Triton makes two.
        return tl.inline_asm_elementwise(
            "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xFFFF0000;",
            "=r,=r,r",
            [x],
            dtype=tl.float32,
            is_pure=True,
            pack=2,
        )


@triton.jit
def larger_magnitudes(x):
    """Of every two pairs of 16-bit `x`, the larger magnitudes, of any sign; NaN of NaN."""
    a, b = tl.split(tl.permute(tl.reshape(x, [x.shape[0], x.shape[1] // 4, 2, 2]), [0, 1, 3, 2]))
    kind: tl.constexpr = "bf16" if x.dtype == tl.bfloat16 else "f16"
    larger = tl.inline_asm_elementwise(
        "max.NaN.xorsign.abs." + kind + "x2 $0, $1, $2;",
        "=r,r,r",
        [a, b],
        dtype=x.dtype,
        is_pure=True,
        pack=2,
    )
    return tl.reshape(larger, [x.shape[0], x.shape[1] // 2])


@triton.jit
def absmax_bits(
    x,
    HALVED: tl.constexpr,
    SATURATE: tl.constexpr,
    INTERPRETED: tl.constexpr,
    IN_PLACE: tl.constexpr = True,
):
    """The largest |x| of each group, ``[groups, BLOCK]``, as bits of float32.

    As integers they order like the values, infinity and NaN on top; SATURATE: these count as 0.
    HALVED: how often, of 16-bit `x`, a thread compares two pairs at a time: 3 times if it has 16
    elements side by side. IN_PLACE: what is computed of the result has the threads of `x`.
    """
    steps: tl.constexpr = HALVED if x.dtype != tl.float32 and not SATURATE else 0
    for _ in tl.static_range(steps):
        x = larger_magnitudes(x)
    bits = to_float32(x, INTERPRETED).to(tl.int32, bitcast=True) & 0x7FFFFFFF
    if SATURATE:
        bits = tl.where(bits < 0x7F800000, bits, 0)
    # In the shape of x again, or Triton would move x to the threads of a result of this shape.
    for _ in tl.static_range(steps if IN_PLACE else 0):
        bits = tl.reshape(tl.join(bits, bits), [bits.shape[0], 2 * bits.shape[1]])
    return tl.max(bits, 1)


@triton.jit
def reciprocal(x, INTERPRETED: tl.constexpr):
    """1 / x, rounded to nearest, for 2^-126 <= x < 2^126: as reciprocal_of in C++."""
    if INTERPRETED:
        return tl.div_rn(tl.full(x.shape, 1.0, tl.float32), x)
    else:
        # A division would look for subnormals, which takes twice as long.
        return tl.inline_asm_elementwise(
            "{.reg .f32 n, y, e; neg.f32 n, $1; rcp.approx.ftz.f32 y, $1;"
            " fma.rn.f32 e, n, y, 0f3F800000; fma.rn.f32 $0, e, y, y;}",
            "=f,f",
            [x],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )


@triton.jit
def quotient_by_qmax(absmax, QMAX: tl.constexpr, INTERPRETED: tl.constexpr):
    """Absmax / QMAX as IEEE division rounds it: as in csrc/contract/numerics.h."""
    if INTERPRETED:
        return tl.div_rn(absmax, tl.full(absmax.shape, QMAX, tl.float32))
    else:
        y = absmax * (1.0 / QMAX)
        return tl.fma(tl.fma(y, -QMAX, absmax), 1.0 / QMAX, y)


@triton.jit
def group_scale(
    absmax_bits, eps, QMAX: tl.constexpr, POWER_OF_TWO: tl.constexpr, INTERPRETED: tl.constexpr
):
    """The scale of a group, from the bits of its largest magnitude."""
    absmax = tl.maximum(absmax_bits.to(tl.float32, bitcast=True), eps)
    scale = quotient_by_qmax(absmax, QMAX, INTERPRETED)
    bits = scale.to(tl.int32, bitcast=True)
    if POWER_OF_TWO:
        bits = (bits + 0x7FFFFF) & 0x7F800000
    # Infinity and NaN order above all finite values.
    return tl.where(absmax_bits < 0x7F800000, bits, 0x7FC00000).to(tl.float32, bitcast=True)


@triton.jit
def quotient(x, scale, POWER_OF_TWO: tl.constexpr, INTERPRETED: tl.constexpr):
    """X / scale as IEEE division rounds it: `x` is ``[groups, BLOCK]``, `scale` ``[groups]``.

    With the correctly rounded reciprocal, one residual step gives it (Markstein, IBM J. Res. Dev.
    34, 1990, theorem 8.4). The reciprocal is negated, never the residual: Triton's minus is
    0 - residual, which would turn -0 into 0. By a power of two, the product is the quotient.
    """
    if POWER_OF_TWO:
        return x * reciprocal(scale, INTERPRETED)[:, None]
    elif INTERPRETED:
        return tl.div_rn(x, tl.zeros_like(x) + scale[:, None])
    else:
        r = reciprocal(scale, INTERPRETED)[:, None]
        y = x * r
        # y * scale - x: of a minus, Triton makes an instruction of its own.
        residual = tl.inline_asm_elementwise(
            "{.reg .f32 n; neg.f32 n, $3; fma.rn.f32 $0, $1, $2, n;}",
            "=f,f,f,f",
            [y, scale[:, None], x],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
        return tl.fma(residual, -r, y)


@triton.jit
def saturated(x, y, QMAX: tl.constexpr, INT8: tl.constexpr):
    """What is coded of `x`, of quotient `y`: as saturated() in csrc/contract/numerics.h."""
    bits = x.to(tl.uint32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    largest = tl.where(bits == magnitude, QMAX, -QMAX)
    of_nan: tl.constexpr = 0.0 if INT8 else float("nan")
    others = tl.where(magnitude == 0x7F800000, largest, of_nan)
    return tl.where(magnitude < 0x7F800000, y, others)


@triton.jit
def fused_multiply_add(a, b, c, INTERPRETED: tl.constexpr):
    """A * b + c, rounded once. The interpreter's fma rounds twice: there, by float64."""
    if INTERPRETED:
        return (a.to(tl.float64) * b + c).to(tl.float32)
    else:
        return tl.fma(a, b, c)


# The 32 operands of a thread's results, and the 64 of its two inputs, of which each 8 are a load.
_LOADED = tl.constexpr(
    "{.reg .b32 t; mov.b32 t, 0; "
    + "".join(f"xor.b32 t, t, ${i}; " for i in range(32, 96, 8))
    + "popc.b32 t, t; shr.b32 t, t, 6; or.b32 t, t, 0x4B400000; "
    + "".join(f"mov.b32 ${i}, t; " for i in range(32))
    + "}"
)
_LOADED_OPERANDS = tl.constexpr(",".join(["=f"] * 32 + ["f"] * 64))


@triton.jit
def rounding_constant(gate, up, INTERPRETED: tl.constexpr):
    """1.5 * 2^23, which sums round to integers; known to a thread only when it has all elements.

    Else the compiler puts loads off between the computations, to save registers, and waits for each
    in turn; halves of lines that an earlier load brought leave the cache. (The number of bits in a
    word, divided by 64, is 0, which the compiler does not see.)
    """
    if INTERPRETED:
        return tl.full(gate.shape, 12582912.0, tl.float32)
    else:
        return tl.inline_asm_elementwise(
            _LOADED, _LOADED_OPERANDS, [gate, up], dtype=tl.float32, is_pure=True, pack=32
        )


@triton.jit
def silu_and_mul(gate, up, limit, LIMITED: tl.constexpr, INTERPRETED: tl.constexpr):
    """SiLU(gate) * up in float32, operation by operation as in backends/activation.py."""
    magic = rounding_constant(gate, up, INTERPRETED)
    if LIMITED:
        gate = tl.minimum(gate, limit, propagate_nan=tl.PropagateNan.ALL)
        up = tl.minimum(up, limit, propagate_nan=tl.PropagateNan.ALL)
        up = tl.maximum(up, -limit, propagate_nan=tl.PropagateNan.ALL)
    x = tl.clamp(gate, -87.0, 87.0)
    shifted = fused_multiply_add(x, -1.4426950216293335, magic, INTERPRETED)
    f = fused_multiply_add(x, -1.4426950216293335, 12582912.0 - shifted, INTERPRETED)
    power = fused_multiply_add(f, 0.009583037346601486, 0.0559065118432045, INTERPRETED)
    power = fused_multiply_add(power, f, 0.2402409464120865, INTERPRETED)
    power = fused_multiply_add(power, f, 0.6931241750717163, INTERPRETED)
    power = fused_multiply_add(power, f, 1.0, INTERPRETED)
    bits = power.to(tl.int32, bitcast=True) + (shifted.to(tl.int32, bitcast=True) << 23)
    below = 1.0 + bits.to(tl.float32, bitcast=True)
    return gate * reciprocal(below, INTERPRETED) * up


@triton.jit
def rounded(y, like, INTERPRETED: tl.constexpr):
    """Float32 rounded to the dtype of `like`. The interpreter cuts bfloat16 off, and subnormals."""
    if INTERPRETED and like.dtype == tl.bfloat16:
        bits = y.to(tl.int32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return tl.where(y == y, nearest, 0x7FC0).to(tl.int16).to(like.dtype, bitcast=True)
    elif INTERPRETED or like.dtype == tl.float32:
        return y.to(like.dtype)
    else:
        # Two at a time: of one, Triton makes an instruction at a quarter of the rate.
        kind: tl.constexpr = "bf16" if like.dtype == tl.bfloat16 else "f16"
        return tl.inline_asm_elementwise(
            "cvt.rn." + kind + "x2.f32 $0, $2, $1;",
            "=r,f,f",
            [y],
            dtype=like.dtype,
            is_pure=True,
            pack=2,
        )
