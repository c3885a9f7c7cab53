"""UE8M0 bytes in tiles of 128 tokens and 4 groups, as the tensor cores of Blackwell read them."""

from __future__ import annotations

import itertools
import json
import runpy
from pathlib import Path

import pytest
import torch
from every import every
from numeric import assert_same_bytes, assert_same_results, bits
from scale_cases import FORMATS, TILED
from values import hard_input, random_input

import ptgq
from proofs import calls
from proofs.formats import Format
from proofs.report import Report
from ptgq import ScaleFormat, scales

FP8 = ptgq.per_token_group_quant_fp8
SILU = ptgq.silu_and_mul_per_token_group_quant_fp8
GOLDEN = Path(__file__).parent / "golden/tiles.json"
TILES = TILED["all"]
BYTES = ScaleFormat.ocp_mx()
# The interpreter's arithmetic is numpy's, which warns of what gives NaN or infinity.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def golden():
    """Yield inputs whose scales are known, how their tokens are tiled, and the bytes."""
    script = runpy.run_path(str(GOLDEN.with_suffix(".py")))
    for shape in script["SHAPES"]:
        x = torch.empty(*shape, 32)
        for at in itertools.product(*map(range, shape)):
            x[at] = 448 * 2.0 ** script["exponent"](shape, *at)
        for name, expected in script["BYTES"]["x".join(map(str, shape))].items():
            yield x.flatten(-2), name, bytes.fromhex(expected)


def test_golden_file_is_what_its_script_writes():
    script = runpy.run_path(str(GOLDEN.with_suffix(".py")))
    assert json.loads(GOLDEN.read_text()) == script["BYTES"]


def test_bytes_are_the_golden_ones(backend_on):
    backend, device = backend_on
    for x, name, expected in golden():
        f = ScaleFormat.torch_scaled_mm_mx(per_batch=name == "per_batch")
        q, s = FP8(x.to(device), 32, eps=1e-24, scale_format=f, backend=backend)
        assert bytes(bits(s).flatten().tolist()) == expected
        assert s.is_contiguous()
        assert s.shape == scales.scale_shape(x.shape, 32, f)
        scales.check_scales(s, f, x.shape[-1] // 32)
        # Back in rows, they are those of the values.
        shape = *x.shape[:-1], x.shape[-1] // 32
        rows = scales.convert(s, f, BYTES, shape=shape)
        assert ptgq.dequantize(q, rows, 32).equal(x.to(device))


def test_the_shape_is_that_of_torchs_operand():
    f = ScaleFormat.torch_scaled_mm_mx
    for tokens, groups in ((1, 1), (128, 4), (129, 5), (8192, 224)):
        _, s = FP8(torch.ones(tokens, 32 * groups), 32, scale_format=f())
        assert s.shape == (-(-tokens // 128) * 128, -(-groups // 4) * 4)
    _, s = FP8(torch.ones(3, 130, 64), 32, scale_format=f(per_batch=True))
    assert s.shape == (3 * 256, 4)
    _, s = FP8(torch.ones(3, 130, 64), 32, scale_format=f())
    assert s.shape == (512, 4)


def test_torchao_blocks_them_alike():
    blocked = pytest.importorskip("torchao.prototype.mx_formats.utils").to_blocked
    for shape in ((5, 192), (133, 288), (256, 1024)):
        x = random_input(shape, torch.bfloat16)
        _, rows = FP8(x, 32, scale_format=BYTES)
        _, s = FP8(x, 32, scale_format=ScaleFormat.torch_scaled_mm_mx())
        expected = blocked(rows.view(torch.uint8)).flatten()
        assert torch.equal(bits(s).flatten(), expected)


CALLS = {
    f"{function.__name__} {name} {nonfinite}": (function, TILED[name], nonfinite)
    for function, name, nonfinite in itertools.product((FP8, SILU), TILED, ("mark", "saturate"))
}


# Every kernel, and columns of whole tiles, of parts, and of more than one.
@every(
    call=CALLS,
    group_size=[7, 16, 32, 48, 128, 1024],
    shape=[(128, 4), (2, 5, 6), (3, 1, 5), (257, 2)],
)
def test_every_backend_gives_the_reference_bytes(backend_on, call, group_size, shape):
    function, f, nonfinite = call
    backend, device = backend_on
    *leading, groups = shape
    if backend_on == ("triton", "cpu"):
        if group_size > 128:
            return
        if leading[0] > 200:
            leading, groups = [129], 1
    x = hard_input(torch.Size(leading).numel(), 2 * groups * group_size, group_size, torch.bfloat16)
    rows = x if function is SILU else x[:, : groups * group_size].contiguous()
    rows = rows.view(*leading, -1)
    if backend_on == ("triton", "cpu"):
        # The interpreter takes subnormal bfloat16 for 0, of which infinity makes NaN.
        rows = rows.masked_fill(rows.abs() < torch.finfo(rows.dtype).tiny, 0)
    options = {"scale_format": f, "nonfinite": nonfinite}
    actual = function(rows.to(device), group_size, backend=backend, **options)
    expected = function(rows, group_size, backend="reference", **options)
    assert_same_results(actual, expected)
    scales.check_scales(actual[1], f, groups, check_finite=nonfinite == "saturate")


@every(shape=[(64,), (1, 192), (0, 64), (2, 0, 64), (0, 3, 128)], f=TILED)
def test_small_and_empty(backend_on, shape, f):
    backend, device = backend_on
    x = random_input(shape, torch.bfloat16)
    actual = FP8(x.to(device), 32, scale_format=f, backend=backend)
    assert_same_results(actual, FP8(x, 32, scale_format=f, backend="reference"))
    assert actual[1].shape == scales.scale_shape(shape, 32, f)


@every(f=TILED, group_size=[32, 48])
def test_direct_calls(served, f, group_size):
    for x in (random_input((2, 70, 6 * group_size), torch.bfloat16), torch.ones(6 * group_size)):
        expected = FP8(x, group_size, scale_format=f, backend="reference")
        del served[:]
        results = FP8(x, group_size, scale_format=f)
        assert_same_results(results, expected)
        for tensor in results:
            tensor.untyped_storage().fill_(0xA5)
        assert_same_results(FP8(x, group_size, scale_format=f, out=results), expected)
        assert served == [True, True]


@every(f=TILED)
def test_out_anywhere_and_nothing_beyond(backend_on, f):
    backend, device = backend_on
    x = random_input((2, 5, 6 * 32), torch.bfloat16)
    q, s = FP8(x, 32, scale_format=f, backend="reference")
    for offset in (32, 33):
        arena = torch.full((s.numel() + 64,), 0xA5, dtype=torch.uint8, device=device)
        inside = arena[offset : offset + s.numel()].view(s.dtype).view(s.shape)
        out = torch.empty(q.shape, dtype=q.dtype, device=device), inside
        assert_same_results(FP8(x.to(device), 32, scale_format=f, backend=backend, out=out), (q, s))
        assert (arena[:offset] == 0xA5).all()
        assert (arena[offset + s.numel() :] == 0xA5).all()


@pytest.mark.parametrize("f", TILED.values(), ids=TILED)
def test_compiled(backend_on, f):
    backend, device = backend_on
    torch._dynamo.reset()
    x = random_input((2, 5, 6 * 32), torch.bfloat16).to(device)
    run = torch.compile(lambda x: FP8(x, 32, scale_format=f, backend=backend), fullgraph=True)
    assert_same_results(run(x), FP8(x, 32, scale_format=f, backend=backend))
    meta = FP8(x.to("meta"), 32, scale_format=f)
    assert [t.shape for t in meta] == [t.shape for t in run(x)]


@pytest.mark.parametrize("suffix", ["", "_reference"])
@pytest.mark.parametrize("f", TILED.values(), ids=TILED)
def test_opcheck(suffix, f):
    op = getattr(torch.ops.ptgq, f"per_token_group_quant{suffix}").default
    x = random_input((2, 5, 6 * 32), torch.bfloat16)
    q = torch.zeros(x.shape, dtype=torch.uint8)
    s = torch.zeros(scales.scale_shape(x.shape, 32, f), dtype=torch.uint8)
    torch.library.opcheck(op, (x, q, s, 32, 1e-10, f.code))
    with pytest.raises((RuntimeError, ValueError), match=r"shape"):
        op(x, q, s[:-1], 32, 1e-10, f.code)


@every(f=TILED, other=FORMATS, shape=[(2, 5, 6), (133, 9), (0, 3), (2, 0, 3)])
def test_conversion_from_and_to_every_format(f, other, shape):
    values = 2.0 ** torch.randint(-60, 60, shape).float()
    values[torch.rand(shape) < 0.1] = torch.nan
    s = scales.empty_scales(scales.scale_shape(shape, 1, other), other, "cpu")
    scales.store_scales(values, s, other)
    tiled = scales.convert(s, other, f, shape[-1])
    scales.check_scales(tiled, f, shape[-1], check_finite=False)
    back = scales.convert(tiled, f, other, shape=shape)
    assert_same_bytes(back, s, "back")


def test_what_is_no_tiling_is_said():
    s = torch.full((128, 8), 127, dtype=torch.uint8).view(torch.float8_e8m0fnu)
    s.view(torch.uint8).view(-1, 4)[:128, 2:] = 0
    with pytest.raises(ValueError, match=r"two sizes, multiples of \(128, 4\), got \(128, 6\)"):
        scales.check_scales(s[:, :6], TILES)
    with pytest.raises(ValueError, match=r"with strides \(8, 1\)"):
        scales.check_scales(s.t().contiguous().t(), TILES)
    with pytest.raises(ValueError, match="bytes past group 6, got others"):
        scales.check_scales(s, TILES, 6)
    with pytest.raises(ValueError, match="shape must be given for s in tiles"):
        scales.convert(s, TILES, BYTES)
    with pytest.raises(ValueError, match=r"s must have shape \(256, 8\) for scales of"):
        scales.convert(s, TILES, BYTES, shape=(129, 8))
    with pytest.raises(ValueError, match="no such scales: tiles are read by"):
        ScaleFormat("power_of_two", torch.int32, "tiled")


def test_a_wrong_byte_of_a_tile_is_found(monkeypatch):
    (fmt, _), right = calls.TILED_FORMATS, Format.quantize

    def quantize(self, x, group_size, eps, backend, **options):
        q, s = right(self, x, group_size, eps, backend, **options)
        if backend != "reference" and options["scale_format"].per_batch:
            s.view(torch.uint8)[-1, -1] ^= 1  # of the padding
        return q, s

    monkeypatch.setattr(Format, "quantize", quantize)
    lines = Report().lines_for("calls", "tiles", ["cpu"], [fmt])
    calls._compare_tiles(lines["cpu", fmt.name], torch.ones(3, 64), 32, fmt, "cpu", "cpu")
    assert (lines["cpu", fmt.name].checked, lines["cpu", fmt.name].wrong) == (3, 1)
