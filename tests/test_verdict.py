"""Verdicts of compare, on synthetic rounds of samples."""

from __future__ import annotations

import random

import pytest

from tracking.verdict import decide, decide_table, mann_whitney

ALPHA = 1e-4


def rounds(centre, *, count=3, within=0.01, between=0.01, seed=0):
    """Rounds of 12 samples: noise of each sample, and of each process."""
    generator = random.Random(seed)
    result = []
    for _ in range(count):
        process = centre * (1 + generator.gauss(0, between))
        result.append([process * (1 + generator.gauss(0, within)) for _ in range(12)])
    return result


def word(base, head, threshold=0.05):
    return decide(base, head, threshold, ALPHA).word


def test_a_clear_change_has_its_direction():
    base, slow = rounds(1.0, seed=1), rounds(1.3, seed=2)
    assert word(base, slow) == "slower"
    assert word(slow, base) == "faster"
    assert decide(base, slow, 0.05, ALPHA).change == pytest.approx(0.3, abs=0.05)


def test_no_change_within_the_noise_is_the_same():
    assert word(rounds(1.0, seed=1), rounds(1.0, seed=2), threshold=0.1) == "same"


def test_a_change_below_the_threshold_is_never_slower():
    base, head = rounds(1.0, between=0, within=1e-3), rounds(1.03, between=0, within=1e-3, seed=5)
    assert word(base, head) == "same"


def test_noise_between_rounds_allows_no_verdict():
    base = [[1.0] * 12, [1.5] * 12, [1.0] * 12]
    # 1.6 exceeds 1.5, and 70 % the threshold, but the base alone moves by 50 %.
    assert word(base, [[1.6] * 12, [1.7] * 12, [1.8] * 12]) == "undecided"
    assert word(base, [[2.6] * 12, [2.7] * 12, [2.8] * 12]) == "slower"


def test_one_lucky_round_allows_no_verdict():
    base = rounds(1.0, between=0)
    head = [*rounds(1.3, count=2, between=0), rounds(0.99, count=1, between=0)[0]]
    assert word(base, head) == "undecided"


def test_few_samples_prove_nothing():
    assert word([[1.0]] * 2, [[2.0]] * 2) == "undecided"


def test_counts_have_no_threshold_and_no_noise():
    assert word([38, 38], [39, 39], threshold=0.0) == "slower"
    assert word([38, 38], [37, 37], threshold=0.0) == "faster"
    assert word([38, 38], [38, 38], threshold=0.0) == "same"
    assert word([0, 0], [4, 4], threshold=0.0) == "slower"
    assert word([38, 39], [40, 40], threshold=0.0) == "undecided"


def test_a_failed_round_fails_the_row():
    assert word([[1.0], None], [[1.0], [1.0]]) == "failed"


def test_unchanged_tables_of_hundreds_of_rows_stay_quiet():
    # Processes that differ by 5 %, samples by 3 %; 5 rounds, as of a row that is confirmed.
    def table(first_seed):
        return {
            f"k({row})": rounds(1.0, count=5, between=0.05, within=0.03, seed=first_seed + row)
            for row in range(300)
        }

    for run in range(10):
        verdicts = decide_table(table(1000 * run), table(1000 * run + 500), lambda row: 0.05)
        assert {verdict.word for verdict in verdicts.values()} <= {"same", "undecided"}


def test_a_slower_row_is_found_in_a_table():
    base = {f"k({row})": rounds(1.0, seed=row) for row in range(100)}
    head = {f"k({row})": rounds(1.3 if row == 7 else 1.0, seed=row + 500) for row in range(100)}
    verdicts = decide_table({**base, "gone": [[1.0]]}, head, lambda row: 0.05)
    assert [row for row, verdict in verdicts.items() if verdict.word == "slower"] == ["k(7)"]
    assert "gone" not in verdicts


def test_mann_whitney_agrees_with_tabulated_values():
    # U = 0 of 8 and 8: exactly 0.00016; the normal approximation is 0.00094.
    assert mann_whitney(range(8), range(8, 16)) == pytest.approx(0.00094, rel=0.02)
    assert mann_whitney([1, 2, 3, 4], [1, 2, 3, 4]) == pytest.approx(1.0)
    assert mann_whitney([5] * 6, [5] * 6) == 1.0
