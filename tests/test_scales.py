"""``ptgq.scales`` and ``ScaleFormat``: conversions, presets, flags, checks, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import assert_same_bytes, assert_same_results
from scale_cases import DTYPES, FORMATS, every_format, memory
from values import random_input

import ptgq
from ptgq import ScaleFormat, scales

FP8 = ptgq.per_token_group_quant_fp8


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_conversion_from_any_format_to_any_other_and_back(data):
    source, target = (data.draw(st.sampled_from(list(FORMATS.values()))) for _ in range(2))
    leading = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    groups = data.draw(st.integers(1, 9))
    values = 2.0 ** torch.randint(-60, 60, (*leading, groups)).float()
    values[torch.rand(values.shape) < 0.1] = torch.nan
    s = scales.empty_scales(
        scales.scale_shape((*leading, groups), 1, source), source, torch.device("cpu")
    )
    scales.store_scales(values, s, source)
    converted = scales.convert(s, source, target, groups)
    scales.check_scales(converted, target, groups, check_finite=False)
    assert_same_bytes(scales.to_float32(converted, groups).contiguous(), values, "converted")
    back = scales.convert(converted, target, source, groups)
    assert_same_bytes(back, s, "back")
    assert memory(back, source).tolist() == memory(s, source).tolist()


def test_conversion_is_on_the_device_of_the_scales(backend_on):
    _, device = backend_on
    _, s = FP8(random_input((6, 256), torch.bfloat16).to(device), 32, True, True)
    packed = ScaleFormat.deep_gemm_blackwell()
    bytes_in_columns = ScaleFormat("power_of_two", torch.float8_e8m0fnu, "column_major")
    converted = scales.convert(s, bytes_in_columns, packed)
    assert converted.device.type == device
    expected = FP8(
        random_input((6, 256), torch.bfloat16), 32, scale_format=packed, backend="reference"
    )
    assert_same_bytes(converted, expected[1], "s")


def test_inexact_conversion_raises_unless_asked_for():
    float32, packed = ScaleFormat.torch_scaled_mm(), ScaleFormat.deep_gemm_blackwell()
    s = torch.tensor([[1.0, 0.3, 2.0, torch.nan]])
    with pytest.raises(ValueError, match=r"1 of 4 are none, first 0\.3.* at \(0, 1\)"):
        scales.convert(s, float32, packed)
    rounded = scales.to_float32(scales.convert(s, float32, packed, inexact=True), 4)
    assert rounded.nan_to_num(-1).tolist() == [[1.0, 0.5, 2.0, -1.0]]
    for bad in (0.0, -1.0, torch.inf):
        with pytest.raises(ValueError, match="1 of 1 are none"):
            scales.convert(torch.tensor([[bad]]), float32, packed)
    smallest = torch.tensor([[2.0**-127]])
    assert scales.convert(smallest, float32, packed).item() == 0


def test_flags_compose_to_formats():
    assert scales.scale_format(True, tma_aligned_scales=True) == ScaleFormat.deep_gemm_hopper()
    assert scales.scale_format(True, True, torch.int32, True) == ScaleFormat.deep_gemm_blackwell()
    assert scales.scale_format(False, True, torch.int32) == ScaleFormat.deep_gemm_mega_moe()
    assert scales.scale_format(False, True) == ScaleFormat.ocp_mx()
    assert scales.scale_format(True) == ScaleFormat.torch_scaled_mm()
    x = random_input((5, 384), torch.bfloat16)
    for flags, preset in (
        ({"column_major_scales": True, "tma_aligned_scales": True}, ScaleFormat.deep_gemm_hopper()),
        (
            {
                "column_major_scales": True,
                "use_ue8m0": True,
                "scale_dtype": torch.int32,
                "tma_aligned_scales": True,
            },
            ScaleFormat.deep_gemm_blackwell(),
        ),
    ):
        assert_same_results(FP8(x, 128, **flags), FP8(x, 128, scale_format=preset))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("float32", torch.int32), ValueError, "int32 holds powers of two only"),
        (("float32", torch.float8_e8m0fnu), ValueError, "e8m0fnu holds powers of two only"),
        (("power_of_two", DTYPES[1], "tma_aligned"), ValueError, "never as float8_e8m0fnu"),
        (("power_of_two", torch.int32, "column_major"), ValueError, "never from unpadded columns"),
        (("float32", torch.float32, "row_major", True), ValueError, "rows do not cross batches"),
        (("power_of_two", DTYPES[1], "column_major", True), ValueError, "columns of a batch"),
        (("bfloat16", torch.float32), ValueError, "kind must be .*, got 'bfloat16'"),
        (("float32", torch.float16), TypeError, "dtype must be one of .*, got torch.float16"),
        (("float32", torch.float32, "diagonal"), ValueError, "layout must be .*, got 'diagonal'"),
        (("float32", torch.float32, "column_major", 1), TypeError, "per_batch must be a bool"),
    ],
)
def test_formats_that_nobody_reads_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ScaleFormat(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tma_aligned_scales": True}, ValueError, "it needs column_major_scales=True"),
        ({"tma_aligned_scales": 1}, TypeError, "tma_aligned_scales must be a bool, got 1"),
        ({"scale_dtype": torch.int32}, ValueError, "int32 holds .* needs use_ue8m0=True"),
        (
            {"column_major_scales": True, "use_ue8m0": True, "tma_aligned_scales": True},
            ValueError,
            r"needs scale_dtype=torch.int32 \(packed\) or torch.float32, got None",
        ),
        (
            {"column_major_scales": True, "use_ue8m0": True, "scale_dtype": torch.int32},
            ValueError,
            "column_major_scales with scale_dtype=torch.int32 needs tma_aligned_scales=True, got ",
        ),
        ({"scale_format": "deep_gemm"}, TypeError, "scale_format must be a ptgq.ScaleFormat"),
        (
            {"scale_format": ScaleFormat.ocp_mx(), "use_ue8m0": True},
            ValueError,
            "must be left out, got .*True",
        ),
    ],
)
def test_options_that_contradict_each_other(options, error, message):
    with pytest.raises(error, match=message):
        FP8(torch.ones(2, 64), 64, **options)


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (
            lambda s: s.view(torch.float32),
            TypeError,
            "must have a dtype of torch.int32, got .*convert",
        ),
        (lambda s: s.half(), TypeError, "must have a dtype of torch.int32, got torch.float16$"),
        (lambda s: s.contiguous(), ValueError, r"with strides \(1, 8\): columns of 5 tokens, 3 of"),
        (lambda s: s[:, :1].as_strided((5, 1), (1, 5)), ValueError, r"with strides \(1, 8\)"),
        (
            lambda s: s.as_strided((5, 2), (1, 8), 1),
            ValueError,
            "must start at a multiple of 16 bytes",
        ),
        (
            lambda s: torch.empty_strided((5, 2), (1, 8), dtype=torch.int32),
            ValueError,
            "must own the padding of its last column",
        ),
        (
            lambda s: s.as_strided((8, 2), (1, 8)).fill_(1)[:5],
            ValueError,
            "must have 0 as padding behind the tokens",
        ),
    ],
)
def test_check_scales_says_what_is_wrong(spoil, error, message):
    f = ScaleFormat.deep_gemm_blackwell()
    _, s = FP8(random_input((5, 6 * 32), torch.bfloat16), 32, scale_format=f)
    scales.check_scales(s, f, 6)
    with pytest.raises(error, match=message):
        scales.check_scales(spoil(s), f, 6)


def test_check_scales_looks_at_values_and_padding_bytes():
    f = ScaleFormat.deep_gemm_mega_moe()
    _, s = FP8(random_input((5, 6 * 32), torch.bfloat16), 32, scale_format=f)
    s[3, 1] |= 1 << 24
    with pytest.raises(ValueError, match="0 as bytes past group 6"):
        scales.check_scales(s, f, 6)
    with pytest.raises(ValueError, match=r"num_groups must be given .* between 5 and 8"):
        scales.check_scales(s, f, 9)
    floats = ScaleFormat("power_of_two", torch.float32)
    with pytest.raises(ValueError, match=r"must hold powers of two: 1 of 2 are none, first 3\.0"):
        scales.check_scales(torch.tensor([[2.0, 3.0]]), floats)


@every_format
def test_check_scales_finds_marked_groups(f):
    x = random_input((5, 6 * 32), torch.bfloat16)
    x[2, 4 * 32], x[4, 0] = torch.nan, torch.inf
    _, s = FP8(x, 32, scale_format=f)
    scales.check_scales(s, f, 6, check_finite=False)
    for num_groups in (6, None):
        count = 10 * s.shape[-1] * 2 if f.packed and num_groups is None else 30
        message = f"s must be finite: 2 of {count} are not, first that of group \\(2, 4\\)"
        with pytest.raises(ValueError, match=message):
            scales.check_scales(s, f, num_groups)


def test_check_scales_finds_infinities():
    with pytest.raises(ValueError, match=r"1 of 2 are not, first that of group \(1,\)"):
        scales.check_scales(torch.tensor([1.0, torch.inf]), ScaleFormat("float32", torch.float32))


@pytest.mark.parametrize(
    ("dtype", "top"),
    [(torch.bfloat16, 2.0**128), (torch.float32, 2.0**128), (torch.float16, 65536)],
)
def test_finite_groups_near_the_maximum_dequantize_to_infinity(backend_on, dtype, top):
    # From 31/32 of the power of two above all of a type, an element's code is that of 256, and its
    # scale top / 256: the docstring of dequantize says so.
    backend, device = backend_on
    edge = torch.tensor(top / 2 * 1.9375, dtype=dtype)
    below = edge * (1 - torch.finfo(dtype).eps / 2)
    assert below < edge <= torch.finfo(dtype).max
    for x, code in ((below, 240), (edge, 256), (torch.tensor(torch.finfo(dtype).max), 256)):
        group = x.to(dtype).repeat(1, 32).to(device)
        q, s = FP8(group, 32, use_ue8m0=True, backend=backend)
        assert (q.float() == code).all()
        assert (scales.to_float32(s) == top / 256).all()
        infinite = ptgq.dequantize(q, s, 32, dtype=dtype).isinf()
        assert infinite.all() if code == 256 else not infinite.any()
        wide = ptgq.dequantize(q, s, 32)
        assert (wide.double() == code * (top / 256)).all() or wide.isinf().all()
        assert wide.isinf().any() == (code == 256 and dtype is not torch.float16)
        # Not so with float32 scales.
        q, s = FP8(group, 32, backend=backend)
        assert ptgq.dequantize(q, s, 32, dtype=dtype).isfinite().all()


def test_no_float32_scale_makes_infinities_but_one_of_int8():
    patterns = torch.arange(0x7F000000, 0x7F800000, dtype=torch.int32)  # from 2^127
    for function, expected in ((FP8, 0), (ptgq.per_token_group_quant_int8, 1)):
        values = patterns.view(torch.float32)[:, None]
        infinite = ptgq.dequantize(*function(values, 1), 1).isinf()
        assert int(infinite.sum()) == expected
        assert (values[infinite] == torch.finfo(torch.float32).max).all()


def test_packed_scales_need_their_number_of_groups():
    s = torch.zeros(2, 2, dtype=torch.int32)
    with pytest.raises(ValueError, match="num_groups must be given for packed s, between 5 and 8"):
        scales.to_float32(s)
    with pytest.raises(ValueError, match="num_groups must be the last size of s, 3, got 4"):
        scales.to_float32(torch.ones(2, 3), 4)
