"""What a number was measured on: without it, a number is not stored or shown."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _output(*command: str) -> str:
    """The command's output, or nothing where it is not installed or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def installed(package: str) -> str:
    """Return the version of a package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def cpu(info: Path = Path("/proc/cpuinfo")) -> tuple[str, str]:
    """The processor's name, and its generation: virtual machines give several the same name."""
    try:
        first = info.read_text().partition("\n\n")[0].splitlines()
    except OSError:
        first = []
    pairs = (line.partition(":") for line in first)
    known = {key.strip(): value.strip() for key, _, value in pairs}
    name = known.get("model name") or platform.processor() or platform.machine()
    if "cpu family" not in known:
        return name, ""
    return name, f" (family {known['cpu family']} model {known['model']})"


def commit() -> str:
    """Return the commit that the installed library was built from, + if files differed from it."""
    from ptgq import extension

    return getattr(extension, "commit", "") or f"{installed('ptgq')}, built outside a checkout"


def describe(device: str) -> dict[str, str]:
    """Return the facts of this machine for numbers measured on ``cuda`` or ``cpu``."""
    import torch

    facts = {}
    name, generation = cpu()
    if device == "cuda":
        index = torch.cuda.current_device()
        query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        facts["gpu"] = torch.cuda.get_device_name(index)
        facts["driver"] = _output(*query, f"--id={index}") or "unknown"
        facts["cuda"] = torch.version.cuda or "none"
        # The GPU tells such machines apart; another name would split the series of those measured.
        generation = ""
    facts["cpu"] = f"{name}{generation}, {torch.get_num_threads()} threads"
    facts["torch"] = torch.__version__
    facts["triton"] = installed("triton")
    return facts
