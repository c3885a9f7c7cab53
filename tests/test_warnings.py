"""Warnings are errors, but for those of torch about what tests alone call."""

from __future__ import annotations

import warnings

import pytest

CATEGORIES = (DeprecationWarning, FutureWarning)


@pytest.mark.parametrize("category", CATEGORIES)
def test_deprecations_of_what_tests_call_do_not_fail(category):
    message = "`torch.jit.trace` is deprecated. Please switch to `torch.compile`."
    with warnings.catch_warnings(record=True) as shown:
        warnings.warn_explicit(message, category, "_trace.py", 1, module="torch.jit._trace")
        warnings.warn("`torch.any.other` is deprecated", category, stacklevel=1)
    assert [warning.filename for warning in shown] == [__file__]


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("module", ["ptgq.api", "torch.any"])
def test_deprecations_of_what_ptgq_calls_fail(category, module):
    with pytest.raises(category):
        warnings.warn_explicit("it is deprecated", category, "file.py", 1, module=module)


def test_other_warnings_fail():
    with pytest.raises(UserWarning):
        warnings.warn("anything", UserWarning, stacklevel=1)
