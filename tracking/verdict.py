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

FASTER, SLOWER, SAME, UNDECIDED, FAILED = "faster", "slower", "same", "undecided", "failed"
WORDS = {"better": FASTER, "worse": SLOWER, "same": SAME, "undecided": UNDECIDED}

# One side of the normal distribution beyond this: of 2,000 unchanged rows one is called slower.
NORMAL = 3.29
# What rounds resolve is finer than the record's thresholds, whose results are of one process each.
# Within these a change is none; a quarter of it is called where the rounds show it.
WITHIN = {r"kernel_time\.": 0.02, r"call_latency\.Relative": 0.04}
CALLED = 0.25
# Rows of a benchmark with these in common have the same usual noise.
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


def deviation(*sides: Sequence[Round]) -> float:
    """Return the standard deviation between rounds of one commit, relative to their mean, pooled.

    It is 0 where there are too few rounds to tell.
    """
    squares, freedom = 0.0, 0
    for values in map(centres, sides):
        mean = fmean(values)
        differences = [value - mean for value in values]
        if any(differences):
            squares += sum(one * one for one in differences) / mean**2 if mean else math.inf
        freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def reach(freedom: int) -> float:
    """Return how many standard errors a change exceeds that is called.

    Student's quantile, by the expansion of Abramowitz and Stegun, 26.7.5.
    """
    z = NORMAL
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def resolution(row: str, threshold: float) -> tuple[float, float]:
    """Return the least relative change of a row that is called, and up to which it is none."""
    within = [limit for pattern, limit in WITHIN.items() if re.match(pattern, row)]
    return (CALLED * within[0], within[0]) if within else (threshold, threshold)


def decide(
    base: Sequence[Round],
    head: Sequence[Round],
    least: float,
    within: float,
    usual: float = 0.0,
) -> Verdict:
    """Decide on one row by the record's rule, on intervals of rounds instead of samples.

    Parameters
    ----------
    base, head : sequence
        Rounds of each commit.
    least, within : float
        Of :func:`resolution`.
    usual : float
        The deviation of rows alike: a few rounds may agree by chance.
    """
    if any(value is None for value in (*base, *head)):
        return Verdict(FAILED, math.nan, math.nan)
    noise = max(deviation(base, head), usual)
    if noise:
        noise *= reach(len(base) + len(head) - 2) * math.sqrt(1 / len(base) + 1 / len(head))

    def measured(rounds: Sequence[Round]) -> Measurement:
        value = fmean(centres(rounds))
        # Half of the reach on either side.
        half = noise / 2 * abs(value)
        return Measurement(value, value - half, value + half)

    before, after = measured(base), measured(head)
    word = WORDS[verdict(before, after, least, within=within)]
    return Verdict(word, before.value, after.value, smallest_change(before, after, least))


def decide_table(
    base: Mapping[str, Sequence[Round]],
    head: Mapping[str, Sequence[Round]],
    threshold_of: Callable[[str], float],
    same_code: Collection[str] = (),
) -> dict[str, Verdict]:
    """Decide on each row that both commits have: ``name(parameters)`` with its rounds.

    The usual deviation of a row is the median of those alike. `same_code` are the backends whose
    kernels are the same in both.
    """
    rows = sorted(base.keys() & head.keys())
    alike: dict[tuple, list[float]] = defaultdict(list)

    def kind(row: str) -> tuple:
        return row.partition("(")[0], *ALIKE.findall(row)

    for row in rows:
        if None not in (*base[row], *head[row]):
            alike[kind(row)].append(deviation(base[row], head[row]))
    verdicts = {}
    for row in rows:
        usual = median(alike.get(kind(row), [0.0]))
        found = decide(base[row], head[row], *resolution(row, threshold_of(row)), usual)
        if found.word != FAILED and is_same(row, same_code):
            found = replace(found, word=SAME_CODE)
        elif found.word != FAILED and is_hash(row):
            found = replace(found, word=SAME_CODE if found.change == 0 else OTHER_CODE)
        verdicts[row] = found
    return verdicts
