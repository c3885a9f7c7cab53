"""What two measurements of one series say: better, worse, same, or nothing yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

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


def verdict(before: Measurement, after: Measurement, threshold: float) -> str:
    """
    Compare two measurements where less is better.

    Parameters
    ----------
    before, after : Measurement
        Of the same series.
    threshold : float
        The relative change that matters.

    Returns
    -------
    str
        ``worse`` or ``better``: the intervals lie apart, the medians by more than the threshold.
        ``same``: whatever the two true medians are in their intervals, they differ by no more than
        the threshold. ``undecided``: the noise allows neither.
    """
    if after.low > before.high and after.value > before.value * (1 + threshold):
        return "worse"
    if after.high < before.low and after.value < before.value * (1 - threshold):
        return "better"
    if after.high <= before.low * (1 + threshold) and after.low >= before.high * (1 - threshold):
        return "same"
    return "undecided"
