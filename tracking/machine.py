"""What asv records about this machine: its own facts, and the GPU, driver and versions."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from asv.machine import Machine, MachineCollection

KEYS = ("gpu", "driver", "cuda", "torch", "triton")


def facts() -> dict[str, str]:
    """Return the facts of this machine, ``none`` where it lacks a thing."""
    import torch

    # By its path: through its package, the working tree's library would have to load first.
    path = Path("ptgq/measure/machine.py")
    spec = importlib.util.spec_from_file_location("machine_facts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    described = module.describe("cuda" if torch.cuda.is_available() else "cpu")
    defaults = Machine.get_defaults()
    # The kernel's release, without what its builder appended.
    defaults["os"] = re.sub(r"(\d+\.\d+)\S*", r"\1", defaults["os"])
    defaults["cpu"] = described["cpu"].partition(",")[0] or defaults["cpu"]
    return {**defaults, **{key: described.get(key, "none") for key in KEYS}}


def default_name(facts: dict[str, str]) -> str:
    """Return a name that tells machines apart by what they measure with, such as nvidia-h200."""
    chip = facts["cpu"] if facts["gpu"] == "none" else facts["gpu"]
    return re.sub(r"[^a-z0-9]+", "-", chip.lower()).strip("-")


def same_memory(ram: str, stored: Path) -> str:
    """Return the memory in a stored ``machine.json`` if it is the same but for a thousandth.

    What the kernel keeps for itself differs from boot to boot, and would split the series.
    """
    before = json.loads(stored.read_text()).get("ram", "") if stored.is_file() else ""
    known = ram.isdecimal() and before.isdecimal()
    return before if known and abs(int(ram) - int(before)) * 1000 < int(before) else ram


def register(name: str | None) -> tuple[str, dict[str, str]]:
    """Write this machine into asv's file of machines, and return its name and facts."""
    found = facts()
    found["machine"] = name or default_name(found)
    stored = Path("results", found["machine"], "machine.json")
    found["ram"] = same_memory(found["ram"], stored)
    MachineCollection.save(found["machine"], found)
    return found["machine"], found
