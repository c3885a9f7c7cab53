"""What no argument of ``ptgq.scales`` and ``ScaleFormat`` takes, as in ``bad_values``."""

from __future__ import annotations

import numpy
import torch
from bad_counts import NO_TENSOR, bad_masked_m
from bad_values import (
    BAD_GROUP_SIZE,
    BAD_SCALE_DTYPE,
    BAD_SCALE_FORMAT,
    E8M0,
    FP8,
    NO_BOOL,
    NO_INT,
    X,
)

from ptgq import ScaleFormat, scales
from ptgq.scales import known

HOPPER, PACKED = ScaleFormat.deep_gemm_hopper(), ScaleFormat.deep_gemm_mega_moe()
FLOATS, BYTES = ScaleFormat("float32", torch.float32), ScaleFormat.ocp_mx()
NO_FORMAT = [(None, TypeError, "must be a ptgq.ScaleFormat, got None"), *BAD_SCALE_FORMAT]
NO_INTS = [
    *((value, TypeError, "must be a tuple of ints, got ") for value in (None, 4, "44", X, {4: 2})),
    *(((4, value), error, r"\[1\] " + text) for value, error, text in NO_INT),
]
NO_SHAPE = [
    *NO_INTS,
    ((), ValueError, r"must have at least one dimension, got \(\)"),
    ((4, -2), ValueError, "must not be negative anywhere, got -2"),
]
NO_STR = [(value, TypeError, "must be a str.*, got ") for value in (1, True, ["s"], X, FP8)]
NO_NUM_GROUPS = [case for case in NO_INT if case[0] is not None]


def padded() -> torch.Tensor:
    """Scales of five tokens in TMA-aligned columns."""
    s = scales.empty_scales((5, 2), HOPPER, torch.device("cpu"))
    scales.memory_of(s, HOPPER).zero_()
    return s.fill_(1)


ROWS, WORDS = torch.ones(4, 6), torch.full((4, 2), 0x7F7F7F7F, dtype=torch.int32)
WORDS[:, 1] = 0x7F7F
UNPADDED = torch.empty_strided((5, 2), (1, 8))
NO_SCALES = [
    *NO_TENSOR,
    (ROWS.half(), TypeError, "must have a dtype of torch.float32.*, got torch.float16$"),
    (ROWS.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
    (torch.tensor(1.0), ValueError, r"must have at least one dimension, got shape \(\)"),
]
OTHERWISE = (ROWS.to(E8M0), TypeError, "the same scales, stored otherwise; ptgq.scales.convert")
NAN = ROWS.clone()
NAN[2, 3] = torch.nan

TABLE = {
    scales.scale_shape: (
        {"shape": (4, 256), "group_size": 128, "scale_format": HOPPER},
        {
            "shape": [
                *NO_SHAPE,
                ((4, 300), ValueError, "the last dimension of shape, 300, got 12"),
            ],
            "group_size": [
                *BAD_GROUP_SIZE,
                (64, ValueError, "must be 128, as deep_gemm_hopper reads no others, got 64"),
            ],
            "scale_format": BAD_SCALE_FORMAT,
        },
    ),
    **{
        function: (
            {"shape": (4, 2), "scale_format": HOPPER},
            {"shape": NO_SHAPE, "scale_format": NO_FORMAT},
        )
        for function in (scales.column_lengths, scales.scale_strides, scales.num_elements)
    },
    scales.empty_scales: (
        {"shape": (4, 2), "scale_format": HOPPER, "device": "cpu"},
        {
            "shape": NO_SHAPE,
            "scale_format": NO_FORMAT,
            "device": [
                *((v, TypeError, "or its name, got ") for v in (None, 0, ["cpu"], X, FP8)),
                ("nowhere", ValueError, "must be a torch.device or its name, got 'nowhere'"),
            ],
        },
    ),
    scales.has_strides: (
        {"tensor": ROWS, "strides": (6, 1)},
        {
            "tensor": [*NO_TENSOR, NO_SCALES[-1]],
            "strides": [*NO_INTS, ((1,), ValueError, "must be as many as .* 2 sizes, got")],
        },
    ),
    scales.check_memory: (
        {"s": padded(), "scale_format": HOPPER, "name": "s"},
        {
            "s": [*NO_SCALES, OTHERWISE, (UNPADDED, ValueError, "must own the padding")],
            "scale_format": NO_FORMAT,
            "name": [(None, TypeError, "must be a str, got None"), *NO_STR],
        },
    ),
    scales.memory_of: (
        {"s": padded(), "scale_format": HOPPER},
        {
            "s": [*NO_SCALES, OTHERWISE, (UNPADDED, ValueError, "must own the padding")],
            "scale_format": NO_FORMAT,
        },
    ),
    scales.store_scales: (
        {"scales": torch.ones(5, 2), "s": padded(), "scale_format": HOPPER},
        {
            "scales": [
                *NO_SCALES,
                (ROWS.to(E8M0), TypeError, "must have a dtype of torch.float32, got .*e8m0fnu"),
                (ROWS, ValueError, r"as s of shape \(5, 2\), got shape \(4, 6\)"),
                (torch.ones(2, 5), ValueError, r"as s of shape \(5, 2\), got shape \(2, 5\)"),
            ],
            "s": [*NO_SCALES, OTHERWISE, (UNPADDED, ValueError, "must own the padding")],
            "scale_format": NO_FORMAT,
        },
    ),
    scales.to_float32: (
        {"s": WORDS, "num_groups": 6},
        {
            "s": [*NO_SCALES, (ROWS[:, :5], ValueError, "must be the last size of s, 5, got 6")],
            "num_groups": [
                *NO_NUM_GROUPS,
                *(
                    (n, ValueError, f"between 5 and 8 for 2 words, got {n}")
                    for n in (None, -6, 4, 9)
                ),
            ],
        },
    ),
    scales.convert: (
        {
            "s": WORDS,
            "source": PACKED,
            "target": BYTES,
            "num_groups": 6,
            "inexact": False,
            "shape": (4, 6),
        },
        {
            "s": [*NO_TENSOR, (ROWS, TypeError, "must have a dtype of torch.int32, got .*float32")],
            "source": NO_FORMAT,
            "target": [
                *NO_FORMAT,
                (HOPPER, ValueError, r"32 \(deep_gemm_mega_moe\), .* of 128 \(deep_gemm_hopper\)"),
            ],
            "num_groups": [*NO_NUM_GROUPS, (9, ValueError, "between 5 and 8 for 2 words, got 9")],
            "inexact": NO_BOOL,
            "shape": [
                *(case for case in NO_SHAPE if case[0] is not None),
                ((4, 5), ValueError, r"shape must be \(4, 6\), as s says, got \(4, 5\)"),
            ],
        },
    ),
    scales.check_scales: (
        {"s": ROWS, "scale_format": FLOATS, "num_groups": 6, "check_finite": True},
        {
            "s": [
                *NO_SCALES,
                OTHERWISE,
                (ROWS.t().contiguous().t(), ValueError, r"with strides \(6, 1\)"),
                (ROWS.to("meta"), ValueError, "must have values to check, got a tensor on meta"),
                (NAN, ValueError, r"must be finite: 1 of 24 are not, first that of group \(2, 3\)"),
            ],
            "scale_format": NO_FORMAT,
            "num_groups": [*NO_NUM_GROUPS, (7, ValueError, "must be the last size of s, 6, got 7")],
            "check_finite": NO_BOOL,
            "masked_m": [
                *bad_masked_m(1)[1:],
                (torch.tensor([3]), ValueError, "s must be 0 in rows past masked_m, got others"),
            ],
        },
    ),
    scales.scale_format: (
        {},
        {
            "column_major_scales": NO_BOOL,
            "use_ue8m0": NO_BOOL,
            "scale_dtype": BAD_SCALE_DTYPE,
            "tma_aligned_scales": [*NO_BOOL, (True, ValueError, "needs column_major_scales=True")],
        },
    ),
    ScaleFormat: (
        {"kind": "float32", "dtype": torch.float32},
        {
            "kind": [
                *((v, TypeError, "must be a str, got ") for v in (None, 1, ["float32"], X)),
                ("bfloat16", ValueError, "must be one of .*, got 'bfloat16'"),
                (numpy.str_("x"), ValueError, "must be one of .*, got "),
            ],
            "dtype": [
                (v, TypeError, "must be one of torch.float32, .*, got ")
                for v in (None, "float32", torch.float16, FP8, X, numpy.ones(2))
            ],
            "layout": [
                *((v, TypeError, "must be a str, got ") for v in (None, True, ("row_major",), X)),
                ("diagonal", ValueError, "must be one of .*, got 'diagonal'"),
            ],
            "per_batch": [*NO_BOOL, (True, ValueError, "rows do not cross batches: per_batch")],
            "group_sizes": [
                *((v, TypeError, "must be a tuple of ints, got ") for v in (None, 128, "128", X)),
                *(((128, v), error, text) for v, error, text in NO_INT),
                ((0,), ValueError, "must be at least 1 each, got 0"),
                (((128, 0),), ValueError, r"must be at least 1 each, got a tuple of 2"),
                (((),), ValueError, r"must be at least 1 each, got a tuple of 0"),
            ],
            "preset": NO_STR,
        },
    ),
    **{getattr(ScaleFormat, name): ({}, {}) for name in known.BLOCK_PRESETS},
    **{
        getattr(ScaleFormat, name): ({}, {"per_batch": NO_BOOL} if preset.per_batch else {})
        for name, preset in (known.PRESETS | known.TILED_PRESETS).items()
    },
}
