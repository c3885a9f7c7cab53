"""Compiled and exported code whose number of tokens is data, or differs from call to call."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from numeric import assert_same_bytes, assert_same_results
from scale_cases import FORMATS, every_format, interpret_few
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from values import random_input

import ptgq
from ptgq import scales

FP8 = ptgq.per_token_group_quant_fp8
SILU = ptgq.silu_and_mul_per_token_group_quant_fp8
# Which of five tokens an expert gets: some, none, one, all.
ROUTED = [
    torch.tensor(chosen).bool()
    for chosen in ([1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1])
]


@pytest.fixture(autouse=True)
def _data_as_sizes():
    torch._dynamo.reset()
    with torch._dynamo.config.patch(
        capture_dynamic_output_shape_ops=True, capture_scalar_outputs=True
    ):
        yield


def tokens_of(x, routed):
    return x[routed.nonzero().squeeze(-1)]


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for at, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert_same_bytes(a, b, f"result {at}")


def check(function, x, device="cpu", compiler="eager", **expected):
    """Compile once; compare with eager calls, with other arguments, for every choice of tokens."""
    counter = CompileCounterWithBackend(compiler)
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    x = x.to(device)
    for routed in (chosen.to(device) for chosen in ROUTED):
        assert_same(compiled(x, routed), function(x, routed, **expected))
    assert counter.frame_count == 1


@every_format
def test_every_function_and_format(backend_on, f):
    backend, device = backend_on
    interpret_few(backend_on, f)

    def expert(x, routed, backend=backend):
        x = tokens_of(x, routed)
        q, s = FP8(x, 16, scale_format=f, backend=backend)
        out = torch.empty_like(q), scales.empty_scales(s.shape, f, x.device)
        FP8(x, 16, scale_format=f, backend=backend, out=out)
        fused = SILU(x, 16, scale_format=f, backend=backend)
        back = ptgq.dequantize(q, s, 16), scales.to_float32(s, 10)
        return q, s, *out, *fused, *back

    check(expert, random_input((5, 160), torch.bfloat16), device, backend="reference")


def test_int8(backend_on):
    backend, device = backend_on

    def expert(x, routed, backend=backend):
        q, s = ptgq.per_token_group_quant_int8(tokens_of(x, routed), 32, backend=backend)
        return q, s, ptgq.dequantize(q, s, 32)

    check(expert, random_input((5, 160), torch.bfloat16), device, backend="reference")


@pytest.mark.parametrize(
    "name", ["float32 float32 row_major", "power_of_two int32 tma_aligned per_batch"]
)
@pytest.mark.parametrize(
    "view",
    [
        lambda x, routed: x[:, routed.nonzero().squeeze(-1)],
        lambda x, routed: x[:, routed.nonzero().squeeze(-1)].transpose(0, 1),
        lambda x, routed: x[:, : routed.sum().item(), 64:192],
        lambda x, routed: x[0].narrow(0, 0, routed.sum().item())[:, :128],
    ],
    ids=["batched", "two_strides", "strided_batches", "strided"],
)
def test_rows_of_any_stride(backend_on, view, name):
    backend, device = backend_on
    f = FORMATS[name]

    def expert(x, routed, backend=backend):
        x = view(x, routed)
        q, s = FP8(x, 32, scale_format=f, backend=backend)
        out = (
            torch.empty_like(q, memory_format=torch.contiguous_format),
            scales.empty_scales(s.shape, f, x.device),
        )
        return q, s, *FP8(x, 32, scale_format=f, backend=backend, out=out)

    check(expert, random_input((3, 5, 256), torch.bfloat16), device, backend="reference")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_by_inductor(device):
    f = ptgq.ScaleFormat.deep_gemm_blackwell()

    def expert(x, routed):
        q, s = FP8(tokens_of(x, routed) * 2, 128, scale_format=f)
        return q, s, ptgq.dequantize(q, s, 128)

    check(expert, random_input((5, 640), torch.bfloat16), device, "inductor")


class Expert(torch.nn.Module):
    """Quantizes the tokens that an expert gets."""

    def __init__(self, f):
        super().__init__()
        self.format = f

    def forward(self, x, routed):
        return FP8(tokens_of(x, routed), 32, scale_format=self.format)


@every_format
def test_exported(f):
    check_export(f, strict=False)


def test_exported_by_dynamo():
    check_export(replace(ptgq.ScaleFormat.deep_gemm_hopper(), group_sizes=()), strict=True)


def check_export(f, strict):
    x = random_input((5, 160), torch.bfloat16)
    program = torch.export.export(Expert(f), (x, ROUTED[0]), strict=strict).module()
    for routed in ROUTED:
        assert_same_results(program(-x, routed), Expert(f)(-x, routed))


class Layer(torch.nn.Module):
    """Quantizes all tokens."""

    def __init__(self, f):
        super().__init__()
        self.format = f

    def forward(self, x):
        return FP8(x, 32, scale_format=self.format)


@every_format
def test_exported_with_a_dynamic_dimension(f):
    x = random_input((5, 160), torch.bfloat16)
    tokens = torch.export.Dim("tokens")
    program = torch.export.export(Layer(f), (x,), dynamic_shapes={"x": {0: tokens}}).module()
    for count in (2, 3, 8, 130, 1, 0):
        more = random_input((count, 160), torch.bfloat16)
        assert_same_results(program(more), Layer(f)(more))


def compilations(function):
    """How many graphs the counts of tokens below take."""
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    for count in (3, 5, 8, 17, 130, 1, 0):
        x = random_input((count, 256), torch.bfloat16)
        assert_same(compiled(x), function(x))
    return counter.frame_count


@pytest.mark.parametrize(
    "name", ["power_of_two float8_e8m0fnu column_major", "power_of_two int32 tma_aligned per_batch"]
)
def test_no_more_graphs_than_torch_makes(name):
    f = FORMATS[name]

    def quantized(x):
        q, s = FP8(x, 32, scale_format=f)
        return q, s, ptgq.dequantize(q, s, 32)

    assert compilations(quantized) <= compilations(lambda x: (x * 2,))
