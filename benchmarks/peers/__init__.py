"""Other implementations of the op: each through its own public function, as it is installed.

Nothing of them is vendored. A file of this folder is one, with its name's dashes as underscores:

- ``IMPORTS``, the module that a call needs;
- ``CAN``, what it serves, and ``OUT``, whether into tensors that are given;
- ``bind(workload, x, out)``, which returns a call of it;
- ``results(workload, returned)``, if a call returns more, or in other shapes: views of q and s;
- ``bind_masked(silu, x, masked_m, out)``, if it has masked rows: a call of these.

To add one: a file, and a line in PACKAGES.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from measure.workloads import Workload

    Result = tuple[torch.Tensor, ...]

# The package of each: its version is told.
PACKAGES = {
    "torch-eager": "torch",
    "torch-compile": "torch",
    "vllm": "vllm",
    "sglang": "sglang",
    "flashinfer": "flashinfer",
    "torchao": "torchao",
    "transformer-engine": "transformer_engine",
    "deep-gemm": "deep_gemm",
}
NAMES = tuple(PACKAGES)
# What masked rows are measured in: as DeepGEMM reads them on Hopper, each batch by itself.
MASKED_SCALES = "tma_float32"


@dataclass(frozen=True)
class Can:
    """What an implementation serves.

    Attributes
    ----------
    scales : tuple of str
        Formats of FP8's scales, of :data:`ptgq.scales.known.FORMATS`.
    int8 : bool
        Whether INT8, too.
    int8_scales : tuple of str
        Formats of its scales.
    silu_int8 : bool
        Whether the fused SiLU of INT8.
    silu : tuple of str
        Formats in which the fused SiLU writes.
    group_sizes : tuple of int
        Empty: any.
    one_size : mapping
        The one group size of some formats.
    inputs : tuple of str
        Dtypes of x.
    devices : tuple of str
        Where it runs.
    capability : tuple of int
        The least compute capability of a GPU.
    waiting : tuple of str
        Formats of which a call waits for the device: no CUDA graph can hold it.
    masked : mapping
        The format of masked rows' scales, by whether SiLU is fused.
    """

    scales: tuple[str, ...]
    int8: bool = False
    int8_scales: tuple[str, ...] = ("row_float32",)
    silu_int8: bool = False
    silu: tuple[str, ...] = ()
    group_sizes: tuple[int, ...] = ()
    one_size: Mapping[str, int] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("bfloat16", "float16", "float32")
    devices: tuple[str, ...] = ("cuda",)
    capability: tuple[int, int] = (0, 0)
    waiting: tuple[str, ...] = ()
    masked: Mapping[bool, str] = field(default_factory=dict)

    def lacks(self, workload: Workload) -> str | None:
        """Return why a workload can't be had, None if it can."""
        if workload.swiglu_limit is not None:
            return "has no swiglu_limit"
        if workload.nonfinite != "mark":
            return f"has no nonfinite={workload.nonfinite}"
        if workload.dtype == "int8" and not self.int8:
            return "has no INT8"
        if workload.dtype == "int8" and workload.silu_and_mul and not self.silu_int8:
            return "has no fused SiLU of INT8"
        if workload.dtype == "int8" and workload.scales not in self.int8_scales:
            return f"has no INT8 with scales {workload.scales}"
        if workload.dtype == "fp8" and workload.silu_and_mul and workload.scales not in self.silu:
            return "has no fused SiLU" + (f" with scales {workload.scales}" if self.silu else "")
        plain = workload.dtype == "fp8" and not workload.silu_and_mul
        if plain and workload.scales not in self.scales:
            return f"has no scales {workload.scales}"
        sizes = self.group_sizes
        if workload.dtype == "fp8" and workload.scales in self.one_size:
            sizes = (self.one_size[workload.scales],)
        if sizes and workload.group_size not in sizes:
            return f"takes groups of {_listed(sizes)}, not {workload.group_size}"
        input_dtype = str(workload.input_dtype).removeprefix("torch.")
        if input_dtype not in self.inputs:
            return f"takes {_listed(self.inputs)}, not {input_dtype}"
        return None

    def lacks_masked(self, silu: bool) -> str | None:
        """Return why masked rows can't be had, None if they can."""
        if not self.masked:
            return "has no masked rows"
        if silu not in self.masked:
            return f"has no masked rows {'with' if silu else 'without'} the fused SiLU"
        if self.masked[silu] != MASKED_SCALES:
            return f"has masked rows with scales {self.masked[silu]} alone"
        return None


def _listed(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values))


def module(name: str) -> Any:
    """Return the file of an implementation."""
    return importlib.import_module(f"peers.{name.replace('-', '_')}")


@functools.cache
def version_of(name: str) -> str:
    """Return the version that is installed, of whichever distribution; nothing if none is."""
    found = packages_distributions().get(PACKAGES[name], ())
    return version(found[0]) if found else ""


@functools.cache
def missing(name: str) -> str | None:
    """Return why an implementation is not there, None if it is."""
    imported, package = module(name).IMPORTS, PACKAGES[name]
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    try:
        importlib.import_module(imported)
    # Packages raise anything where they don't find their GPU, driver or library.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{package} can't be imported: {reason_of(error)}"
    return None


def reason_of(error: BaseException) -> str:
    """Return an exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([type(error).__name__, *(f"({line})" for line in lines[:1])])


def lacks(name: str, workload: Workload, device: str) -> str | None:
    """Return why an implementation can't serve a workload on a device, None if it can."""
    can: Can = module(name).CAN
    return _absent(name, device) or can.lacks(workload)


def lacks_masked(name: str, silu: bool, device: str) -> str | None:
    """Return why an implementation can't serve masked rows on a device, None if it can."""
    can: Can = module(name).CAN
    return _absent(name, device) or can.lacks_masked(silu)


def _absent(name: str, device: str) -> str | None:
    can: Can = module(name).CAN
    if absent := missing(name):
        return absent
    if device not in can.devices:
        return f"does not run on {device}"
    if device == "cuda" and can.capability > (0, 0):
        import torch

        if (found := torch.cuda.get_device_capability()) < can.capability:
            needed = ".".join(map(str, can.capability))
            return f"needs compute capability {needed}, not {'.'.join(map(str, found))}"
    return None


def bind(name: str, workload: Workload, x: torch.Tensor) -> Callable[[], object]:
    """Return a call, as its users make it: what it returns is new each time."""
    call: Callable[[], object] = module(name).bind(workload, x, None)
    return call


def bind_into(name: str, workload: Workload, x: torch.Tensor, out: Result) -> Callable[[], object]:
    """Return a call that writes into `out`, or keeps what it returns until the next one.

    So one that has no argument for them writes as many different bytes, in a CUDA graph too, as one
    that has.
    """
    if module(name).OUT:
        call: Callable[[], object] = module(name).bind(workload, x, out)
        return call
    return _keeping(bind(name, workload, x))


def bind_masked(
    name: str, silu: bool, x: torch.Tensor, masked_m: torch.Tensor, out: Result
) -> Callable[[], object]:
    """Return a call of masked rows, that writes into `out`, or returns what is new each time."""
    given = out if module(name).OUT else None
    call: Callable[[], object] = module(name).bind_masked(silu, x, masked_m, given)
    return call


def bind_masked_into(
    name: str, silu: bool, x: torch.Tensor, masked_m: torch.Tensor, out: Result
) -> Callable[[], object]:
    """Return a call of masked rows that writes into `out`, or keeps what it returns."""
    call = bind_masked(name, silu, x, masked_m, out)
    return call if module(name).OUT else _keeping(call)


def _keeping(call: Callable[[], object]) -> Callable[[], object]:
    kept: list[object] = [None]

    def keeping() -> None:
        # First let go, so that the same memory serves again.
        kept[0] = None
        kept[0] = call()

    return keeping


def results(name: str, workload: Workload, returned: Any) -> Result:
    """Return views of q and s in what a call returned, as the reference lays them out."""
    peer = module(name)
    found: Result = peer.results(workload, returned) if hasattr(peer, "results") else returned
    expected = workload.make_output("meta")
    for given, wanted, what in zip(found, expected, "qs", strict=True):
        if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"{what} is {given.dtype} {tuple(given.shape)}, not {wanted.dtype} "
                f"{tuple(wanted.shape)}"
            )
    return found
