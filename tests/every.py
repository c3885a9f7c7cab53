"""Tests of many values: of a test of a millisecond pytest and its workers take four more."""

from __future__ import annotations

import functools
import inspect
import itertools
import os

import pytest
from covering_design import covering_design

TRITON = ("triton", "cpu")
FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)


def places(sizes, backend_on):
    """Return all combinations; in Triton's interpreter, which is slow, a covering design of them.

    With PTGQ_EVERY_CASE=1 there too.
    """
    if backend_on == TRITON and not os.environ.get("PTGQ_EVERY_CASE"):
        return covering_design(sizes)
    return itertools.product(*map(range, sizes))


def every(**parameters):
    """Let one test run with every combination of values; a failure says with which.

    Parameters
    ----------
    **parameters
        The values of each, or a dictionary of them by what a failure calls them.
    """
    named = [
        list(values.items() if isinstance(values, dict) else ((str(v), v) for v in values))
        for values in parameters.values()
    ]

    def decorate(test):
        @functools.wraps(test)
        def run(**fixtures):
            for place in places([len(values) for values in named], fixtures.get("backend_on")):
                case = [values[at] for values, at in zip(named, place, strict=True)]
                values = dict(zip(parameters, (value for _, value in case), strict=True))
                try:
                    test(**fixtures, **values)
                except FAILURES as error:
                    names = zip(parameters, (name for name, _ in case), strict=True)
                    says = ", ".join(f"{parameter}={name}" for parameter, name in names)
                    raise AssertionError(f"with {says}: {error}") from error

        signature = inspect.signature(test)
        left = [p for name, p in signature.parameters.items() if name not in parameters]
        run.__signature__ = signature.replace(parameters=left)
        return run

    return decorate
