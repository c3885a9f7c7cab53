"""The presets of ``ScaleFormat``: what known consumers read, and in which group sizes."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from numeric import assert_same_results
from scale_cases import DTYPES, NAMED

import ptgq
from ptgq import ScaleFormat, scales
from ptgq.scales import known

FP8 = ptgq.per_token_group_quant_fp8
README = Path(__file__).parents[1] / "README.md"


def test_presets_are_the_layouts_of_their_consumers():
    # Shapes and strides as the sources named in their docstrings compute them, for 3 x 10 tokens
    # and 5 groups.
    shape = (3, 10, 640)

    def laid_out(f, x_shape):
        s_shape = scales.scale_shape(x_shape, 128, replace(f, group_sizes=()))
        return s_shape, scales.scale_strides(s_shape, f), f.dtype, scales.num_elements(s_shape, f)

    f = ScaleFormat
    assert laid_out(f.deep_gemm_hopper(), shape[1:]) == ((10, 5), (1, 12), DTYPES[0], 60)
    assert laid_out(f.deep_gemm_hopper(per_batch=True), shape) == (
        (3, 10, 5),
        (60, 1, 12),
        DTYPES[0],
        180,
    )
    assert laid_out(f.deep_gemm_blackwell(), shape[1:]) == ((10, 2), (1, 12), DTYPES[2], 24)
    assert laid_out(f.deep_gemm_blackwell(per_batch=True), shape) == (
        (3, 10, 2),
        (24, 1, 12),
        DTYPES[2],
        72,
    )
    assert laid_out(f.deep_gemm_mega_moe(), shape[1:]) == ((10, 2), (2, 1), DTYPES[2], 20)
    for preset in (f.vllm_cutlass, f.sglang_cutlass, f.torch_scaled_mm):
        assert laid_out(preset(), shape[1:]) == ((10, 5), (1, 10), DTYPES[0], 50)
    assert laid_out(f.ocp_mx(), shape[1:]) == ((10, 5), (5, 1), DTYPES[1], 50)


ALL = known.PRESETS | known.TILED_PRESETS
PRESETS = {getattr(ScaleFormat, name): preset.group_sizes for name, preset in ALL.items()}
READS = torch.ones(4, 1536)


def test_the_list_has_every_format_and_preset():
    accepted = set()
    for key in itertools.product(get_args(known.Kind), DTYPES, get_args(known.Layout)):
        with contextlib.suppress(ValueError):
            accepted.add(ScaleFormat(*key))
    others = (known.TILED_FORMATS | known.BLOCK_FORMATS).values()
    others = [ScaleFormat(kind, getattr(torch, dtype), layout) for kind, dtype, layout in others]
    assert {*NAMED.values(), *others} == accepted
    methods = [name for name, _ in inspect.getmembers(ScaleFormat, inspect.ismethod)]
    named = {name for name in methods if not name.startswith("_")}
    assert named == {*ALL, *known.BLOCK_PRESETS}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
@pytest.mark.parametrize("function", [FP8, ptgq.silu_and_mul_per_token_group_quant_fp8])
def test_a_preset_takes_the_group_sizes_that_its_consumer_reads(function, preset):
    sizes = " or ".join(map(str, PRESETS[preset]))
    for group_size in (1, 16, 32, 64, 96, 128, 256):
        if group_size in PRESETS[preset]:
            function(READS, group_size, scale_format=preset())
            scales.scale_shape(READS.shape, group_size, preset())
            continue
        message = f"group_size must be {sizes}, as {preset.__name__} reads no .*, got {group_size}$"
        with pytest.raises(ValueError, match=message):
            function(READS, group_size, scale_format=preset())
        with pytest.raises(ValueError, match=message):
            scales.scale_shape(READS.shape, group_size, preset())


def test_the_readme_states_the_group_sizes():
    rows = re.findall(r"^\| (`\w+\(.*?)\|.*\| ([\d, ]+) \|$", README.read_text(), re.M)
    stated = {name: sizes for names, sizes in rows for name in re.findall(r"`(\w+)\(", names)}
    assert stated == {p.__name__: ", ".join(map(str, sizes)) for p, sizes in PRESETS.items()}


def test_group_sizes_are_carried_and_compare_as_nothing():
    plain = scales.scale_format(True, tma_aligned_scales=True)
    preset = ScaleFormat.deep_gemm_hopper()
    assert preset == plain
    assert hash(preset) == hash(plain)
    assert (plain.group_sizes, plain.preset) == ((), None)
    copies = [pickle.loads(pickle.dumps(preset)), copy.deepcopy(preset)]
    copies += [replace(preset), eval(repr(preset), {"ScaleFormat": ScaleFormat, "torch": torch})]
    for f in copies:
        assert (f, f.group_sizes, f.preset) == (preset, (128,), "deep_gemm_hopper")
    with pytest.raises(ValueError, match="group_size must be 128, as deep_gemm_hopper"):
        FP8(READS[None], 64, scale_format=replace(preset, per_batch=True))
    FP8(READS, 64, scale_format=replace(preset, group_sizes=()))
    own = replace(plain, group_sizes=(16, 32))
    with pytest.raises(ValueError, match="must be 16 or 32, as the consumer of this scale_format"):
        FP8(READS, 64, scale_format=own)


def test_what_is_stored_of_a_format_says_nothing_that_calls_left_in_it():
    f = ScaleFormat.deep_gemm_hopper()
    before = pickle.dumps(f)
    FP8(READS, 128, scale_format=f)
    assert pickle.dumps(f) == before
    # Another version may count its formats otherwise.
    f.__dict__["code"] = ScaleFormat("float32", torch.float32).code
    for again in (pickle.loads(pickle.dumps(f)), copy.copy(f), copy.deepcopy(f)):
        assert again.code == ScaleFormat.deep_gemm_hopper().code


def test_a_subclass_says_itself_what_the_scales_are():
    class Column(ScaleFormat):
        column_major = True

    q, s = FP8(READS, 128, scale_format=Column("float32", torch.float32))
    wanted = FP8(READS, 128, scale_format=Column("float32", torch.float32), backend="reference")
    assert s.stride() == wanted[1].stride() == FP8(READS, 128, column_major_scales=True)[1].stride()
    assert all(map(torch.equal, (q, s), wanted))


@pytest.mark.parametrize("fullgraph", [True, False])
def test_a_compiled_call_refuses_group_sizes_too(fullgraph):
    def run(x, f, group_size):
        return FP8(x, group_size, scale_format=f)

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=fullgraph, backend="eager")
    plain, preset = (
        scales.scale_format(True, tma_aligned_scales=True),
        ScaleFormat.deep_gemm_hopper(),
    )
    assert_same_results(compiled(READS, plain, 64), run(READS, plain, 64))
    # The formats are equal: what was compiled for one must not serve the other.
    with pytest.raises(Exception, match="group_size must be 128, as deep_gemm_hopper"):
        compiled(READS, preset, 64)
    assert_same_results(compiled(READS, preset, 128), run(READS, preset, 128))


def test_conversion_keeps_to_a_group_size():
    _, s = FP8(READS, 128, scale_format=ScaleFormat.deep_gemm_hopper())
    to_blackwell = scales.convert(
        s, ScaleFormat.deep_gemm_hopper(), ScaleFormat.deep_gemm_blackwell(), inexact=True
    )
    scales.check_scales(to_blackwell, ScaleFormat.deep_gemm_blackwell(), 12)
    with pytest.raises(ValueError, match=r"128 \(deep_gemm_hopper\), .* of 32 \(ocp_mx\)"):
        scales.convert(s, ScaleFormat.deep_gemm_hopper(), ScaleFormat.ocp_mx(), inexact=True)
    plain = scales.scale_format(False, True)
    scales.convert(s, ScaleFormat.deep_gemm_hopper(), plain, inexact=True)
