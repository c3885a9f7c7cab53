"""The compiled library ``ptgq._C``: the ops it implements, and calls of it without them.

**Ops.** The schemas are here, the implementations for CPU and CUDA tensors in ``csrc``; the
backends written in Python register ops too, so that ``torch.compile`` and fake tensors see one
call.

**Direct calls**, of every format, code and function. torch's dispatcher, and allocating through
Python, would take several times as long as a launch. :func:`quantize_directly` crosses into C++
once: it reads the tensors through DLPack's C exchange API, checks them, allocates, launches on the
current stream. In units of ``torch.abs(x)`` on the same CPU, Python takes 0.3, reading and checking
0.6, the two allocations 0.7.

It refuses, by returning None, whatever is not an ordinary eager call that is right in every
argument: tensor subclasses (fake tensors are), tensors inside ``torch.func`` transforms, any active
dispatch or function mode but a default device, ``torch.jit.trace``, negated views, tensors on
another than the current device, empty ones, rows that have to be copied, wrong arguments. Then
:mod:`ptgq.api` raises what is to be raised or calls the op. The first call on a device is refused
too: it finds out which backends can serve it. ``torch.compile`` never gets here. ``torch.profiler``
shows the kernels of direct calls, but no CPU op. :func:`prepare` is the same without the launch,
for backends written in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from ptgq.scales import check_memory, has_strides, scale_shape, scale_strides
from ptgq.scales.formats import DTYPES, check_in_format, decode_format
from ptgq.values import check_group_size

# q is float8_e4m3fn (or its bytes as uint8) or int8; s is as the ScaleFormat of this code says (or
# its bytes, for float8_e8m0fnu), and padding behind s, in the same memory, is written, too.
# The second quantizes silu_and_mul of an x that is twice as wide as q. -1: of programs that were
# exported with flags instead, which the ops refuse.
OPS = ("per_token_group_quant", "silu_and_mul_per_token_group_quant")
_SCHEMA = (
    "(Tensor x, Tensor(a!) q, Tensor(b!) s, int group_size, float eps, int scale_format=-1) -> ()"
)


def _fake(*args: object) -> None:
    """Shapes are the caller's: the ops write into tensors that exist."""


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """Return what the backends written in Python take: `x`, or it as ``[num_tokens, hidden_dim]``.

    Rows with one stride between them are viewed, others copied, negated views, too.
    """
    x = x.resolve_neg()
    return x if x.is_contiguous() else x.reshape(-1, x.shape[-1])


def _register(name: str) -> None:
    torch.library.define(name, _SCHEMA, tags=torch.Tag.pt2_compliant_tag)
    torch.library.register_fake(name, _fake)


def _register_python_backend(op: str, backend: str) -> None:
    def run(
        x: torch.Tensor,
        q: torch.Tensor,
        s: torch.Tensor,
        group_size: int,
        eps: float,
        scale_format: int = -1,
    ) -> None:
        module = import_module(f"ptgq.backends.{backend}")
        q = q.view(torch.float8_e4m3fn) if q.dtype is torch.uint8 else q
        s = s.view(torch.float8_e8m0fnu) if s.dtype is torch.uint8 else s
        scales = decode_format(scale_format)
        check_in_format("s", s, scales)
        hidden_dim = x.shape[-1] // (2 if op.startswith("silu") else 1)
        q_shape = *x.shape[:-1], hidden_dim
        check_group_size(group_size, q_shape, "q")
        s_shape = scale_shape(q_shape, group_size, scales)
        if (q.shape, s.shape) != (q_shape, s_shape):
            raise ValueError(
                f"q and s must have shapes {q_shape} and {s_shape}, "
                f"got {tuple(q.shape)} and {tuple(s.shape)}"
            )
        if not (q.is_contiguous() and has_strides(s, scale_strides(s_shape, scales))):
            raise ValueError(
                f"q must be contiguous and s {scales.layout}, got strides {q.stride()} and "
                f"{s.stride()}"
            )
        check_memory(s, scales)
        announce_writes(q, s)
        if x.numel() > 0:
            getattr(module, op)(rows_of(x), q, s, group_size, eps, scales)

    _register(f"ptgq::{op}_{backend}")
    torch.library.impl(f"ptgq::{op}_{backend}", "CompositeExplicitAutograd", run)


def _of_torch(name: str, default: Any = None) -> Any:
    """Return what has a name in torch that is not public, or `default` where it has gone."""
    try:
        return attrgetter(name)(torch)
    except AttributeError:
        return default


def _allocator(device_type: str) -> Callable[..., torch.Tensor]:
    """Return ``(size, stride, dtype) -> tensor``, on the current device of a type."""

    def slow(size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty_strided(size, stride, dtype=dtype, device=device_type)

    # What the code that torch.compile generates allocates with, in a third of torch.empty's time.
    return _of_torch(f"_C._dynamo.guards._empty_strided_{device_type}", slow)


def _reinterpret() -> Callable[..., torch.Tensor]:
    """Return ``(tensor, size, stride, offset) -> tensor`` of the same memory."""
    # As above: not a view that autograd knows.
    return _of_torch("_C._dynamo.guards._reinterpret_tensor", torch.Tensor.as_strided)


def _bytes_from(tensor: torch.Tensor) -> int:
    """Return how many bytes of its memory there are from its first element on."""
    storage = tensor.untyped_storage()
    return storage.data_ptr() + storage.nbytes() - tensor.data_ptr()


def _is_followed() -> bool:
    """Whether tracers, or modes other than a default device, want to see the calls of torch."""
    modes = _of_torch("overrides._get_current_function_mode_stack", lambda: [None])()
    device_mode = _of_torch("utils._device.DeviceContext")
    return bool(
        torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state()
        or not all(type(mode) is device_mode for mode in modes)
    )


def _connect() -> None:
    """Hand over what direct calls need of torch. A torch without it has them all refused."""
    signs = [
        _of_torch(f"_C.{name}")
        for name in ("_len_torch_dispatch_stack", "_len_torch_function_stack", "_get_tracing_state")
    ]
    api = _of_torch("Tensor.__dlpack_c_exchange_api__")
    if api is None or None in signs:
        return
    # A table of another name or version is none.
    with suppress(ValueError):
        _C.connect(
            torch.Tensor,
            api,
            (_allocator("cpu"), _allocator("cuda"), _reinterpret()),
            (torch.float8_e4m3fn, torch.int8),
            DTYPES,
            tuple(signs),
            _is_followed,
            torch.Tensor.is_neg,
            "requires_grad",
            (torch.Tensor.is_inference, torch.is_inference_mode_enabled),
            _bytes_from,
            increment_version,
        )


# The public function of torch.autograd.graph, which takes twice as long, calls this.
increment_version: Callable[[tuple[torch.Tensor, ...]], None] = _of_torch(
    "_C._increment_version", torch.autograd.graph.increment_version
)


def announce_writes(q: torch.Tensor, s: torch.Tensor) -> None:
    """Have autograd count the writes to come, and torch refuse what nobody may write in place."""
    # A tensor that is copied to itself is not touched. Of the two, s may require gradients.
    s.copy_(s)
    q.copy_(q)


def _refuse(*call: object) -> None:
    """Serve nothing, where there is no library."""


for _op in OPS:
    _register(f"ptgq::{_op}")
    for _backend in ("triton", "reference"):
        _register_python_backend(_op, _backend)
try:
    # Its ops register as it is loaded.
    import ptgq._C as _C
except ModuleNotFoundError:
    _C = None
else:
    _connect()

# The commit that the library was built from: "" if unknown, ending in + if files differed from it.
_COMMIT = Path(__file__).with_name("commit.txt")
commit = _COMMIT.read_text() if _C and _COMMIT.exists() else ""
# ``(backend, x, group_size, q_dtype, ScaleFormat.code, silu_and_mul, eps, out)`` to ``(q, s)``; or
# None, see above.
quantize_directly: Callable[..., tuple[torch.Tensor, torch.Tensor] | None] = (
    _C.quantize if _C else _refuse
)
# For backends written in Python. The same without the backend, to ``((q, s), (addresses of x, q and
# s), (num_tokens, num_groups, x_token_stride, s_groups, column_tokens, column_length), index of the
# CUDA device or -1, stream)``; or None.
prepare: Callable[..., tuple[Any, ...] | None] = _C.prepare if _C else _refuse


def missing(device_type: str) -> str | None:
    """Return why the library holds no code for a device type, or None if it holds some."""
    if _C is None:
        folder = Path(__file__).parent
        if (folder.parent / "setup.py").exists():
            return (
                f"the extension is not built in {folder}, the source, which hides an installed "
                "ptgq: leave that folder, or build there with pip install -e ."
            )
        return "the extension is not built: no C++ compiler was found at installation"
    if device_type == "cuda" and not _C.cuda_architectures:
        return "the extension was built without CUDA"
    return None


def built() -> dict[str, str]:
    """Return what the library, if any, was built from and for, and which instructions it uses."""
    if _C is None:
        return {}
    facts = {
        "commit": commit or "none: built outside a checkout",
        "instruction set": _said(_C.instruction_set),
        "CUDA architectures": _C.cuda_architectures or "none",
    }
    if _C.cuda_architectures:
        facts["dependent launch"] = _said(lambda: "on" if _C.dependent_launch() else "off")
    return facts


def _said(fact: Callable[[], str]) -> str:
    """Return a fact, or why an environment variable is refused."""
    try:
        return fact()
    except RuntimeError as error:
        return str(error)


def _runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    number, ptx, _ = architecture.partition("+PTX")
    major, minor = (int(part) for part in number.rstrip("af").split("."))
    if number.endswith("a"):
        return (major, minor) == capability
    if ptx and not number.endswith("f"):
        return (major, minor) <= capability
    # Machine code runs on the same major version, not on an older minor one.
    return major == capability[0] and minor <= capability[1]


def why_unavailable(backend: str, device: torch.device) -> str | None:
    """Return why the library can't serve tensors on `device` as `backend`, or None if it can."""
    if backend != device.type:
        return f"it serves {backend} tensors"
    if backend == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs compute capability 8.0 or newer"
    reason = missing(backend)
    if reason is not None:
        return reason
    if backend == "cuda":
        capability = torch.cuda.get_device_capability(device)
        architectures = _C.cuda_architectures
        if not any(_runs_on(arch, capability) for arch in architectures.split(";")):
            return (
                f"the extension was built for compute capability {architectures}, the device has "
                f"{capability[0]}.{capability[1]}: set TORCH_CUDA_ARCH_LIST and install again"
            )
    # A device without an index is no tensor's.
    if device.index is not None or backend == "cpu":
        _C.serve(-1 if backend == "cpu" else device.index)
    return None
