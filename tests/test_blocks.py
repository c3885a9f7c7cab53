"""Weights in blocks: bytes, scales and layouts of every backend, against integer arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every import every
from numeric import assert_same_bytes, assert_same_results
from numeric import memory as memory_of_tensor
from values import DTYPES, random_input

import ptgq
from proofs.blocks import FORMATS, expected
from ptgq import ScaleFormat, blocks, scales
from ptgq.scales import known

QUANT = ptgq.per_block_quant_fp8
NAMED = {fmt.name: fmt for fmt in FORMATS}
# Each way to store scales, and both of what is not finite.
FEW = {fmt.name: fmt for fmt in (*FORMATS[:5:2], *FORMATS[6::2])}
# Whole blocks, one that a matrix does not fill, edges, experts, odd sizes, a block of all.
SHAPES = {
    "whole": ((256, 128), (128, 128)),
    "small": ((5, 24), (128, 128)),
    "edges": ((130, 200), (128, 128)),
    "experts": ((2, 136, 72), (128, 64)),
    "odd": ((2, 2, 7, 13), (3, 5)),
    "oblong": ((70, 90), (64, 32)),
    "all": ((50, 70), (2**40, 2**40)),
}


def weight(shape, dtype, seed=0):
    """Blocks of each size of numbers, with zeros, a NaN and infinities somewhere."""
    w = random_input(shape, torch.float32, seed)
    w = w * torch.logspace(-6, 3, shape[-1]).roll(seed)
    w.view(-1)[::11] = 0
    w[..., 0, 0] = torch.nan
    w[..., -1, -1] = -torch.inf
    return w.to(dtype)


@every(shape=SHAPES, dtype=DTYPES, fmt=FEW)
def test_bytes_are_those_of_integer_arithmetic(backend_on, shape, dtype, fmt):
    backend, device = backend_on
    (sizes, block_size), f = shape, fmt.scales
    w = weight(sizes, dtype)
    clamped = tuple(min(pair) for pair in zip(block_size, sizes[-2:], strict=True))
    wanted_q, wanted_s = fmt.expected(w, clamped)
    q, s = QUANT(
        w.to(device), block_size, scale_format=f, backend=backend,
        nonfinite="saturate" if fmt.saturate else "mark",
    )  # fmt: skip
    assert_same_bytes(q.view(torch.uint8), wanted_q.contiguous(), "q")
    stored = scales.memory_of(s, f).cpu().view(wanted_s.dtype)
    assert torch.equal(stored, wanted_s.flatten())
    scales.check_scales(s, f, check_finite=False)
    assert s.shape == scales.block_scale_shape(sizes, block_size, f)


def test_sides_past_63_bits_cut_nothing_off(backend_on):
    backend, device = backend_on
    w = weight((50, 70), torch.bfloat16).to(device)
    large, whole = (2**70, 2**63), (50, 70)
    results = QUANT(w, large, backend=backend)
    assert_same_results(results, QUANT(w, whole, backend=backend))
    undone = ptgq.dequantize_blocks(*results, large, backend=backend)
    assert_same_bytes(undone, ptgq.dequantize_blocks(*results, whole, backend=backend), "y")


def test_blocks_of_16_bit_absmaxima():
    # A block of each absmax; here one of 2999.
    from proofs import blocks as proven
    from proofs.report import Report

    report = Report()
    proven.prove(report, "cpu", ["cpu"], stride=2999)
    assert (report.wrong, report.checked > 10**6) == (0, True)


W = weight((2, 3, 20, 40), torch.bfloat16)
STRIDED = {
    "rows": W[..., :32],
    "misaligned": W[..., 1:],
    "experts": W[:, ::2],
    "not one stride": W.transpose(0, 1),
    "repeated rows": W[:, :, :1].expand(-1, -1, 9, -1),
    "repeated experts": W[:1, :1].expand(4, 3, -1, -1),
    "one column": W[..., :1],
    "negated": torch._neg_view(W.float()),
    "gradients": W.float().requires_grad_(),
}


@every(what=STRIDED)
def test_strides_change_nothing(backend_on, what):
    backend, device = backend_on
    w = what.to(device) if device != "cpu" else what
    plain = what.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
    results = QUANT(w, (16, 32), backend=backend)
    assert_same_results(results, QUANT(plain, (16, 32), backend="reference"))
    assert [t.requires_grad for t in results] == [False, False]


def test_no_elements(backend_on):
    backend, device = backend_on
    for shape, s_shape in (((0, 256), (0, 2)), ((256, 0), (2, 0)), ((0, 4, 4), (0, 1, 1))):
        w = torch.empty(shape, dtype=torch.bfloat16, device=device)
        q, s = QUANT(w, backend=backend)
        assert (q.shape, s.shape) == (shape, s_shape)
        assert ptgq.dequantize_blocks(q, s, backend=backend).shape == shape


def test_out(backend_on):
    backend, device = backend_on
    w, f = weight((2, 40, 72), torch.bfloat16).to(device), ScaleFormat.torch_scaled_mm_blocks()
    f = replace(f, group_sizes=())
    options = {"block_size": (16, 32), "scale_format": f, "backend": backend}
    wanted = QUANT(w, **options)
    out = torch.empty_like(wanted[0]), scales.empty_scales(wanted[1].shape, f, w.device)
    scales.memory_of(out[1], f).fill_(7)
    versions = [t._version for t in out]
    q, s = QUANT(w, out=out, **options)
    assert (q is out[0], s is out[1]) == (True, True)
    assert_same_results(out, wanted)
    assert memory_of_tensor(s.cpu()) == memory_of_tensor(wanted[1].cpu())
    assert all(t._version > version for t, version in zip(out, versions, strict=True))


def test_out_is_refused_as_by_the_others():
    q, s = QUANT(W.float())
    with torch.inference_mode():
        inference = torch.empty_like(q), torch.empty_like(s)
    f = ScaleFormat("float32", torch.float32, "aligned_rows")
    memory = s.new_empty(26)
    misaligned, short = (memory[n:].as_strided(s.shape, (12, 4, 4, 1)) for n in (1, 4))
    cases = (
        ({"out": inference}, RuntimeError, "Inplace update to inference tensor"),
        ({"out": (q, s.clone().requires_grad_())}, ValueError, r"out\[1\] must not require grad"),
        ({"out": (q, s[..., 0])}, ValueError, r"out\[1\] must have shape"),
        ({"out": (q, s), "scale_format": f}, ValueError, r"out\[1\] must have strides"),
        ({"out": (q, misaligned), "scale_format": f}, ValueError, "a multiple of 16 bytes"),
        ({"out": (q, short), "scale_format": f}, ValueError, "own the padding of its last row"),
    )
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            QUANT(W.float(), **options)


@pytest.fixture
def directly(monkeypatch):
    """Whether the calls so far were served by the fast path, in order."""
    QUANT(torch.ones(2, 2), (1, 1))
    right, log = blocks.quantize_directly, []

    def quantize_directly(*call):
        log.append(right(*call))
        return log[-1]

    monkeypatch.setattr(blocks, "quantize_directly", quantize_directly)
    return log


def test_ordinary_calls_are_direct(directly):
    w = weight((2, 40, 72), torch.bfloat16)
    aligned = ScaleFormat("float32", torch.float32, "aligned_rows")
    cases = [{}, {"use_ue8m0": True}, {"scale_format": aligned}, {"nonfinite": "saturate"}]
    cases += [{"use_ue8m0": True, "scale_dtype": torch.float32}, {"block_size": [16, 32]}]
    for options in cases:
        results = QUANT(w, **options)
        again = QUANT(torch.nn.Parameter(w), out=results, **options)
        wanted = QUANT(w, **{**options, "backend": "reference"})
        assert_same_results(results, wanted)
        direct = [call is not None for call in directly]
        assert direct == [True, True, False]
        assert directly[0][1].untyped_storage().nbytes() == wanted[1].untyped_storage().nbytes()
        assert again[0] is results[0]
        directly.clear()
    with ptgq.use_backend("reference"):
        QUANT(w)
    for others in (W.transpose(0, 1), torch._neg_view(w.float()), w[:0]):
        QUANT(others)
    assert [call for call in directly if call is not None] == []


def test_presets_are_what_their_consumers_read():
    # As the sources that their docstrings name compute them, for two experts of 576 x 640.
    w = torch.ones(2, 576, 640, dtype=torch.bfloat16)

    def laid_out(f):
        s = QUANT(w, scale_format=f)[1]
        return tuple(s.shape), s.stride(), s.dtype, s.untyped_storage().nbytes() // s.element_size()

    f = ScaleFormat
    assert laid_out(f.torch_scaled_mm_blocks()) == ((2, 5, 5), (40, 8, 1), torch.float32, 80)
    for preset in (f.deep_gemm_hopper_blocks(), f.deep_gemm_blackwell_blocks()):
        assert laid_out(preset) == ((2, 5, 5), (25, 5, 1), torch.float32, 50)
        assert preset.group_sizes == ((128, 128),)
    powers = QUANT(w * 3, scale_format=f.deep_gemm_blackwell_blocks())[1]
    assert torch.equal(powers, torch.exp2(powers.log2().round()))


def test_formats_of_groups_and_of_blocks_are_told_apart():
    x = torch.ones(128, 128)
    for name in known.BLOCK_PRESETS:
        f = getattr(ScaleFormat, name)()
        with pytest.raises(ValueError, match=rf"block_size must be \(128, 128\), as {name} reads"):
            QUANT(x, (64, 64), scale_format=f)
        with pytest.raises(ValueError, match=r"group_size must be|scale_format must be of groups"):
            ptgq.per_token_group_quant_fp8(x, 128, scale_format=f)
    aligned = ScaleFormat("float32", torch.float32, "aligned_rows")
    for call in (
        lambda: ptgq.per_token_group_quant_fp8(x, 128, scale_format=aligned),
        lambda: scales.scale_shape((4, 128), 128, aligned),
    ):
        with pytest.raises(Exception, match="scale_format must be of groups, got aligned_rows"):
            call()
    for name in ("ocp_mx", "deep_gemm_hopper", "torch_scaled_mm_mx"):
        f = getattr(ScaleFormat, name)()
        with pytest.raises(ValueError, match=f"block_size must be .*, as {name} reads no others"):
            QUANT(x, scale_format=f)


def test_aligned_rows_are_converted_and_checked():
    aligned = ScaleFormat("float32", torch.float32, "aligned_rows")
    plain = scales.scale_format()
    s = QUANT(weight((300, 700), torch.float32).nan_to_num(1.0, 1.0, 1.0))[1]
    rows = scales.convert(s, plain, aligned)
    assert (rows.stride(), rows.tolist()) == ((8, 1), s.tolist())
    scales.check_scales(rows, aligned)
    assert scales.convert(rows, aligned, plain).equal(s)
    assert scales.num_elements(s.shape, aligned) == 24
    scales.memory_of(rows, aligned)[7] = 1
    with pytest.raises(ValueError, match="must have 0 as padding behind the blocks of a row"):
        scales.check_scales(rows, aligned)
    with pytest.raises(ValueError, match=r"s must be aligned_rows, with strides \(8, 1\)"):
        scales.check_scales(s, aligned)
    code = aligned.code
    assert (code, ScaleFormat("power_of_two", torch.float32, "aligned_rows").code) == (64, 65)
    with pytest.raises(ValueError, match="aligned rows are read by cuBLAS, as float32 alone"):
        ScaleFormat("power_of_two", torch.float8_e8m0fnu, "aligned_rows")


def test_the_oracle_by_float64():
    # A second opinion on blocks of powers of two, where all is exact.
    w = torch.tensor([[448.0, 1.0, 8.0], [0.0, -2.0, 0.5]])
    q, bits = expected(w, (2, 2), False, 1e-10, False)
    assert bits.int().view(torch.float32).tolist() == [[1.0, torch.tensor(8.0 / 448).item()]]
    assert q.view(torch.float8_e4m3fn).float().tolist() == [[448.0, 1.0, 448.0], [0.0, -2.0, 28.0]]
