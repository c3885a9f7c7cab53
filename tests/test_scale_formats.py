"""Kernels write scales as their consumers read them: bytes and padding, on each backend."""

from __future__ import annotations

import contextlib
import itertools
import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every import every
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numeric import assert_same_results
from scale_cases import FORMATS, OF_INT8, PADDED, every_format, interpret_few, memory, name_of
from values import hard_input, random_input

import ptgq
from ptgq import ScaleFormat, scales

FP8 = ptgq.per_token_group_quant_fp8
INT8 = ptgq.per_token_group_quant_int8
GOLDEN = Path(__file__).parent / "golden/scales.json"


def check(x, group_size, f, backend_on, function=FP8, **options):
    """Compare a backend with the reference, its padding too; and with what the format says."""
    backend, device = backend_on
    on_device = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device).copy_(x)
    actual = function(on_device, group_size, scale_format=f, backend=backend, **options)
    expected = function(x, group_size, scale_format=f, backend="reference", **options)
    assert_same_results(actual, expected)
    assert memory(actual[1], f).tolist() == memory(expected[1], f).tolist()
    scales.check_scales(actual[1], f, x.shape[-1] // group_size, check_finite=False)
    return actual


def golden_input():
    golden = runpy.run_path(str(GOLDEN.with_suffix(".py")))
    shape = golden["BATCH"], golden["TOKENS"], golden["GROUPS"]
    x = torch.empty(*shape, 16)
    for at in itertools.product(*map(range, shape)):
        x[at] = 448 * 2.0 ** golden["exponent"](*at)
    return golden, x.flatten(-2)


def test_golden_file_is_what_its_script_writes():
    golden, _ = golden_input()
    stored = json.loads(GOLDEN.read_text())
    assert stored == {name: value.hex() for name, value in golden["FORMATS"].items()}
    assert set(stored) == set(FORMATS)


@every(f=FORMATS)
def test_bytes_are_the_golden_ones(backend_on, f):
    backend, device = backend_on
    _, x = golden_input()
    q, s = FP8(x.to(device), 16, eps=1e-24, scale_format=f, backend=backend)
    expected = bytes.fromhex(json.loads(GOLDEN.read_text())[name_of(f)])
    assert bytes(memory(s, f).tolist()) == expected
    assert ptgq.dequantize(q, s, 16).equal(x.to(device))


@every(group_size=[7, 16, 32, 64, 128, 256, 512], shape=[(9, 5), (2, 3, 6)], f=FORMATS)
def test_every_backend_gives_the_reference_bytes(backend_on, shape, group_size, f):
    *tokens, groups = shape
    x = random_input((*tokens, groups * group_size), torch.bfloat16)
    check(x, group_size, f, backend_on)


# A kernel each, and runs of its lanes: 20 and 300 elements are whole lanes of none.
@every(group_size=[5, 20, 48, 128, 300, 512, 1024], shape=[(9, 5), (2, 3, 6)], f=OF_INT8)
def test_int8_codes_of_every_layout(backend_on, shape, group_size, f):
    *tokens, groups = shape
    x = random_input((*tokens, groups * group_size), torch.bfloat16)
    check(x, group_size, f, backend_on, INT8)


@every(dtype=[torch.float16, torch.float32], f=FORMATS)
def test_hard_values(backend_on, dtype, f):
    x = hard_input(18, 7 * 32, 32, dtype).view(3, 6, -1)
    for function in (FP8, INT8) if f in OF_INT8.values() else (FP8,):
        check(x, 32, f, backend_on, function)


@every(shape=[(64,), (1, 192), (1, 1, 64), (0, 64), (2, 0, 64), (0, 3, 128)], f=FORMATS)
def test_small_and_empty(backend_on, shape, f):
    x = random_input(shape, torch.bfloat16)
    for function in (FP8, INT8) if f in OF_INT8.values() else (FP8,):
        check(x, 64, f, backend_on, function)


@every(
    view={
        "rows": lambda x: x[..., :192],
        "unaligned": lambda x: x[..., 3:195],
        "transposed": lambda x: x[..., :192].transpose(0, 1),
    },
    f=FORMATS,
)
def test_strided_input(backend_on, view, f):
    backend, device = backend_on
    x = random_input((3, 5, 200), torch.bfloat16)
    actual = FP8(view(x.to(device)), 32, scale_format=f, backend=backend)
    expected = FP8(view(x).contiguous(), 32, scale_format=f, backend="reference")
    assert_same_results(actual, expected)
    assert memory(actual[1], f).tolist() == memory(expected[1], f).tolist()


@every(group_size=[48, 128], f=FORMATS)
def test_out_is_written_with_its_padding_and_nothing_beyond(backend_on, group_size, f):
    backend, device = backend_on
    x = random_input((2, 5, 6 * group_size), torch.bfloat16)
    q, s = FP8(x, group_size, scale_format=f, backend="reference")
    size = scales.num_elements(s.shape, f)
    for poison in (0x00, 0xA5):
        arena = torch.full(((size + 64) * s.element_size(),), poison, dtype=torch.uint8).to(device)
        out_s = arena.view(s.dtype).as_strided(s.shape, s.stride(), 32)
        out_q = torch.empty(q.shape, dtype=q.dtype, device=device)
        result = FP8(x.to(device), group_size, scale_format=f, backend=backend, out=(out_q, out_s))
        assert result[1] is out_s
        assert_same_results(result, (q, s))
        assert memory(out_s, f).tolist() == memory(s, f).tolist()
        begin = 32 * s.element_size()
        outside = torch.cat([arena[:begin], arena[begin + size * s.element_size() :]])
        assert (outside == poison).all()


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_shape(backend_on, data):
    f = data.draw(st.sampled_from(list(FORMATS.values())))
    group_size = data.draw(st.integers(1, 80))
    leading = data.draw(st.lists(st.integers(0, 6), max_size=3))
    groups = data.draw(st.integers(1, 9))
    x = random_input((*leading, groups * group_size), torch.float32)
    function = data.draw(st.sampled_from([FP8, INT8])) if f in OF_INT8.values() else FP8
    _, s = check(x, group_size, f, backend_on, function)
    assert s.shape == scales.scale_shape(x.shape, group_size, f)
    want = scales.scale_strides(s.shape, f)
    assert scales.has_strides(s, want)


@every(f=PADDED)
def test_out_without_memory_for_its_padding_is_refused(f):
    x = random_input((5, 6 * 32), torch.bfloat16)
    q, s = FP8(x, 32, scale_format=f)
    short = torch.empty_strided(s.shape, s.stride(), dtype=s.dtype)
    with pytest.raises(ValueError, match=r"out\[1\] must own the padding"):
        FP8(x, 32, scale_format=f, out=(q, short))
    shifted = torch.empty(200, dtype=s.dtype).as_strided(s.shape, s.stride(), 1)
    with pytest.raises(ValueError, match=r"out\[1\] must start at a multiple of 16 bytes"):
        FP8(x, 32, scale_format=f, out=(q, shifted))


def test_op_refuses_memory_without_padding():
    x = random_input((5, 6 * 32), torch.bfloat16)
    q = torch.empty(x.shape, dtype=torch.float8_e4m3fn)
    short = torch.empty_strided((5, 6), (1, 8))
    for op in ("", "_reference"):
        run = getattr(torch.ops.ptgq, f"per_token_group_quant{op}")
        with pytest.raises((RuntimeError, ValueError), match="padding of its last column"):
            run(x, q, short, 32, 1e-10, ScaleFormat.deep_gemm_hopper().code)


@pytest.mark.parametrize("op", ["", "_reference"])
def test_op_knows_the_codes_of_formats_alone(op):
    run = getattr(torch.ops.ptgq, f"per_token_group_quant{op}")
    x = torch.ones(2, 5, 64)
    q = torch.empty(x.shape, dtype=torch.float8_e4m3fn)
    accepted = set()
    for code, f in itertools.product(range(-2, 70), FORMATS.values()):
        s = scales.empty_scales(scales.scale_shape(x.shape, 8, f), f, x.device)
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            run(x, q, s, 8, 1e-10, code)
            accepted.add(code)
    # Those of tiles, for which s has another shape, too.
    assert accepted == {f.code for f in FORMATS.values()}
    # As programs call it that were exported with flags.
    with pytest.raises((RuntimeError, ValueError), match="by an older ptgq, export it again"):
        run(x, q, s, 8, 1e-10)


def test_op_refuses_int8_of_other_scales():
    x, f = torch.ones(5, 64), ScaleFormat.deep_gemm_blackwell()
    q, s = FP8(x, 8, scale_format=replace(f, group_sizes=()))
    with pytest.raises(RuntimeError, match="int8 q has float32 scales"):
        torch.ops.ptgq.per_token_group_quant(x, q.view(torch.int8), s, 8, 1e-10, f.code)


@every_format
def test_compiled(backend_on, f):
    interpret_few(backend_on, f)
    backend, device = backend_on

    functions = (FP8, INT8) if f in OF_INT8.values() else (FP8,)

    def run(x):
        return [function(x, 32, scale_format=f, backend=backend) for function in functions]

    torch._dynamo.reset()  # it limits how often one function is compiled
    x = random_input((2, 5, 6 * 32), torch.bfloat16).to(device)
    for actual, expected in zip(torch.compile(run, fullgraph=True)(x), run(x), strict=True):
        assert_same_results(actual, expected)
        assert memory(actual[1], f).tolist() == memory(expected[1], f).tolist()


@every(f=FORMATS)
def test_meta_tensors_have_the_shapes(f):
    x = random_input((2, 5, 6 * 32), torch.bfloat16)
    expected = FP8(x, 32, scale_format=f)
    actual = FP8(x.to("meta"), 32, scale_format=f)
    for a, b in zip(actual, expected, strict=True):
        assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)
