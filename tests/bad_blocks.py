"""What no argument of the functions of blocks takes, as in ``bad_values``."""

from __future__ import annotations

from dataclasses import replace

import torch
from bad_scales import NO_SHAPE
from bad_values import (
    BAD_BACKEND,
    BAD_SCALE_FORMAT,
    BAD_X,
    FP8,
    NO_INT,
    NO_TENSOR,
    ROWS,
    SCALES,
    TABLE,
    X,
    bad_out,
    misaligned,
    q_of,
    s_of,
)

import ptgq
from ptgq import ScaleFormat

SIZE = (1, 128)
BAD_BLOCK_SIZE = [
    *((v, TypeError, "must be a tuple of ints, got ") for v in (None, 128, "128", X, {1: 2})),
    *(((1, value), error, r"\[1\] " + text) for value, error, text in NO_INT),
    ((), ValueError, r"must be two sizes of at least 1, got \(\)"),
    ((128,), ValueError, r"must be two sizes of at least 1, got \(128\)"),
    ((1, 128, 1), ValueError, r"must be two sizes of at least 1, got \(1, 128, 1\)"),
    ((0, 128), ValueError, r"must be two sizes of at least 1, got \(0, 128\)"),
    ((1, -(2**70)), ValueError, rf"must be two sizes of at least 1, got \(1, -{2**70}\)"),
]
NOT_OF_BLOCKS = [
    *BAD_SCALE_FORMAT,
    *(
        (replace(f, group_sizes=()), ValueError, "must be row_major or aligned_rows, of an element")
        for f in (
            ScaleFormat.deep_gemm_hopper(),
            ScaleFormat.deep_gemm_mega_moe(),
            ScaleFormat.torch_scaled_mm(),
            ScaleFormat.torch_scaled_mm_mx(),
        )
    ),
]
Q, S = q_of(FP8), s_of()
# A block of one row is a group of 128.
OF_W = [
    (value, error, text.replace("x's device", "w's device").replace("overlap x", "overlap w"))
    for value, error, text in bad_out(FP8)
]
DTYPES = TABLE[ptgq.dequantize][1]["dtype"]
TABLE = {
    ptgq.per_block_quant_fp8: (
        {"w": X, "block_size": SIZE, "out": (q_of(FP8), s_of())},
        {
            "w": [
                *BAD_X,
                (X[0], ValueError, r"must have at least two dimensions, got shape \(256,\)"),
            ],
            "block_size": BAD_BLOCK_SIZE,
            "out": OF_W,
            **{name: SCALES[name] for name in ("use_ue8m0", "eps", "nonfinite", "backend")},
            "scale_dtype": [
                *SCALES["scale_dtype"],
                (torch.float8_e8m0fnu, ValueError, "scale_dtype=.* needs use_ue8m0=True"),
            ],
            "scale_format": NOT_OF_BLOCKS,
        },
    ),
    ptgq.dequantize_blocks: (
        {"q": Q, "s": S, "block_size": SIZE},
        {
            "q": [
                *NO_TENSOR,
                (X, TypeError, "must have a dtype of .*, got torch.float32"),
                (Q.view(torch.int8), TypeError, "must have a dtype of .*, got torch.int8"),
                (Q[0, 0], ValueError, r"must have at least one dimension, got shape \(\)"),
                (Q[0], ValueError, r"must have at least two dimensions, got shape \(256,\)"),
            ],
            "s": [
                *NO_TENSOR,
                (S.half(), TypeError, "must have a dtype of .*, got torch.float16"),
                (S.int(), TypeError, "must have a dtype of .*, got torch.int32"),
                (S.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
                (S[:, :1], ValueError, r"must have shape \(4, 2\), got \(4, 1\)"),
                (S.to("meta"), ValueError, "must be on q's device cpu, got meta"),
                (misaligned(torch.float32, ROWS, 2), ValueError, "to its elements of 4 bytes"),
            ],
            "block_size": BAD_BLOCK_SIZE,
            "dtype": DTYPES,
            "backend": BAD_BACKEND,
        },
    ),
    ptgq.scales.block_scale_shape: (
        {"shape": (4, 256), "block_size": SIZE, "scale_format": None},
        {
            "shape": [
                *NO_SHAPE,
                ((4,), ValueError, r"must have at least two dimensions, got \(4,\)"),
            ],
            "block_size": BAD_BLOCK_SIZE,
            "scale_format": NOT_OF_BLOCKS,
        },
    ),
}
