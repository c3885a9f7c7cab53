"""Whether two commits run the same kernels: then neither is faster, whatever was measured.

They do if the machine code has equal hashes (``benchmarks/suite/code_hash.py``), and if all that
decides which kernel is launched how is equal, too, but for comments: the sources, but the CPU's.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Collection, Mapping

SAME_CODE, OTHER_CODE = "same code", "other code"
# By backend, as asv writes parameters.
HASHES = {
    "'cuda'": "code_hash.CudaKernels.track_hash",
    "'triton'": "code_hash.TritonKernels.track_hash",
}
# What times one backend's kernel alone, and what compares the two's.
KERNELS = re.compile(
    r"kernel_time\.|copy_distance\.|timed\.Kernels\.|masked_rows\.|beside_gemm\.Kernels\.|"
    r"scale_formats\.(ScaleFormats|SiluAndMul)\."
)
RATIOS = re.compile(r"cuda_vs_triton\.(KernelRatio\.|CudaVsTriton\.track_kernel_ratio)")
SOURCES = ("csrc", "ptgq")
ELSEWHERE = re.compile(r"csrc/cpu|ptgq/measure/|ptgq/__main__\.py")


def backends_of(row: str) -> set[str]:
    """Return the backends whose kernels a row, ``name(parameters)``, times, and nothing else."""
    if RATIOS.match(row):
        return set(HASHES)
    return {backend for backend in HASHES if backend in row} if KERNELS.match(row) else set()


def is_same(row: str, backends: Collection[str]) -> bool:
    """Whether a row times kernels alone, all of backends whose code is the same."""
    timed = backends_of(row)
    return bool(timed) and timed <= set(backends)


def is_hash(row: str) -> bool:
    """Whether a row is a hash, which is no amount."""
    return row.partition("(")[0] in HASHES.values()


def equal_hashes(before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    """Whether the hashes that both commits have are equal, and there are some."""
    rows = before.keys() & after.keys()
    return bool(rows) and all(before[row] == after[row] for row in rows)


def equal_backends(base: Mapping[str, list], head: Mapping[str, list]) -> set[str]:
    """Return the backends with equal machine code, from the rounds of both commits' rows."""

    def hashes(side: Mapping[str, list], name: str) -> dict[str, list]:
        rows = (row for row in side if row.partition("(")[0] == name)
        return {row: side[row] for row in rows if side[row] and None not in side[row]}

    return {
        backend
        for backend, name in HASHES.items()
        if equal_hashes(hashes(base, name), hashes(head, name))
    }


def without_comments(text: str) -> str:
    """Return C++ without comments, indentation and empty lines."""
    parts = r'"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])'|//[^\n]*|/\*.*?\*/"
    kept = re.sub(parts, lambda m: " " if m[0][0] == "/" else m[0], text, flags=re.DOTALL)
    return "\n".join(filter(None, (" ".join(line.split()) for line in kept.splitlines())))


def without_docstrings(text: str) -> str:
    """Return Python as its syntax, without comments and docstrings."""
    tree = ast.parse(text)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


@functools.cache
def launching(commit: str, repository: str = ".") -> dict[str, str] | None:
    """Return a commit's sources that decide on launches, as they are compiled; None without any."""
    command = ["git", "-C", repository, "archive", commit, *SOURCES]
    run = subprocess.run(command, capture_output=True)
    if run.returncode:
        return None
    found = {}
    with tarfile.open(fileobj=io.BytesIO(run.stdout)) as archive:
        for member in archive.getmembers():
            if member.isfile() and not ELSEWHERE.match(member.name):
                text = archive.extractfile(member).read().decode()
                strip = without_docstrings if member.name.endswith(".py") else without_comments
                found[member.name] = strip(text)
    return found


def digest(commit: str, repository: str = ".") -> str | None:
    """Return a digest of a commit's sources that decide on launches; None without any."""
    sources = launching(commit, repository)
    if sources is None:
        return None
    return hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:16]


def equal_launches(base: str, head: str, repository: str = ".") -> bool:
    """Whether two commits launch kernels in the same way, as far as their sources say."""
    before = launching(base, repository)
    return before is not None and before == launching(head, repository)
