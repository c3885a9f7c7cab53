"""What two measurements of one series say: better, worse, same, or nothing yet."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# What stands in place of a measurement.
NOT_APPLICABLE, FAILED = "n/a", "failed"
# asv's own, for what asv.conf.json does not name.
DEFAULT_THRESHOLD = 0.05


class Measurement(NamedTuple):
    """A median and its 99 % interval; what is counted has no spread: low = value = high."""

    value: float
    low: float
    high: float


def threshold_for(name: str, thresholds: Mapping[str, float]) -> float:
    """Return the series' relative threshold, by asv's rule: of those that match, the largest."""
    matching = (limit for pattern, limit in thresholds.items() if re.match(pattern, name))
    return max(matching, default=DEFAULT_THRESHOLD)


def drift_of(pairs: Iterable[tuple[object, object]]) -> float:
    """Return what nine of ten pairs of equal code, before and after, differ by; 0 of a few."""
    measured = [pair for pair in pairs if all(isinstance(one, Measurement) for one in pair)]
    changes = [abs(math.log(b.value / a.value)) for a, b in measured if a.value and b.value]
    return math.expm1(statistics.quantiles(changes, n=10)[-1]) if len(changes) >= 10 else 0.0


def verdict(
    before: Measurement,
    after: Measurement,
    threshold: float,
    drift: float = 0.0,
    within: float | None = None,
) -> str:
    """
    Compare two measurements where less is better.

    Parameters
    ----------
    before, after : Measurement
        Of the same series.
    threshold : float
        The least relative change that is called.
    drift : float
        What the machine itself changed by between the two.
    within : float, optional
        The relative change that is none; by default the threshold.

    Returns
    -------
    str
        ``worse`` or ``better``: the intervals lie apart, the medians by more than the threshold
        and the drift. ``same``: whatever the two true medians are in their intervals, they differ
        by no more than `within`. ``undecided``: the noise or the drift allows neither.
    """
    within = threshold if within is None else within
    if after.low > before.high and after.value > before.value * (1 + max(threshold, drift)):
        return "worse"
    least = min(1 - threshold, 1 / (1 + drift))
    if after.high < before.low and after.value < before.value * least:
        return "better"
    if after.high <= before.low * (1 + within) and after.low >= before.high * (1 - within):
        return "same"
    return "undecided"


def smallest_change(
    before: Measurement, after: Measurement, threshold: float, drift: float = 0.0
) -> float:
    """Return the smallest relative slow-down that would have been called, by intervals as wide."""
    if before.value == 0:
        return 0.0
    apart = (before.high - before.value + after.value - after.low) / abs(before.value)
    return max(apart, threshold, drift)
