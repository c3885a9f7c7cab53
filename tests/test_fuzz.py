"""Arguments that nobody chose: the public functions, and the op that trusts no caller.

Either one exception, and nothing is written, or the reference's bytes. ``PTGQ_FUZZ_SECONDS`` is the
budget of each test; ``nox -s sanitize`` runs them with every access to memory checked.
"""

from __future__ import annotations

import functools
import math
import operator
import os
import time

import numeric
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ptgq

SECONDS = float(os.environ.get("PTGQ_FUZZ_SECONDS", "1"))
DTYPES = (
    torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8, torch.uint8,
    torch.int16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.complex64,
    torch.int32,
)  # fmt: skip
# Made once: a strategy takes as long to make as to draw from.
any_of, up_to = functools.cache(st.sampled_from), functools.cache(lambda n: st.integers(0, n))
sizes = st.sampled_from([1, 2, 3, 4, 8, 16, 17, 31, 64, 100, 0])
group_sizes = st.sampled_from([1, 2, 3, 4, 8, 16, 64, 0, -1, 2**31, 2**62, 2**63 - 1, -(2**63)])
flags = st.booleans()
often = st.integers(0, 19).map(bool)
ranks = st.lists(sizes, min_size=1, max_size=2), st.lists(up_to(3), max_size=6)
kinds = ("contiguous",) * 12 + ("column", "padded", "any", "offset")
limits = st.one_of(*[st.sampled_from([None, 10.0, 0.3])] * 4, st.floats())
epsilons = st.one_of(*[st.sampled_from([1e-10, 1e-24, 1.0, 3e38])] * 4, st.floats())
# Small: what the op does between calls should not cost more than the call.
torch.set_num_threads(1)


@st.composite
def tensors(draw, shape=None, dtypes=DTYPES):
    """Memory of random bytes, seen with any shape, strides and offset that fit in it."""
    dtype = draw(any_of(dtypes))
    if shape is None:
        shape = tuple(draw(ranks[0] if draw(often) else ranks[1]))
    kind = draw(any_of(kinds))
    strides = list(torch.empty(shape, device="meta").stride())
    if kind == "column" and len(shape) > 1:
        strides = [*torch.empty(shape[:-1], device="meta").stride(), math.prod(shape[:-1])]
    elif kind == "padded" and len(shape) > 1:
        strides[0] += draw(up_to(9))
    elif kind == "any":
        strides = [draw(up_to(12)) for _ in shape]
    offset = draw(up_to(5)) if kind == "offset" else 0
    last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    count = 0 if 0 in shape else last + 1
    seed = draw(up_to(2**16))
    generator = torch.Generator().manual_seed(seed)
    size = (offset + count) * dtype.itemsize
    memory = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator)
    if draw(flags):
        # Ordinary numbers: random bytes hold a NaN in most groups.
        memory = memory & 0xB7
    return memory.view(dtype).as_strided(shape, strides, offset)


def padded(shape, dtype, per_batch):
    """Scales in columns whose length is a multiple of 16 bytes, with the memory of the last one."""
    tokens = math.prod(shape[-2:-1]) if per_batch else math.prod(shape[:-1])
    unit = max(1, 16 // dtype.itemsize)
    length = -(-tokens // unit) * unit
    strides, stride = [length], 1
    for index, size in enumerate(reversed(shape[:-1])):
        strides.append(stride)
        stride *= size
        if per_batch and index == 0:
            stride = shape[-1] * length
    count = math.prod(shape) // max(1, tokens) * length * dtype.itemsize
    # torch aligns its memory to more than 16 bytes.
    return torch.full((count,), 85, dtype=torch.uint8).view(dtype).as_strided(
        shape, tuple(reversed(strides)))  # fmt: skip


def related(draw, x, column_major=False, aligned=False, per_batch=False):
    """``q`` and ``s`` as they should be for some group size, or whatever."""
    divisors = [n for n in (1, 4, 16, 17, 31, 64) if x.dim() and x.shape[-1] % n == 0]
    group_size = draw(any_of(tuple(divisors)) if divisors and draw(often) else group_sizes)
    fits = x.dim() > 0 and group_size > 0 and x.shape[-1] % group_size == 0
    q_shape = x.shape if draw(often) else None
    likely = (torch.float8_e4m3fn, torch.int8, torch.uint8)
    q = draw(tensors(q_shape, likely if draw(often) else DTYPES))
    likely = (torch.float32, torch.float8_e8m0fnu, torch.uint8, torch.int32)
    dtype = draw(any_of(likely if draw(often) else DTYPES))
    if not fits:
        return q, draw(tensors(None, (dtype,))), group_size
    num_groups = x.shape[-1] // group_size
    words = -(-num_groups // 4) if dtype is torch.int32 else num_groups
    s_shape = (*x.shape[:-1], words)
    if aligned and draw(often):
        return q, padded(s_shape, dtype, per_batch), group_size
    if column_major and draw(often):
        memory = draw(tensors((words, math.prod(x.shape[:-1])), (dtype,)))
        if memory.is_contiguous():
            return q, memory.t().reshape(s_shape) if x.dim() == 1 else memory.t().unflatten(
                0, x.shape[:-1]), group_size  # fmt: skip
    return q, draw(tensors(s_shape, (dtype,))), group_size


@st.composite
def counts_of(draw, x):
    if draw(up_to(3)):
        return None
    batches = x.shape[0] if x.dim() == 3 else 1
    counts = draw(tensors((batches,) if draw(often) else None, (torch.int32, torch.int64)))
    return counts >> draw(any_of((counts.itemsize * 8 - 3, 0)))  # few are as small as a batch


def storages(*tensors_):
    return [numeric.memory(t) for t in tensors_]


def same(a, b):
    return torch.equal(numeric.bits(a), numeric.bits(b))


def for_seconds(check, strategy, endings) -> None:
    """Run `check` on ever new examples until the budget is spent and all `endings` were seen."""
    ends: dict[str, int] = {}

    # Hypothesis repeats one run's examples where the variable CI is set, unless told.
    @settings(max_examples=200, deadline=None, database=None, derandomize=False,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def run(arguments):
        end = check(arguments)
        ends[end] = ends.get(end, 0) + 1

    # Of the processor, so that a busy machine runs as many examples.
    start, spent = time.process_time(), 0.0
    # A rare ending is missed by chance in one budget, by a fault in thirty.
    while spent < SECONDS or (spent < 30 * SECONDS and not endings <= set(ends)):
        run()
        spent = time.process_time() - start
    print(f"{sum(ends.values())} examples: {ends}")
    assert set(ends) == endings


@st.composite
def op_arguments(draw):
    likely = (torch.bfloat16, torch.float16, torch.float32)
    x = draw(tensors(dtypes=likely if draw(often) else DTYPES))
    column_major = draw(flags)
    aligned = (column_major or not draw(often)) and draw(flags)
    per_batch = aligned and draw(flags)
    op = draw(any_of(("per_token_group_quant", "silu_and_mul_per_token_group_quant")))
    quantized = x[..., ::2] if op.startswith("silu") and x.dim() else x
    q, s, group_size = related(draw, quantized, column_major, aligned, per_batch)
    if not draw(often):
        q, s = s, q
    # As ScaleFormat.code counts them.
    storage = {torch.float32: 0, torch.int32: 2}.get(s.dtype, 1)
    code = bool(storage) | storage << 1 | (column_major + aligned) << 3 | per_batch << 5
    if draw(st.integers(0, 7)) == 0:
        code = code ^ 1 if draw(flags) else draw(st.integers(-2, 70))
    limit = [draw(limits)] if op.startswith("silu") else []
    return op, x, q, s, group_size, draw(epsilons), code, *limit, draw(flags), draw(counts_of(x))


def aligned(code):
    return code >> 3 & 3 == 2


def run_op(arguments):
    op, x, q, s, *options = arguments
    before = storages(x, q, s)
    expected = numeric.copy_of(q), numeric.copy_of(s)
    try:
        getattr(torch.ops.ptgq, op)(x, q, s, *options)
    except (RuntimeError, TypeError):
        assert storages(x, q, s) == before
        return "refused"
    if x.numel() == 0:
        assert storages(x, q, s) == before
        return "empty"
    getattr(torch.ops.ptgq, f"{op}_reference")(x, *expected, *options)
    # What lies beside the results, too.
    assert storages(x, q, s) == [before[0], *storages(*expected)]
    if options[-1] is not None:
        return f"{op}, masked"
    return f"{op}, padded" if aligned(options[2]) else op


def test_the_ops_themselves():
    names = ("per_token_group_quant", "silu_and_mul_per_token_group_quant")
    layouts = {f"{name}{end}" for name in names for end in ("", ", padded", ", masked")}
    for_seconds(run_op, op_arguments(), {"refused", "empty", *layouts})


FUNCTIONS = (
    ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8,
    ptgq.silu_and_mul_per_token_group_quant_fp8, ptgq.silu_and_mul_per_token_group_quant_int8,
    ptgq.per_token_group_quant_fp8_transposed,
)  # fmt: skip
anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([1]),
    st.sampled_from(DTYPES),
)  # fmt: skip


@st.composite
def function_arguments(draw):
    x = draw(tensors(dtypes=DTYPES[:3])) if draw(often) else draw(anything)
    function = draw(any_of(FUNCTIONS))
    known = {"group_size": 16, "eps": draw(epsilons), "backend": "cpu"}
    known |= {"column_major_scales": draw(flags), "use_ue8m0": draw(flags)}
    known["tma_aligned_scales"] = known["column_major_scales"] and draw(flags)
    known["scale_dtype"] = draw(any_of((None, None, torch.float32, torch.int32)))
    known["nonfinite"] = draw(any_of(("mark", "saturate")))
    known["masked_m"] = None
    if "silu" in function.__name__:
        known["swiglu_limit"] = draw(limits)
    if isinstance(x, torch.Tensor):
        quantized = x[..., ::2] if "silu" in function.__name__ and x.dim() else x
        q, s, known["group_size"] = related(draw, quantized)
        known["masked_m"] = draw(counts_of(x))
        if not function.__name__.endswith("transposed") and draw(up_to(2)) == 0:
            known["out"] = (q, s)
    for name in known:
        if not (draw(often) or draw(flags)):
            known[name] = draw(anything)
    return function, x, known


def run_function(arguments):
    function, x, known = arguments
    out = known.get("out")
    parts = (x, *out) if isinstance(out, tuple) else (x,)
    given_tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    before = storages(*given_tensors)
    copies = tuple(map(numeric.copy_of, out)) if isinstance(out, tuple) else None
    try:
        results = function(x, **known)
    except (TypeError, ValueError, RuntimeError) as error:
        assert storages(*given_tensors) == before
        return type(error).__name__
    if out is not None:
        assert all(map(operator.is_, results, out))
    expected = function(x, **{**known, "out": copies, "backend": "reference"})
    masked_m = known.get("masked_m")
    if masked_m is not None and out is None:
        # Codes of rows that don't exist are what lay there.
        exist = (torch.arange(x.shape[-2]) < masked_m.unsqueeze(-1)).view(*x.shape[:-1], 1)
        results, expected = ((numeric.bits(q) * exist, *rest) for q, *rest in (results, expected))
    assert all(map(same, results, expected))
    return "quantized" if masked_m is None else "masked"


def test_the_public_functions():
    for_seconds(
        run_function, function_arguments(), {"TypeError", "ValueError", "quantized", "masked"}
    )


def test_a_wrong_byte_would_be_seen():
    q = torch.zeros(1, 16, dtype=torch.int8)
    wrong = q.clone()
    wrong[0, 3] = 1
    assert same(q, q.clone())
    assert not same(q, wrong)
