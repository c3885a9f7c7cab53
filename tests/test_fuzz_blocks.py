"""The functions of blocks and their op with arguments that nobody chose, as test_fuzz."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from numeric import copy_of
from test_fuzz import (
    DTYPES,
    any_of,
    anything,
    epsilons,
    flags,
    for_seconds,
    often,
    same,
    storages,
    tensors,
    up_to,
)

import ptgq
from ptgq import ScaleFormat

SIDES = (1, 2, 3, 5, 16, 31, 128, 0, -1, 2**31, 2**62, 2**63 - 1, -(2**63), 2**70)


@st.composite
def of_blocks(draw, dtypes):
    """A weight, q and s for some block size, or whatever, and the format's number."""
    shape = (*draw(st.lists(up_to(3), max_size=2)), *(draw(up_to(40)) for _ in range(2)))
    w = draw(tensors(shape if draw(often) else None, dtypes if draw(often) else DTYPES))
    # Few are none: a weight has two.
    rows, columns = (draw(any_of(SIDES[:7] if draw(often) else SIDES)) for _ in range(2))
    q = draw(tensors(w.shape, (torch.float8_e4m3fn,) if draw(often) else DTYPES))
    storage = draw(any_of((torch.float32, torch.float8_e8m0fnu)))
    power, aligned = draw(flags) or storage is not torch.float32, draw(flags)
    s_shape = None
    if w.dim() > 1 and min(rows, columns) > 0 and draw(often):
        s_shape = (*w.shape[:-2], -(-w.shape[-2] // rows), -(-w.shape[-1] // columns))
    aligned = aligned and storage is torch.float32
    if aligned and s_shape and draw(often):
        length = -(-s_shape[-1] // 4) * 4
        s = torch.full((*s_shape[:-1], length), 7.0)[..., : s_shape[-1]]
    else:
        s = draw(tensors(s_shape, (storage if draw(often) else draw(any_of(DTYPES)),)))
    code = power | (storage is not torch.float32) << 1 | aligned << 6
    if not draw(often):
        code = draw(st.integers(-2, 130))
    return w, q, s, rows, columns, code


@st.composite
def op_arguments(draw):
    w, q, s, rows, columns, code = draw(of_blocks(DTYPES[:3]))
    return w, q, s, rows, columns, draw(epsilons), code, draw(flags)


def run_op(arguments):
    w, q, s, *options = arguments
    before = storages(w, q, s)
    expected = copy_of(q), copy_of(s)
    try:
        torch.ops.ptgq.per_block_quant(w, q, s, *options)
    except (RuntimeError, TypeError):
        assert storages(w, q, s) == before
        return "refused"
    if w.numel() == 0:
        assert storages(w, q, s) == before
        return "empty"
    torch.ops.ptgq.per_block_quant_reference(w, *expected, *options)
    # What lies beside the results, too.
    assert storages(w, q, s) == [before[0], *storages(*expected)]
    return "aligned rows" if options[3] >= 64 else "rows"


@st.composite
def function_arguments(draw):
    w, q, s, rows, columns, _ = draw(of_blocks(DTYPES[:3]))
    known = {"block_size": (rows, columns), "eps": draw(epsilons), "backend": "cpu"}
    known |= {"use_ue8m0": draw(flags), "nonfinite": draw(any_of(("mark", "saturate")))}
    known["scale_dtype"] = draw(any_of((None, torch.float32)))
    if draw(up_to(2)) == 0:
        known["out"] = (q, s)
    elif draw(flags):
        known["use_ue8m0"], known["scale_dtype"] = False, None
        known["scale_format"] = ScaleFormat("power_of_two", torch.float32, "aligned_rows")
    for name in known:
        if not (draw(often) or draw(flags)):
            known[name] = draw(anything)
    return w if draw(often) else draw(anything), known, draw(any_of(DTYPES[:3]))


def run_function(arguments):
    w, known, dtype = arguments
    out = known.get("out")
    parts = (w, *out) if isinstance(out, tuple) else (w,)
    given = [part for part in parts if isinstance(part, torch.Tensor)]
    before = storages(*given)
    try:
        q, s = ptgq.per_block_quant_fp8(w, **known)
    except (TypeError, ValueError, RuntimeError) as error:
        assert storages(*given) == before
        return type(error).__name__
    if out is not None:
        assert (q is out[0], s is out[1]) == (True, True)
    expected = ptgq.per_block_quant_fp8(w, **{**known, "out": None, "backend": "reference"})
    assert same(q, expected[0])
    assert same(s, expected[1])
    # Every other column of scales: of any strides.
    size = known["block_size"]
    apart = torch.stack((s.float(), s.float()), -1)[..., 0] if s.dtype is torch.float32 else s
    products = [
        ptgq.dequantize_blocks(q, scale, size, dtype=dtype, backend=backend)
        for scale, backend in ((apart, "cpu"), (s, "reference"))
    ]
    assert same(*(y.where(y == y, 0) for y in products))
    return "quantized"


@st.composite
def product_arguments(draw):
    _, q, s, rows, columns, _ = draw(of_blocks(DTYPES[:3]))
    return q, s, (rows, columns), draw(any_of(DTYPES[:3]))


def run_products(arguments):
    q, s, size, dtype = arguments
    try:
        y = ptgq.dequantize_blocks(q, s, size, dtype=dtype)
    except (TypeError, ValueError) as error:
        return type(error).__name__
    expected = ptgq.dequantize_blocks(q, s, size, dtype=dtype, backend="reference")
    assert same(y.where(y == y, 0), expected.where(expected == expected, 0))
    return "dequantized"


KINDS = (
    (run_op, op_arguments),
    (run_function, function_arguments),
    (run_products, product_arguments),
)


@st.composite
def cases(draw):
    run, arguments = draw(any_of(KINDS))
    return run, draw(arguments())


def test_the_op_and_the_functions():
    endings = {"refused", "empty", "rows", "aligned rows", "TypeError", "ValueError", "quantized"}
    for_seconds(lambda case: case[0](case[1]), cases(), endings | {"dequantized"})
