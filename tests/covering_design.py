"""Fewer cases of tests with many parameters, among which every two values still meet."""

from __future__ import annotations


def covering_design(cases):
    """Yield those of a test's cases that hold every pair of values of its parameters.

    Of three parameters with a >= b >= c values these are a * b cases instead of a * b * c.
    """
    given = [mark.args[0] for mark in cases[0].iter_markers("parametrize")]
    marks = [names.split(", ") if isinstance(names, str) else names for names in given]
    numbers = [{} for _ in marks]
    places = []
    for case in cases:
        values = [tuple(id(case.callspec.params[name]) for name in names) for names in marks]
        places.append([n.setdefault(v, len(n)) for n, v in zip(numbers, values, strict=True)])
    order = sorted(range(len(marks)), key=lambda k: -len(numbers[k]))
    for case, place in zip(cases, places, strict=True):
        first, second, *others = (place[k] for k in order)
        sizes = (len(numbers[k]) for k in order[2:])
        if all(at == (first + second) % size for at, size in zip(others, sizes, strict=True)):
            yield case


def superfluous(items, **params):
    """Return the cases with these parameters that others of a covering design stand for."""
    tests = {}
    for item in items:
        if hasattr(item, "callspec") and params.items() <= item.callspec.params.items():
            tests.setdefault((item.path, item.originalname), []).append(item)
    return {
        case
        for cases in tests.values()
        if len(list(cases[0].iter_markers("parametrize"))) > 2
        for case in set(cases).difference(covering_design(cases))
    }
