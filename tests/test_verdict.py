"""Verdicts of compare, on synthetic rounds of samples."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tracking.noise import Noise
from tracking.verdict import decide, decide_table, resolution

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
    return decide(base, head, threshold, threshold).word


def test_a_clear_change_has_its_direction():
    base, slow = rounds(1.0, seed=1), rounds(1.3, seed=2)
    assert word(base, slow) == "slower"
    assert word(slow, base) == "faster"
    assert decide(base, slow, 0.05, 0.05).change == pytest.approx(0.3, abs=0.05)


def test_no_change_within_the_noise_is_the_same():
    assert word(rounds(1.0, seed=1), rounds(1.0, seed=2), threshold=0.1) == "same"


def test_a_change_below_the_threshold_is_never_slower():
    base, head = rounds(1.0, between=0, within=1e-3), rounds(1.03, between=0, within=1e-3, seed=5)
    assert word(base, head) == "same"


def test_noise_between_rounds_allows_no_verdict():
    base = [[1.0] * 5, [1.5] * 5, [1.0] * 5]
    # 1.7 exceeds 1.5, and 70 % the threshold, but the base alone moves by 50 %.
    assert word(base, [[1.6] * 5, [1.7] * 5, [1.8] * 5]) == "undecided"
    assert word(base, [[9.6] * 5, [9.7] * 5, [9.8] * 5]) == "slower"


def test_a_change_is_called_from_a_part_of_what_is_the_same():
    row = "kernel_time.KernelTime.track_default_shapes('cuda', 'cold', 16, 64, 'int8')"
    assert resolution(row, 0.05) == (0.005, 0.02)
    assert resolution("footprint.Kernels.track_registers", 0.0) == (0.0, 0.0)
    base = rounds(1.0, between=0.001, within=0.001, seed=1)
    for change, expected in ((0.003, "same"), (0.01, "slower"), (-0.01, "faster")):
        head = rounds(1 + change, between=0.001, within=0.001, seed=2)
        assert decide(base, head, 0.005, 0.02).word == expected


def test_the_same_takes_an_interval_of_90_percent():
    # Means apart by 1 %, 12 rounds of a side: the 90 % interval reaches 1.71 of its errors.
    noise, least, within = Noise(0.0, 22), 0.005, 0.02
    base, head = [[1.0]] * 12, [[1.01]] * 12
    for reach, expected in ((0.0097, "same"), (0.0102, "undecided")):
        found = replace(noise, variance=6 * (reach / 1.717) ** 2)
        assert decide(base, head, least, within, found).word == expected


@pytest.mark.parametrize("between", [0.002, 0.01, 0.05])
def test_the_smallest_change_is_the_least_that_is_called(between):
    base, head = rounds(1.0, between=between, seed=1), rounds(1.0, between=between, seed=2)
    found = decide(base, head, 0.005, 0.02)
    assert found.word != "slower"
    centre = found.base / found.head

    def moved(change):
        moved = [[value * centre * (1 + change) for value in samples] for samples in head]
        return decide(base, moved, 0.005, 0.02).word

    # The interval of what is slower is as much wider.
    assert moved(found.smallest * 1.1 + found.smallest**2) == "slower"
    assert moved(found.smallest * 0.9) != "slower"


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
    base = {f"b.k('cuda', {row})": rounds(1.0, between=0.05, seed=row) for row in range(20)}
    head = {f"b.k('cuda', {row})": rounds(1.0, between=0.05, seed=row + 50) for row in range(20)}
    base |= {f"b.k('triton', {row})": [[1.0]] * ROUNDS for row in range(20)}
    head |= {f"b.k('triton', {row})": [[1.0]] * ROUNDS for row in range(20)}
    for backend in ("cuda", "triton"):
        base[f"b.k('{backend}', 99)"], head[f"b.k('{backend}', 99)"] = (
            [[1.0]] * ROUNDS,
            [[1.1]] * ROUNDS,
        )
    assert word([[1.0]] * ROUNDS, [[1.1]] * ROUNDS) == "slower"
    found = decide_table(base, head, lambda row: 0.05)
    assert found["b.k('cuda', 99)"].word == "undecided"
    # Another backend's rows are not alike.
    assert found["b.k('triton', 99)"].word == "slower"


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
            sides[side].setdefault(f"b{row % 4}.k({row})", []).append(value)
    return sides["A"], sides["B"]


@pytest.mark.parametrize(("shared", "own"), [(0.03, 0.0), (0.0, 0.03), (0.02, 0.02)])
def test_unchanged_tables_stay_quiet(shared, own):
    # One of 4,000 rows, but that the threshold counts, too: 5 of 150 tables at most.
    alarms = 0
    for seed in range(150):
        base, head = simulated(seed, shared=shared, own=own, rows=100)
        found = decide_table(base, head, lambda row: 0.05)
        alarms += any(verdict.word == "slower" for verdict in found.values())
    assert alarms <= 5


@pytest.mark.parametrize(("shared", "own"), [(0.01, 0.01), (0.0, 0.03), (0.02, 0.02)])
def test_a_slow_down_of_15_percent_is_caught(shared, own):
    caught = 0
    for seed in range(40):
        base, head = simulated(seed, slower=1.15, shared=shared, own=own)
        found = decide_table(base, head, lambda row: 0.05)
        slow = {row for row, verdict in found.items() if verdict.word == "slower"}
        caught += bool(slow)
        assert slow <= {f"b0.k({row})" for row in range(0, 220, 40)}
    assert caught >= 38


def test_rows_of_one_commit_are_left_out():
    assert decide_table({"gone": [[1.0]]}, {"new": [[1.0]]}, lambda row: 0.05) == {}


def test_a_machine_that_slows_down_meanwhile_makes_no_commit_slower():
    # Equal commits; from the middle on the machine is 1.3 times slower (heat, a neighbour).
    steps = [rounds(1.0 if step < ROUNDS else 1.3, count=1, seed=step)[0]
             for step in range(2 * ROUNDS)]  # fmt: skip
    one_after_the_other = steps[:ROUNDS], steps[ROUNDS:]
    assert word(*one_after_the_other) == "slower"
    sides = [side for index in range(ROUNDS) for side in ((0, 1) if index % 2 == 0 else (1, 0))]
    alternated = [[s for s, side in zip(steps, sides, strict=True) if side == i] for i in (0, 1)]
    assert word(*alternated) == "undecided"
