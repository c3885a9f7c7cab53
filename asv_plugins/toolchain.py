"""What a wheel is built with: two commits are comparable only if that is the same."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version

# What setup.py, torch's build, compilers and linkers read of the environment.
VARIABLES = (
    "PTGQ_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH",
    "CC", "CXX", "AR", "LDSHARED", "LDCXXSHARED",
    "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "ARCHFLAGS",
    "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH",
    "GCC_EXEC_PREFIX", "PYTORCH_NVCC", "NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS",
)  # fmt: skip

# In a process of its own, as setup.py asks: this one may fork, which CUDA does not survive.
CAPABILITIES = """
import torch
devices = range(torch.cuda.device_count())
print(*sorted({"%d.%d" % torch.cuda.get_device_capability(i) for i in devices}))
"""


def search_path(path: str) -> str:
    """Return the PATH of builds: `path`, and behind it the host's own tools (ninja)."""
    return os.pathsep.join([path, sysconfig.get_path("scripts")])


def _find(program: str, path: str | None = None) -> str | None:
    return shutil.which(program, path=path or search_path(os.environ.get("PATH", os.defpath)))


def _answer(program: str | None, *arguments: str) -> str | None:
    """Return the releases that a program prints, in one line; None if it can't run."""
    try:
        command = [*shlex.split(program or ""), *arguments]
        command[0] = _find(command[0]) or command[0]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    lines = [line for line in done.stdout.splitlines() if re.search(r"\d\.\d", line)]
    return "; ".join(lines) if done.returncode == 0 else None


def find_nvcc() -> str | None:
    """Return the nvcc that setup.py finds, None where it builds without CUDA."""
    if os.environ.get("PTGQ_CUDA") == "0":
        return None
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return _find("nvcc", home and f"{home}/bin") or _find("nvcc", "/usr/local/cuda/bin")


def capabilities() -> list[str]:
    """Return the compute capabilities of the visible GPUs, such as ``9.0``."""
    return (_answer(sys.executable, "-c", CAPABILITIES) or "").split()


def problem() -> str | None:
    """Return what keeps commits from being built as a whole, in one line, None if nothing does."""
    named = os.environ.get("CXX", "c++")
    if _answer(named, "--version") is None and (named != "c++" or not _find("g++")):
        return f"no C++ compiler: {named!r} does not run; install GCC or Clang, or set CXX"
    if os.environ.get("PTGQ_CUDA", "auto") not in ("auto", "0", "1"):
        return f"PTGQ_CUDA must be auto, 0 or 1, got {os.environ['PTGQ_CUDA']!r}"
    if os.environ.get("PTGQ_CUDA") == "1" and find_nvcc() is None:
        return "PTGQ_CUDA=1 needs nvcc, which is neither in CUDA_HOME nor on the PATH"
    return None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


@functools.cache
def description() -> dict[str, str | None]:
    """Return what wheels are built with here and now; what is not there is None."""
    nvcc = find_nvcc()
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST")
    visible = None if listed or nvcc is None else " ".join(capabilities())
    found = {
        "python": sysconfig.get_config_var("SOABI"),
        "torch": _version("torch"),
        "C++ compiler": _answer(os.environ.get("CXX", "c++"), "--version"),
        # nvcc's, whatever CXX is.
        "g++": _answer("g++", "--version"),
        "nvcc": nvcc and _answer(shlex.quote(nvcc), "--version"),
        "visible GPUs": visible,
    }
    return {**found, **{name: os.environ[name] for name in VARIABLES if name in os.environ}}


def difference(before: dict[str, str | None]) -> str:
    """Return in one line what of the toolchain is not as before, nothing if it is the same."""
    now = description()
    names = [name for name in {**now, **before} if now.get(name) != before.get(name)]
    return ", ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in names)
