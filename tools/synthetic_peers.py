"""Made-up results of other implementations, for tools/synthetic_results.py."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from asv_plugins import peer_versions

# By how much slower than ptgq.
FACTORS = {"ptgq": 1, "ptgq-triton": 1.2, "torch-compile": 2, "sglang": 0.9, "vllm": math.nan}
NAMES = {"implementation": tuple(FACTORS)}
VARIANT = {"variant": ("row_float32", "int8", "silu_and_mul")}
MASKED = {"counts": ("routed", "full"), "variant": ("masked", "masked_silu_and_mul")}
COMPARED = {"variant": (*VARIANT["variant"], *MASKED["variant"])}
SHAPES = {"state": ("call", "produced", "cold"), "tokens": (1, 1024), "hidden": (4096, 7168)}
ON_A_GPU = ("sglang", "ptgq-triton")
# What stands beside results.
KNOWN = {
    "torch-compile": {"version": "2.13.0", "measured": "2026-11-30"},
    "sglang": {"version": "0.5.23+kernels", "measured": "2026-11-29"},
    "vllm": {"missing": "not installed"},
}


def time(values: dict) -> float:
    """SGLang's is the fastest of 1024 tokens, and not exact; Triton's as fast of INT8; no vLLM."""
    if (values["implementation"], values["variant"]) == ("ptgq-triton", "int8"):
        return time({**values, "implementation": "ptgq"})
    launch = 9e-6 if values["state"] == "call" else 9e-7
    faster = 0.4 if (values["implementation"], values["tokens"]) == ("torch-compile", 1) else 1
    own = launch + 3 * values["tokens"] * values["hidden"] / 4e12
    return own * FACTORS[values["implementation"]] * faster


def masked_time(values: dict) -> float:
    """None of torch-compile and vLLM."""
    rows, alone = {"routed": 1024, "full": 8192}[values["counts"]], ("torch-compile", "vllm")
    if values["implementation"] in alone:
        return math.nan
    own = 9e-7 + 3 * rows * 7168 / 4e12
    return own * FACTORS[values["implementation"]]


def codes(values: dict) -> float:
    """Return how many differ."""
    return {"sglang": 365_000.0, "vllm": math.nan}.get(values["implementation"], 0.0)


BENCHMARKS = (
    ("peers.Peers.track_serving_shapes", "seconds", {**NAMES, **SHAPES, **VARIANT}, time, False),
    ("peers.Peers.track_masked_rows", "seconds", {**NAMES, **MASKED}, masked_time, False),
    ("peers.PeerExactness.track_differing_codes", "codes", {**NAMES, **COMPARED}, codes, True),
    ("peers.PeerExactness.track_differing_scales", "scales", {**NAMES, **COMPARED},
     lambda v: 0 * codes(v), True),
    ("peers.PeerExactness.track_relative_rms_error", "relative error", {**NAMES, **COMPARED},
     lambda v: 0.0257 + 0 * codes(v), True),
)  # fmt: skip


def needs_gpu(name: str, values: dict) -> bool:
    """Whether a machine without a GPU has no such number: it has calls of some."""
    kernel = values.get("state", "call") != "call" or values.get("implementation") in ON_A_GPU
    kernel = kernel or "counts" in values
    return name.startswith(peer_versions.FAMILY) and kernel


def write_known(path: Path, benchmarks: Iterable[str]) -> None:
    """Write beside a file of results of these benchmarks which versions were measured."""
    if any(name.startswith(peer_versions.FAMILY) for name in benchmarks):
        peer_versions.beside(path).write_text(json.dumps(KNOWN), encoding="utf-8")
