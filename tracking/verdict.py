"""Whether a benchmark changed between two commits that were measured in alternating rounds.

A process has a speed of its own (memory layout, clocks), which its samples share: so many samples
of one process prove nothing, and a change must show between rounds, each a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

FASTER, SLOWER, SAME, UNDECIDED, FAILED = "faster", "slower", "same", "undecided", "failed"

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


def decide(base: Sequence[Round], head: Sequence[Round], threshold: float, alpha: float) -> Verdict:
    """Decide on one row.

    Parameters
    ----------
    base, head : sequence
        The rounds of each commit.
    threshold : float
        The least relative change worth a word; 0 for what is counted, not timed.
    alpha : float
        The p-value below which medians differ: of all rows together, so divided by their number.

    Notes
    -----
    Slower is said if four things hold: the change exceeds `threshold`; it exceeds the noise
    between rounds; every round of head is slower than every round of base; and Mann-Whitney over
    all samples gives less than `alpha`. Same is said if no pair of rounds differs by more than
    `threshold`. What is neither is undecided.
    """
    if any(value is None for value in (*base, *head)):
        return Verdict(FAILED, math.nan, math.nan)
    if not isinstance(base[0], Sequence):
        return _decide_counts(base, head)
    centres = [[median(samples) for samples in rounds] for rounds in (base, head)]
    pooled = [[value for samples in rounds for value in samples] for rounds in (base, head)]
    noise = max((max(centre) - min(centre)) / median(centre) for centre in centres)
    before, after = median(pooled[0]), median(pooled[1])
    verdict = Verdict(UNDECIDED, before, after, noise)
    changes = [after / before - 1 for before in centres[0] for after in centres[1]]
    one_sided = min(changes) > 0 or max(changes) < 0
    size = max(after / before, before / after) - 1
    if max(map(abs, changes)) <= threshold:
        word = SAME
    elif size > max(threshold, noise) and one_sided and mann_whitney(*pooled) < alpha:
        word = SLOWER if after > before else FASTER
    else:
        word = UNDECIDED
    return Verdict(word, verdict.base, verdict.head, noise)


def _decide_counts(base: Sequence[float], head: Sequence[float]) -> Verdict:
    """Decide on numbers that do not vary: any difference counts, if each commit has one value."""
    if len(set(base)) > 1 or len(set(head)) > 1:
        spread = max(max(values) - min(values) for values in (base, head))
        return Verdict(UNDECIDED, median(base), median(head), spread / (median(base) or 1))
    before, after = base[0], head[0]
    word = SAME if after == before else SLOWER if after > before else FASTER
    return Verdict(word, before, after)
