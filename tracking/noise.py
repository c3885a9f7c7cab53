"""How much the rounds of one commit vary: a row's own variance, moderated by that of rows alike.

A few rounds may agree by chance, and Student's quantile allows for the worst of it. Rows alike know
better together: empirical Bayes, as Smyth has it for thousands of genes of a few samples each
("Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments", 2004, sections 3 and 6.2). Where variances differ by more than chance, a row's own
counts for more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from statistics import fmean, variance

# Of fewer rows, chance alone may make the variances equal.
LEAST_ROWS = 4


@dataclass(frozen=True)
class Noise:
    """The variance of a round, relative to the mean, and with how many degrees of freedom."""

    variance: float
    freedom: float


def residuals(*sides: Sequence[float]) -> list[float]:
    """Return how far each round is from the mean of its commit's, relative to that."""
    found = []
    for values in sides:
        mean = fmean(values)
        found += [(value - mean) / mean if mean else value and math.inf for value in values]
    return found


def own_noise(found: Sequence[float], commits: int) -> Noise:
    """Return a row's own, of its residuals of so many commits; 0 of a round each."""
    freedom = len(found) - commits
    return Noise(sum(one * one for one in found) / freedom if freedom else 0.0, freedom)


# The logarithm of an estimated variance, over the true one: its mean and its variance are digamma
# and trigamma functions of half the degrees of freedom (Abramowitz and Stegun, 6.3.18 and 6.4.12).
def _log_mean(freedom: float) -> float:
    return -1 / freedom - 1 / (3 * freedom**2)


def _log_variance(freedom: float) -> float:
    return 2 / freedom + 2 / freedom**2 + 4 / (3 * freedom**3)


def _freedom(log_variance: float) -> float:
    """Return the degrees of freedom, without the last term of their variance."""
    return (1 + math.sqrt(1 + 2 * log_variance)) / log_variance if log_variance > 0 else math.inf


def pooled_freedom(rows: Sequence[Sequence[float]], freedom: float) -> float:
    """Return with how many degrees of freedom the mean of the rows' variances is known.

    Rows of one process share its speed: where they all move together, no more than one's. The
    covariance of two variances goes with the square of their rows' correlation; the squares of all
    pairs of rows add up to those of all pairs of rounds, which are fewer.
    """
    scaled = []
    for row in rows:
        square = sum(x * x for x in row)
        scaled.append([x / square for x in row])
    rounds = list(zip(*scaled, strict=True))
    shared = sum(sum(map(mul, a, b)) ** 2 for a in zip(*rows, strict=True) for b in rounds)
    return freedom * len(rows) ** 2 / shared


def moderated(rows: Sequence[Sequence[float]], commits: int) -> list[Noise]:
    """Return the noise of each of the rows alike, of their residuals of so many commits."""
    own = [own_noise(row, commits) for row in rows]
    usable = [i for i, noise in enumerate(own) if 0 < noise.variance < math.inf]
    # Whatever has other rounds (a process failed) stands alone.
    usable = [i for i in usable if len(rows[i]) == len(rows[usable[0]])]
    if len(usable) < LEAST_ROWS:
        return own
    freedom = own[usable[0]].freedom
    logs = [math.log(own[i].variance) - _log_mean(freedom) for i in usable]
    prior = _freedom(variance(logs) - _log_variance(freedom))
    usual = math.exp(fmean(logs) + (_log_mean(prior) if prior < math.inf else 0))
    most = max(freedom, pooled_freedom([rows[i] for i in usable], freedom))
    weight = 1 / (1 + prior / freedom)
    # A row without any noise agrees by chance.
    for i, noise in enumerate(own):
        if noise.freedom == freedom and noise.variance < math.inf:
            mean = weight * noise.variance + (1 - weight) * usual
            own[i] = Noise(mean, min(prior + freedom, most))
    return own
