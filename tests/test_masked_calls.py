"""Calls of masked rows: the fast path, compiled, exported, captured; what is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from masked import expected_of, no_waiting, written
from numeric import assert_same_results, bits
from scale_cases import FORMATS, memory
from values import hard_input, padded_rows

import ptgq

FP8, INT8 = ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8
SILU = ptgq.silu_and_mul_per_token_group_quant_fp8
SILU_INT8 = ptgq.silu_and_mul_per_token_group_quant_int8
FUNCTIONS = (FP8, SILU, INT8, SILU_INT8)
# The interpreter's arithmetic is numpy's, which warns of what gives NaN or infinity.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_direct_calls(served, function):
    silu = function in (SILU, SILU_INT8)
    masked_m = torch.tensor([2, 0, 7], dtype=torch.int32)
    f = FORMATS["float32 float32 tma_aligned per_batch"]
    x = padded_rows(3, 5, 4, 64, torch.bfloat16, silu)
    expected = expected_of(function, x, 64, f, masked_m)
    given = written(x, expected[0].dtype, f, 64, silu)
    q, s = function(x, 64, scale_format=f, masked_m=masked_m, out=given)
    assert (q is given[0], s is given[1], served[-1]) == (True, True, True)
    assert_same_results((q, s), expected)
    function(x, 64, scale_format=f, masked_m=masked_m)
    assert served[-2:] == [True, True]
    # What is wrong is refused there, and named here.
    with pytest.raises(ValueError, match="masked_m must have shape"):
        function(x, 64, masked_m=masked_m[:2])
    assert served[-1] is False


@pytest.mark.parametrize("function", [FP8, SILU_INT8])
def test_compiled(backend_on, function):
    backend, device = backend_on
    torch._dynamo.reset()
    silu = function in (SILU, SILU_INT8)
    f = FORMATS["float32 float32 tma_aligned per_batch"]
    call = partial(function, group_size=64, scale_format=f, backend=backend)
    run = torch.compile(lambda x, m, out: call(x, masked_m=m, out=out), fullgraph=True)
    make = torch.compile(lambda x, m: call(x, masked_m=m), fullgraph=True)
    x = padded_rows(3, 5, 4, 64, torch.bfloat16, silu).to(device)
    for counts in ([2, 0, 7], [5, 5, 5]):
        masked_m = torch.tensor(counts, device=device)
        expected = expected_of(function, x, 64, f, masked_m)
        given = written(x, expected[0].dtype, f, 64, silu)
        run(x, masked_m, given)
        assert_same_results(given, expected)
        assert memory(given[1], f).equal(memory(expected[1], f))
        assert memory(make(x, masked_m)[1], f).equal(memory(expected[1], f))


def test_dynamic_sizes():
    torch._dynamo.reset()
    stats = torch._dynamo.utils.counters["stats"]
    before = stats["unique_graphs"]
    run = torch.compile(lambda x, m: FP8(x, 64, masked_m=m), fullgraph=True, dynamic=True)
    for batches, tokens in ((2, 3), (4, 6), (3, 9)):
        x = hard_input(batches * tokens, 128, 64, torch.bfloat16).view(batches, tokens, 128)
        masked_m = torch.arange(batches)
        assert bits(run(x, masked_m)[1]).equal(bits(FP8(x, 64, masked_m=masked_m)[1]))
    assert stats["unique_graphs"] - before == 1


def test_sizes_that_are_data():
    torch._dynamo.reset()

    def batches_of(x, masked_m, routed, backend="cpu"):
        chosen = routed.nonzero().squeeze(-1)
        of_batches = FP8(x[chosen], 64, masked_m=masked_m[chosen], backend=backend)[1]
        return of_batches, FP8(x[:, chosen], 64, masked_m=masked_m, backend=backend)[1]

    x = hard_input(16, 128, 64, torch.bfloat16).view(4, 4, 128)
    masked_m = torch.tensor([2, 1, 9, 0])
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        run = torch.compile(batches_of, fullgraph=True, backend="eager")
        for chosen in ([1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]):
            routed = torch.tensor(chosen).bool()
            expected = batches_of(x, masked_m, routed, "reference")
            for actual, s in zip(run(x, masked_m, routed), expected, strict=True):
                assert bits(actual).equal(bits(s))


def test_exported():
    class Module(torch.nn.Module):
        def forward(self, x, masked_m, q, s):
            FP8(x, 64, masked_m=masked_m, out=(q, s))
            return s.clone()

    x, f = padded_rows(3, 5, 2, 64, torch.bfloat16), FORMATS["float32 float32 row_major"]
    example = (x, torch.tensor([1, 2, 3]), *written(x, torch.float8_e4m3fn, f, 64))
    program = torch.export.export(Module(), example).module()
    masked_m = torch.tensor([9, 0, 2])
    expected = expected_of(FP8, x, 64, f, masked_m)
    given = written(x, torch.float8_e4m3fn, f, 64)
    assert bits(program(x, masked_m, *given)).equal(bits(expected[1]))
    assert_same_results(given, expected)


@pytest.mark.parametrize("suffix", ["", "_reference", "_triton"])
@pytest.mark.parametrize("silu", [False, True])
def test_opcheck(suffix, silu):
    prologue = "silu_and_mul_" if silu else ""
    op = getattr(torch.ops.ptgq, f"{prologue}per_token_group_quant{suffix}").default
    x = padded_rows(2, 3, 2, 32, torch.bfloat16, silu)
    # As bytes: opcheck compares tensors, which torch does not do for 8-bit floating point.
    q, s = torch.zeros(2, 3, 64, dtype=torch.uint8), torch.zeros(2, 3, 2)
    options = (None, True) if silu else (True,)
    torch.library.opcheck(op, (x, q, s, 32, 1e-10, 0, *options, torch.tensor([2, 1])))


def test_no_gradient():
    x = hard_input(6, 64, 32, torch.bfloat16).view(2, 3, 64).requires_grad_()
    q, s = FP8(x, 32, masked_m=torch.tensor([2, 1]))
    assert (q.requires_grad, s.requires_grad) == (False, False)


def test_counts_that_results_would_overwrite():
    x = torch.ones(2, 4, 32, dtype=torch.bfloat16)
    q, s = FP8(x, 32)
    with pytest.raises(ValueError, match=r"out\[1\] must not overlap masked_m"):
        FP8(x, 32, masked_m=s.view(torch.int32).view(-1)[2:4], out=(q, s))


def test_contiguous_layout_is_refused():
    x = torch.ones(8, 64, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"m_indices.* are quantized without masked_m"):
        FP8(x, 32, masked_m=torch.zeros(8, dtype=torch.int32))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("function", [FP8, SILU_INT8])
def test_a_graph_meets_other_counts(backend, function):
    f = FORMATS["float32 float32 tma_aligned per_batch"]
    silu = function is SILU_INT8
    x = padded_rows(8, 40, 4, 128, torch.bfloat16, silu).cuda()
    masked_m = torch.zeros(8, dtype=torch.int32, device="cuda")
    source = masked_m.clone()
    given = written(x, torch.int8 if silu else torch.float8_e4m3fn, f, 128, silu)
    call = partial(function, x, 128, scale_format=f, masked_m=masked_m, out=given, backend=backend)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        masked_m.copy_(source)  # by the kernel before, as a router has it
        call()
    for counts in ([40] * 8, [0] * 8, [3, -1, 99, 0, 17, 40, 1, 2]):
        source.copy_(torch.tensor(counts))
        expected = expected_of(function, x, 128, f, source)
        given[0].view(torch.uint8).fill_(0x55)
        graph.replay()
        torch.cuda.synchronize()
        assert_same_results(given, expected)
        assert memory(given[1], f).equal(memory(expected[1], f))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_no_call_waits_for_the_counts(backend):
    x = padded_rows(4, 32, 4, 128, torch.bfloat16).cuda()
    masked_m = torch.tensor([1, 2, 3, 4], device="cuda")
    FP8(x, 128, masked_m=masked_m, backend=backend)
    with no_waiting():
        FP8(x, 128, masked_m=masked_m, backend=backend)
    with pytest.raises(RuntimeError, match="synchroniz"), no_waiting():
        masked_m.tolist()


@pytest.mark.gpu
def test_on_a_stream_of_its_own():
    f = FORMATS["float32 float32 row_major"]
    x = padded_rows(4, 32, 4, 128, torch.bfloat16).cuda()
    given = written(x, torch.float8_e4m3fn, f, 128)
    masked_m = torch.zeros(4, dtype=torch.int64, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        masked_m += 7
        FP8(x, 128, masked_m=masked_m, out=given)
    stream.synchronize()
    assert_same_results(given, expected_of(FP8, x, 128, f, masked_m))
