"""The backends: which are available, which one serves a call, and how it is run.

A backend is a module with three functions, ``per_token_group_quant``,
``silu_and_mul_per_token_group_quant`` and ``rms_norm_per_token_group_quant``, of ``(x, q, s,
group_size, eps, scale_format)``: they write every element of `q` and `s`, and the padding of `s`,
and trust what :mod:`ptgq.quantization` and :mod:`ptgq.rms_norm` checked. The second takes
``swiglu_limit``, too, the third what it normalizes with, and all ``saturate``: whether what is not
finite does. The first two take ``masked_m``: with it, they write no element of `q` in other rows,
and zeros there in `s`.
Modules are imported at first use. ``dequantize`` is ``(q, s, group_size, dtype) -> y``: Triton's
has a module of its own, ``triton_dequantize``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, get_args

import torch

from ptgq import extension
from ptgq.scales import ScaleFormat
from ptgq.scales.formats import encode_format
from ptgq.values import shown

Backend = Literal["cuda", "triton", "cpu", "reference"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
# The backends of a device, of which the first available one serves unasked.
_PREFERENCE = {"cuda": ("cuda", "triton", "reference"), "cpu": ("cpu", "reference")}

# The suffixes of the backends' ops.
_OPS = {"cuda": "", "triton": "_triton", "cpu": "", "reference": "_reference"}

forced: ContextVar[str | None] = ContextVar("ptgq_backend", default=None)
loaded: dict[str, Any] = {}
# The devices whose users were warned that reference serves them.
_warned: set[torch.device] = set()


class PerformanceWarning(UserWarning):
    """The ``reference`` backend serves calls that did not ask for it: a faster one is missing."""


class BackendStatus(NamedTuple):
    """Whether a backend can run on this machine.

    Attributes
    ----------
    available : bool
        Whether it can.
    reason : str
        The devices it serves, or why there are none.
    """

    available: bool
    reason: str


@functools.cache
def why_unavailable(backend: str, device: torch.device) -> str | None:
    """Return why `backend` can't serve tensors on `device`, or None if it can."""
    if backend == "reference":
        return None
    if backend != "triton":
        return extension.why_unavailable(backend, device)
    if find_spec("triton") is None:
        return "triton is not installed"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return None
        return "it needs compute capability 8.0 or newer"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return None
    return "it serves cuda tensors, and cpu tensors only under TRITON_INTERPRET=1"


def backends() -> dict[Backend, BackendStatus]:
    """Return the status of each backend on this machine."""
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    devices.append(torch.device("cpu"))
    statuses: dict[Backend, BackendStatus] = {}
    for name in BACKENDS:
        reasons = [why_unavailable(name, device) for device in devices]
        serves = [str(d) for d, reason in zip(devices, reasons, strict=True) if reason is None]
        if serves:
            status = BackendStatus(True, "serves " + ", ".join(serves))
        elif name == "cuda" and len(devices) == 1:
            status = BackendStatus(False, extension.missing(name) or "no CUDA device is visible")
        else:
            status = BackendStatus(False, str(reasons[-1 if name == "cpu" else 0]))
        statuses[name] = status
    return statuses


def check_backend(backend: str | None) -> None:
    """Raise unless `backend` is None or the name of a backend."""
    if backend is None or (isinstance(backend, str) and backend in BACKENDS):
        return
    accepted = ", ".join(map(repr, BACKENDS))
    error = ValueError if isinstance(backend, str) else TypeError
    raise error(f"backend must be None or one of {accepted}, got {shown(backend)}")


def use_backend(backend: Backend) -> contextlib._GeneratorContextManager[None]:
    """Force `backend` in this context: thread- and asyncio-task-local, nestable.

    A call's own ``backend=`` goes first. Threads started in it do not inherit it, except where
    ``sys.flags.thread_inherit_context`` is set, by default in free-threaded Python. Code under
    ``torch.compile`` keeps the backend that was in force when it was compiled: pass ``backend=``
    there.

    Parameters
    ----------
    backend : {"cuda", "triton", "cpu", "reference"}

    Raises
    ------
    TypeError, ValueError
        If `backend` names no backend, at once. One that is not available raises when a tensor is
        quantized.
    """
    if backend is None:
        raise TypeError("backend must be the name of a backend, got None")
    check_backend(backend)
    return _forcing(backend)


@contextlib.contextmanager
def _forcing(backend: Backend) -> Iterator[None]:
    token = forced.set(backend)
    try:
        yield
    finally:
        forced.reset(token)


def choose_backend(backend: str | None, device: torch.device) -> str:
    """Return the backend that serves `device`: the argument, else the forced one, else the best.

    Raises
    ------
    RuntimeError
        If the backend asked for is not available, or none serves this device.
    """
    name = backend if backend is not None else forced.get()
    if name is not None:
        reason = why_unavailable(name, device)
        if reason is not None:
            raise RuntimeError(f"backend {name!r} is not available for {device} tensors: {reason}")
        return name
    if device.type not in _PREFERENCE:
        raise RuntimeError(f"x is on {device}: ptgq quantizes cuda and cpu tensors")
    names = _PREFERENCE[device.type]
    best = next(name for name in names if why_unavailable(name, device) is None)
    if best == "reference" and device not in _warned:
        missing = "; ".join(f"{name}: {why_unavailable(name, device)}" for name in names[:-1])
        message = f"reference, many times slower, serves {device} tensors. {missing}"
        # The warning names the line that called ptgq.
        warnings.warn(message, PerformanceWarning, stacklevel=4)
        _warned.add(device)
    return best


# torch.compiler.assume_constant_result sets this, but first imports the compiler, for a second.
choose_backend._dynamo_marked_constant = True  # type: ignore[attr-defined]


def is_eager(x: torch.Tensor) -> bool:
    """Whether a call has values and known sizes, as nothing traces it."""
    return type(x) is torch.Tensor and not torch.compiler.is_compiling()


def quantize(
    backend: str,
    x: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    group_size: int,
    eps: float,
    scale_format: ScaleFormat,
    op: str = "per_token_group_quant",
    *options: Any,
    masked_m: torch.Tensor | None = None,
) -> None:
    """Run `op` of `backend`: eagerly, or as registered in a graph and on fake tensors.

    `options` are what the op takes between the format and `masked_m`.
    """
    if masked_m is not None:
        options = (*options, masked_m)
    if is_eager(x) and backend in ("triton", "reference"):
        run = getattr(load(backend), op)
        rows = extension.rows_of(x, masked_m)
        run(rows, q, s, group_size, eps, scale_format, *options)
        extension.increment_version((q, s))
        return
    if not is_eager(x):
        # torch's compiler can't functionalize a mutation of float8_e8m0fnu, but of bytes.
        q, s = as_bytes(q), as_bytes(s)
    run = getattr(torch.ops.ptgq, op + _OPS[backend])
    run(x, q, s, group_size, eps, encode_format(scale_format), *options)


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """View 8-bit floating point as bytes, which the ops take, too."""
    if tensor.dtype in (torch.float8_e4m3fn, torch.float8_e8m0fnu):
        return tensor.view(torch.uint8)
    return tensor


def load(backend: str) -> Any:
    """Import the module of a backend written in Python."""
    if backend not in loaded:
        loaded[backend] = import_module(f"ptgq.backends.{backend}")
    return loaded[backend]
