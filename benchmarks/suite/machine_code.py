"""Reads machine code without a GPU: what a kernel needs, from the CUDA binary utilities."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# The compute capabilities that all code is compiled for by tests and tasks, on any machine.
CAPABILITIES = ("8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0")
# What one wheel for all of them holds. Code for x.y runs on each later x.z: 8.0 serves 8.6 and 8.7,
# 10.0 serves 10.3, 12.0 serves 12.1; 8.9 has the instruction for E4M3, which 8.0 has not. 11.0 and
# what comes after 12 compile the PTX when they load it.
WHEEL = ("8.0", "8.9", "9.0", "10.0+PTX", "12.0")

METRICS = ("registers", "spill_bytes", "stack_bytes", "shared_bytes", "instructions", "code")

# Bytes a thread stores with one STL (store to local memory, where registers are spilled to).
_STL_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


def cuobjdump() -> str | None:
    """Return the path of cuobjdump: the CUDA toolkit's, else the one that triton brings."""
    found = shutil.which("cuobjdump") or shutil.which("cuobjdump", path="/usr/local/cuda/bin")
    spec = find_spec("triton")
    if found is None and spec is not None and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0], "backends/nvidia/bin")
        found = shutil.which("cuobjdump", path=str(folder))
    return found


def _dump(option: str, path: Path) -> Iterator[tuple[int, str, str]]:
    """The lines of a dump, each with its architecture (0 in a bare cubin) and function."""
    command = [cuobjdump(), option, str(path)]
    dump = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "does not contain device code" in dump.stderr + dump.stdout:
        return  # an error to some releases of cuobjdump
    if dump.returncode:
        raise RuntimeError(f"{' '.join(command)}: {dump.stderr.strip()}")
    architecture, function = 0, ""
    for line in dump.stdout.splitlines():
        if match := re.match(r"arch = sm_(\d+)", line):
            architecture = int(match[1])
        elif match := re.match(r"\s*Function\s*:?\s*([^\s:]+)", line):
            function = match[1]
        elif function:
            yield architecture, function, line


def code_of(*parts: object) -> int:
    """Return a hash that asv can hold: it stores numbers as float64."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16)


def kernels(path: Path) -> dict[tuple[int, str], dict[str, int]]:
    """Return what :func:`disassembled` does; in asv's environment each file is read once."""
    environment = os.environ.get("ASV_ENV_DIR")
    if not environment:
        return disassembled(path)
    key = hashlib.sha256(path.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    kept = Path(environment, "machine-code", f"{key}.json")
    if not kept.is_file():
        rows = [[*key, metrics] for key, metrics in disassembled(path).items()]
        kept.parent.mkdir(exist_ok=True)
        # Whole or not at all: two processes may write it.
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(rows))
        partial.replace(kept)
    return {(number, name): metrics for number, name, metrics in json.loads(kept.read_text())}


def disassembled(path: Path) -> dict[tuple[int, str], dict[str, int]]:
    """Return the METRICS of each kernel in a library or cubin, by architecture and name.

    Spilled are the bytes of all stores to local memory in the code; instructions are without the
    padding after the kernel's end. The code is a hash of all of these and of the instructions: of
    nothing that a comment or a folder changes. A file without machine code has no kernels.
    """
    found: dict[tuple[int, str], dict[str, int]] = {}
    code: dict[tuple[int, str], list[str]] = {}
    for architecture, function, line in _dump("-res-usage", path):
        if match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", line):
            registers, stack, shared = map(int, match.groups())
            metrics = dict.fromkeys(METRICS, 0)
            metrics.update(registers=registers, stack_bytes=stack, shared_bytes=shared)
            found[architecture, function] = metrics
    for architecture, function, line in _dump("-sass", path) if found else ():
        # Behind the address, and on a line of its own: the instruction and its encoding.
        text = re.sub(r"^\s*/\*[0-9a-f]{4,}\*/", "", line)
        if re.search(r"/\* 0x[0-9a-f]+ \*/\s*$", text):
            code.setdefault((architecture, function), []).append(" ".join(text.split()))
        instruction = re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)", line)
        if instruction is None or instruction[1] == "NOP":
            continue
        metrics = found[architecture, function]
        metrics["instructions"] += 1
        name, *suffixes = instruction[1].split(".")
        if name == "STL":
            sizes = [_STL_BYTES[suffix] for suffix in suffixes if suffix in _STL_BYTES]
            metrics["spill_bytes"] += sizes[0] if sizes else 4
    for key, metrics in found.items():
        metrics["code"] = code_of(*metrics.values(), code.get(key))
    return found


_TYPES = {"13__nv_bfloat16": "bfloat16", "6__half": "float16", "f": "float32"}


def plain_name(mangled: str) -> str:
    """Return ``vector_kernel<bfloat16, 0, 16>`` for a kernel of ptgq, other names as they are."""
    match = re.match(r"_ZN4ptgq(\d+)(\w+)", mangled)
    if match is None:
        return mangled
    name, rest = match[2][: int(match[1])], match[2][int(match[1]) :]
    arguments = []
    if rest.startswith("I"):
        rest = rest[1:]
        # Numbers, those of enumerations among them, and types.
        number = r"L(?:[a-z]|NS_\d+[A-Za-z]+E)(\d+)E"
        while argument := re.match(rf"{number}|13__nv_bfloat16|6__half|f", rest):
            arguments.append(argument[1] or _TYPES[argument[0]])
            rest = rest[argument.end() :]
    return f"{name}<{', '.join(arguments)}>" if arguments else name


def family(mangled: str) -> str:
    """Return ``vector_kernel<bfloat16>``: a kernel's template and dtype of input, if it has one."""
    name, _, arguments = plain_name(mangled).partition("<")
    dtype = re.match(r"[a-z]\w*", arguments)
    return f"{name}<{dtype[0]}>" if dtype else name


def combine(kernels: list[dict[str, int]]) -> dict[str, int]:
    """Return one figure a metric for a family, and how many ``kernels`` it has.

    Registers, stack and shared memory are held by one kernel at a time: the largest; code and
    spills add up, so that a change in any kernel of the family shows.
    """
    values = {metric: [kernel[metric] for kernel in kernels] for metric in METRICS}
    found = {name: max(values[name]) for name in ("registers", "stack_bytes", "shared_bytes")}
    found |= {name: sum(values[name]) for name in ("spill_bytes", "instructions")}
    return {"kernels": len(kernels), **found, "code": code_of(sorted(values["code"]))}


def main(path: str) -> int:
    """Print the metrics of each kernel; 1 if one spills, or if there are none."""
    found = kernels(Path(path))
    print(*(f"{metric:>15}" for metric in METRICS), "  kernel")
    for (architecture, name), metrics in sorted(found.items()):
        print(*(f"{metrics[metric]:15}" for metric in METRICS), f"  sm_{architecture} {name}")
    spilling = sum(metrics["spill_bytes"] > 0 for metrics in found.values())
    print(f"{len(found)} kernels, {spilling} of them spill registers")
    return int(spilling > 0 or not found)


def given_library() -> str:
    """Return the file that the command line names; exit with one line and status 2 without."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        print(f"{Path(sys.argv[0]).stem}: error: one file is needed, _C.so", file=sys.stderr)
        raise SystemExit(2)
    return sys.argv[1]


if __name__ == "__main__":
    raise SystemExit(main(given_library()))
