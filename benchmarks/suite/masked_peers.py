"""Masked rows of the family ``peers``, and what it has in common with them."""

from __future__ import annotations

import peers
from measure.configurations import PEER_MASKED

from . import common

# By their backend on a device.
OWN = {"ptgq": {"cuda": "cuda", "cpu": "cpu"}, "ptgq-triton": {"cuda": "triton"}}
IMPLEMENTATIONS = (*OWN, *peers.NAMES)
# At which counts results are compared with the contract's.
EXACT_COUNTS = "routed"
REPEAT = 5


def shown(name: str, value: object) -> object:
    """Return a value; what failed of another implementation is n/a: no failure of this project."""
    if name in OWN or not isinstance(value, common.Failed):
        return value
    return common.NotAvailable(f"{name}: {value.error}")


def told(name: str, variant: str, found: object) -> dict:
    """Return how much differs, by what of it a benchmark reads, or why that is not known."""
    exact = hasattr(found, "snr")
    return {
        ("codes", name, variant): found.codes if exact else found,
        ("scales", name, variant): found.scales if exact else found,
        # As it is lower where it is better, unlike the SNR.
        ("error", name, variant): 10 ** (-found.snr / 20) if exact else found,
    }


def absent(name: str, variant: str, device: str) -> common.NotAvailable | common.Failed | None:
    """Return why an implementation has no number of masked rows, None if it can have one."""
    if name not in OWN:
        why = peers.lacks_masked(name, PEER_MASKED[variant], device)
        return common.NotAvailable(f"{name}: {why}") if why else None
    return common.no_device() or common.missing(OWN[name][device])


def _rows(counts: str, variant: str, device: str):
    return common.measuring("masked").MaskedRows(counts, PEER_MASKED[variant], device)


def times(counts: str, variant: str, device: str) -> dict:
    """Return the samples of each (implementation,), one call after the other, alternating."""
    why = {name: absent(name, variant, device) for name in IMPLEMENTATIONS}
    if all(why.values()):
        return {(name,): reason for name, reason in why.items()}
    rows = common.attempt(lambda: _rows(counts, variant, device))
    if isinstance(rows, (common.NotAvailable, common.Failed)):
        return {(name,): shown(name, why[name] or rows) for name in why}

    def build(name):
        return rows.timer(rows.masked(OWN[name][device]) if name in OWN else rows.peer(name))

    timers = {name: common.prepared(why[name], lambda n=name: build(n)) for name in why}
    found = common.take_samples(timers, REPEAT)
    return {(name,): shown(name, value) for name, value in found.items()}


def differences(variant: str, device: str) -> dict:
    """Return what of the rows that exist differs from the contract's."""
    results, made = {}, []
    for name in IMPLEMENTATIONS:

        def compare(name=name):
            if not made:
                made.append(_rows(EXACT_COUNTS, variant, device))
            own = OWN.get(name)
            returned = made[0].own(own[device]) if own else made[0].of_peer(name)
            return common.measuring("against").exactness(*made[0].existing(returned))

        why = absent(name, variant, device)
        results |= told(name, variant, shown(name, why or common.attempt(compare)))
    return results
