"""Tests of many values: each is run, a failure names its case, Triton's interpreter gets pairs."""

from __future__ import annotations

import itertools

import pytest
from covering_design import covering_design
from every import every


@pytest.mark.parametrize("sizes", [(3, 9, 7), (2, 2, 7), (5, 5, 5), (6, 1, 4), (1, 1, 1)], ids=str)
def test_all_pairs_are_there(sizes):
    kept = list(covering_design(sizes))
    for one, other in itertools.combinations(range(3), 2):
        pairs = set(itertools.product(range(sizes[one]), range(sizes[other])))
        assert {(case[one], case[other]) for case in kept} == pairs
    assert len(kept) == sorted(sizes)[1] * max(sizes)


def recorded(**parameters):
    """What a test of these values records: it, and the list."""
    seen = []

    @every(**parameters)
    def run(backend_on, a, b, c):
        seen.append((a, b, c))

    return run, seen


def test_every_case_is_run_but_in_the_interpreter(monkeypatch):
    monkeypatch.delenv("PTGQ_EVERY_CASE", raising=False)
    values = {"a": (1, 2, 3), "b": {"x": 4, "y": 5}, "c": (6, 7)}
    run, seen = recorded(**values)
    run(backend_on=("cpu", "cpu"))
    assert seen == list(itertools.product((1, 2, 3), (4, 5), (6, 7)))
    seen.clear()
    run(backend_on=("triton", "cpu"))
    assert len(seen) == 6
    monkeypatch.setenv("PTGQ_EVERY_CASE", "1")
    run(backend_on=("triton", "cpu"))
    assert len(seen) == 6 + 12


def give_up(kind):
    if kind == "skip":
        pytest.skip("what")
    elif kind == "fail":
        pytest.fail("what")
    raise ValueError("what")


# A test that is left at one of its values would lose all that come after it.
@pytest.mark.parametrize("kind", ["raise", "fail", "skip"])
def test_a_failure_names_its_case(kind):
    @every(size=[1, 2], view={"rows": 3, "columns": 4})
    def run(size, view):
        if (size, view) == (2, 3):
            give_up(kind)

    with pytest.raises(AssertionError, match=r"^with size=2, view=rows: what$"):
        run()
