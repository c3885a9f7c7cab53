"""The fused SiLU: its arithmetic, and the bytes of the unfused composition on every backend."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import partial

import pytest
import torch
from every import every
from numeric import assert_same_results, bits
from scale_cases import FORMATS, NAMED, OF_INT8, every_format, interpret_few
from values import DTYPES, random_input

import ptgq
from ptgq import scales
from ptgq.backends import activation

FUSED = ptgq.silu_and_mul_per_token_group_quant_fp8
FUSED_INT8 = ptgq.silu_and_mul_per_token_group_quant_int8
UNFUSED = {FUSED: ptgq.per_token_group_quant_fp8, FUSED_INT8: ptgq.per_token_group_quant_int8}
HALF = Fraction(1, 2)


def check(x, group_size, f, backend_on, function=FUSED, limit=None):
    """Compare with quantizing the reference's activation by itself."""
    backend, device = backend_on
    on_device = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device).copy_(x)
    options = {"scale_format": f, "swiglu_limit": limit, "backend": backend}
    actual = function(on_device, group_size, **options)
    activated = activation.silu_and_mul(x, limit)
    expected = UNFUSED[function](activated, group_size, scale_format=f, backend="reference")
    assert_same_results(actual, expected)
    memory = [scales.memory_of(s, f).cpu().view(torch.uint8) for s in (actual[1], expected[1])]
    assert torch.equal(*memory)


SHAPES = [
    ((2, 5, 2 * 6 * 64), 64),
    ((7, 2 * 5 * 32), 32),
    ((3, 2 * 7 * 128), 128),
    ((5, 2 * 3 * 512), 512),
    ((9, 2 * 3 * 16), 16),
    ((4, 2 * 7 * 48), 48),
    ((6, 2 * 63), 7),
    ((2, 2 * 5000), 5000),
    ((2 * 64,), 64),
    ((0, 128), 64),
]


@every(shape_and_group_size=SHAPES, dtype=DTYPES, f=FORMATS)
def test_bytes_are_those_of_the_composition(backend_on, shape_and_group_size, dtype, f):
    shape, group_size = shape_and_group_size
    check(random_input(shape, dtype), group_size, f, backend_on)


@every(shape_and_group_size=SHAPES, dtype=DTYPES, f=OF_INT8)
def test_int8_codes_are_those_of_the_composition(backend_on, shape_and_group_size, dtype, f):
    shape, group_size = shape_and_group_size
    check(random_input(shape, dtype), group_size, f, backend_on, FUSED_INT8)


# 10 is DeepSeek-V4's; bfloat16 can't hold 0.3 and 7.77, nor float16 1e-24 and 3e38.
LIMITS = [10, 0.3, 7.77, 88.5, 1e-24, 3e38]


def clamping_input(shape, dtype):
    """Values on both sides of the limits, infinities and NaN among them."""
    x = random_input(shape, dtype)
    x.view(-1)[::7] *= 20
    x[0, ::11], x[1, 5::11], x[2, 3::11] = torch.inf, -torch.inf, torch.nan
    return x


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every(
    shape_and_group_size=[((9, 2 * 6 * 64), 64), ((7, 2 * 63), 7), ((3, 2 * 5000), 5000)],
    dtype=DTYPES,
    limit=LIMITS,
)
def test_clamped(backend_on, shape_and_group_size, dtype, limit):
    shape, group_size = shape_and_group_size
    x = clamping_input(shape, dtype)
    for function in UNFUSED:
        check(x, group_size, NAMED["column_float32"], backend_on, function, limit)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_clamp_is_what_it_says(limit):
    x = clamping_input((9, 2 * 512), torch.bfloat16)
    gate, up = x.float().chunk(2, -1)
    limit = torch.tensor(limit, dtype=torch.float32).item()
    clamped = torch.cat([gate.clamp(max=limit), up.clamp(-limit, limit)], -1)
    assert torch.equal(clamped.isnan(), x.isnan())
    # In float32, as bfloat16 can't hold each limit.
    expected = activation.silu_and_mul(clamped).bfloat16()
    y = activation.silu_and_mul(x, limit)
    assert torch.equal(bits(y.nan_to_num()), bits(expected.nan_to_num()))
    assert torch.equal(y.isnan(), expected.isnan())


def test_what_was_exported_before_the_limit_is_not_clamped():
    x, out = clamping_input((9, 128), torch.bfloat16), []
    for limit in ([], [None], [10.0]):
        out.append((torch.empty(9, 64, dtype=torch.float8_e4m3fn), torch.empty(9, 2)))
        op = torch.ops.ptgq.silu_and_mul_per_token_group_quant
        op(x, *out[-1], 32, 1e-10, 0, *limit)
    assert_same_results(out[0], out[1])
    assert_same_results(out[2], FUSED(x, 32, swiglu_limit=10, backend="reference"))
    assert not torch.equal(bits(out[0][0]), bits(out[2][0]))


@pytest.mark.gpu
@every(group_size=[16, 32, 64, 96, 256, 512], f=FORMATS)
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize(("repeats", "elements"), [(61, 8), (269, 3 * 16)])
def test_more_groups_than_a_gpu_holds(backend, group_size, f, repeats, elements):
    # A lane of the CUDA kernel quantizes 8 elements; 16 where the device holds no lane for each 8;
    # and above three waves of these, two vectors of 16. The last ones are none.
    x = random_input((61, 2 * 1536), torch.bfloat16).cuda().repeat(repeats, 1)
    gpu = torch.cuda.get_device_properties(x.device)
    held = gpu.multi_processor_count * gpu.max_threads_per_multi_processor
    assert x.numel() / 2 > elements * held
    actual = FUSED(x, group_size, scale_format=f, backend=backend)
    expected = FUSED(x, group_size, scale_format=f, backend="reference")
    assert_same_results(actual, expected)
    memory = [scales.memory_of(s, f).view(torch.uint8) for s in (actual[1], expected[1])]
    assert torch.equal(*memory)


# The interpreter's arithmetic is numpy's, which warns of what gives NaN or infinity.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_bfloat16_gate(backend_on):
    patterns = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    gates = torch.cat([patterns, patterns.new_zeros(-len(patterns) % 4096)]).view(-1, 4096)
    for up in (1.0, 300.0):
        x = torch.cat([gates, torch.full_like(gates, up)], -1)
        for function in UNFUSED:
            check(x, 16, NAMED["row_float32"], backend_on, function)


@every(
    view={
        "rows": lambda x: x[:, :384],
        "unaligned": lambda x: x[:, 3:387],
        "rank3": lambda x: x.unflatten(0, (4, 5))[..., :64],
    },
    dtype=DTYPES,
)
def test_strided_input(backend_on, view, dtype):
    backend, device = backend_on
    x = random_input((20, 517), dtype)
    actual = FUSED(view(x.to(device)), 32, backend=backend)
    expected = FUSED(view(x).contiguous(), 32, backend="reference")
    assert_same_results(actual, expected)


def test_out_and_nothing_beyond(backend_on):
    backend, device = backend_on
    x = random_input((5, 2 * 384), torch.bfloat16)
    expected = FUSED(x, 128, backend="reference")
    arena = torch.full((5 * 384 + 64,), 0xA5, dtype=torch.uint8, device=device)
    q = arena[32:-32].view(torch.float8_e4m3fn).view(5, 384)
    out = q, torch.empty(5, 3, device=device)
    assert FUSED(x.to(device), 128, backend=backend, out=out)[0] is q
    assert_same_results(out, expected)
    assert (arena[:32] == 0xA5).all()
    assert (arena[-32:] == 0xA5).all()


def test_non_finite_groups_are_marked(backend_on):
    x = torch.ones(4, 2 * 64, dtype=torch.bfloat16)
    x[0, 3], x[1, 70], x[2, 5] = math.nan, math.inf, -math.inf
    backend, device = backend_on
    q, s = FUSED(x.to(device), 32, backend=backend)
    assert s.isnan().tolist() == [[True, False]] * 3 + [[False, False]]
    assert (bits(q)[:3, :32] == 0x7F).all()
    check(x, 32, NAMED["row_float32"], backend_on)
    q, s = FUSED_INT8(x.to(device), 32, True, True, scale_dtype=torch.float32, backend=backend)
    assert s.isnan().tolist() == [[True, False]] * 3 + [[False, False]]
    assert not q[:3, :32].any()
    check(x, 32, NAMED["column_ue8m0_float32"], backend_on, FUSED_INT8)


@every_format
def test_compiled(backend_on, f):
    interpret_few(backend_on, f)
    backend, device = backend_on
    torch._dynamo.reset()
    x = random_input((2, 5, 2 * 64), torch.bfloat16).to(device)
    for function in UNFUSED if f in OF_INT8.values() else (FUSED,):
        limit = None if f.column_major else 1.3
        options = {"scale_format": f, "swiglu_limit": limit, "backend": backend}
        quantize = partial(function, group_size=32, **options)
        run = torch.compile(lambda x, quantize=quantize: quantize(x), fullgraph=True)
        assert_same_results(run(x), quantize(x))


def test_multiply_add_rounds_once():
    # By exact rational arithmetic, among them sums that lie next to the middle of two float32.
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2000, generator=generator) for _ in range(2))
    c = -(a * b) * (1 + torch.randn(2000, generator=generator) * 2.0**-20)
    c[::4] = torch.randn(500, generator=generator) * 2.0**30
    a[:8], b[:8] = 1 + 2.0**-12, 1 + 2.0**-12
    c[:8] = torch.tensor([2.0**25, -(2.0**25), 2.0**60, 2.0**-60, -1, -(2.0**-60), 2.0**24, 0])
    result = activation._multiply_add(a, b, c)
    for values in zip(*(t.tolist() for t in (a, b, c, result)), strict=True):
        x, y, z, got = map(Fraction, values)
        exact = x * y + z
        near = torch.tensor(float(got))
        below, above = (
            Fraction(torch.nextafter(near, torch.tensor(limit)).item())
            for limit in (-math.inf, math.inf)
        )
        assert got - (got - below) * HALF <= exact <= got + (above - got) * HALF


def test_activation_is_that_of_torch_within_one_unit_in_the_last_place():
    for dtype, rarely in ((torch.bfloat16, 1e-3), (torch.float16, 1e-2)):
        x = random_input((1024, 2048), dtype)
        gate, up = x.float().chunk(2, -1)
        expected = (torch.nn.functional.silu(gate) * up).to(dtype)
        apart = (bits(activation.silu_and_mul(x)) - bits(expected).int()).abs()
        assert apart.max() <= 1
        assert (apart > 0).double().mean() < rarely


@pytest.mark.parametrize(("dtype", "one_of"), [(torch.bfloat16, 30_000), (torch.float16, 2_500)])
def test_the_distance_from_the_exact_function_of_every_gate(dtype, one_of):
    gate = torch.arange(65536).to(torch.int16).view(dtype)
    gate = gate[gate.float().abs() <= 87]
    exact = torch.nn.functional.silu(gate.double())
    x = torch.stack([gate, torch.ones_like(gate)], -1)
    y = activation.silu_and_mul(x.float())[:, 0].double()
    assert ((y - exact).abs() <= exact.abs() * 2.0**-17.9).all()
    apart = (bits(activation.silu_and_mul(x)[:, 0]) - bits(exact.to(dtype)).int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).double().mean() <= 1 / one_of


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.ones(2, 129), {}, "x must have an even last dimension, got 129"),
        (torch.ones(2, 130), {}, "group_size must divide the last dimension of half of x, 65"),
        (
            torch.ones(2, 128),
            {"out": (torch.empty(2, 128, dtype=torch.float8_e4m3fn), torch.empty(2, 1))},
            r"out\[0\] must have shape \(2, 64\), got \(2, 128\)",
        ),
        (torch.ones(2, 128), {"tma_aligned_scales": True}, "it needs column_major_scales=True"),
    ],
)
def test_wrong_arguments(x, options, message):
    with pytest.raises(ValueError, match=message):
        FUSED(x, 64, **options)


@pytest.mark.parametrize(
    ("x", "q", "message"),
    [
        (torch.ones(2, 129), torch.int8, "last dimension of x must be even, got 129"),
        (torch.ones(2, 256), torch.int8, "q must have the shape of x, half as wide"),
    ],
)
def test_op_refuses(x, q, message):
    q, s = torch.empty(2, 64, dtype=q), torch.empty(2, 1)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.ptgq.silu_and_mul_per_token_group_quant(x, q, s, 64, 1e-10, 0)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf, -math.inf, 1e39, 1e-25])
def test_op_refuses_limits(limit):
    x, q, s = torch.ones(2, 128), torch.empty(2, 64, dtype=torch.int8), torch.empty(2, 1)
    got = re.escape(f", got {limit:g}") + "$"
    with pytest.raises(RuntimeError, match=f"^swiglu_limit must lie between .*{got}"):
        torch.ops.ptgq.silu_and_mul_per_token_group_quant(x, q, s, 64, 1e-10, 0, limit)


@pytest.mark.parametrize("suffix", ["", "_reference"])
def test_opcheck(suffix):
    op = getattr(torch.ops.ptgq, "silu_and_mul_per_token_group_quant" + suffix).default
    # As bytes: opcheck compares tensors, which torch does not do for 8-bit floating point.
    for dtype in (torch.uint8, torch.int8):
        q, s = torch.zeros(6, 64, dtype=dtype), torch.zeros(6, 2)
        for limit in (None, 10.0):
            arguments = random_input((6, 128), torch.bfloat16), q, s, 32, 1e-10, 0, limit
            torch.library.opcheck(op, arguments)
