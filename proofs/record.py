"""The newest run of each kind, kept in a file: ``python -m proofs --record proofs/newest.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

# What tells kinds of runs apart: of these the newest is kept, and none of fewer parts.
KIND = ("device", "instruction_set", "backends", "formats", "one_case_of")


def entry(
    device: str,
    backends: Sequence[str],
    selection: Mapping[str, object],
    checked: int,
    differ: int,
) -> dict[str, object]:
    """Describe a run that has just ended: of what, where, when, and what it counted."""
    from benchmarks.measure import machine
    from ptgq.extension import built

    facts = machine.describe(device)
    on_cpu = device == "cpu" and "cpu" in backends
    return {
        "device": facts["gpu"] if device == "cuda" else machine.cpu()[0],
        "instruction_set": built()["instruction set"] if on_cpu else None,
        "backends": list(backends),
        **selection,
        "commit": machine.commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        **{name: facts[name] for name in ("driver", "torch", "triton") if name in facts},
        "checked": checked,
        "differ": differ,
    }


def read(path: Path) -> list[dict[str, object]]:
    """Return what is kept in a file, nothing where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def keep(path: Path, new: dict[str, object]) -> None:
    """Add a run to a file, in place of the one of its kind."""

    def kind(run: dict[str, object]) -> str:
        return json.dumps([run[key] for key in KIND])

    def is_replaced(run: dict[str, object]) -> bool:
        return kind(run) == kind(new) and set(run["parts"]) <= set(new["parts"])

    runs = [*(run for run in read(path) if not is_replaced(run)), new]
    runs.sort(key=lambda run: (kind(run), run["parts"]))
    text = json.dumps(runs, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
