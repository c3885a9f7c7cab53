"""Arguments that nobody chose, of the fused RMSNorm: as in test_fuzz."""

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
    related,
    storages,
    tensors,
    up_to,
)

import ptgq

FUNCTIONS = ptgq.rms_norm_per_token_group_quant_fp8, ptgq.rms_norm_per_token_group_quant_int8
FLOATS = DTYPES[:3]


@st.composite
def operands(draw):
    """x, weight, residual and norm_out, mostly as they should be; q, s and a group size."""
    x = draw(tensors(dtypes=FLOATS))
    likely = x.dtype, torch.float32

    def like(shape, dtypes):
        return draw(tensors(shape if draw(often) else None, dtypes if draw(often) else DTYPES))

    weight = like(x.shape[-1:], likely)
    residual = like(x.shape, likely) if draw(flags) else None
    which = draw(up_to(3))
    norm_out = (None, x, like(x.shape, (x.dtype,)), like(x.shape, (x.dtype,)))[which]
    if draw(up_to(9)) == 0 and residual is not None:
        norm_out = residual
    return x, weight, residual, norm_out, *related(draw, x)


@st.composite
def function_arguments(draw):
    x, weight, residual, norm_out, q, s, group_size = draw(operands())
    known = {"residual": residual, "norm_out": norm_out, "group_size": group_size}
    known |= {"norm_eps": draw(epsilons), "eps": draw(epsilons), "backend": "cpu"}
    known |= {"column_major_scales": draw(flags), "use_ue8m0": draw(flags)}
    known["nonfinite"] = draw(any_of(("mark", "saturate")))
    if draw(up_to(2)) == 0:
        known["out"] = (q, s)
    for name in known:
        if not (draw(often) or draw(flags)):
            known[name] = draw(anything)
    return draw(any_of(FUNCTIONS)), x, weight, known


def copied(values):
    """Copies of tensors that lie alike: those that are one stay one."""
    copies = {id(t): copy_of(t) for t in values if isinstance(t, torch.Tensor)}
    return [copies.get(id(t), t) for t in values]


def same(a, b):
    """Whether memories hold the same bytes, a NaN in the place of another."""
    a, b = (t.where(t == t, torch.nan) if t.is_floating_point() else t for t in (a, b))
    return torch.equal(*(t.contiguous().view(-1).view(torch.uint8) for t in (a, b)))


def whole(t):
    """All of a tensor's storage, in its dtype."""
    return t.as_strided((t.untyped_storage().nbytes() // t.element_size(),), (1,), 0)


def run_function(arguments):
    function, x, weight, known = arguments
    known = dict(known)
    out = known.pop("out", None)
    parts = out if isinstance(out, tuple) else (None, None)
    given = [x, weight, known["residual"], known["norm_out"], *parts]
    before = storages(*(t for t in given if isinstance(t, torch.Tensor)))
    x_, weight_, residual, norm_out, *_ = copied(given)
    try:
        results = function(x, weight, out=out, **known)
    except (TypeError, ValueError, RuntimeError) as error:
        assert storages(*(t for t in given if isinstance(t, torch.Tensor))) == before
        return type(error).__name__
    options = {**known, "residual": residual, "norm_out": norm_out, "backend": "reference"}
    expected = function(x_, weight_, **options)
    for actual, wanted in zip(results, expected, strict=True):
        assert same(actual.view(torch.uint8) if actual.element_size() == 1 else actual,
                    wanted.view(torch.uint8) if wanted.element_size() == 1 else wanted)  # fmt: skip
    for actual, wanted in ((x, x_), (weight, weight_), (given[2], residual), (given[3], norm_out)):
        if actual is not None:
            assert same(whole(actual), whole(wanted))
    return "quantized"


def test_the_public_functions():
    for_seconds(run_function, function_arguments(), {"TypeError", "ValueError", "quantized"})


@st.composite
def op_arguments(draw):
    x, weight, residual, norm_out, q, s, group_size = draw(operands())
    storage = {torch.float32: 0, torch.int32: 2}.get(s.dtype, 1)
    code = bool(storage) | storage << 1 | draw(flags) << 3
    if norm_out is residual:
        norm_out = None
    return x, q, s, group_size, draw(epsilons), code, weight, draw(epsilons), residual, norm_out


def run_op(arguments):
    given = [t for t in arguments if isinstance(t, torch.Tensor)]
    before = storages(*given)
    again = copied(arguments)
    try:
        torch.ops.ptgq.rms_norm_per_token_group_quant(*arguments)
    except (RuntimeError, TypeError):
        assert storages(*given) == before
        return "refused"
    if arguments[0].numel() == 0:
        assert storages(*given) == before
        return "empty"
    torch.ops.ptgq.rms_norm_per_token_group_quant_reference(*again)
    for actual, wanted in zip(arguments, again, strict=True):
        if isinstance(actual, torch.Tensor):
            parts = (whole(t) for t in (actual, wanted))
            if actual.element_size() == 1:
                parts = (t.view(torch.uint8) for t in parts)
            assert same(*parts)
    return "quantized"


def test_the_op():
    for_seconds(run_op, op_arguments(), {"refused", "empty", "quantized"})
