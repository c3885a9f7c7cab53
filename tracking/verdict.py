"""Whether a benchmark changed between two commits that were measured in alternating rounds.

A process has a speed of its own (memory layout, clocks), which its samples share: so many samples
of one process prove nothing. A round is a process, and counts as one sample: the median of its own.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from asv_plugins.same_code import OTHER_CODE, SAME_CODE, is_hash, is_same
from asv_plugins.verdict import Measurement, smallest_change, verdict
from tracking.noise import Noise, moderated, own_noise, residuals

FASTER, SLOWER, SAME, UNDECIDED, FAILED = "faster", "slower", "same", "undecided", "failed"
WORDS = {"better": FASTER, "worse": SLOWER, "same": SAME, "undecided": UNDECIDED}

# Standard errors, of a normal distribution. A change beyond these is called: one of 4,000 unchanged
# rows is slower, so one table of 30. A row is the same if this interval is within what is none: of
# rows that changed by so much, one of 20 is (two one-sided tests, Schuirmann 1987).
CALLED_BEYOND, SAME_WITHIN = 3.5, 1.645
# What rounds resolve is finer than the record's thresholds, whose results are of one process each.
# Within these a change is none; a quarter of it is called where the rounds show it.
WITHIN = {r"kernel_time\.": 0.02, r"call_latency\.Relative": 0.04}
CALLED = 0.25
# Rows of a class with these in common vary alike.
ALIKE = re.compile("'(?:cuda|triton|cpu|reference|produced|hot|cold)'")

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
        Means of the rounds; NaN where it failed.
    smallest : float
        The smallest relative change that would have been called, as the row's own noise is.
    """

    word: str
    base: float
    head: float
    smallest: float = 0.0

    @property
    def change(self) -> float:
        """Relative change from base to head."""
        if self.base == self.head:
            return 0.0
        return self.head / self.base - 1 if self.base else math.inf


def centres(rounds: Sequence[Round]) -> list[float]:
    """Return the median of each round."""
    return [median(r) if isinstance(r, Sequence) else r for r in rounds]


def student(z: float, freedom: float) -> float:
    """Return Student's quantile where the normal distribution's is `z`.

    By the expansion of Abramowitz and Stegun, 26.7.5.
    """
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def kind(row: str) -> tuple[str, ...]:
    """Return what rows that vary alike have in common: their class, backend and state."""
    return row.partition("(")[0].rpartition(".")[0], *ALIKE.findall(row)


def resolution(row: str, threshold: float) -> tuple[float, float]:
    """Return the least relative change of a row that is called, and up to which it is none."""
    within = [limit for pattern, limit in WITHIN.items() if re.match(pattern, row)]
    return (CALLED * within[0], within[0]) if within else (threshold, threshold)


def decide(
    base: Sequence[Round],
    head: Sequence[Round],
    least: float,
    within: float,
    noise: Noise | None = None,
) -> Verdict:
    """Decide on one row by the record's rule, on intervals of rounds instead of samples.

    Parameters
    ----------
    base, head : sequence
        Rounds of each commit.
    least, within : float
        Of :func:`resolution`.
    noise : Noise, optional
        Of a round; by default the row's own.
    """
    if any(value is None for value in (*base, *head)):
        return Verdict(FAILED, math.nan, math.nan)
    sides = centres(base), centres(head)
    noise = noise or own_noise(residuals(*sides), len(sides))
    error = math.sqrt(noise.variance * (1 / len(base) + 1 / len(head)))

    def measured(z: float) -> tuple[Measurement, Measurement]:
        # Half of the reach on either side.
        half = error * student(z, noise.freedom) / 2 if error else 0.0
        means = map(fmean, sides)
        return tuple(Measurement(m, m - half * abs(m), m + half * abs(m)) for m in means)

    before, after = measured(CALLED_BEYOND)
    word = WORDS[verdict(before, after, least, within=within)]
    if word == UNDECIDED and verdict(*measured(SAME_WITHIN), math.inf, within=within) == "same":
        word = SAME
    return Verdict(word, before.value, after.value, smallest_change(before, after, least))


def decide_table(
    base: Mapping[str, Sequence[Round]],
    head: Mapping[str, Sequence[Round]],
    threshold_of: Callable[[str], float],
    same_code: Collection[str] = (),
) -> dict[str, Verdict]:
    """Decide on each row that both commits have: ``name(parameters)`` with its rounds.

    `same_code` are the backends whose kernels are the same in both.
    """
    rows = sorted(base.keys() & head.keys())
    alike: dict[tuple, list[str]] = defaultdict(list)
    for row in rows:
        if None not in (*base[row], *head[row]):
            alike[kind(row)].append(row)
    noise: dict[str, Noise] = {}
    for members in alike.values():
        found = [residuals(centres(base[row]), centres(head[row])) for row in members]
        noise |= zip(members, moderated(found, 2), strict=True)
    verdicts = {}
    for row in rows:
        limits = resolution(row, threshold_of(row))
        found = decide(base[row], head[row], *limits, noise.get(row))
        if found.word != FAILED and is_same(row, same_code):
            found = replace(found, word=SAME_CODE)
        elif found.word != FAILED and is_hash(row):
            found = replace(found, word=SAME_CODE if found.change == 0 else OTHER_CODE)
        verdicts[row] = found
    return verdicts
