"""Rows and columns from one read: every backend, and the CUDA kernels in the emulator."""

from __future__ import annotations

import ctypes
import itertools

import pytest
import torch
from building import ROOT
from emulated_calls import TYPES
from scale_cases import FORMATS, TILED, every_format, interpret_few, memory
from test_cuda_on_cpu import HERE, compile_sources
from test_cuda_on_cpu import pytestmark as needs_nvcc
from test_direct_triton import Compiled, needs_interpreter
from transposed_oracle import masked_of
from values import DTYPES, hard_input, padded_rows

from ptgq import ScaleFormat, per_token_group_quant_fp8, scales
from ptgq import per_token_group_quant_fp8_transposed as transposed
from ptgq.backends import load
from ptgq.transposed import quantize_directly

# NumPy's, by which Triton's interpreter computes.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
# Tokens and columns that tiles cut off, groups of tokens that the last token does, and sizes of
# groups that have kernels of their own, or none.
SHAPES = {
    "whole tiles": ((256, 256), 128),
    "a cut tile": ((37, 96), 32),
    "matrices": ((2, 130, 192), 64),
    "small groups": ((70, 144), 16),
    "odd": ((3, 41, 60), 20),
    "long": ((150, 140), 140),
    "a token": ((1, 64), 64),
}
every_shape = pytest.mark.parametrize(("shape", "group_size"), SHAPES.values(), ids=SHAPES)


def input_of(shape, group_size, dtype):
    rows = torch.Size(shape[:-1]).numel()
    return hard_input(rows, shape[-1], group_size, dtype).view(shape)


def expected_of(x, group_size, **options):
    """Return what quantizing the matrices, and their padded transposes, gives."""
    tokens = x.shape[-2]
    x_t = torch.nn.functional.pad(x.mT, (0, -tokens % group_size)).contiguous()
    q_t, s_t = per_token_group_quant_fp8(x_t, group_size, backend="reference", **options)
    q_t.view(torch.uint8)[..., tokens:] = 0
    return *per_token_group_quant_fp8(x, group_size, backend="reference", **options), q_t, s_t


def assert_equal(results, expected, f, parts=("q", "s", "q_t", "s_t")):
    for name, result, right in zip(("q", "s", "q_t", "s_t"), results, expected, strict=True):
        if name not in parts:
            continue
        assert (result.shape, result.stride()) == (right.shape, right.stride()), name
        both = (t.cpu().view(torch.uint8) if "q" in name else memory(t, f) for t in (result, right))
        assert torch.equal(*both), name


@every_shape
@pytest.mark.parametrize("nonfinite", ["mark", "saturate"])
def test_every_shape(backend_on, shape, group_size, nonfinite):
    backend, device = backend_on
    f = scales.scale_format()
    interpreted = backend_on == ("triton", "cpu")
    for dtype in DTYPES[: 1 if interpreted else 3]:
        x = input_of(shape, group_size, dtype)
        options = {"scale_format": f, "nonfinite": nonfinite}
        results = transposed(x.to(device), group_size, backend=backend, **options)
        assert_equal(results, expected_of(x, group_size, **options), f)


@every_format
def test_every_format(backend_on, f):
    interpret_few(backend_on, f)
    check_format(backend_on, f, (2, 37, 10 * 32), 32)
    check_format(backend_on, f, (2, 37, 2 * 20), 20)


@pytest.mark.parametrize("f", TILED.values(), ids=TILED)
def test_tiles(backend_on, f):
    check_format(backend_on, f, (2, 37, 10 * 32), 32)


@pytest.mark.parametrize("f", (FORMATS | TILED).values(), ids=FORMATS | TILED)
def test_calls_of_every_format_are_direct(f):
    x = input_of((2, 37, 64), 32, torch.bfloat16)
    expected = transposed(x, 32, scale_format=f)
    for out in (None, overwritten(transposed(x, 32, scale_format=f), f)):
        results = quantize_directly(None, x, 32, f.code, False, None, 1e-10, out)
        assert_equal(results, expected, f)
    # Results that share memory, and rows that one stride does not reach, take the long way.
    q, s, q_t, s_t = expected
    shared = torch.empty(q_t.numel(), dtype=q.dtype)
    both = shared[: q.numel()].view(q.shape), shared.view(q_t.shape)
    options = 32, f.code, False, None, 1e-10
    assert quantize_directly(None, x, *options, (both[0], s, both[1], s_t)) is None
    assert quantize_directly(None, x.mT.contiguous().mT, *options, None) is None
    assert quantize_directly("triton", x, *options, None) is None


@pytest.mark.parametrize("f", (FORMATS | TILED).values(), ids=FORMATS | TILED)
def test_no_tokens_are_none_for_the_op(f):
    for x in (torch.zeros(0, 64), torch.zeros(3, 0, 64), torch.zeros(0, 5, 64)):
        # A parameter's size is not looked at before the op.
        of_op = transposed(torch.nn.Parameter(x), 32, scale_format=f)
        assert [t.shape for t in of_op] == [t.shape for t in transposed(x, 32, scale_format=f)]


@needs_interpreter
@pytest.mark.parametrize("f", (FORMATS | TILED).values(), ids=FORMATS | TILED)
def test_triton_is_launched_as_it_compiled_it(monkeypatch, f):
    triton = load("triton_transposed")
    compiled = Compiled(list(triton.per_token_group_quant_transposed_kernel.arg_names))
    right, ordinary = triton.per_token_group_quant_transposed, []
    monkeypatch.setattr(triton, "_launches", {})
    monkeypatch.setattr(triton, "per_token_group_quant_transposed_kernel", compiled)
    monkeypatch.setattr(
        triton,
        "per_token_group_quant_transposed",
        lambda *call: (ordinary.append(1), right(*call))[1],
    )
    whole = torch.zeros(2, 512, 144, dtype=torch.bfloat16)[..., :128]
    padded = f.token_unit > 1 or f.group_unit > 1
    # What is padded, or at other addresses, takes the ordinary way each time.
    cases = [(whole, 1), (whole.float().contiguous(), 1), (torch.zeros(1, 128, 512).half(), 1)]
    cases += [(torch.zeros(2, 37, 160), 3 if padded else 1)]
    cases += [(torch.zeros(128 * 256 + 1)[1:].view(128, 256), 3)]
    for x, ordinary_calls in cases:
        del compiled.launches[:], ordinary[:]
        out = transposed(x, 32, scale_format=f, backend="triton")
        versions = [t._version for t in out]
        results = transposed(x, 32, scale_format=f, backend="triton")
        again = transposed(x, 32, scale_format=f, out=out, backend="triton")
        assert [id(t) for t in again] == [id(t) for t in out]
        assert all(t._version > before for t, before in zip(out, versions, strict=True))
        first, second, last = compiled.launches
        assert first == last
        addresses = tuple(t.data_ptr() for t in results)
        assert second == (*first[:2], *addresses, *first[6:])
        assert len(ordinary) == ordinary_calls, x.shape
    # So do masked rows.
    del ordinary[:]
    for _ in range(2):
        transposed(x, 32, scale_format=f, masked_m=torch.ones(1).int(), backend="triton")
    assert len(ordinary) == 2


def overwritten(results, f):
    for i, t in enumerate(results):
        (scales.memory_of(t, f) if i % 2 else t).view(torch.uint8).fill_(85)
    return results


def check_format(backend_on, f, shape, group_size):
    backend, device = backend_on
    x = input_of(shape, group_size, torch.bfloat16)
    expected = expected_of(x, group_size, scale_format=f)
    x = x.to(device)
    assert_equal(transposed(x, group_size, scale_format=f, backend=backend), expected, f)
    # Rows apart, and results that exist.
    apart = torch.empty((*shape[:-1], shape[-1] + 16), dtype=x.dtype, device=device)[..., :-16]
    out = overwritten(transposed(x, group_size, scale_format=f, backend=backend), f)
    versions = [t._version for t in out]
    results = transposed(apart.copy_(x), group_size, scale_format=f, backend=backend, out=out)
    assert all(a is b for a, b in zip(results, out, strict=True))
    assert all(t._version > before for t, before in zip(out, versions, strict=True))
    assert_equal(results, expected, f)


@pytest.mark.parametrize("nonfinite", ["mark", "saturate"])
def test_a_column_that_is_not_finite_leaves_its_neighbours(backend_on, nonfinite):
    backend, device = backend_on
    x = input_of((64, 64), 16, torch.bfloat16).nan_to_num(1.0, 2.0, -2.0)
    x[3, 5], x[20, 8], x[21, 11] = torch.nan, torch.inf, -torch.inf
    results = transposed(x.to(device), 16, backend=backend, nonfinite=nonfinite)
    f = scales.scale_format()
    assert_equal(results, expected_of(x, 16, nonfinite=nonfinite), f)


def test_nothing_to_quantize(backend_on):
    backend, device = backend_on
    for shape, of_columns in (((0, 64), (64, 0)), ((3, 0), (0, 32)), ((0, 5, 64), (0, 64, 32))):
        x = torch.empty(shape, device=device)
        q, s, q_t, s_t = transposed(x, 32, backend=backend)
        assert (q.shape, q_t.shape) == (shape, of_columns)
        assert (s.shape[-1], s_t.shape[-1]) == (shape[-1] // 32, of_columns[-1] // 32)


@pytest.mark.parametrize("backend", ["", "_reference"])
def test_the_op(backend):
    x = torch.randn(5, 64, dtype=torch.bfloat16)
    op = getattr(torch.ops.ptgq, f"per_token_group_quant_transposed{backend}")
    results = [t.view(torch.uint8) if t.element_size() == 1 else t for t in transposed(x, 32)]
    torch.library.opcheck(op.default, (x, *results, 32, 1e-10, 0))
    for wrong in (1, 2, 3):
        with pytest.raises((RuntimeError, ValueError), match=r"must (have|be)"):
            op(x, *(r[:-1] if i == wrong else r for i, r in enumerate(results)), 32, 1e-10, 0)


def test_compiled(backend_on):
    backend, device = backend_on
    if backend_on == ("triton", "cpu"):
        pytest.skip("Triton's interpreter can't be compiled")
    f = ScaleFormat.deep_gemm_blackwell()
    compiled = torch.compile(transposed, fullgraph=True, dynamic=True)
    for tokens in (5, 130):
        x = input_of((tokens, 256), 128, torch.bfloat16)
        results = compiled(x.to(device), 128, scale_format=f, backend=backend)
        expected = expected_of(x, 128, scale_format=f)
        assert_equal(results, expected, f)
        compiled(x.to(device), 128, scale_format=f, out=overwritten(results, f), backend=backend)
        assert_equal(results, expected, f)


@pytest.fixture(scope="session")
def emulated(made_once):
    """Build the kernels for the CPU, and return what runs them."""

    def build(folder):
        contract = (ROOT / "csrc" / "contract" / name for name in ("check.cpp", "transposed.cpp"))
        options = ("-shared", "-Xcompiler=-fPIC", "-o", folder / "library.so")
        compile_sources(*options, HERE / "transposed.cpp", *contract)

    library = ctypes.CDLL(str(made_once("transposed_on_cpu", build) / "library.so"))
    library.run.restype = ctypes.c_char_p

    def run(x, group_size, f, saturate, masked_m=None):
        results = overwritten(transposed(x, group_size, scale_format=f, backend="reference"), f)
        tensors = (x, *results, *(() if masked_m is None else (masked_m,)))
        count = len(tensors)
        places = [n for t in tensors for n in (*t.shape, *t.stride())]
        error = library.run(
            ctypes.c_int(count),
            (ctypes.c_void_p * count)(*(t.data_ptr() for t in tensors)),
            (ctypes.c_int64 * len(places))(*places),
            (ctypes.c_int64 * count)(*(t.dim() for t in tensors)),
            (ctypes.c_int * count)(*(TYPES.index(t.dtype) for t in tensors)),
            ctypes.c_int64(group_size), ctypes.c_int64(f.code), ctypes.c_bool(saturate),
        )  # fmt: skip
        assert error is None, error
        return results

    return run


@needs_nvcc
@every_shape
def test_cuda_kernels(emulated, shape, group_size, monkeypatch):
    monkeypatch.setenv("FIRST_WAVE", "4")
    formats = itertools.cycle((*FORMATS.values(), *TILED.values()))
    for dtype, nonfinite, _ in itertools.product(DTYPES, ("mark", "saturate"), range(4)):
        x, f = input_of(shape, group_size, dtype), next(formats)
        options = {"scale_format": f, "nonfinite": nonfinite}
        results = emulated(x, group_size, f, nonfinite == "saturate")
        shared = 16 <= group_size <= 128 and group_size & (group_size - 1) == 0
        parts = ("q", "s", "q_t", "s_t") if shared and nonfinite == "mark" else ("q_t", "s_t")
        assert_equal(results, expected_of(x, group_size, **options), f, parts)


# Of groups that the kernel of tiles takes, and that of columns.
@needs_nvcc
def test_cuda_kernels_of_masked_rows(emulated, monkeypatch):
    monkeypatch.setenv("FIRST_WAVE", "4")
    formats = itertools.cycle((*FORMATS.values(), *TILED.values()))
    shapes = ((140, 3, 64), (257, 1, 128), (41, 3, 20))
    cases = itertools.product(shapes, DTYPES, range(2))
    for number, ((tokens, groups, group_size), dtype, _) in enumerate(cases):
        counts = [0, tokens // 2, -3, tokens, 1, tokens + 9, group_size, group_size + 1]
        counts = (counts[number % 8 :] + counts)[:4]
        stride = 1 + number % 2
        masked_m = torch.tensor(counts, dtype=(torch.int32, torch.int64)[number // 2 % 2])
        masked_m = masked_m.repeat_interleave(stride)[::stride]
        x, f = padded_rows(4, tokens, groups, group_size, dtype), next(formats)
        missing = torch.arange(tokens) >= masked_m.unsqueeze(-1)
        x.masked_fill_(missing.unsqueeze(-1), torch.nan)
        results = emulated(x, group_size, f, False, masked_m)
        parts = ("q_t", "s_t") if group_size == 20 else ("q", "s", "q_t", "s_t")
        assert_equal(results, masked_of(x, group_size, f, masked_m), f, parts)
