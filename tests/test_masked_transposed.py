"""Rows and columns of masked rows: the bytes of every backend, and calls of every kind."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from every import TRITON, every
from masked import no_waiting
from numeric import bits
from scale_cases import FORMATS, INTERPRETED, TILED
from test_transposed import assert_equal
from transposed_oracle import empty_of, masked_of
from values import DTYPES, hard_input, padded_rows

from ptgq import per_token_group_quant_fp8_transposed as transposed
from ptgq import scales
from ptgq.transposed import quantize_directly

# The interpreter's arithmetic is numpy's, which warns of what gives NaN or infinity.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
OF_TILES = {f"tiled {name}": f for name, f in TILED.items()}
ALL = FORMATS | OF_TILES
FEW = {name: f for name, f in ALL.items() if name in {*INTERPRETED, *OF_TILES}}
PLAIN = scales.scale_format()
# Of 37 tokens in groups of 16 or 20: a group, one token less, and one more.
COUNTS = {
    "some": [21, 0, 37, 1],
    "none": [0, -1, -(2**31), 0],
    "all": [37, 38, 2**31 - 1, 37],
    "edges": [16, 15, 17, 20],
    "more edges": [36, 19, 32, 40],
}


def poisoned(x, counts):
    """Let rows that don't exist hold what would mark or enlarge every group."""
    missing = torch.arange(x.shape[-2]) >= counts.cpu().view(*x.shape[:-2], 1)
    return x.masked_fill_(missing.unsqueeze(-1).to(x.device), torch.nan)


def assert_as_expected(x, group_size, f, masked_m, backend, nonfinite="mark"):
    """Compare what is written, and what is not, with the oracle: into out, and allocated."""
    expected = masked_of(x, group_size, f, masked_m, nonfinite == "saturate")
    call = partial(transposed, x, group_size, scale_format=f, masked_m=masked_m)
    call = partial(call, backend=backend, nonfinite=nonfinite)
    out = empty_of(x, group_size, f)
    results = call(out=out)
    assert all(a is b for a, b in zip(results, out, strict=True))
    assert_equal(results, expected, f)
    assert_equal(call(), expected, f, ("s", "q_t", "s_t"))


@every(f=ALL, counts=COUNTS, group_size=[16, 20])
def test_every_format(backend_on, f, counts, group_size):
    backend, device = backend_on
    if backend_on == TRITON and f not in FEW.values():
        return
    x = padded_rows(4, 37, 3, group_size, torch.bfloat16)
    masked_m = torch.tensor(counts, dtype=torch.int32)
    poisoned(x, masked_m)
    assert_as_expected(x.to(device), group_size, f, masked_m.to(device), backend)


def test_the_reference_in_every_format():
    test_every_format(backend_on=("reference", "cpu"))


# The kernel of whole tiles, cut off and not, and that of columns.
@every(shape=[(130, 2, 128), (64, 3, 64), (70, 1, 140), (9, 4, 7)], dtype=DTYPES,
       nonfinite=["mark", "saturate"])  # fmt: skip
def test_every_kernel(backend_on, shape, dtype, nonfinite):
    backend, device = backend_on
    tokens, groups, group_size = shape
    masked_m = torch.tensor([[tokens // 2, 0], [tokens, 0], [-7, 0], [tokens - 1, 0]])[:, 0]
    x = poisoned(padded_rows(4, tokens, groups, group_size, dtype), masked_m)
    if backend_on == TRITON:
        # The interpreter takes subnormal bfloat16 for 0, of which infinity makes NaN.
        x.masked_fill_(x.abs() < torch.finfo(dtype).tiny, 0)
    f = FORMATS["float32 float32 tma_aligned per_batch"]
    assert_as_expected(x.to(device), group_size, f, masked_m.to(device), backend, nonfinite)


@every(counts=[(torch.int32, 0), (torch.int64, 1), (torch.int32, 3)])
def test_counts_and_rows_of_any_stride(backend_on, counts):
    (dtype, stride), (backend, device) = counts, backend_on
    x = hard_input(4 * 6, 128, 16, torch.bfloat16).view(4, 6, 128).to(device)
    memory = torch.tensor([2, 9, -3, 6, 1, 0, 3, 8, 8, 5, 1, 1], dtype=dtype, device=device)
    masked_m = memory.as_strided((4,), (stride,))
    assert_as_expected(x, 16, PLAIN, masked_m, backend)
    # Between the batches, and none between them, too; and batches that begin anywhere.
    assert_as_expected(x.transpose(0, 1), 16, PLAIN, memory[:6], backend)
    assert_as_expected(x[:1].expand(4, 6, 128), 16, PLAIN, masked_m, backend)
    odd = x.flatten().as_strided((4, 5, 64), (64 * 5 + 1, 64, 1))
    assert_as_expected(odd, 16, PLAIN, masked_m, backend)


def test_one_batch_of_two_dimensions(backend_on):
    backend, device = backend_on
    x = hard_input(36, 128, 32, torch.bfloat16)[:, :96].to(device)
    for count in (0, 5, 36):
        for f in (FORMATS["float32 float32 column_major"], TILED["all"]):
            masked_m = torch.tensor([count], device=device)
            assert_as_expected(x, 32, f, masked_m, backend)


@pytest.mark.parametrize("shape", [(0, 4, 64), (3, 0, 64), (0, 64), (3, 4, 0)], ids=str)
def test_nothing(backend_on, shape):
    backend, device = backend_on
    x = torch.empty(shape, dtype=torch.bfloat16, device=device)
    masked_m = torch.full((shape[0] if len(shape) == 3 else 1,), 2, device=device)
    for f in (FORMATS["float32 float32 tma_aligned"], TILED["all"]):
        results = transposed(x, 32, masked_m=masked_m, scale_format=f, backend=backend)
        for given, right in zip(results, empty_of(x, 32, f), strict=True):
            assert given.shape == right.shape


def test_direct_calls():
    for f in (PLAIN, FORMATS["power_of_two int32 tma_aligned per_batch"], TILED["per_batch"]):
        for dtype in (torch.int32, torch.int64):
            masked_m = torch.tensor([[2, 5], [0, 5], [7, 5]], dtype=dtype)[:, 0]
            x = poisoned(padded_rows(3, 5, 4, 32, torch.bfloat16), masked_m)
            expected = masked_of(x, 32, f, masked_m)
            call = partial(quantize_directly, None, x, 32, f.code, False)
            out = empty_of(x, 32, f)
            assert call(masked_m, 1e-10, out) is out
            assert_equal(out, expected, f)
            assert_equal(call(masked_m, 1e-10, None), expected, f, ("s", "q_t", "s_t"))
            # What is wrong is refused there.
            for wrong in (masked_m[:2], masked_m.short(), masked_m[None]):
                assert call(wrong, 1e-10, None) is None


@pytest.mark.parametrize("part", range(4))
def test_counts_that_results_would_overwrite(part):
    x = torch.ones(2, 32, 32, dtype=torch.bfloat16)
    out = transposed(x, 32)
    inside = out[part].view(torch.uint8 if part % 2 == 0 else torch.float32).flatten()
    masked_m = inside.view(torch.int32)[:2]
    assert quantize_directly(None, x, 32, PLAIN.code, False, masked_m, 1e-10, out) is None
    with pytest.raises(ValueError, match=rf"out\[{part}\] must not overlap masked_m"):
        transposed(x, 32, masked_m=masked_m, out=out)


def test_results_in_the_gaps_of_masked_rows():
    memory = torch.zeros(2, 64, 32, dtype=torch.bfloat16)
    x, masked_m = memory[:, :8], torch.tensor([1, 2])
    q, s, q_t, s_t = transposed(x, 32)
    gap = memory[0, 20:].flatten().view(torch.uint8)[: q.numel()].view(q.shape).view(q.dtype)
    with pytest.raises(ValueError, match=r"out\[0\] must not overlap x"):
        transposed(x, 32, masked_m=masked_m, out=(gap, s, q_t, s_t))


def test_more_dimensions_are_refused():
    with pytest.raises(ValueError, match="x must have 3 dimensions, or 2 of one batch"):
        transposed(torch.ones(2, 2, 32, 32), 32, masked_m=torch.ones(2, dtype=torch.int32))


def test_compiled(backend_on):
    backend, device = backend_on
    if backend_on == TRITON:
        pytest.skip("Triton's interpreter can't be compiled")
    f = FORMATS["power_of_two int32 tma_aligned per_batch"]
    call = partial(transposed, group_size=32, scale_format=f, backend=backend)
    run = torch.compile(
        lambda x, m, out: (call(x, masked_m=m, out=out), call(x, masked_m=m)),
        fullgraph=True, dynamic=True,
    )  # fmt: skip
    for counts in ([2, 0, 7], [5, 33, 5, 1]):
        masked_m = torch.tensor(counts)
        x = poisoned(padded_rows(len(counts), 34 + len(counts), 4, 32, torch.bfloat16), masked_m)
        expected = masked_of(x, 32, f, masked_m)
        x, masked_m = x.to(device), masked_m.to(device)
        out = empty_of(x, 32, f)
        made = run(x, masked_m, out)[1]
        assert_equal(out, expected, f)
        assert_equal(made, expected, f, ("s", "q_t", "s_t"))


def test_exported():
    class Module(torch.nn.Module):
        def forward(self, x, masked_m, q, s, q_t, s_t):
            transposed(x, 32, masked_m=masked_m, out=(q, s, q_t, s_t))
            return s_t.clone()

    x = padded_rows(3, 40, 2, 32, torch.bfloat16)
    example = x, torch.tensor([1, 2, 3]), *empty_of(x, 32, PLAIN)
    program = torch.export.export(Module(), example).module()
    masked_m, out = torch.tensor([9, 0, 33]), empty_of(x, 32, PLAIN)
    expected = masked_of(x, 32, PLAIN, masked_m)
    assert bits(program(x, masked_m, *out)).equal(bits(expected[3]))
    assert_equal(out, expected, PLAIN)


@pytest.mark.parametrize("suffix", ["", "_reference", "_triton"])
def test_the_op(suffix):
    op = getattr(torch.ops.ptgq, f"per_token_group_quant_transposed{suffix}").default
    x, masked_m = padded_rows(2, 3, 2, 32, torch.bfloat16), torch.tensor([2, 1])
    # As bytes: opcheck compares tensors, which torch does not do for 8-bit floating point.
    results = [t.view(torch.uint8) if t.element_size() == 1 else t for t in empty_of(x, 32, PLAIN)]
    torch.library.opcheck(op, (x, *results, 32, 1e-10, 0, True, masked_m))
    with pytest.raises((RuntimeError, ValueError, TypeError), match="masked_m must have"):
        op(x, *results, 32, 1e-10, 0, True, masked_m[:1])
    # Programs that were exported without counts call it without them.
    last = op._schema.arguments[-1]
    assert (last.name, last.has_default_value(), last.default_value) == ("masked_m", True, None)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("group_size", [128, 100])
def test_a_graph_meets_other_counts(backend, group_size):
    f = FORMATS["float32 float32 tma_aligned per_batch"]
    x = padded_rows(8, 300, 4, group_size, torch.bfloat16).cuda()
    masked_m = torch.zeros(8, dtype=torch.int32, device="cuda")
    source, out = masked_m.clone(), empty_of(x, group_size, f)
    call = partial(transposed, x, group_size, scale_format=f, out=out, backend=backend)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call(masked_m=masked_m)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        masked_m.copy_(source)  # by the kernel before, as a router has it
        call(masked_m=masked_m)
    for counts in ([300] * 8, [0] * 8, [3, -1, 999, 0, 128, 100, 1, 257]):
        source.copy_(torch.tensor(counts))
        out[0].view(torch.uint8).fill_(0x55)
        graph.replay()
        torch.cuda.synchronize()
        assert_equal(out, masked_of(x, group_size, f, source), f)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("group_size", [128, 100])
def test_no_call_waits_for_the_counts(backend, group_size):
    x = padded_rows(4, 32, 4, group_size, torch.bfloat16).cuda()
    masked_m = torch.tensor([1, 2, 3, 4], device="cuda")
    transposed(x, group_size, masked_m=masked_m, backend=backend)
    with no_waiting():
        transposed(x, group_size, masked_m=masked_m, backend=backend)
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        masked_m.tolist()
