"""The fused RMSNorm: its arithmetic, and the bytes of the unfused composition on every backend."""

from __future__ import annotations

import math
from functools import partial

import numpy
import pytest
import torch
from every import TRITON, every
from numeric import assert_same_bytes, assert_same_results, bits
from scale_cases import FORMATS, INTERPRETED, OF_INT8, TILED, name_of
from values import DTYPES, random_input

import ptgq
from ptgq import scales
from ptgq.backends import normalization

FUSED = ptgq.rms_norm_per_token_group_quant_fp8
FUSED_INT8 = ptgq.rms_norm_per_token_group_quant_int8
UNFUSED = {FUSED: ptgq.per_token_group_quant_fp8, FUSED_INT8: ptgq.per_token_group_quant_int8}
NORM_EPS = 1e-6


def weight_of(hidden_dim, dtype):
    """A weight around 1, as models have it."""
    return (1 + random_input((hidden_dim,), torch.float32, seed=7) / 32).to(dtype)


def rounded(value, dtype):
    """A float32 array rounded to a dtype, in float32."""
    return torch.from_numpy(value).to(dtype).float().numpy()


def oracle(x, weight, norm_eps, residual=None):
    """The contract step by step in numpy, which rounds each operation, a row and a node at a time.

    Return y and the residual.
    """
    dtype, rows = x.dtype, x.float().reshape(-1, x.shape[-1]).numpy()
    f32 = numpy.float32
    sums = None
    if residual is not None:
        sums = residual.float().reshape(rows.shape).numpy()
        rows = sums = rounded(rows + sums, residual.dtype)
    w = weight.float().numpy()
    y = numpy.empty_like(rows)
    for row, r in enumerate(rows):
        squares = [f32(v * v) for v in r]
        squares += [f32(0)] * (-len(squares) % 8)
        nodes = []
        for v in range(0, len(squares), 8):
            s = squares[v : v + 8]
            fours = [f32(s[i] + s[i + 4]) for i in range(4)]
            twos = [f32(fours[i] + fours[i + 2]) for i in range(2)]
            nodes.append(f32(twos[0] + twos[1]))
        n = 1
        while n < len(nodes):
            n *= 2
        nodes += [f32(0)] * (n - len(nodes))
        while n > 1:
            n //= 2
            nodes = [f32(nodes[v] + nodes[v + n]) for v in range(n)]
        rstd = f32(math.nan)
        if numpy.isfinite(nodes[0]):
            mean = f32(nodes[0] / f32(len(r)))
            rstd = f32(f32(1) / f32(numpy.sqrt(f32(mean + f32(norm_eps)))))
        y[row] = (r * rstd) * w
    y = torch.from_numpy(y).to(dtype).view(x.shape)
    return y, None if sums is None else torch.from_numpy(sums).to(residual.dtype).view(x.shape)


def assert_same_values(actual, expected, name):
    """Assert equal bytes; a NaN may have any."""
    nan = torch.tensor(torch.nan)
    pairs = (t.cpu().where(~t.cpu().isnan(), nan.to(t.dtype)) for t in (actual, expected))
    assert_same_bytes(*pairs, name)


class Case:
    """Operands of a call."""

    def __init__(self, shape, dtype, weight_dtype=None, residual_dtype=None, x=None):
        self.x = random_input(shape, dtype) if x is None else x
        self.weight = weight_of(shape[-1], weight_dtype or dtype)
        self.residual = None
        if residual_dtype:
            self.residual = random_input(shape, residual_dtype, seed=3)

    def expected(self, function, group_size, norm_eps=NORM_EPS, **options):
        """What the reference returns for its own norm: (q, s), y and the residual."""
        residual = None if self.residual is None else self.residual.clone()
        y = normalization.rms_norm(self.x, self.weight, norm_eps, residual)
        return UNFUSED[function](y, group_size, backend="reference", **options), y, residual

    def check(self, backend_on, function, group_size, in_place=False, **options):
        """Compare all that a call writes with that."""
        backend, device = backend_on
        x, weight = self.x.to(device), self.weight.to(device)
        residual = None if self.residual is None else self.residual.to(device, copy=True)
        x = x.clone() if in_place else x
        norm_out = x if in_place else torch.full_like(x, 7)
        call = partial(function, x, weight, group_size, norm_eps=NORM_EPS, backend=backend)
        expected, y, r = self.expected(function, group_size, **options)
        actual = call(residual=residual, norm_out=norm_out, **options)
        assert_same_results(actual, expected)
        f = options.get("scale_format", scales.scale_format())
        memories = [
            scales.memory_of(s, f).cpu().view(torch.uint8) for s in (actual[1], expected[1])
        ]
        assert torch.equal(*memories)
        assert_same_values(norm_out, y, "norm_out")
        if r is not None:
            assert_same_values(residual, r, "residual")


def hard_rows(hidden_dim, dtype):
    """Rows at the ends of the type: zeros, subnormals, huge, not finite."""
    x = random_input((10, hidden_dim), dtype)
    info = torch.finfo(dtype)
    x[1], x[2] = 0, -0.0
    x[3] *= info.tiny
    x[4] = info.max
    x[5] = x[5].sign() * 1e19
    x[6, 3 % hidden_dim], x[7, -1], x[8, hidden_dim // 2] = torch.nan, torch.inf, -torch.inf
    x[9] = torch.logspace(-9, 1, hidden_dim)
    return x


# Sizes below, at and above what a vector, a warp, a thread's vectors and a block hold.
SIZES = (1, 5, 8, 9, 64, 100, 257, 1536, 2052, 7168)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every(hidden_dim=SIZES, dtype=DTYPES, of_float32=[False, True])
def test_the_reference_is_the_contract(hidden_dim, dtype, of_float32):
    other = torch.float32 if of_float32 else dtype
    rows = 10 if hidden_dim < 1000 else 2
    x = hard_rows(hidden_dim, dtype)[-rows:]
    case = Case(x.shape, dtype, other, other, x)
    for residual in (None, case.residual):
        y, r = oracle(case.x, case.weight, NORM_EPS, residual)
        given = None if residual is None else residual.clone()
        assert_same_values(normalization.rms_norm(x, case.weight, NORM_EPS, given), y, "y")
        if given is not None:
            assert_same_values(given, r, "residual")


def test_the_square_root_is_rounded_to_nearest():
    m = torch.rand(10_000, 1, generator=torch.Generator().manual_seed(0)) * 100
    norm = normalization.rms_norm(m.sqrt(), torch.ones(1), NORM_EPS)
    y, _ = oracle(m.sqrt(), torch.ones(1), NORM_EPS)
    assert torch.equal(norm, y)


# Rows of one vector, part of a warp, whole warps, a block, more than a block's vectors; groups of
# one lane to a whole warp, of more, of the row, and of what is no power of two.
SHAPES = [
    ((2, 5, 64), 16),
    ((3, 256), 32),
    ((3, 1536), 64),
    ((2, 7168), 128),
    ((3, 512), 256),
    ((2, 7168), 512),
    ((2, 6144), 1536),
    ((3, 4096), 4096),
    ((3, 100), 20),
    ((4, 63), 7),
    ((2, 5000), 5000),
    ((2, 20480), 128),
    ((64,), 8),
    ((0, 128), 64),
]
DTYPE_SETS = {
    "bfloat16": (torch.bfloat16, None, None),
    "bfloat16, residual": (torch.bfloat16, None, torch.bfloat16),
    "bfloat16, residual float32": (torch.bfloat16, None, torch.float32),
    "bfloat16, weight float32": (torch.bfloat16, torch.float32, torch.bfloat16),
    "float16": (torch.float16, None, torch.float16),
    "float16, all float32": (torch.float16, torch.float32, torch.float32),
    "float32": (torch.float32, None, None),
    "float32, residual": (torch.float32, None, torch.float32),
}


@pytest.mark.parametrize("start", range(2))
def test_bytes_are_those_of_the_composition(backend_on, start):
    dtype_sets, formats = list(DTYPE_SETS.values()), list(FORMATS.values())
    for number, (shape, group_size) in enumerate(SHAPES[start::2]):
        # Triton compiles a kernel for each, and its interpreter is slow: one of them.
        chosen = dtype_sets[number % 8 :][:1] if backend_on[0] == "triton" else dtype_sets
        for dtypes in chosen:
            f = formats[(number + len(str(dtypes))) % len(formats)]
            Case(shape, *dtypes).check(backend_on, FUSED, group_size, scale_format=f)


@every(f=FORMATS | TILED)
def test_every_format(backend_on, f):
    if backend_on == TRITON and name_of(f) not in INTERPRETED and f != TILED["all"]:
        return
    case = Case((2, 2, 320), *DTYPE_SETS["bfloat16, residual"])
    case.check(backend_on, FUSED, 32, scale_format=f)
    if f in OF_INT8.values():
        case.check(backend_on, FUSED_INT8, 20, scale_format=f)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every(
    shape_and_group_size=[((10, 256), 32), ((10, 100), 100)],
    dtypes=DTYPE_SETS,
    nonfinite=["mark", "saturate"],
)
def test_hard_rows(backend_on, shape_and_group_size, dtypes, nonfinite):
    shape, group_size = shape_and_group_size
    dtype, *others = dtypes
    function = FUSED if nonfinite == "mark" else FUSED_INT8
    case = Case(shape, dtype, *others, hard_rows(shape[-1], dtype))
    case.check(backend_on, function, group_size, in_place=True, nonfinite=nonfinite)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_row_that_is_not_finite_is_marked(backend_on):
    backend, device = backend_on
    x = hard_rows(256, torch.float32).to(device)
    weight = torch.ones(256, device=device)
    q, s = FUSED(x, weight, 64, norm_eps=NORM_EPS, backend=backend)
    # The largest number and 1e19 have a sum of squares that overflows.
    marked = [False] * 4 + [True] * 5 + [False]
    assert s.isnan().all(-1).tolist() == s.isnan().any(-1).tolist() == marked
    assert (bits(q)[4:9] == 0x7F).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every(dtypes=DTYPE_SETS, nonfinite=["mark", "saturate"])
def test_weights_that_are_not_finite(backend_on, dtypes, nonfinite):
    dtype, *others = dtypes
    # As many rows as make the CPU look at the weights, and fewer.
    for rows in (10, 2):
        case = Case((rows, 256), dtype, *others)
        # Rounded as a number, the NaN of all ones would be -0.
        ones = torch.full((1,), 0x7FFF, dtype=torch.int16)
        if case.weight.dtype == torch.float32:
            ones = torch.full((1,), 0x7FFFFFFF, dtype=torch.int32)
        case.weight[3::128] = ones.view(case.weight.dtype)
        case.weight[70] = -torch.inf
        case.check(backend_on, FUSED, 32, nonfinite=nonfinite)


@every(
    view={
        "unaligned": lambda x: x[:, 3:323],
        "rank3": lambda x: x.unflatten(0, (2, 3))[..., :64],
    },
    dtypes=DTYPE_SETS,
)
def test_strided_rows_and_nothing_beside(backend_on, view, dtypes):
    backend, device = backend_on
    dtype, weight_dtype, residual_dtype = dtypes
    wide = random_input((6, 333), dtype)
    case = Case(view(wide).shape, dtype, weight_dtype, residual_dtype, view(wide))
    expected, y, r = case.expected(FUSED, 32)
    on_device = wide.to(device)
    arena = None
    if residual_dtype:
        arena = torch.full((6, 333), 7, dtype=residual_dtype, device=device)
        view(arena).copy_(case.residual)
    actual = FUSED(
        view(on_device), case.weight.to(device), 32, norm_eps=NORM_EPS, backend=backend,
        residual=None if arena is None else view(arena), norm_out=view(on_device),
    )  # fmt: skip
    assert_same_results(actual, expected)
    view(wide).copy_(y)
    assert_same_bytes(on_device.cpu(), wide, "norm_out")
    if arena is not None:
        beside = torch.full((6, 333), 7, dtype=residual_dtype)
        view(beside).copy_(r)
        assert_same_bytes(arena.cpu(), beside, "residual")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_distance_to_a_norm_in_float64(dtype):
    for hidden_dim in (128, 7168, 16384):
        case = Case((16, hidden_dim), dtype)
        r = case.x.double()
        exact = r / (r.square().mean(-1, keepdim=True) + NORM_EPS).sqrt() * case.weight.double()
        y = normalization.rms_norm(case.x.float(), case.weight.float(), NORM_EPS).double()
        # Six roundings to 24 bits, and those of a tree of 14 levels, of which most cancel out.
        assert ((y - exact).abs() <= exact.abs() * 2.0**-21).all()
        same = normalization.rms_norm(case.x, case.weight, NORM_EPS) == exact.to(dtype)
        assert same.double().mean() > {torch.float32: 0.1, torch.float16: 0.995}.get(dtype, 0.999)
