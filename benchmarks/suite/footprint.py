"""What the code takes, and what it takes to start: all of it is known without a GPU."""

from __future__ import annotations

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from . import common, machine_code, triton_offline

TRITON_ARCHITECTURES = (90, 100)
# The kernels' families, and all together. asv wants to know them before it builds anything, so they
# are in a file: python -m benchmarks.suite.footprint LIBRARY writes it.
FAMILIES = Path(__file__).with_name("kernel_families.txt")
ALL = "all"

STARTUP = """
import time, torch
if torch.cuda.is_available():
    torch.cuda.synchronize()
start = time.perf_counter()
import ptgq
imported = time.perf_counter()
x = torch.ones(16, 128, dtype=torch.bfloat16, device="cuda" if torch.cuda.is_available() else "cpu")
allocated = time.perf_counter()
ptgq.per_token_group_quant_fp8(x, 128)[0].view(torch.uint8).sum().item()
print(imported - start, time.perf_counter() - allocated)
"""
STARTUP_REPEAT = 3


def _library() -> Path | None:
    import ptgq

    return next(Path(ptgq.__file__).parent.glob("_C*.so"), None)


def families(library: Path) -> dict[str, dict[str, int]]:
    """Read the machine code of a library: metrics by family, of all architectures together."""
    members: dict[str, list] = {}
    for (_, mangled), metrics in machine_code.kernels(library).items():
        for family in (machine_code.family(mangled), ALL):
            members.setdefault(family, []).append(metrics)
    return {family: machine_code.combine(members[family]) for family in sorted(members)}


def library_kernels() -> dict:
    """Return the metrics of each family of the built library."""
    library = _library()
    if library is None:
        found = common.Failed("no library is built")
    elif machine_code.cuobjdump() is None:
        found = common.NotAvailable("cuobjdump is neither in the toolkit nor in triton")
    else:
        found = common.attempt(lambda: families(library))
    if isinstance(found, dict):
        absent = common.NotAvailable("not in the library")
        if not found:
            absent = common.missing("cuda") or absent
    else:
        found, absent = {}, found
    return {(family,): found.get(family, absent) for family in FAMILIES.read_text().split()}


def triton_kernels() -> dict:
    """Compile the Triton kernels for each architecture."""
    absent = None
    if find_spec("triton") is None or machine_code.cuobjdump() is None:
        absent = common.NotAvailable("needs triton and cuobjdump")
    elif find_spec("ptgq.backends.triton") is None:
        absent = common.NotAvailable("this commit has no Triton backend")
    keys = [*itertools.product(TRITON_ARCHITECTURES, common.FORMATS, common.GROUP_SIZES)]
    found = [
        absent or common.attempt(lambda key=key: triton_offline.compiled(*key)) for key in keys
    ]

    def metrics(result):
        stopped = isinstance(result, (common.NotAvailable, common.Failed))
        return result if stopped else common.attempt(lambda: triton_offline.metrics_of(result))

    # cuobjdump takes a quarter of a second each.
    with ThreadPoolExecutor() as pool:
        return dict(zip(keys, pool.map(metrics, found), strict=True))


def startup() -> dict:
    """Start fresh processes: seconds of the import, torch's excluded, and of the first call."""

    def start(_):
        command = [sys.executable, "-c", STARTUP]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return tuple(map(float, process.stdout.split()))

    def starts():
        start(None)  # reads the files, compiles the bytecode and fills Triton's cache
        return list(zip(*map(start, range(STARTUP_REPEAT)), strict=True))

    rows = common.attempt(starts)
    if isinstance(rows, common.Failed):
        rows = [rows, rows]
    return {
        name: list(row) if isinstance(row, tuple) else row
        for name, row in zip(("import", "first_call"), rows, strict=True)
    }


library_kernels.timeout = triton_kernels.timeout = startup.timeout = 300


class _Footprint:
    """Metrics of kernels in a cache: the most of what one holds, the sum of their code."""

    version = "1"

    def _track(self, metric, results, key):
        value = results[key]
        return common.result_of(value[metric] if isinstance(value, dict) else value)

    def track_registers(self, results, *key):
        """Registers a thread."""
        return self._track("registers", results, key)

    def track_spill_bytes(self, results, *key):
        """Bytes that spills store."""
        return self._track("spill_bytes", results, key)

    def track_stack_bytes(self, results, *key):
        """The stack frame."""
        return self._track("stack_bytes", results, key)

    def track_shared_bytes(self, results, *key):
        """Shared memory a block."""
        return self._track("shared_bytes", results, key)

    def track_instructions(self, results, *key):
        """Machine instructions."""
        return self._track("instructions", results, key)

    track_registers.unit = "registers"
    track_instructions.unit = "instructions"
    track_spill_bytes.unit = track_stack_bytes.unit = track_shared_bytes.unit = "bytes"


class Kernels(_Footprint):
    """The CUDA kernels of the built library, by family: their template and dtype of input."""

    version = "3"
    params = (tuple(FAMILIES.read_text().split()),)
    param_names = ("family",)
    setup_cache = staticmethod(library_kernels)

    def track_kernels(self, results, *key):
        """How many there are."""
        return self._track("kernels", results, key)

    track_kernels.unit = "kernels"


class TritonKernels(_Footprint):
    """The Triton kernels, compiled for an architecture without a device of it."""

    params = (TRITON_ARCHITECTURES, tuple(common.FORMATS), common.GROUP_SIZES)
    param_names = ("architecture", "format", "group")
    setup_cache = staticmethod(triton_kernels)


class Library:
    """The compiled library as installed."""

    version = "1"
    unit = "bytes"

    def track_bytes(self):
        """Its size."""
        library = _library()
        absent = common.Failed("no library is built")
        return common.result_of(library.stat().st_size if library else absent)


class Startup:
    """What a process waits for before its first result."""

    version = "1"
    unit = "seconds"
    setup_cache = staticmethod(startup)

    def track_import(self, results):
        """``import ptgq``, torch imported before."""
        return common.result_of(results["import"])

    def track_first_call(self, results):
        """The first FP8 call on the default backend, its result read back."""
        return common.result_of(results["first_call"])


if __name__ == "__main__":
    FAMILIES.write_text("\n".join(families(Path(machine_code.given_library()))) + "\n")
