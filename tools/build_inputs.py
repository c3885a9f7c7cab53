"""What a build depends on: nox builds only when that has changed."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

# What a build reads besides sources and tools.
VARIABLES = ("PTGQ_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES")
VARIABLES += ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")
# RECORD holds the hash of every file that was installed.
INSTALLED = """
from importlib.metadata import distribution
print(distribution("torch").version, distribution("ptgq").read_text("RECORD"))
"""


def output(*command):
    """Return what a command prints, nothing where it is missing."""
    try:
        return subprocess.run(command, capture_output=True).stdout
    except FileNotFoundError:
        return b""


def build_inputs():
    """Return a hash of what a build depends on, but for the environment's packages."""
    patterns = ("*.py", "*.toml", "*.in", "README.md", "csrc/*/*", "ptgq/**/*.py*")
    paths = [path for pattern in patterns for path in sorted(Path().glob(pattern))]
    paths = [path for path in paths if path.suffix != ".pyc"]
    parts = [part for path in paths for part in (str(path).encode(), path.read_bytes())]
    parts += [os.environ.get(name, "").encode() for name in VARIABLES]
    nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    parts += [output(os.environ.get("CXX", "c++"), "--version"), output(nvcc, "--version")]
    parts += [output("nvidia-smi", "-L"), output("git", "describe", "--always", "--dirty")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
