"""The README's table of other implementations, from what is stored: see ``tracking/readme.py``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import date, datetime, timezone
from pathlib import Path

from asv.results import Results, iter_results_for_machine

from asv_plugins import peer_versions

TIME = "peers.Peers.track_serving_shapes"
CODES = "peers.PeerExactness.track_differing_codes"
SCALES = "peers.PeerExactness.track_differing_scales"
STATE, HIDDEN = "produced", 7168
# Tokens, and the name of benchmarks.measure.configurations.PEER_VARIANTS.
ROWS = {
    (1, "row_float32"): "FP8",
    (128, "row_float32"): "FP8",
    (1024, "row_float32"): "FP8",
    (8192, "row_float32"): "FP8",
    (1024, "int8"): "INT8",
    (1024, "silu_and_mul"): "fused SiLU, FP8",
}
HEAD = ("tokens × hidden", "ptgq", "best other", "its codes that differ", "`torch.compile`")
# Of what exactness was compared: 1024 x 7168.
COMPARED = 1024 * 7168
PLAIN = ("torch-eager", "torch-compile")
NOTHING = (
    "Other implementations are not measured on a GPU yet. `nox -s bench -- --against all` measures "
    "those\nthat are installed."
)


def newest(results_dir: str, machine: str, benchmarks: dict) -> Results | None:
    """Return the newest commit's results of a machine that have all rows, None if none have."""
    found = [
        results
        for results in iter_results_for_machine(results_dir, machine)
        if {TIME, CODES, SCALES} <= results.get_result_keys(benchmarks)
    ]
    # A run whose time was bounded has some.
    found = [results for results in found if has_rows(values(results, TIME))]
    return max(found, key=lambda results: results.date, default=None)


def values(results: Results, name: str) -> dict[tuple[str, ...], float]:
    """Return a benchmark's numbers by its parameters; without what is n/a or failed."""
    params = results.get_result_params(name)
    keys = itertools.product(*([text.strip("'") for text in one] for one in params))
    numbers = zip(keys, results.get_result_value(name, params), strict=True)
    return {key: number for key, number in numbers if number is not None and number == number}


def has_rows(times: dict) -> bool:
    """Whether there is a number of ptgq in each row."""
    return all(("ptgq", STATE, str(t), str(HIDDEN), variant) in times for t, variant in ROWS)


def microseconds(seconds: float) -> str:
    """Write three significant digits."""
    return f"{1e6 * seconds:#.3g}".rstrip(".")


def row(key: tuple[int, str], times: dict, codes: dict, scales: dict) -> list[str]:
    """Return the cells of one row: who is fastest but for ptgq and plain PyTorch."""
    tokens, variant = key
    found = {
        name: times[name, STATE, str(tokens), str(HIDDEN), variant]
        for name in {one[0] for one in times}
        if (name, STATE, str(tokens), str(HIDDEN), variant) in times
    }
    others = {n: t for n, t in found.items() if n not in (*peer_versions.OWN, *PLAIN)}
    cells = [f"{tokens:,} × {HIDDEN}, {ROWS[key]}", microseconds(found["ptgq"])]
    if others:
        best = min(others, key=others.__getitem__)
        differ = codes.get((best, variant)), scales.get((best, variant))
        said = "–" if None in differ else f"{100 * differ[0] / COMPARED:.2g} %"
        said += f", {differ[1]:.0f} scales" if differ[1] else ""
        cells += [f"{microseconds(others[best])} ({best})", said]
    else:
        cells += ["–", "–"]
    compiled = found.get("torch-compile")
    return [*cells, "–" if compiled is None else microseconds(compiled)]


def day(milliseconds: float) -> date:
    """Return the day of what asv stores."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).date()


def versions(known: dict[str, dict[str, str]]) -> str:
    """Name the versions that were measured."""
    measured = {name: one["version"] for name, one in known.items() if "version" in one}
    return ", ".join(f"{n} {v}" for n, v in sorted(measured.items()) if n not in PLAIN)


def lines(results: Results | None, results_dir: str) -> Iterable[str]:
    """Yield the text: of one state on one GPU, or that there is nothing."""
    if results is None:
        yield NOTHING
        return
    facts = results.params
    known = peer_versions.read(Path(results_dir, results._filename))
    yield "Kernel time in µs beside other implementations, behind a kernel that has just written x;"
    yield "groups of 128, row-major float32 scales; codes of 1024 × 7168 differ from exact ones."
    yield f"On one {facts['gpu']} on {day(results.started_at[TIME])}: commit"
    yield f"`{results.commit_hash[:10]}` of {day(results.date)}, torch {facts['torch']},"
    yield f"{versions(known)}."
    yield ""
    rule = ["---", *["---:"] * (len(HEAD) - 1)]
    numbers = [values(results, name) for name in (TIME, CODES, SCALES)]
    for cells in (HEAD, rule, *(row(key, *numbers) for key in ROWS)):
        yield "| " + " | ".join(cells) + " |"
