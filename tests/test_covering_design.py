"""Which cases Triton's interpreter is left: all pairs of values of a test's parameters."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from covering_design import covering_design


def cases_of(sizes):
    """Cases as pytest makes them of one mark a parameter."""
    marks = [SimpleNamespace(args=(name, ())) for name in sizes]
    values = [[f"{name}{k}" for k in range(size)] for name, size in sizes.items()]
    return [
        SimpleNamespace(
            callspec=SimpleNamespace(params=dict(zip(sizes, case, strict=True))),
            iter_markers=lambda name: marks,
        )
        for case in itertools.product(*values)
    ]


@pytest.mark.parametrize("sizes", [(3, 9, 7), (2, 2, 7), (5, 5, 5), (6, 1, 4), (1, 1, 1)], ids=str)
def test_all_pairs_are_there(sizes):
    cases = cases_of(dict(zip("abc", sizes, strict=True)))
    kept = [case.callspec.params for case in covering_design(cases)]
    for one, other in itertools.combinations("abc", 2):
        pairs = {(case.callspec.params[one], case.callspec.params[other]) for case in cases}
        assert {(case[one], case[other]) for case in kept} == pairs
    assert len(kept) == sorted(sizes)[1] * max(sizes)


def test_a_case_that_is_asked_for_stays():
    case = cases_of({"a": 3, "b": 4, "c": 5})[37]
    assert list(covering_design([case])) == [case]
