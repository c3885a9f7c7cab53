"""The noise of rounds: a row's own, moderated by that of rows alike."""

from __future__ import annotations

import math
import random
from statistics import fmean, median

import pytest

from tracking.noise import Noise, moderated, own_noise, pooled_freedom, residuals
from tracking.verdict import student

ROUNDS = 4


def table(generator, *, rows=30, own=0.003, shared=0.0, differing=0.0):
    """Both commits' rounds of each row: a process' speed is shared, the rest each row's own."""
    processes = [[generator.gauss(0, shared) for _ in range(ROUNDS)] for _ in "AB"]
    found = []
    for _ in range(rows):
        spread = own * math.exp(generator.gauss(0, differing))
        found.append([[1 + one + generator.gauss(0, spread) for one in side] for side in processes])
    return found


def noise_of(rows):
    return moderated([residuals(*sides) for sides in rows], 2)


def test_residuals_are_relative_to_their_own_commit():
    assert residuals([1.0, 3.0]) == residuals([10.0, 30.0]) == [-0.5, 0.5]
    assert residuals([1.0, 3.0], [5.0, 5.0]) == [-0.5, 0.5, 0.0, 0.0]
    assert residuals([0, 0], [0, 0]) == [0, 0, 0, 0]
    assert residuals([-1, 1]) == [math.inf, math.inf]
    assert own_noise([-0.5, 0.5, 0.0, 0.0], 2) == Noise(0.25, 2)
    assert own_noise([0.0, 0.0], 2) == Noise(0.0, 0)


def test_rows_alike_know_their_noise_together():
    rows = table(random.Random(1))
    found = noise_of(rows)
    spread = [math.sqrt(noise.variance) for noise in found]
    assert min(spread) > 0.0025
    assert max(spread) < 0.0035
    assert min(noise.freedom for noise in found) > 20


def test_rows_of_one_speed_know_no_more_than_one():
    found = noise_of(table(random.Random(1), own=1e-5, shared=0.003))
    assert [noise.freedom for noise in found] == pytest.approx([2 * (ROUNDS - 1)] * 30, rel=0.01)
    rows = [[1.0, -1.0, 2.0, -2.0]] * 9
    assert pooled_freedom(rows, 2) == pytest.approx(2)
    assert pooled_freedom([[1.0, -1.0, 0, 0], [0, 0, 1.0, -1.0]], 2) == 4


def test_rows_that_differ_keep_their_own():
    rows = table(random.Random(1), differing=2.0)
    own = [own_noise(residuals(*sides), 2).variance for sides in rows]
    ratios = [n.variance / o for n, o in zip(noise_of(rows), own, strict=True)]
    assert 0.7 < median(ratios) < 1.3
    assert max(n.freedom for n in noise_of(rows)) < 9


def test_what_agrees_by_chance_and_what_stands_alone():
    rows = table(random.Random(1))
    # No noise at all, a round less, no mean.
    rows += [[[1.0] * 4, [1.1] * 4], [[1.0, 1.2, 1.1], [1.0] * 3], [[-1, 1, -1, 1]] * 2]
    *_, agrees, fewer, endless = noise_of(rows)
    assert 0.002 < math.sqrt(agrees.variance) < 0.003
    assert fewer == own_noise(residuals(*rows[-2]), 2)
    assert endless == Noise(math.inf, 6)
    few = rows[:3]
    assert noise_of(few) == [own_noise(residuals(*sides), 2) for sides in few]
    assert noise_of([]) == []


@pytest.mark.parametrize(
    "kind", [{}, {"shared": 0.003}, {"differing": 0.5}, {"own": 1e-5, "shared": 0.003}]
)
def test_unchanged_rows_are_called_as_seldom_as_is_said(kind):
    generator = random.Random(7)
    called, tables = 0, 150
    for _ in range(tables):
        rows = table(generator, **kind)
        for (base, head), noise in zip(rows, noise_of(rows), strict=True):
            reach = student(3.29, noise.freedom)
            error = math.sqrt(noise.variance * 2 / ROUNDS)
            called += abs(fmean(head) - fmean(base)) > reach * error
    # One of 1,000, to either side: 4.5 of these 4,500.
    assert called <= 13
