"""The compiled library ``ptgq._C`` and the ops it implements.

The schemas are here, the implementations for CPU and CUDA tensors in ``csrc``; the backends
written in Python register ops too, so that ``torch.compile`` and fake tensors see one call.
"""

from __future__ import annotations

import ctypes
from importlib import import_module
from pathlib import Path

import torch

from ptgq.scales import scale_format

# q is float8_e4m3fn (or its bytes as uint8) or int8; s is float32 or float8_e8m0fnu (or its bytes).
_SCHEMA = (
    "(Tensor x, Tensor(a!) q, Tensor(b!) s, int group_size, float eps, "
    "bool column_major_scales, bool use_ue8m0) -> ()"
)


def _fake(*args: object) -> None:
    """Shapes are the caller's: the ops write into tensors that exist."""


def _register_python_backend(backend: str) -> None:
    def run(
        x: torch.Tensor,
        q: torch.Tensor,
        s: torch.Tensor,
        group_size: int,
        eps: float,
        column_major_scales: bool,
        use_ue8m0: bool,
    ) -> None:
        module = import_module(f"ptgq.backends.{backend}")
        q = q.view(torch.float8_e4m3fn) if q.dtype is torch.uint8 else q
        s = s.view(torch.float8_e8m0fnu) if s.dtype is torch.uint8 else s
        scales = scale_format(column_major_scales, use_ue8m0, s.dtype)
        module.per_token_group_quant(x, q, s, group_size, eps, scales)

    name = f"ptgq::per_token_group_quant_{backend}"
    torch.library.define(name, _SCHEMA, tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(name, "CompositeExplicitAutograd", run)
    torch.library.register_fake(name, _fake)


def _load() -> tuple[str | None, str, str]:
    """Load the library: its CUDA architectures (None without one), its commit, what is missing."""
    torch.library.define("ptgq::per_token_group_quant", _SCHEMA, tags=torch.Tag.pt2_compliant_tag)
    torch.library.register_fake("ptgq::per_token_group_quant", _fake)
    path = next(Path(__file__).parent.glob("_C*.so"), None)
    if path is None:
        return None, "", "the extension is not built: no C++ compiler was found at installation"
    torch.ops.load_library(path)
    library = ctypes.CDLL(str(path))
    for function in (library.ptgq_cuda_architectures, library.ptgq_commit):
        function.restype = ctypes.c_char_p
    architectures = library.ptgq_cuda_architectures().decode()
    missing = "" if architectures else "the extension was built without nvcc"
    return architectures, library.ptgq_commit().decode(), missing


for _backend in ("triton", "reference"):
    _register_python_backend(_backend)
# The commit that the library was built from: "" if unknown, ending in + if files differed from it.
_architectures, commit, _missing = _load()


def missing(device_type: str) -> str | None:
    """Return why the library holds no code for a device type, or None if it holds some."""
    if _architectures is None or (device_type == "cuda" and not _architectures):
        return _missing
    return None


def _runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    number, ptx, _ = architecture.partition("+PTX")
    major, minor = (int(part) for part in number.rstrip("af").split("."))
    if ptx:
        return (major, minor) <= capability
    # Machine code runs on the same major version, not on an older minor one.
    return major == capability[0] and minor <= capability[1]


def why_unavailable(backend: str, device: torch.device) -> str | None:
    """Return why the library can't serve tensors on `device` as `backend`, or None if it can."""
    if backend != device.type:
        return f"it serves {backend} tensors"
    reason = missing(backend)
    if reason is not None or backend == "cpu":
        return reason
    capability = torch.cuda.get_device_capability(device)
    if any(_runs_on(arch, capability) for arch in str(_architectures).split(";")):
        return None
    return (
        f"the extension was built for compute capability {_architectures}, the device has "
        f"{capability[0]}.{capability[1]}: set TORCH_CUDA_ARCH_LIST and install again"
    )
