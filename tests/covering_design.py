"""Fewer cases of tests with many parameters, among which every two values still meet."""

from __future__ import annotations

import itertools


def covering_design(sizes):
    """Yield cases, a place a parameter, that hold every pair of values of parameters so many.

    Of three parameters with a >= b >= c values these are a * b cases instead of a * b * c.
    """
    order = sorted(range(len(sizes)), key=lambda k: -sizes[k])
    for case in itertools.product(*map(range, sizes)):
        start = sum(case[k] for k in order[:2])
        if all(case[k] == start % sizes[k] for k in order[2:]):
            yield case
