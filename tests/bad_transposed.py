"""What ``per_token_group_quant_fp8_transposed`` does not take, as in ``bad_values``."""

from __future__ import annotations

import torch
from bad_values import BAD_X, FP8, GROUP, HIDDEN, NOT_DIVIDED, ROWS, SCALES, X, q_of, s_of

import ptgq

OUT = q_of(FP8), s_of(), torch.zeros(HIDDEN, GROUP).to(FP8), torch.zeros(HIDDEN, 1)


def bad_out() -> list:
    q, s, q_t, s_t = OUT
    cases = [
        (value, TypeError, r"out must be a tuple \(q, s, q_t, s_t\), got ")
        for value in (q, (q, s), (*OUT, s), {"q": q}, "qs", iter(OUT), 1, ())
    ]
    wrong = (
        ("q", torch.uint8, "must have a dtype of"),
        ("s", torch.float16, "must have a dtype of"),
    )
    for place, (what, dtype, text) in enumerate(2 * wrong):
        given = list(OUT)
        given[place] = given[place].view(dtype) if what == "q" else given[place].to(dtype)
        cases.append((tuple(given), TypeError, rf"out\[{place}\] {text}"))
        given[place] = OUT[place][:-1]
        cases.append((tuple(given), ValueError, rf"out\[{place}\] must have shape"))
    inside = X.view(torch.uint8).view(-1)[: ROWS * HIDDEN].view(ROWS, HIDDEN).view(FP8)
    in_q_t = q_t.view(torch.uint8).view(-1)[: ROWS * HIDDEN].view(ROWS, HIDDEN).view(FP8)
    cases += [
        ((inside, s, q_t, s_t), ValueError, r"out\[0\] must not overlap x in memory"),
        ((in_q_t, s, q_t, s_t), ValueError, r"out\[2\] must not overlap out\[0\] in memory"),
        ((q, s, q_t.t().contiguous().t(), s_t), ValueError, r"out\[2\] must have strides"),
        ((q, s, q_t, s_t.to("meta")), ValueError, r"out\[3\] must be on x's device cpu, got meta"),
    ]
    return cases


TABLE = {
    ptgq.per_token_group_quant_fp8_transposed: (
        {"x": X, "group_size": GROUP, "out": OUT},
        {
            "x": [
                *BAD_X,
                NOT_DIVIDED,
                (X[0], ValueError, r"must have at least two dimensions, got shape \(256,\)"),
            ],
            "out": bad_out(),
            **SCALES,
        },
    ),
}
