"""Whether a benchmark changed between two commits that were measured in alternating rounds.

A process has a speed of its own (memory layout, clocks), which its samples share: so many samples
of one process prove nothing, and a change must show between rounds, each a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from asv_plugins.same_code import OTHER_CODE, SAME_CODE, is_hash, is_same
from asv_plugins.verdict import Measurement, verdict

FASTER, SLOWER, SAME, UNDECIDED, FAILED = "faster", "slower", "same", "undecided", "failed"
WORDS = {"better": FASTER, "worse": SLOWER, "same": SAME, "undecided": UNDECIDED}

# The true median of n rounds lies within this many times their spread / n of theirs. Simulated
# (tests/test_verdict.py): with it less than one unchanged table in 500 has a row called slower.
REACH = 4.0

# One round's results: samples (in seconds, or a ratio), one exact number, or None for a failure.
Round = Sequence[float] | float | None


@dataclass(frozen=True)
class Verdict:
    """What is said of one row: lower values are better.

    Attributes
    ----------
    word : str
        ``faster``, ``slower``, ``same``, ``undecided`` (the noise allows no verdict), ``failed``;
        ``same code`` of a kernel whose time is the machine's doing, and of an equal hash.
    base, head : float
        Medians of the rounds; NaN where it failed.
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


def centres(rounds: Sequence[Round]) -> list[float]:
    """Return the median of each round."""
    return [median(r) if isinstance(r, Sequence) else r for r in rounds]


def noise_between(rounds: Sequence[Round]) -> float:
    """Return how far the medians of rounds lie apart, relative to their median."""
    values = centres(rounds)
    spread, middle = max(values) - min(values), abs(median(values))
    return spread and (spread / middle if middle else math.inf)


def measurement(rounds: Sequence[Round], usual_noise: float) -> Measurement:
    """Return the median of rounds and the interval that holds the commit's own, and all rounds.

    `usual_noise` is that of rows alike: a few rounds may agree by chance.
    """
    values = centres(rounds)
    value = median(values)
    reach = REACH / len(rounds) * max(noise_between(rounds), usual_noise) * abs(value)
    return Measurement(value, min(value - reach, *values), max(value + reach, *values))


def decide(
    base: Sequence[Round], head: Sequence[Round], threshold: float, usual_noise: float = 0.0
) -> Verdict:
    """Decide on one row by the record's rule, on intervals of rounds instead of samples."""
    if any(value is None for value in (*base, *head)):
        return Verdict(FAILED, math.nan, math.nan)
    before, after = (measurement(rounds, usual_noise) for rounds in (base, head))
    noise = max(noise_between(base), noise_between(head))
    return Verdict(WORDS[verdict(before, after, threshold)], before.value, after.value, noise)


def decide_table(
    base: Mapping[str, Sequence[Round]],
    head: Mapping[str, Sequence[Round]],
    threshold_of: Callable[[str], float],
    same_code: Collection[str] = (),
) -> dict[str, Verdict]:
    """Decide on each row that both commits have: ``name(parameters)`` with its rounds.

    The usual noise of a row is the median of its benchmark's. `same_code` are the backends whose
    kernels are the same in both.
    """
    rows = sorted(base.keys() & head.keys())
    noises: dict[str, list[float]] = {}
    for row in rows:
        for rounds in (base[row], head[row]):
            if None not in rounds:
                noises.setdefault(row.partition("(")[0], []).append(noise_between(rounds))
    verdicts = {}
    for row in rows:
        usual = median(noises.get(row.partition("(")[0], [0.0]))
        found = decide(base[row], head[row], threshold_of(row), usual)
        if found.word != FAILED and is_same(row, same_code):
            found = replace(found, word=SAME_CODE)
        elif found.word != FAILED and is_hash(row):
            found = replace(found, word=SAME_CODE if found.change == 0 else OTHER_CODE)
        verdicts[row] = found
    return verdicts
