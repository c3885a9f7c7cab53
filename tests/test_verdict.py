"""Verdicts of compare, on synthetic rounds of samples."""

from __future__ import annotations

import random

import pytest

from tracking.verdict import decide, decide_table, noise_between

ROUNDS = 5


def rounds(centre, *, count=ROUNDS, within=0.01, between=0.01, seed=0):
    """Rounds of 5 samples: noise of each sample, and of each process."""
    generator = random.Random(seed)
    result = []
    for _ in range(count):
        process = centre * (1 + generator.gauss(0, between))
        result.append([process * (1 + generator.gauss(0, within)) for _ in range(5)])
    return result


def word(base, head, threshold=0.05):
    return decide(base, head, threshold).word


def test_a_clear_change_has_its_direction():
    base, slow = rounds(1.0, seed=1), rounds(1.3, seed=2)
    assert word(base, slow) == "slower"
    assert word(slow, base) == "faster"
    assert decide(base, slow, 0.05).change == pytest.approx(0.3, abs=0.05)


def test_no_change_within_the_noise_is_the_same():
    assert word(rounds(1.0, seed=1), rounds(1.0, seed=2), threshold=0.1) == "same"


def test_a_change_below_the_threshold_is_never_slower():
    base, head = rounds(1.0, between=0, within=1e-3), rounds(1.03, between=0, within=1e-3, seed=5)
    assert word(base, head) == "same"


def test_noise_between_rounds_allows_no_verdict():
    base = [[1.0] * 5, [1.5] * 5, [1.0] * 5]
    # 1.7 exceeds 1.5, and 70 % the threshold, but the base alone moves by 50 %.
    assert word(base, [[1.6] * 5, [1.7] * 5, [1.8] * 5]) == "undecided"
    assert word(base, [[2.6] * 5, [2.7] * 5, [2.8] * 5]) == "slower"


def test_samples_of_one_process_prove_nothing():
    base = rounds(1.0, between=0)
    head = [*rounds(1.3, count=3, between=0), *rounds(0.99, count=2, between=0)]
    assert word(base, head) == "undecided"
    assert word([r * 1000 for r in base], [r * 1000 for r in head]) == "undecided"


def test_counts_have_no_threshold_and_no_noise():
    assert word([38], [39], threshold=0.0) == "slower"
    assert word([38], [37], threshold=0.0) == "faster"
    assert word([38, 38], [38, 38], threshold=0.0) == "same"
    assert word([0], [4], threshold=0.0) == "slower"
    assert word([38, 39], [40, 40], threshold=0.0) == "undecided"
    assert word([0, 0, 4], [8, 8, 8], threshold=0.0) == "undecided"


def test_a_failed_round_fails_the_row():
    assert word([[1.0], None], [[1.0], [1.0]]) == "failed"
    assert decide_table({"k": [None]}, {"k": [[1.0]]}, lambda row: 0.05)["k"].word == "failed"


def test_rounds_that_agree_by_chance_have_the_noise_of_rows_alike():
    base = {f"k({row})": rounds(1.0, between=0.05, seed=row) for row in range(20)}
    head = {f"k({row})": rounds(1.0, between=0.05, seed=row + 50) for row in range(20)}
    base["k(lucky)"], head["k(lucky)"] = [[1.0]] * ROUNDS, [[1.12]] * ROUNDS
    assert decide(base["k(lucky)"], head["k(lucky)"], 0.05).word == "slower"
    assert decide_table(base, head, lambda row: 0.05)["k(lucky)"].word == "undecided"


def simulated(seed, *, slower=1.0, rows=220, shared=0.02, own=0.02, drift=0.03):
    """
    Two commits' rounds: a machine that drifts, processes and rows with a speed of their own.

    The rows are those of four benchmarks; `slower` are a tenth of one's.
    """
    generator = random.Random(seed)
    order = ("ABBA" * ROUNDS)[: 2 * ROUNDS]
    sides = {"A": {}, "B": {}}
    for turn, side in enumerate(order):
        process = (1 + generator.gauss(0, shared)) * (1 + drift * turn / len(order))
        for row in range(rows):
            value = process * (1 + generator.gauss(0, own))
            if side == "B" and row % 40 == 0:
                value *= slower
            sides[side].setdefault(f"b{row % 4}({row})", []).append(value)
    return sides["A"], sides["B"]


@pytest.mark.parametrize(("shared", "own"), [(0.01, 0.01), (0.03, 0.0), (0.0, 0.03), (0.02, 0.02)])
def test_unchanged_tables_stay_quiet(shared, own):
    # Less than 1 % of five tables in a row: at most one of 500 here.
    alarms = 0
    for seed in range(500):
        base, head = simulated(seed, shared=shared, own=own, rows=100)
        found = decide_table(base, head, lambda row: 0.05)
        alarms += any(verdict.word == "slower" for verdict in found.values())
    assert alarms <= 1


@pytest.mark.parametrize(("shared", "own"), [(0.01, 0.01), (0.0, 0.03), (0.02, 0.02)])
def test_a_slow_down_of_15_percent_is_caught(shared, own):
    caught = 0
    for seed in range(40):
        base, head = simulated(seed, slower=1.15, shared=shared, own=own)
        found = decide_table(base, head, lambda row: 0.05)
        slow = {row for row, verdict in found.items() if verdict.word == "slower"}
        caught += bool(slow)
        assert slow <= {f"b0({row})" for row in range(0, 220, 40)}
    assert caught >= 38


def test_rows_of_one_commit_are_left_out():
    assert decide_table({"gone": [[1.0]]}, {"new": [[1.0]]}, lambda row: 0.05) == {}


def test_noise_is_relative():
    assert noise_between([[1.0], [2.0], [4.0]]) == 1.5
    assert noise_between([7]) == noise_between([0, 0]) == 0


def test_a_machine_that_slows_down_meanwhile_makes_no_commit_slower():
    # Equal commits; from the middle on the machine is 1.3 times slower (heat, a neighbour).
    steps = [rounds(1.0 if step < ROUNDS else 1.3, count=1, seed=step)[0]
             for step in range(2 * ROUNDS)]  # fmt: skip
    one_after_the_other = steps[:ROUNDS], steps[ROUNDS:]
    assert word(*one_after_the_other) == "slower"
    sides = [side for index in range(ROUNDS) for side in ((0, 1) if index % 2 == 0 else (1, 0))]
    alternated = [[s for s, side in zip(steps, sides, strict=True) if side == i] for i in (0, 1)]
    assert word(*alternated) == "undecided"
