"""What the rows of ``limits`` judge of masked rows, as in ``limits_measure``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from limits_measure import Values, rounds
from measure.configurations import MASKED
from measure.masked import EXPERTS, HIDDEN, TOKENS, MaskedRows


def masked(available: Sequence[str]) -> Values:
    """Kernels of masked rows, relative to those of as many rows and a memset of other scales."""
    found: Values = {}
    for counts, silu in ((counts, silu) for counts in MASKED for silu in (False, True)):
        own, *parts = rounds(MaskedRows(counts, silu).timers("cuda"))
        whole = [sum(times) for times in zip(*parts, strict=True)]
        ratio = statistics.median(a / b for a, b in zip(own, whole, strict=True))
        name = f"{'SiLU, ' if silu else ''}{EXPERTS} × {TOKENS} × {HIDDEN}, {counts}"
        found.setdefault(f"masked_{counts}", {})[name] = ratio
    return found
