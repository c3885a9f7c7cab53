"""dequantize on every backend: float64 has the product, which is rounded to float32 first."""

from __future__ import annotations

import itertools
from importlib import import_module

import pytest
import torch
from products import assert_same, codes_of, expected_of, strided
from scale_cases import every_format, interpret_few
from values import DTYPES, random_input

import ptgq
from ptgq import ScaleFormat, extension, scales

# NumPy's, by which Triton's interpreter computes.
pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
CODES = torch.arange(256, dtype=torch.uint8)
Q_DTYPES = (torch.float8_e4m3fn, torch.int8)
# By the dtype of s: a value of each exponent, both signs; each byte.
WORDS = torch.arange(0, 2**32, 2**23 + 1031, dtype=torch.int64).to(torch.int32)
SCALES = {
    torch.float32: WORDS.view(torch.float32),
    torch.float8_e8m0fnu: CODES.view(torch.float8_e8m0fnu),
    torch.int32: torch.arange(0x03020100, 2**32, 0x04040404).to(torch.int32),
}


def check(backend_on, q, s, group_size, dtype=torch.bfloat16):
    backend, device = backend_on
    on_device = (
        torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device).copy_(t)
        if 0 not in t.stride()
        else t.to(device)
        for t in (q, s)
    )
    y = ptgq.dequantize(*on_device, group_size, dtype=dtype, backend=backend)
    assert backend == "reference" or y.is_contiguous()
    assert_same(y, expected_of(q, s, group_size, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("s_dtype", SCALES, ids=str)
@pytest.mark.parametrize("q_dtype", Q_DTYPES, ids=str)
def test_every_code_with_scales_of_every_exponent(backend_on, q_dtype, s_dtype, dtype):
    s = SCALES[s_dtype]
    groups = s.numel() * (4 if s_dtype is torch.int32 else 1)
    q = CODES.repeat(groups).view(q_dtype)
    check(backend_on, q, s, 256, dtype)
    # A token has one group.
    if s_dtype is not torch.int32:
        check(backend_on, q.view(groups, 256), s[:, None], 256, dtype)


def test_the_reference_on_a_cpu():
    for q_dtype, s in itertools.product(Q_DTYPES, SCALES.values()):
        q = CODES.repeat(s.numel() * (4 if s.dtype is torch.int32 else 1))
        for dtype in DTYPES:
            check(("reference", "cpu"), q.view(q_dtype), s, 256, dtype)


@pytest.mark.parametrize("q_dtype", Q_DTYPES, ids=str)
@pytest.mark.parametrize("group_size", [1, 2, 3, 4, 6, 7, 8, 12, 16, 20, 24, 48, 100, 128, 5000])
def test_every_group_size(backend_on, group_size, q_dtype):
    groups = 11 if group_size < 5000 else 2
    q = codes_of((5, groups * group_size), q_dtype)
    s = random_input((5, groups), torch.float32)
    for dtype in DTYPES:
        check(backend_on, q, s, group_size, dtype)
        # Rows of which none but the first begins with 16 bytes, and some that are cut off.
        check(backend_on, q[:, group_size:], s[:, 1:], group_size, dtype)


@every_format
def test_every_format(backend_on, f):
    backend, device = backend_on
    interpret_few(backend_on, f)
    x = random_input((3, 7, 10 * 32), torch.bfloat16).to(device)
    q, s = ptgq.per_token_group_quant_fp8(x, 32, scale_format=f, backend=backend)
    for dtype in DTYPES:
        y = ptgq.dequantize(q, s, 32, dtype=dtype, backend=backend)
        assert_same(y, expected_of(q, s, 32, dtype))


@pytest.mark.parametrize("s_dtype", SCALES, ids=str)
def test_strides(backend_on, s_dtype):
    groups, words = 10, 3 if s_dtype is torch.int32 else 10
    q = codes_of((2, 3, 5, groups * 16), torch.float8_e4m3fn)
    s = SCALES[s_dtype][torch.arange(2 * 3 * 5 * words) % len(SCALES[s_dtype])]
    s = s.view(2, 3, 5, words)
    layouts = {
        "column-major": strided(s, (15, 5, 1, 32)),
        "a batch after the other": strided(s, (180, 60, 1, 6)),
        "batches apart": strided(s, (400, 130, 12, 1)),
        "three strides": strided(s, (1000, 110, 20, 2)),
        "one for all tokens": s[:1, :1, :1].expand(2, 3, 5, -1),
        "one for all groups": s[..., :1].expand(-1, -1, -1, words),
    }
    for name, laid in layouts.items():
        for codes in (
            q,
            strided(q, (5000, 900, 170, 1)),
            strided(q, (15 * 176, 5 * 176, 176, 1)),
            strided(q, (2400, 800, 1, 5)),
        ):
            try:
                check(backend_on, codes, laid, 16)
            except AssertionError as error:
                pytest.fail(f"s {name}, q {codes.stride()}: {error}")


def test_misaligned_codes_and_one_row(backend_on):
    backend, device = backend_on
    memory = codes_of((4097,), torch.int8).to(device)
    s = random_input((32,), torch.float32).to(device)
    for start in (0, 1, 2, 4, 8):
        q = memory[start : start + 1024]
        y = ptgq.dequantize(q, s, 32, backend=backend)
        assert_same(y, expected_of(q, s, 32, torch.float32))


@pytest.mark.parametrize("shape", [(0,), (0, 64), (3, 0), (0, 0, 64)])
def test_nothing(backend_on, shape):
    backend, device = backend_on
    q = torch.empty(shape, dtype=torch.int8, device=device)
    s = torch.empty((*shape[:-1], shape[-1] // 32), device=device)
    y = ptgq.dequantize(q, s, 32, dtype=torch.float16, backend=backend)
    assert (y.shape, y.dtype, y.device.type) == (shape, torch.float16, device)


@pytest.mark.parametrize("shape", [(4099, 7168), (4096, 7168)])
@pytest.mark.parametrize(("device", "backend"), [
    ("cpu", "cpu"), *(pytest.param("cuda", name, marks=pytest.mark.gpu)
                      for name in ("cuda", "triton")),
])  # fmt: skip
def test_what_no_cache_holds(device, backend, shape):
    # The CPU writes it past the caches, and a thread of a GPU takes four chunks.
    q = codes_of((1, shape[1]), torch.float8_e4m3fn).repeat(shape[0], 1)
    s = random_input((shape[0], shape[1] // 64), torch.float32)
    for dtype in (torch.bfloat16, torch.float32):
        y = ptgq.dequantize(q.to(device), s.to(device), 64, dtype=dtype, backend=backend)
        # float32 products are exact enough: reference is tested above.
        assert_same(y, ptgq.dequantize(q, s, 64, dtype=dtype, backend="reference"))


def test_backends_are_chosen_as_for_quantizing():
    q, s = ptgq.per_token_group_quant_fp8(torch.ones(2, 64), 64)
    with pytest.raises(RuntimeError, match="backend 'cuda' is not available for cpu tensors"):
        ptgq.dequantize(q, s, 64, backend="cuda")
    with ptgq.use_backend("cuda"), pytest.raises(RuntimeError, match="'cuda' is not available"):
        ptgq.dequantize(q, s, 64)
    with ptgq.use_backend("cuda"):
        assert torch.equal(ptgq.dequantize(q, s, 64, backend="reference"), torch.ones(2, 64))
    y = ptgq.dequantize(q.to("meta"), s.to("meta"), 64)
    assert (y.is_meta, y.shape, y.dtype) == (True, (2, 64), torch.float32)


@pytest.fixture
def direct(monkeypatch):
    """Whether the calls of dequantize so far were served directly, in order."""
    ptgq.per_token_group_quant_int8(torch.ones(1, 64), 64)  # finds out what serves
    right, log = extension.dequantize_directly, []

    def dequantize_directly(*call):
        y = right(*call)
        log.append(y is not None)
        return y

    monkeypatch.setattr(extension, "dequantize_directly", dequantize_directly)
    return log


Q, S = codes_of((6, 256), torch.int8), random_input((6, 4), torch.float32)


@pytest.mark.parametrize(
    ("q", "s"),
    [
        (Q, S),
        (Q.view(torch.float8_e4m3fn), S),
        (Q[:, :128], S[:, :2]),
        (Q.view(2, 3, 256), strided(S.view(2, 3, 4), (20, 1, 4))),
        (Q[0], S[0].to(torch.float8_e8m0fnu)),
        (Q, torch.full((6, 1), 0x7F7F7F7F, dtype=torch.int32)),
        (Q, torch.nn.Parameter(S, requires_grad=False)),
    ],
    ids=lambda t: f"{t.dtype} {t.stride()}",
)
def test_ordinary_calls_are_direct(direct, q, s):
    y = ptgq.dequantize(q, s, 64)
    assert direct == [True]
    assert_same(y, expected_of(q, s, 64, torch.float32))
    with torch.inference_mode():
        assert ptgq.dequantize(q, s, 64, backend="cpu").is_inference()
    assert direct == [True, True]


@pytest.mark.parametrize(
    ("q", "s"),
    [
        (Q.t().contiguous().t(), S),
        (Q.view(2, 3, 256).transpose(0, 1), S.view(2, 3, 4).transpose(0, 1)),
        (Q, torch._neg_view(S)),
        (Q[:0], S[:0]),
        (Q, torch.nn.Parameter(S)),
    ],
    ids=lambda t: f"{type(t).__name__}{tuple(t.shape)}",
)
def test_others_are_served_all_the_same(direct, q, s):
    y = ptgq.dequantize(q, s, 64)
    assert direct == [False]
    assert_same(y.detach(), expected_of(q, s.detach(), 64, torch.float32))


def test_a_number_that_is_no_int_serves(direct):
    numpy = pytest.importorskip("numpy")
    assert torch.equal(ptgq.dequantize(Q, S, numpy.int64(64)), ptgq.dequantize(Q, S, 64))
    assert direct == [False, True]


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("preset", ["row", "deep_gemm_hopper", "deep_gemm_blackwell"])
def test_nothing_but_the_result_is_allocated(backend, preset):
    f = scales.scale_format() if preset == "row" else getattr(ScaleFormat, preset)()
    x = random_input((1024, 7168), torch.bfloat16).cuda()
    q, s = ptgq.per_token_group_quant_fp8(x, 128, scale_format=f)
    for direct in (False, True):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        y = ptgq.dequantize(q, s, 128, dtype=torch.bfloat16, backend=backend)
        assert torch.cuda.max_memory_allocated() - before == y.nbytes, direct


@pytest.mark.gpu
def test_triton_calls_are_direct_from_the_second_on(monkeypatch):
    backend = import_module("ptgq.backends.triton_dequantize")
    # What another test compiled would serve the last call, too.
    monkeypatch.setattr(backend, "_launches", {})
    q, s = Q.cuda(), S.cuda()
    first = ptgq.dequantize(q, s, 64, backend="triton")
    monkeypatch.setattr(backend, "dequantize", None)
    for _ in range(2):
        assert torch.equal(ptgq.dequantize(q, s, 64, backend="triton"), first)
    # Of another size, a kernel is compiled.
    with pytest.raises(TypeError, match="not callable"):
        ptgq.dequantize(q, s[:, ::2], 128, backend="triton")


@pytest.mark.gpu
def test_a_kernel_waits_for_what_writes_its_codes():
    # In a graph each launch may begin before the one before has ended.
    x = random_input((64, 1024), torch.bfloat16).cuda()
    out = ptgq.per_token_group_quant_fp8(x, 128)
    graph = torch.cuda.CUDAGraph()
    ptgq.dequantize(*out, 128)
    with torch.cuda.graph(graph):
        results = []
        for _ in range(50):
            ptgq.per_token_group_quant_fp8(x, 128, out=out)
            results.append(ptgq.dequantize(*out, 128))
            x.neg_()
    graph.replay()
    torch.cuda.synchronize()
    for y, other in itertools.pairwise(results):
        assert torch.equal(y, -other)
