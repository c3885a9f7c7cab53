"""Whether a benchmark changed between two commits that were measured in alternating rounds.

A process has a speed of its own (memory layout, clocks), which its samples share: so many samples
of one process prove nothing, and a change must show between rounds, each a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

FASTER, SLOWER, SAME, UNDECIDED, FAILED = "faster", "slower", "same", "undecided", "failed"

# The chance of one wrong verdict in a whole table, by Mann-Whitney alone.
TABLE_ALPHA = 0.01
# By how much a change must exceed the noise between rounds.
NOISE_FACTOR = 1.5

# One round's results: samples (in seconds, or a ratio), one exact number, or None for a failure.
Round = Sequence[float] | float | None


@dataclass(frozen=True)
class Verdict:
    """What is said of one row: lower values are better.

    Attributes
    ----------
    word : str
        ``faster``, ``slower``, ``same``, ``undecided`` (the noise allows no verdict), ``failed``.
    base, head : float
        Medians of all samples; NaN where it failed.
    noise : float
        How far the rounds of one commit lie apart, relative to their median: the larger of both.
    """

    word: str
    base: float
    head: float
    noise: float = 0.0

    @property
    def change(self) -> float:
        """Relative change from base to head."""
        if self.base == self.head:
            return 0.0
        return self.head / self.base - 1 if self.base else math.inf


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p-value of the Mann-Whitney U test, by its normal approximation.

    Ties share their ranks; their variance is corrected.
    """
    ordered = sorted([*a, *b])
    first, count = {}, {}
    for rank, value in enumerate(ordered, start=1):
        first.setdefault(value, rank)
        count[value] = count.get(value, 0) + 1
    rank_sum = sum(first[value] + (count[value] - 1) / 2 for value in a)
    n, m = len(a), len(b)
    total = n + m
    u = rank_sum - n * (n + 1) / 2
    ties = sum(c**3 - c for c in count.values()) / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - ties)
    if variance <= 0:
        return 1.0
    distance = max(0.0, abs(u - n * m / 2) - 0.5)
    return math.erfc(distance / math.sqrt(2 * variance))


def noise_between(rounds: Sequence[Round]) -> float:
    """Return how far the medians of rounds of samples lie apart, relative to their median."""
    centres = [median(samples) for samples in rounds]
    return (max(centres) - min(centres)) / median(centres)


def decide(
    base: Sequence[Round],
    head: Sequence[Round],
    threshold: float,
    alpha: float,
    usual_noise: float = 0.0,
) -> Verdict:
    """Decide on one row.

    Parameters
    ----------
    base, head : sequence
        The rounds of each commit.
    threshold : float
        The least relative change worth a word; 0 for what is counted, not timed.
    alpha : float
        The p-value below which medians differ: of all rows together, so divided by their number.
    usual_noise : float
        Between rounds, of rows alike: a few rounds may agree by chance.

    Notes
    -----
    Slower is said if four things hold: the change exceeds `threshold`; it exceeds NOISE_FACTOR
    times the noise between rounds, the row's own and the usual; every round of head is slower than
    every round of base; and Mann-Whitney over all samples gives less than `alpha`. Same is said if
    no pair of rounds differs by more than `threshold`. What is neither is undecided.
    """
    if any(value is None for value in (*base, *head)):
        return Verdict(FAILED, math.nan, math.nan)
    if not isinstance(base[0], Sequence):
        return _decide_counts(base, head)
    noise = max(noise_between(base), noise_between(head))
    pooled = [[value for samples in rounds for value in samples] for rounds in (base, head)]
    before, after = map(median, pooled)
    changes = [median(h) / median(b) - 1 for b in base for h in head]
    size = max(after / before, before / after) - 1
    needed = max(threshold, NOISE_FACTOR * max(noise, usual_noise))
    one_sided = min(changes) > 0 or max(changes) < 0
    if max(map(abs, changes)) <= threshold:
        word = SAME
    elif size > needed and one_sided and mann_whitney(*pooled) < alpha:
        word = SLOWER if after > before else FASTER
    else:
        word = UNDECIDED
    return Verdict(word, before, after, noise)


def decide_table(
    base: Mapping[str, Sequence[Round]],
    head: Mapping[str, Sequence[Round]],
    threshold_of: Callable[[str], float],
) -> dict[str, Verdict]:
    """Decide on each row that both commits have: ``name(parameters)`` with its rounds.

    The chance of a wrong verdict by Mann-Whitney is TABLE_ALPHA in the whole table. The usual noise
    of a row is the median of its benchmark's.
    """
    rows = sorted(base.keys() & head.keys())
    noises: dict[str, list[float]] = {}
    for row in rows:
        for rounds in (base[row], head[row]):
            if all(isinstance(samples, Sequence) for samples in rounds):
                noises.setdefault(row.partition("(")[0], []).append(noise_between(rounds))
    alpha = TABLE_ALPHA / max(1, len(rows))
    return {
        row: decide(
            base[row],
            head[row],
            threshold_of(row),
            alpha,
            median(noises.get(row.partition("(")[0], [0.0])),
        )
        for row in rows
    }


def _decide_counts(base: Sequence[float], head: Sequence[float]) -> Verdict:
    """Decide on numbers that do not vary: any difference counts, if each commit has one value."""
    if len(set(base)) > 1 or len(set(head)) > 1:
        spread = max(max(values) - min(values) for values in (base, head))
        return Verdict(UNDECIDED, median(base), median(head), spread / (median(base) or 1))
    before, after = base[0], head[0]
    word = SAME if after == before else SLOWER if after > before else FASTER
    return Verdict(word, before, after)
