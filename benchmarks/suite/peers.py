"""Which implementation is fastest, and which is exact: ptgq beside others that are installed.

``nox -s track`` leaves it out: ask with ``--bench peers``. Beside its results stands which version
of each was measured, and when (``asv_plugins/peer_versions.py``).
"""

from __future__ import annotations

import itertools
import os
import sys
import time

import peers
from measure.configurations import (
    DEFAULT_SHAPES,
    MASKED,
    PEER_DEFAULT_VARIANTS,
    PEER_HIDDEN,
    PEER_MASKED,
    PEER_TOKENS,
    PEER_VARIANTS,
    peers_asked_for,
)

from . import common, masked_peers
from .masked_peers import IMPLEMENTATIONS, OWN, shown, told

CALL, MASKED_ROWS = "call", "masked_rows"
STATES = (CALL, *common.STATES)
DEFAULT_HIDDEN = dict(sorted(DEFAULT_SHAPES))
# Results are compared with the contract's at one shape: a row's bytes depend on no other.
EXACT = (1024, 7168)
REPEAT = 5


def workload_of(tokens: int, hidden: int, variant: str):
    """Return the workload of a row."""
    return common.measuring("workloads").Workload(tokens, hidden, **PEER_VARIANTS[variant])


def absent(name: str, workload, device: str) -> common.NotAvailable | common.Failed | None:
    """Return why an implementation has no number of a workload, None if it can have one."""
    if name not in OWN:
        why = peers.lacks(name, workload, device)
        return common.NotAvailable(f"{name}: {why}") if why else None
    if device not in OWN[name]:
        return common.no_device()
    return common.lacking(workload) or common.missing(OWN[name][device])


def _times(workload, device: str) -> dict:
    """Return the samples of each (implementation, state), alternating within a state."""
    why = {name: absent(name, workload, device) for name in IMPLEMENTATIONS}
    if all(why.values()):
        return {(name, state): why[name] for name in why for state in STATES}
    against, kernels = common.measuring("against"), common.measuring("kernels")
    clock, x = common.measuring("clocks").clock_for(device), workload.make_input(device)
    own = None if device == "cpu" else common.attempt(lambda: kernels.Kernels(workload))
    made = dict.fromkeys(OWN, own)

    def build(name, state):
        if state == CALL:
            if name in OWN:
                call = workload.bind(x, backend=OWN[name][device])
            else:
                call = peers.bind(name, workload, x)
            return common.call_timer(call, clock, against.warm(call))
        if name not in made:
            made[name] = against.PeerKernels(workload, name)
        return made[name].timer(OWN[name][device] if name in OWN else name, state)

    def prepare(name, state):
        if state != CALL:
            for reason in (why[name], common.no_device(), own):
                if isinstance(reason, (common.NotAvailable, common.Failed)):
                    return reason
        return common.prepared(why[name], lambda: build(name, state))

    found = {}
    for state in STATES:
        timers = {(name, state): prepare(name, state) for name in IMPLEMENTATIONS}
        found |= common.take_samples(timers, REPEAT)
    return {key: shown(key[0], value) for key, value in found.items()}


def _differences(variant: str, device: str) -> dict:
    """Return how many codes and scales of each implementation differ from the contract's."""
    workload, against = workload_of(*EXACT, variant), common.measuring("against")
    x, results = workload.make_input(device), {}
    for name in IMPLEMENTATIONS:

        def compare(name=name):
            if name in OWN:
                result = workload.call(x, backend=OWN[name][device])
                return against.exactness(workload, x, result)
            return against.checked(name, workload, x)

        found = shown(name, absent(name, workload, device) or common.attempt(compare))
        results |= told(name, variant, found)
    return results


def _rows() -> list[tuple]:
    """Return (family, tokens, hidden, variant), or (family, counts, variant) of masked rows.

    What was compiled for a form serves its tokens. Ahead is what a short time has to cover: the
    usual format in each shape, then masked rows.
    """
    serving = [
        ("serving_shapes", tokens, hidden, variant)
        for variant, hidden in itertools.product(PEER_VARIANTS, sorted(PEER_HIDDEN, reverse=True))
        for tokens in PEER_TOKENS
    ]
    usual = len(PEER_HIDDEN) * len(PEER_TOKENS)
    masked = [(MASKED_ROWS, *row) for row in itertools.product(MASKED, PEER_MASKED)]
    default = [
        ("default_shapes", tokens, hidden, variant)
        for variant, (tokens, hidden) in itertools.product(
            PEER_DEFAULT_VARIANTS, DEFAULT_HIDDEN.items()
        )
    ]
    return serving[:usual] + masked + default + serving[usual:]


def measure() -> dict:
    """Measure all of them in one process, so that each is beside the others.

    Where a GPU is lent for some minutes, PTGQ_PEERS_SECONDS bounds it, and PTGQ_PEERS_VARIANTS
    names what is measured, with commas: the rows that are left are n/a.
    """
    device, results = "cpu" if common.no_device() else "cuda", {}
    chosen, seconds = peers_asked_for(os.environ)
    end, unasked = time.monotonic() + seconds, common.NotAvailable("not in PTGQ_PEERS_VARIANTS")
    compared = dict.fromkeys(PEER_VARIANTS, _differences)
    compared |= dict.fromkeys(PEER_MASKED, masked_peers.differences)
    for variant, differences in compared.items():
        if variant in chosen:
            results |= differences(variant, device)
        else:
            for name in IMPLEMENTATIONS:
                results |= told(name, variant, unasked)
    for family, *row in _rows():
        why, masked = None, family == MASKED_ROWS
        if row[-1] not in chosen:
            why = unasked
        elif device == "cpu" and family == "serving_shapes":
            why = common.NotAvailable("on a CPU some of these take minutes")
        elif time.monotonic() > end:
            why = common.NotAvailable("the time was over: PTGQ_PEERS_SECONDS")
        keys = itertools.product(IMPLEMENTATIONS, *([] if masked else [STATES]))
        if why:
            times = dict.fromkeys(keys, why)
        elif masked:
            times = masked_peers.times(*row, device)
        else:
            times = _times(workload_of(*row), device)
        results |= {(family, *key, *row): value for key, value in times.items()}
    # asv shows it with --show-stderr; each row says n/a.
    reasons = {v.reason for v in results.values() if isinstance(v, common.NotAvailable)}
    print("\n".join(sorted(reasons)), file=sys.stderr)
    return results


measure.timeout = 1500


class Peers:
    """The time of a call, and of the kernels alone in each state of x: seconds."""

    version = "1"
    unit = "seconds"
    setup_cache = staticmethod(measure)

    def track_default_shapes(self, measured, name, state, tokens, variant):
        """The default shapes, in some formats."""
        row = name, state, tokens, DEFAULT_HIDDEN[tokens], variant
        return common.result_of(measured[("default_shapes", *row)])

    track_default_shapes.params = (
        IMPLEMENTATIONS, STATES, tuple(DEFAULT_HIDDEN), PEER_DEFAULT_VARIANTS
    )  # fmt: skip
    track_default_shapes.param_names = ("implementation", "state", "tokens", "variant")

    def track_serving_shapes(self, measured, *params):
        """Shapes of served models, in all formats that known consumers read."""
        return common.result_of(measured[("serving_shapes", *params)])

    track_serving_shapes.params = (
        IMPLEMENTATIONS, STATES, PEER_TOKENS, PEER_HIDDEN, tuple(PEER_VARIANTS)
    )  # fmt: skip
    track_serving_shapes.param_names = ("implementation", "state", "tokens", "hidden", "variant")

    def track_masked_rows(self, measured, *params):
        """32 × 256 × 7168, as DeepGEMM reads them on Hopper: the kernels, hot.

        Scales of other rows are zeros by ptgq and vLLM; SGLang leaves them.
        """
        return common.result_of(measured[(MASKED_ROWS, *params)])

    track_masked_rows.params = (IMPLEMENTATIONS, MASKED, tuple(PEER_MASKED))
    track_masked_rows.param_names = ("implementation", "counts", "variant")


class PeerExactness:
    """What of 1024 x 7168 differs from the numerics contract: other roundings are legitimate.

    Of masked rows, what of those that exist, as many as a router gives.
    """

    version = "1"
    params = (IMPLEMENTATIONS, (*PEER_VARIANTS, *PEER_MASKED))
    param_names = ("implementation", "variant")
    setup_cache = staticmethod(measure)

    def track_differing_codes(self, measured, *params):
        """Codes that differ; of 1024 x 7168, of 7,340,032."""
        return common.result_of(measured[("codes", *params)])

    track_differing_codes.unit = "codes"

    def track_differing_scales(self, measured, *params):
        """Scales that differ."""
        return common.result_of(measured[("scales", *params)])

    track_differing_scales.unit = "scales"

    def track_relative_rms_error(self, measured, *params):
        """RMS of what quantization changed, relative to the signal's: 0.026 is 31.7 dB."""
        return common.result_of(measured[("error", *params)])

    track_relative_rms_error.unit = "relative error"
