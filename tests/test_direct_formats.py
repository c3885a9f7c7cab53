"""Direct calls of every format: each code, function, rank and stride of rows, with and without out.

What lies in memory beside the results, padding, is compared as they are.
"""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from numeric import assert_same_results, memory
from scale_cases import FORMATS, OF_INT8, PADDED, every_format
from scale_cases import memory as bytes_of
from values import hard_input, random_input

import ptgq
from ptgq import ScaleFormat, extension, scales
from ptgq.backends import load

FP8 = ptgq.per_token_group_quant_fp8
SILU = ptgq.silu_and_mul_per_token_group_quant_fp8
INT8 = ptgq.per_token_group_quant_int8
SILU_INT8 = ptgq.silu_and_mul_per_token_group_quant_int8
# Six groups: not whole words of packed scales. Tokens: whole and other columns.
GROUP_SIZE, WIDTH = 16, 96


def inputs(dtype, width, device="cpu"):
    """Yield inputs of rows of `width` that a call need not copy."""
    x = hard_input(24, 2 * width, GROUP_SIZE, dtype).to(device)
    rows = x[:, :width]
    yield from (rows[:8].contiguous(), rows[:5].contiguous(), rows[:1], rows[0])
    yield from (rows[:7], rows[::2], rows[:1].expand(5, width))
    yield from (x.view(2, -1, width)[:, :5].contiguous(), x.view(4, 6, -1)[..., :width])
    yield x.view(2, 3, 2, 2, -1)[..., :width]
    yield x.view(3, 8, 1, -1)[:, ::2, :, :width]
    yield rows[:6].view(*[1] * 7, 2, 3, width)


def check(served, function, x, **options):
    """Compare a call with the reference, without and with out; it is direct both times."""
    expected = function(x, GROUP_SIZE, backend="reference", **options)
    del served[:]
    results = function(x, GROUP_SIZE, **options)
    assert_same_results(results, expected)
    assert [memory(tensor) for tensor in results] == [memory(tensor) for tensor in expected]
    for tensor in results:
        tensor.untyped_storage().fill_(0xA5)
    versions = [tensor._version for tensor in results]
    again = function(x, GROUP_SIZE, out=results, **options)
    assert again is results
    assert [tensor._version for tensor in again] == [before + 1 for before in versions]
    assert [memory(tensor) for tensor in again] == [memory(tensor) for tensor in expected]
    assert served == [True, True], (x.shape, x.stride())


@every_format
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("function", [FP8, SILU])
def test_every_format_is_direct(served, function, dtype, f):
    for x in inputs(dtype, 2 * WIDTH if function is SILU else WIDTH):
        check(served, function, x, scale_format=f)


@pytest.mark.gpu
@every_format
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("function", [FP8, SILU])
def test_every_format_is_direct_on_a_gpu(monkeypatch, function, backend, f):
    # Triton's direct calls are not the extension's, which `served` watches.
    serves = extension if backend == "cuda" else load(backend)
    right, served = serves.quantize_directly, []
    monkeypatch.setattr(
        serves, "quantize_directly", lambda *call: served.append(right(*call)) or served[-1]
    )
    for x in inputs(torch.bfloat16, 2 * WIDTH if function is SILU else WIDTH, "cuda"):
        call = partial(function, x, GROUP_SIZE, scale_format=f, backend=backend)
        call()  # finds out what serves; Triton compiles
        del served[:]
        results = call()
        scales.memory_of(results[1], f).view(torch.uint8).fill_(0xA5)
        assert call(out=results) is results
        expected = function(x.cpu(), GROUP_SIZE, scale_format=f, backend="reference")
        assert_same_results(results, expected)
        assert bytes_of(results[1], f).equal(bytes_of(expected[1], f))
        assert served[0] is results, (x.shape, x.stride())
        assert served[1] is results, (x.shape, x.stride())


@pytest.mark.parametrize("f", OF_INT8.values(), ids=OF_INT8)
@pytest.mark.parametrize("function", [INT8, SILU_INT8])
def test_int8_is_direct(served, function, f):
    for x in inputs(torch.float16, 2 * WIDTH if function is SILU_INT8 else WIDTH):
        check(served, function, x, scale_format=f)


@pytest.mark.parametrize("limit", [0.3, 10])
@pytest.mark.parametrize("function", [SILU, SILU_INT8])
def test_limits_are_direct(served, function, limit):
    for x in inputs(torch.bfloat16, 2 * WIDTH):
        check(served, function, x, swiglu_limit=limit)


@pytest.mark.parametrize("function", [FP8, SILU])
def test_flags_name_formats(served, function):
    x = random_input((5, 2 * WIDTH), torch.bfloat16)
    named = set()
    for key in itertools.product((False, True), (False, True), (None, *scales.formats.DTYPES)):
        for tma_aligned in (False, True):
            flags = {
                **dict(zip(("column_major_scales", "use_ue8m0", "scale_dtype"), key, strict=True)),
                "tma_aligned_scales": tma_aligned,
            }
            try:
                named.add(scales.scale_format(*flags.values()))
            except ValueError:
                with pytest.raises(ValueError, match=r"_scales|scale_dtype|no such scales"):
                    function(x, GROUP_SIZE, **flags)
                continue
            check(served, function, x, **flags)
    assert named == {f for f in FORMATS.values() if not f.per_batch}


def test_codes_tell_formats_apart():
    codes = {f.code for f in FORMATS.values()}
    assert len(codes) == len(FORMATS)
    preset = ScaleFormat.deep_gemm_hopper()
    before = repr(preset), hash(preset)
    assert preset.code == scales.scale_format(True, tma_aligned_scales=True).code
    assert (repr(preset), hash(preset)) == before
    assert preset == ScaleFormat.deep_gemm_hopper()


@pytest.mark.parametrize("preset", ["deep_gemm_hopper", "deep_gemm_blackwell", "ocp_mx"])
def test_presets_are_direct_in_their_group_sizes(served, preset):
    f = getattr(ScaleFormat, preset)()
    x = random_input((3, 384), torch.bfloat16)
    for group_size in f.group_sizes:
        expected = FP8(x, group_size, scale_format=f, backend="reference")
        del served[:]
        assert_same_results(FP8(x, group_size, scale_format=f), expected)
        assert served == [True]
    for wrong in (64, True, 128.0, torch.tensor(128), None):
        with pytest.raises((TypeError, ValueError), match="group_size must be"):
            FP8(x, wrong, scale_format=f)
    assert not any(served[1:])


@every_format
def test_results_in_inference_mode(served, f):
    x = random_input((5, WIDTH), torch.bfloat16)
    with torch.inference_mode():
        results = FP8(x, GROUP_SIZE, scale_format=f)
        assert [tensor.is_inference() for tensor in results] == [True, True]
        assert FP8(x, GROUP_SIZE, scale_format=f, out=results) is results
    assert served == [True, True]
    with pytest.raises(RuntimeError, match="inference tensor"):
        FP8(x, GROUP_SIZE, scale_format=f, out=results)
    assert served[2:] == [False]


# A fourth storage, a fourth layout, past all bits, before them.
@pytest.mark.parametrize("code", [6, 24, 64, -1, 2**70])
def test_a_number_that_is_no_format_is_refused(code):
    x = random_input((5, WIDTH), torch.bfloat16)
    arguments = (None, x, GROUP_SIZE, torch.float8_e4m3fn, code, False, 1e-10, None)
    assert extension.quantize_directly(*arguments) is None


@pytest.mark.parametrize("f", PADDED.values(), ids=PADDED)
def test_out_of_memory_that_padding_must_not_reach(served, f):
    x = random_input((5, WIDTH), torch.bfloat16)
    q, s = FP8(x, GROUP_SIZE, scale_format=f)
    size = scales.num_elements(s.shape, f)
    assert size > s.numel()
    arena = torch.empty(4 * size + q.numel() + 2 * x.numel() + 64, dtype=torch.uint8)
    given = arena[: 4 * size].view(s.dtype).as_strided(s.shape, s.stride(), 0)
    last = 4 * size - 4  # a byte of the padding of the last column
    as_q = arena[last : last + q.numel()].view(q.dtype).view(q.shape)
    as_x = arena[last : last + 2 * x.numel()].view(x.dtype).view(x.shape).copy_(x)
    behind = arena[last + 4 : last + 4 + q.numel()].view(q.dtype).view(q.shape)
    short = torch.empty_strided(s.shape, s.stride(), dtype=s.dtype)
    shifted = torch.empty(size + 4, dtype=s.dtype).as_strided(s.shape, s.stride(), 1)
    for source, out, message in (
        (x, (as_q, given), r"out\[1\] must not overlap out\[0\]"),
        (as_x, (q, given), r"out\[1\] must not overlap x"),
        (x, (q, short), r"out\[1\] must own the padding"),
        (x, (q, shifted), r"out\[1\] must start at a multiple of 16"),
    ):
        with pytest.raises(ValueError, match=message):
            FP8(source, GROUP_SIZE, scale_format=f, out=out)
    assert served == [True, False, False, False, False]
    assert_same_results(FP8(x, GROUP_SIZE, scale_format=f, out=(behind, given)), (q, s))
    assert served[5:] == [True]


def test_out_whose_batches_are_not_those_of_x_is_refused(served):
    f = ScaleFormat.deep_gemm_hopper(per_batch=True)
    x = random_input((2, 3, 128), torch.bfloat16)
    q, _ = FP8(x, 128, scale_format=f)
    for shape in ((6, 1), (1, 6, 1), (3, 2, 1)):
        with pytest.raises(ValueError, match=r"out\[1\] must have shape"):
            FP8(x, 128, scale_format=f, out=(q, scales.empty_scales(shape, f, "cpu")))
    assert not any(served[1:])


@every_format
def test_out_of_another_format_is_refused(served, f):
    x = random_input((2, 3, WIDTH), torch.bfloat16)
    q, _ = FP8(x, GROUP_SIZE, scale_format=f)
    for other in FORMATS.values():
        shape = scales.scale_shape(x.shape, GROUP_SIZE, other)
        s = scales.empty_scales(shape, other, "cpu")
        fits = s.dtype is f.dtype and scales.has_strides(s, scales.scale_strides(shape, f))
        del served[:]
        if fits:
            FP8(x, GROUP_SIZE, scale_format=f, out=(q, s))
        else:
            with pytest.raises((TypeError, ValueError), match=r"out\[1\] must have"):
                FP8(x, GROUP_SIZE, scale_format=f, out=(q, s))
        assert served == [fits]


@every_format
def test_out_that_autograd_or_a_negation_follows_is_refused(served, f):
    x = random_input((3, WIDTH), torch.bfloat16)
    for function, options in ((FP8, {"scale_format": f}), (INT8, {})):
        results = function(x, GROUP_SIZE, **options)
        before = [memory(tensor) for tensor in results]
        del served[:]
        for i, name in enumerate((r"out\[0\]", r"out\[1\]")):
            given = [tensor.detach() for tensor in results]
            # What else can be negated, by torch's own functions, is no output's type.
            if results[i].dtype is torch.float32:
                given[i] = torch._neg_view(results[i])
                with pytest.raises(ValueError, match=f"{name} must not be a negated view"):
                    function(x, GROUP_SIZE, out=tuple(given), **options)
            if results[i].is_floating_point():  # float8, too
                given[i] = results[i].detach().requires_grad_()
                with pytest.raises(ValueError, match=f"{name} must not require gradients"):
                    function(x, GROUP_SIZE, out=tuple(given), **options)
        assert not any(served)
        assert [memory(tensor) for tensor in results] == before
