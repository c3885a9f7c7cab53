"""What no argument of the public functions takes, with the exception and what it says."""

from __future__ import annotations

import math
import warnings

import numpy
import torch
from bad_counts import NO_TENSOR, bad_masked_m

import ptgq

FP8, INT8, E8M0 = torch.float8_e4m3fn, torch.int8, torch.float8_e8m0fnu
ROWS, HIDDEN, GROUP = 4, 256, 128


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def misaligned(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """A tensor of memory that starts one byte past an element: another library's, say."""
    size = math.prod(shape) * dtype.itemsize
    memory = numpy.zeros(size + 65, numpy.uint8)
    start = -memory.ctypes.data % 64 + 1
    return torch.frombuffer(memory[start : start + size], dtype=dtype).view(shape)


def nested(layout: torch.layout) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2, 128), torch.ones(3, 128)], layout=layout)


def quietly(make):
    """Sparse and quantized tensors warn that they are beta or deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


X = normal(ROWS, HIDDEN)
GATED = normal(ROWS, 2 * HIDDEN)
BAD_X = [
    *NO_TENSOR,
    *(
        (X.to(dtype), TypeError, f"must have a dtype of .*, got {dtype}")
        for dtype in (torch.float64, torch.int32, torch.uint8, torch.bool, torch.complex64, FP8)
    ),
    (X.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
    (quietly(X.to_sparse_csr), TypeError, "must be a dense .*, got a torch.sparse_csr one"),
    (quietly(X.to_mkldnn), TypeError, "must be a dense .*, got a torch._mkldnn one"),
    (
        quietly(lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8)),
        TypeError,
        "must have a dtype of .*, got torch.qint8",
    ),
    (nested(torch.strided), TypeError, "must be a dense .*, got a nested one"),
    (nested(torch.jagged), TypeError, "must be a dense .*, got a nested one"),
    (torch.tensor(1.0), ValueError, r"must have at least one dimension, got shape \(\)"),
    (X.t().contiguous().t(), ValueError, r"in its last dimension, got strides \(1, 4\)"),
    (normal(ROWS, 512)[:, ::2], ValueError, r"in its last dimension, got strides \(512, 2\)"),
    (normal(ROWS, 1).expand(-1, HIDDEN), ValueError, r"last dimension, got strides \(1, 0\)"),
    (normal(ROWS, HIDDEN, dtype=torch.complex64).imag, ValueError, r"got strides \(512, 2\)"),
    (misaligned(torch.float32, ROWS, HIDDEN), ValueError, "aligned to its elements of 4 bytes"),
    (misaligned(torch.bfloat16, ROWS, HIDDEN), ValueError, "aligned to its elements of 2 bytes"),
]
NOT_DIVIDED = (X[:, :255], ValueError, "group_size must divide the last .* of x, 255, got 128")
NOT_EVEN = (X[:, :255], ValueError, "x must have an even last dimension, got 255")
NO_INT = [
    (value, TypeError, "must be an int, got ")
    for value in (
        *(None, True, 128.0, "128", [128], 1j, torch.tensor(128)),
        *(numpy.True_, numpy.float64(128), numpy.array([128, 128])),
    )
]
BAD_GROUP_SIZE = [
    *NO_INT,
    (0, ValueError, "must be at least 1, got 0"),
    (-128, ValueError, "must be at least 1, got -128"),
    (-(2**70), ValueError, f"must be at least 1, got -{2**70}"),
    *((n, ValueError, f"must divide .*256, got {n}") for n in (3, 257, 2**31, 2**63, 2**70)),
    (10**5000, ValueError, "must divide .*256, got an int of 16610 bits"),
]
NO_BOOL = [
    (value, TypeError, "must be a bool, got ")
    for value in (None, 0, 1, "True", numpy.True_, torch.tensor(True), X)
]
BAD_EPS = [
    *(
        (value, TypeError, "must be a float, got ")
        for value in (None, True, "1e-10", [1e-10], 1j, numpy.True_, torch.tensor(1e-10))
    ),
    *(
        (value, ValueError, "must lie between 1e-24 and ")
        for value in (0, 0.0, -0.0, -1e-10, -1, 9.9e-25, 3.5e38, 10**400, math.inf, math.nan)
    ),
]
BAD_SWIGLU_LIMIT = [
    *(
        (value, TypeError, "must be None or a float, got ")
        for value in (True, "10", [10.0], 1j, numpy.True_, torch.tensor(10.0))
    ),
    *(
        (value, ValueError, "must be None or lie between 1e-24 and ")
        for value in (0, 0.0, -0.0, -10.0, 9.9e-25, 3.5e38, 10**400, math.inf, math.nan)
    ),
]
BAD_NONFINITE = [
    *(
        (value, TypeError, "must be a str, got ")
        for value in (None, True, 1, 0.0, ["mark"], torch.tensor(1))
    ),
    *(
        (value, ValueError, "must be 'mark' or 'saturate', got ")
        for value in ("", "Mark", "clamp", "saturated")
    ),
]
BAD_MASKED_M = [
    *bad_masked_m(1)[1:],
    (misaligned(torch.int32, 1), ValueError, "aligned to its elements of 4 bytes"),
]
BAD_SCALE_DTYPE = [
    *(
        (value, TypeError, "must be None or one of torch.float32, .*, got ")
        for value in ("float32", 32, torch.float16, torch.int8, FP8, [torch.float32])
    ),
    (E8M0, ValueError, "needs use_ue8m0=True, got use_ue8m0=False"),
    (torch.int32, ValueError, "needs use_ue8m0=True, got use_ue8m0=False"),
]
BAD_SCALE_FORMAT = [
    *(
        (value, TypeError, "must be a ptgq.ScaleFormat, got ")
        for value in (True, "row_major", torch.float32, ptgq.ScaleFormat, (False, False))
    ),
]
# Of codes that have float32 scales.
INT8_SCALES = {
    "use_ue8m0": (
        True,
        ValueError,
        "use_ue8m0=True .*=torch.float32, got scale_dtype=None",
    ),
    "scale_format": (
        ptgq.ScaleFormat("power_of_two", torch.int32),
        ValueError,
        "scale_format must hold float32 scales of int8 codes, got one with dtype=torch.int32",
    ),
}
BAD_BACKEND = [
    ("vulkan", ValueError, "must be None or one of .*, got 'vulkan'"),
    ("", ValueError, "must be None or one of .*, got ''"),
    ("CPU", ValueError, "must be None or one of .*, got 'CPU'"),
    (1, TypeError, "must be None or one of .*, got 1"),
    (["cpu"], TypeError, "must be None or one of .*, got a list of 1"),
    (torch.device("cpu"), TypeError, "must be None or one of .*, got device"),
    ("cuda", RuntimeError, "'cuda' is not available for cpu tensors: "),
]


def q_of(dtype: torch.dtype) -> torch.Tensor:
    return torch.full((ROWS, HIDDEN), 85, dtype=torch.uint8).view(dtype)


def s_of(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.full((ROWS, 2), 7.0).to(dtype)


def bad_out(q_dtype: torch.dtype, x: torch.Tensor = X) -> list:
    q, s = q_of(q_dtype), s_of()
    other = INT8 if q_dtype is FP8 else FP8
    inside_x = x.view(torch.uint8).view(-1)[: ROWS * HIDDEN].view(ROWS, HIDDEN).view(q_dtype)
    cases = [(value, TypeError, r"out must be a tuple \(q, s\), got ")
             for value in (q, (q,), (q, s, s), {"q": q}, "qs", iter((q, s)), 1, ())]  # fmt: skip
    cases += [((value, s), error, rf"out\[0\] {text}") for value, error, text in NO_TENSOR]
    cases += [((q, value), error, rf"out\[1\] {text}") for value, error, text in NO_TENSOR]
    bad_q = [
        (q_of(other), TypeError, f"must have a dtype of {q_dtype}, got {other}"),
        (q_of(torch.uint8), TypeError, "must have a dtype of .*, got torch.uint8"),
        (q[:3], ValueError, r"must have shape \(4, 256\), got \(3, 256\)"),
        (q.view(-1), ValueError, r"must have shape \(4, 256\), got \(1024,\)"),
        (q.view(1, 4, 256), ValueError, r"must have shape \(4, 256\), got \(1, 4, 256\)"),
        (q.t().contiguous().t(), ValueError, r"must have strides \(256, 1\), got \(1, 4\)"),
        (q[:1].expand(4, -1), ValueError, r"must have strides \(256, 1\), got \(0, 1\)"),
        (q.to("meta"), ValueError, "must be on x's device cpu, got meta"),
        (inside_x, ValueError, "must not overlap x in memory"),
    ]
    bad_s = [
        (s.half(), TypeError, "must have a dtype of torch.float32, got torch.float16"),
        (s.to(E8M0), TypeError, "must have a dtype of torch.float32, got torch.float8_e8m0fnu"),
        (s.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
        (s[:, :1], ValueError, r"must have shape \(4, 2\), got \(4, 1\)"),
        (s.t().contiguous().t(), ValueError, r"must have strides \(2, 1\), got \(1, 4\)"),
        (s.to("meta"), ValueError, "must be on x's device cpu, got meta"),
        (s.clone().requires_grad_(), ValueError, "must not require gradients"),
        (torch._neg_view(s), ValueError, "must not be a negated view"),
        (misaligned(torch.float32, ROWS, 2), ValueError, "aligned to its elements of 4 bytes"),
        (x[:, :2].as_strided((4, 2), (2, 1)), ValueError, "must not overlap x in memory"),
        (q.view(torch.float32).view(-1)[:8].view(4, 2), ValueError, r"not overlap out\[0\]"),
    ]
    cases += [((value, s), error, rf"out\[0\] {text}") for value, error, text in bad_q]
    cases += [((q, value), error, rf"out\[1\] .*{text}") for value, error, text in bad_s]
    return cases


OPTIONS = {
    "column_major_scales": NO_BOOL,
    "use_ue8m0": NO_BOOL,
    "eps": BAD_EPS,
    "nonfinite": BAD_NONFINITE,
    "scale_dtype": BAD_SCALE_DTYPE,
    "tma_aligned_scales": [*NO_BOOL, (True, ValueError, "needs column_major_scales=True")],
    "scale_format": BAD_SCALE_FORMAT,
    "group_size": BAD_GROUP_SIZE,
    "backend": BAD_BACKEND,
}
SCALES = OPTIONS | {"masked_m": BAD_MASKED_M}
OF_INT8 = SCALES | {name: [*SCALES[name], bad] for name, bad in INT8_SCALES.items()}
# Of each function: what it takes, and what each argument does not.
Q, S = q_of(INT8), s_of()
TABLE = {
    ptgq.per_token_group_quant_fp8: (
        {"x": X, "group_size": GROUP, "out": (q_of(FP8), s_of())},
        {"x": [*BAD_X, NOT_DIVIDED], "out": bad_out(FP8), **SCALES},
    ),
    ptgq.silu_and_mul_per_token_group_quant_fp8: (
        {"x": GATED, "group_size": GROUP, "out": (q_of(FP8), s_of())},
        {
            "x": [*BAD_X, NOT_EVEN],
            "swiglu_limit": BAD_SWIGLU_LIMIT,
            "out": bad_out(FP8, GATED),
            **SCALES,
        },
    ),
    ptgq.per_token_group_quant_int8: (
        {"x": X, "group_size": GROUP, "out": (q_of(INT8), s_of())},
        {"x": [*BAD_X, NOT_DIVIDED], "out": bad_out(INT8), **OF_INT8},
    ),
    ptgq.silu_and_mul_per_token_group_quant_int8: (
        {"x": GATED, "group_size": GROUP, "out": (q_of(INT8), s_of())},
        {
            "x": [*BAD_X, NOT_EVEN],
            "swiglu_limit": BAD_SWIGLU_LIMIT,
            "out": bad_out(INT8, GATED),
            **OF_INT8,
        },
    ),
    ptgq.dequantize: (
        {"q": Q, "s": S, "group_size": GROUP},
        {
            "q": [
                *NO_TENSOR,
                (X, TypeError, "must have a dtype of .*, got torch.float32"),
                (Q.view(torch.uint8), TypeError, "must have a dtype of .*, got torch.uint8"),
                (Q.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
                (Q[0, 0], ValueError, r"must have at least one dimension, got shape \(\)"),
            ],
            "s": [
                *NO_TENSOR,
                (S.half(), TypeError, "must have a dtype of .*, got torch.float16"),
                (S.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
                (S[:, :1], ValueError, r"must have shape \(4, 2\), got \(4, 1\)"),
                (S[0, 0], ValueError, r"must have at least one dimension, got shape \(\)"),
                (S.to("meta"), ValueError, "must be on q's device cpu, got meta"),
                (misaligned(torch.float32, ROWS, 2), ValueError, "to its elements of 4 bytes"),
            ],
            "group_size": BAD_GROUP_SIZE,
            "dtype": [
                (value, TypeError, "must be one of .*, got ")
                for value in (None, "float32", torch.float64, torch.int8, FP8, 32)
            ],
            "backend": BAD_BACKEND,
        },
    ),
    ptgq.use_backend: (
        {"backend": "cpu"},
        {
            "backend": [
                (None, TypeError, "must be the name of a backend, got None"),
                *(case for case in BAD_BACKEND if case[0] != "cuda"),
            ]
        },
    ),
    ptgq.backends: ({}, {}),
}
