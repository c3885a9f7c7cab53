"""Compiles the Triton backend's kernel for an architecture that is not here, without a GPU.

The backend itself is called, so nothing here knows the kernel's signature, which changes over the
history: only its launch is replaced by a compilation, and Triton's view of the device by a target.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import itertools
import os
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from measure.configurations import INPUT_DTYPES

from . import common, machine_code

# E4M3 with each prologue, INT8, both kinds of scales: each with each input dtype.
KERNELS = tuple(
    itertools.product(
        (("fp8_row_float32", "plain"), ("fp8_row_ue8m0", "silu"), ("int8", "plain")),
        INPUT_DTYPES,
    )
)


class _Compiled(BaseException):
    """Carries the kernel out of the backend, in place of a launch.

    Not an Exception, which the backend may handle.
    """


class _Device:
    """What Triton asks the driver for when it compiles."""

    def __init__(self, target):
        self._target = target

    def get_current_device(self):
        return self._target.arch  # kernels are cached by device

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return self._target


def compile_kernel(architecture: int, workload):
    """Return the kernel of a :class:`measure.workloads.Workload` as Triton compiles it.

    Triton keeps this target: for a process that launches nothing.
    """
    x, (q, s) = workload.empty_input("cpu"), workload.make_output("cpu")
    scales = workload.scale_format
    prologue = "silu_and_mul_" if workload.silu_and_mul else ""
    backend = import_module("ptgq.backends.triton")
    quantize = getattr(backend, prologue + "per_token_group_quant")
    return kernel_of(architecture, lambda: quantize(x, q, s, workload.group_size, 1e-10, scales))


def kernel_of(architecture: int, call):
    """Return the kernel that a call would launch, as Triton compiles it."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    launch = JITFunction.run

    def compile_only(self, *args, grid, warmup=True, **options):
        raise _Compiled(launch(self, *args, grid=grid, warmup=True, **options))

    driver.set_active(_Device(GPUTarget("cuda", architecture, 32)))
    try:
        with (
            patch.object(JITFunction, "run", compile_only),
            patch.object(torch.cuda, "get_device_capability", lambda *_: divmod(architecture, 10)),
        ):
            call()
    except _Compiled as compiled:
        (result,) = compiled.args
    else:
        raise RuntimeError("the Triton backend returned without launching a kernel")
    return result


def compiled(architecture: int, scale_format: str, group: int):
    """Return the bfloat16 kernel for a 1024 × 4096 input."""
    return compile_kernel(architecture, common.workload(1024, 4096, group, scale_format))


def metrics_of(result) -> dict[str, int]:
    """Return the metrics of what :func:`compiled` does."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(result.asm["cubin"])
        metrics = machine_code.combine([*machine_code.kernels(cubin).values()])
    # Triton's shared memory is asked for at the launch: the binary does not state it.
    return {**metrics, "shared_bytes": result.metadata.shared}


def float_instructions(ptx: str) -> dict[str, int]:
    """Count the PTX instructions on floating-point numbers, with all that qualifies them."""
    words = re.findall(r"(?<![\w.%$])[a-z]\w*\.[\w.:]+", ptx)
    floats = re.compile(r"\.(?:b?f|tf|u?e\dm)\d+(?:x\d)?\b")
    return collections.Counter(word for word in words if floats.search(word))


def _capability(text: str) -> int:
    if not re.fullmatch(r"\d+\.\d", text):
        raise argparse.ArgumentTypeError(f"a compute capability such as 8.9, got {text!r}")
    return int(text.replace(".", ""))


def print_instructions(cases) -> None:
    """Print the floating-point instructions of kernels, each for a target, and how many."""
    os.environ.pop("TRITON_INTERPRET", None)  # in the interpreter nothing is compiled
    import torch
    import triton

    print("triton", triton.__version__)
    for target, ((scale_format, prologue), dtype) in cases:
        workload = dataclasses.replace(
            common.workload(64, 1024, 128, scale_format),
            input_dtype=getattr(torch, dtype),
            silu_and_mul=prologue == "silu",
        )
        found = float_instructions(compile_kernel(target, workload).asm["ptx"])
        counts = (f"{name}={number}" for name, number in sorted(found.items()))
        print(f"{target / 10} {scale_format} {prologue} {dtype}:", *counts)


def main(arguments: list[str] | None = None) -> int:
    """Print the instructions of each kernel for each target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite.triton_offline")
    parser.add_argument("--ptx", nargs="+", type=_capability, metavar="CAPABILITY", required=True)
    print_instructions(itertools.product(parser.parse_args(arguments).ptx, KERNELS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
