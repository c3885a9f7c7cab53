"""Compiles the Triton backend's kernel for an architecture that is not here, without a GPU.

The backend itself is called, so nothing here knows the kernel's signature, which changes over the
history: only its launch is replaced by a compilation, and Triton's view of the device by a target.
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from . import common, machine_code


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


def kernel(architecture: int, scale_format: str, group: int) -> dict[str, int]:
    """Return the metrics of the bfloat16 kernel for a 1024 × 4096 input.

    Triton keeps this target: for a process that launches nothing.
    """
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    launch = JITFunction.run

    def compile_only(self, *args, grid, warmup=True, **options):
        raise _Compiled(launch(self, *args, grid=grid, warmup=True, **options))

    workload = common.workload(1024, 4096, group, scale_format)
    x, (q, s) = workload.make_input("cpu"), workload.make_output("cpu")
    scales = import_module("ptgq.scales").scale_format(
        workload.column_major_scales, workload.use_ue8m0
    )
    backend = import_module("ptgq.backends.triton")
    driver.set_active(_Device(GPUTarget("cuda", architecture, 32)))
    try:
        with (
            patch.object(JITFunction, "run", compile_only),
            patch.object(torch.cuda, "get_device_capability", lambda *_: divmod(architecture, 10)),
        ):
            backend.per_token_group_quant(x, q, s, group, 1e-10, scales)
    except _Compiled as compiled:
        (result,) = compiled.args
    else:
        raise RuntimeError("the Triton backend returned without launching a kernel")
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(result.asm["cubin"])
        metrics = machine_code.combine([*machine_code.kernels(cubin).values()])
    # Triton's shared memory is asked for at the launch: the binary does not state it.
    return {**metrics, "shared_bytes": result.metadata.shared}
