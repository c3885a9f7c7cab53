"""What no argument of the functions that normalize takes, as in bad_values."""

from __future__ import annotations

import torch
from bad_values import (
    BAD_EPS,
    BAD_X,
    FP8,
    GROUP,
    HIDDEN,
    INT8,
    NO_TENSOR,
    NOT_DIVIDED,
    OF_INT8,
    OPTIONS,
    ROWS,
    bad_out,
    misaligned,
    normal,
    q_of,
    s_of,
)

import ptgq

# x, then rows that overlap with it.
MEMORY = normal(2 * ROWS, HIDDEN)
X, INSIDE = MEMORY[:ROWS], MEMORY[ROWS - 1 : 2 * ROWS - 1]
WEIGHT, RESIDUAL, NORM_OUT = normal(HIDDEN), normal(ROWS, HIDDEN), normal(ROWS, HIDDEN)
BAD_WEIGHT = [
    *NO_TENSOR,
    (WEIGHT.half(), TypeError, "must have a dtype of torch.float32, got torch.float16"),
    (WEIGHT.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
    (WEIGHT[:255], ValueError, r"must have shape \(256,\), got \(255,\)"),
    (X, ValueError, r"must have shape \(256,\), got \(4, 256\)"),
    (torch.tensor(1.0), ValueError, r"must have at least one dimension, got shape \(\)"),
    (normal(512)[::2], ValueError, r"must be contiguous, got strides \(2,\)"),
    (normal(1).expand(HIDDEN), ValueError, r"must be contiguous, got strides \(0,\)"),
    (WEIGHT.to("meta"), ValueError, "must be on x's device cpu, got meta"),
    (misaligned(torch.float32, HIDDEN), ValueError, "aligned to its elements of 4 bytes"),
]


def bad_rows(good: torch.Tensor) -> list:
    """What a tensor of the shape of x that is written must not be."""
    with torch.inference_mode():
        inference = good.clone()
    refused = "Inplace update to inference tensor outside InferenceMode is not allowed"
    return [
        *(case for case in NO_TENSOR if case[0] is not None),
        (good.half(), TypeError, "must have a dtype of torch.float32, got torch.float16"),
        (good.double(), TypeError, "must have a dtype of torch.float32, got torch.float64"),
        (good.to_sparse(), TypeError, "must be a dense .*, got a torch.sparse_coo one"),
        (good[:3], ValueError, r"must have shape \(4, 256\), got \(3, 256\)"),
        (good.view(-1), ValueError, r"must have shape \(4, 256\), got \(1024,\)"),
        (good.t().contiguous().t(), ValueError, r"one stride between .* strides \(1, 4\)"),
        (good[:1].expand(4, -1), ValueError, r"one stride between .* strides \(0, 1\)"),
        (good.view(-1)[:508].as_strided((4, 256), (84, 1)), ValueError, "one stride between"),
        (good.to("meta"), ValueError, "must be on x's device cpu, got meta"),
        (good.clone().requires_grad_(), ValueError, "must not require gradients"),
        (torch._neg_view(good), ValueError, "must not be a negated view"),
        (inference, RuntimeError, refused),
        (misaligned(torch.float32, ROWS, HIDDEN), ValueError, "aligned to its elements of 4"),
        (INSIDE, ValueError, "must not overlap x in memory"),
    ]


def table(q_dtype: torch.dtype, scales: dict) -> tuple[dict, dict]:
    q, s = q_of(q_dtype), s_of()
    bytes_of_q = q.view(torch.uint8)
    good = {
        "x": X, "weight": WEIGHT, "group_size": GROUP, "norm_eps": 1e-6,
        "residual": RESIDUAL, "norm_out": NORM_OUT, "out": (q, s),
    }  # fmt: skip
    inside = RESIDUAL.view(torch.uint8).view(-1)[: bytes_of_q.numel()].view(ROWS, HIDDEN)
    overlapping = [
        ((inside.view(q_dtype), s), ValueError, r"out\[0\] must not overlap residual in memory"),
        ((q, NORM_OUT.view(-1)[:8].view(ROWS, 2)), ValueError, r"out\[1\] must not .* norm_out"),
        ((q, WEIGHT[:8].view(ROWS, 2)), ValueError, r"out\[1\] must not overlap weight in memory"),
    ]
    bad = {
        "x": [*BAD_X, NOT_DIVIDED],
        "weight": BAD_WEIGHT,
        "norm_eps": BAD_EPS,
        "residual": bad_rows(RESIDUAL),
        "norm_out": [
            *bad_rows(NORM_OUT),
            (RESIDUAL, ValueError, "norm_out must not overlap residual in memory"),
        ],
        "out": [*bad_out(q_dtype, X), *overlapping],
        **scales,
    }
    return good, bad


TABLE = {
    ptgq.rms_norm_per_token_group_quant_fp8: table(FP8, OPTIONS),
    ptgq.rms_norm_per_token_group_quant_int8: table(
        INT8, {name: OF_INT8[name] for name in OPTIONS}
    ),
}
