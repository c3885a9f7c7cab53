"""Shapes, options and values that nobody thought of, against the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numeric import assert_same_results
from values import DTYPES

import ptgq

# Bit patterns, so that every value is as likely as any other: subnormal, huge, NaN.
PATTERNS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


@st.composite
def inputs(draw, max_elements):
    group_size = draw(st.integers(1, 300))
    num_groups = draw(st.integers(1, max(1, max_elements // group_size // 4)))
    num_tokens = draw(st.integers(0, 9))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = (num_tokens, num_groups * group_size + draw(st.integers(0, 5)))
    if draw(st.booleans()):
        integer = PATTERNS[dtype]
        info = torch.iinfo(integer)
        bits = torch.randint(info.min, info.max, shape, generator=generator, dtype=integer)
        x = bits.view(dtype)
        x = x.where(x.isfinite(), torch.zeros_like(x)) if draw(st.booleans()) else x
    else:
        exponents = torch.randint(-30, 15, shape, generator=generator)
        x = (torch.randn(shape, generator=generator) * 2.0**exponents).to(dtype)
    return x[:, : num_groups * group_size], group_size


# The interpreter's arithmetic is numpy's, which warns of signalling NaN.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_input_gives_the_reference_bytes(backend_on, data):
    backend, device = backend_on
    # Triton's interpreter takes milliseconds a group.
    interpreted = backend_on == ("triton", "cpu")
    x, group_size = data.draw(inputs(max_elements=512 if interpreted else 4096))
    eps = data.draw(st.sampled_from([1e-10, 1e-24, 1e-4, 2.0]))
    function = data.draw(
        st.sampled_from([ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8])
    )
    options = {
        "column_major_scales": data.draw(st.booleans()),
        "use_ue8m0": data.draw(st.booleans()),
    }
    int8 = function is ptgq.per_token_group_quant_int8
    if options["use_ue8m0"] and (int8 or data.draw(st.booleans())):
        options["scale_dtype"] = torch.float32
    on_device = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device).copy_(x)
    actual = function(on_device, group_size, **options, eps=eps, backend=backend)
    assert_same_results(actual, function(x, group_size, **options, eps=eps, backend="reference"))
