"""What asv records about this machine: its own facts, and the GPU, driver and versions."""

from __future__ import annotations

import ctypes
import json
import re
import runpy
from importlib.util import find_spec
from pathlib import Path

from asv.machine import Machine, MachineCollection

KEYS = ("gpu", "driver", "cuda", "torch", "triton")


def has_driver() -> bool:
    """Whether torch can find a GPU of NVIDIA's: not without this library."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def described() -> dict[str, str]:
    """Return what numbers are stored with; import torch only where it may find a GPU."""
    from benchmarks.measure import machine

    spec = find_spec("torch")
    if spec and spec.origin and not has_driver():
        build = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
        if build.get("hip") is None:
            cpu = "".join(machine.cpu())
            return {
                "cpu": cpu,
                "torch": build["__version__"],
                "triton": machine.installed("triton"),
            }
    import torch

    found = machine.describe("cuda" if torch.cuda.is_available() else "cpu")
    # Without the number of threads.
    return {**found, "cpu": found["cpu"].rpartition(",")[0]}


def facts() -> dict[str, str]:
    """Return the facts of this machine, ``none`` where it lacks a thing."""
    found = described()
    defaults = Machine.get_defaults()
    # The kernel's release, without what its builder appended.
    defaults["os"] = re.sub(r"(\d+\.\d+)\S*", r"\1", defaults["os"])
    defaults["cpu"] = found["cpu"] or defaults["cpu"]
    return {**defaults, **{key: found.get(key, "none") for key in KEYS}}


def default_name(facts: dict[str, str]) -> str:
    """Return a name that tells machines apart by what they measure with, such as nvidia-h200."""
    chip = facts["cpu"] if facts["gpu"] == "none" else facts["gpu"]
    return re.sub(r"[^a-z0-9]+", "-", chip.lower()).strip("-")[:64] or "unknown"


def stored(name: str) -> dict[str, str]:
    """Return what ``machine.json`` of a machine's results says, nothing if there is none."""
    path = Path("results", name, "machine.json")
    return json.loads(path.read_text()) if path.is_file() else {}


def same_memory(ram: str, before: str) -> str:
    """Return the memory that was stored before if it is the same but for a thousandth.

    What the kernel keeps for itself differs from boot to boot, and would split the series.
    """
    known = ram.isdecimal() and before.isdecimal()
    return before if known and abs(int(ram) - int(before)) * 1000 < int(before) else ram


def identify(name: str | None) -> dict[str, str]:
    """Return the facts of this machine, of which the name is one."""
    found = facts()
    found["machine"] = name or default_name(found)
    found["ram"] = same_memory(found["ram"], stored(found["machine"]).get("ram", ""))
    return found


def register(found: dict[str, str]) -> None:
    """Write this machine into asv's file of machines, in the home folder."""
    MachineCollection.save(found["machine"], found)


def problems(found: dict[str, str]) -> list[str]:
    """Return what the results of the machine's name were measured on, if not on this machine."""
    return differences(found, stored(found["machine"]))


def differences(found: dict[str, str], before: dict[str, str]) -> list[str]:
    """Return what tells a machine from the one whose results have its name."""
    # A GPU's machine is named after that alone: asv tells its processors' series apart.
    keys = ("gpu", "cpu") if found["gpu"] == "none" else ("gpu",)
    return [
        f"machine {found['machine']} has results of {before[key]}, this is {found[key]}: "
        "another name is needed (--machine)"
        for key in keys
        if before.get(key, found[key]) != found[key]
    ]
