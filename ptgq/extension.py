"""The compiled library ``ptgq._C``: the ops it implements, and the fast path past them.

**Ops.** The schemas are here, the implementations for CPU and CUDA tensors in ``csrc``. Backends
written in Python register ops, too, so that ``torch.compile`` and fake tensors see one call.

**The fast path** serves eager calls of every format, code and function without torch's dispatcher,
which, with allocating through Python, would take several times as long as a launch.
:func:`quantize_directly` crosses into C++ once: it reads the tensors through DLPack's C exchange
API, checks them, allocates, and launches on the current stream. In units of ``torch.abs(x)`` on the
same CPU, Python takes 0.3, reading and checking 0.6, the two allocations 0.7.

It refuses, by returning None, whatever is not an ordinary eager call that is right in every
argument: tensor subclasses (fake tensors are; parameters, where they would be written), tensors
inside ``torch.func`` transforms, any active dispatch or function mode but a default device,
``torch.jit.trace``, negated views, tensors on another than the current device, empty ones, rows
that have to be copied, wrong arguments. Then :mod:`ptgq.quantization` raises or calls the op. The
first call on a device is refused, too: it finds out which backends can serve it. ``torch.compile``
never gets here. ``torch.profiler`` shows the kernels of the fast path, but no CPU op.
:func:`prepare` is the same without the launch, for backends written in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from ptgq import block_ops, dequantize_op, transposed_op
from ptgq.arguments import INPUT_DTYPES, check_masked_m
from ptgq.op_results import check_results, named
from ptgq.scales.formats import DTYPES, decode_format

# q is float8_e4m3fn, its bytes as uint8, or int8. s is in the format with the code `scale_format`,
# float8_e8m0fnu also as bytes; padding behind s, in the same memory, is written, too. Programs that
# were exported with flags have the default, which the ops refuse. The second op quantizes
# silu_and_mul of an x that is twice as wide as q, the third the RMSNorm of x.
_ARGUMENTS = "Tensor x, Tensor(a!) q, Tensor(b!) s, int group_size, float eps, int scale_format=-1"
# Programs that were exported without an argument have its default, which changes nothing.
_LAST = "bool saturate=False, Tensor? masked_m=None) -> ()"
OPS = {
    "per_token_group_quant": f"({_ARGUMENTS}, {_LAST}",
    "silu_and_mul_per_token_group_quant": f"({_ARGUMENTS}, float? swiglu_limit=None, {_LAST}",
    "rms_norm_per_token_group_quant": (
        f"({_ARGUMENTS.removesuffix('=-1')}, Tensor weight, float norm_eps, "
        "Tensor(c!)? residual=None, Tensor(d!)? norm_out=None, bool saturate=False) -> ()"
    ),
}


def _fake(*args: object) -> None:
    """The ops write into tensors that exist: there are no shapes to compute."""


def rows_of(x: torch.Tensor, masked_m: torch.Tensor | None = None) -> torch.Tensor:
    """Return what the backends written in Python take: `x`, or it as ``[num_tokens, hidden_dim]``.

    Rows with one stride between them are viewed, others copied, negated views, too. Masked, it is
    ``[batch, tokens, hidden_dim]``.
    """
    x = x.resolve_neg()
    if masked_m is not None:
        return x.view(-1, *x.shape[-2:]) if x.dim() == 2 else x
    return x if x.is_contiguous() else x.reshape(-1, x.shape[-1])


def _register(name: str, schema: str) -> None:
    torch.library.define(name, schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.register_fake(name, _fake)


def _register_python_backend(op: str, backend: str) -> None:
    def run(
        x: torch.Tensor,
        q: torch.Tensor,
        s: torch.Tensor,
        group_size: int,
        eps: float,
        scale_format: int = -1,
        *options: Any,
    ) -> None:
        module = import_module(f"ptgq.backends.{backend}")
        q, s = named(q, s)
        scales = decode_format(scale_format)
        hidden_dim = x.shape[-1] // (2 if op.startswith("silu") else 1)
        check_results(q, s, (*x.shape[:-1], hidden_dim), group_size, scales)
        counted = () if op.startswith("rms") else options
        masked_m = next((o for o in counted if isinstance(o, torch.Tensor)), None)
        check_masked_m(masked_m, x)
        announce_writes(q, s)
        if x.numel() > 0:
            getattr(module, op)(rows_of(x, masked_m), q, s, group_size, eps, scales, *options)

    _register(f"ptgq::{op}_{backend}", OPS[op])
    torch.library.impl(f"ptgq::{op}_{backend}", "CompositeExplicitAutograd", run)


def _of_torch(name: str, default: Any = None) -> Any:
    """Return what a private name of torch stands for, or `default` where the name has gone."""
    try:
        return attrgetter(name)(torch)
    except AttributeError:
        return default


def _allocator(device_type: str) -> Callable[..., torch.Tensor]:
    """Return ``(size, stride, dtype) -> tensor``, on the current device of a type."""

    def slow(size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty_strided(size, stride, dtype=dtype, device=device_type)

    # torch.compile's code allocates with it, in a third of torch.empty's time.
    return _of_torch(f"_C._dynamo.guards._empty_strided_{device_type}", slow)


def _reinterpret() -> Callable[..., torch.Tensor]:
    """Return ``(tensor, size, stride, offset) -> tensor`` of the same memory."""
    # It is used as above, and makes no view that autograd knows.
    return _of_torch("_C._dynamo.guards._reinterpret_tensor", torch.Tensor.as_strided)


def _bytes_from(tensor: torch.Tensor) -> int:
    """Return how many bytes a tensor's memory has from its first element on."""
    storage = tensor.untyped_storage()
    return storage.data_ptr() + storage.nbytes() - tensor.data_ptr()


def _is_followed() -> bool:
    """Whether a tracer, or a mode other than a default device, has to see the calls of torch."""
    modes = _of_torch("overrides._get_current_function_mode_stack", lambda: [None])()
    device_mode = _of_torch("utils._device.DeviceContext")
    return bool(
        torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state()
        or not all(type(mode) is device_mode for mode in modes)
    )


def _connect() -> None:
    """Hand over what the fast path needs of torch; without it all calls are refused."""
    signs = [
        _of_torch(f"_C.{name}")
        for name in ("_len_torch_dispatch_stack", "_len_torch_function_stack", "_get_tracing_state")
    ]
    api = _of_torch("Tensor.__dlpack_c_exchange_api__")
    if api is None or None in signs:
        return
    # Tables of another name or version are refused.
    with suppress(ValueError):
        _C.connect(
            (torch.Tensor, torch.nn.Parameter),
            api,
            (_allocator("cpu"), _allocator("cuda"), _reinterpret()),
            (torch.float8_e4m3fn, torch.int8),
            INPUT_DTYPES,
            DTYPES,
            tuple(signs),
            _is_followed,
            torch.Tensor.is_neg,
            "requires_grad",
            (torch.Tensor.is_inference, torch.is_inference_mode_enabled),
            _bytes_from,
            increment_version,
        )


# torch.autograd.graph.increment_version, which is public, calls it and takes twice as long.
increment_version: Callable[[tuple[torch.Tensor, ...]], None] = _of_torch(
    "_C._increment_version", torch.autograd.graph.increment_version
)


def announce_writes(q: torch.Tensor, s: torch.Tensor) -> None:
    """Let autograd count the writes to come, and torch refuse what may not be written in place."""
    # A tensor copied to itself is not touched. s goes first, as it can require gradients.
    s.copy_(s)
    q.copy_(q)


def _refuse(*call: object) -> None:
    """Refuse every call, where there is no library."""


def function(name: str) -> Any:
    """Return a function of the library."""
    return getattr(_C, name, _refuse)


for _op in OPS:
    _register(f"ptgq::{_op}", OPS[_op])
    for _backend in ("triton", "reference"):
        _register_python_backend(_op, _backend)
dequantize_op.register()
transposed_op.register(announce_writes)
block_ops.register(announce_writes)
try:
    # Loading it registers its ops.
    import ptgq._C as _C
except ModuleNotFoundError:
    _C = None
else:
    _connect()

# The commit that was built: "" if unknown, ending in + if files differed from it.
_COMMIT = Path(__file__).with_name("commit.txt")
commit = _COMMIT.read_text() if _C and _COMMIT.exists() else ""
# From ``(backend, x, group_size, q_dtype, ScaleFormat.code, silu_and_mul, swiglu_limit, saturate,
# masked_m, eps, out)`` to ``(q, s)`` or, where it refuses, None.
quantize_directly: Callable[..., tuple[torch.Tensor, torch.Tensor] | None] = function("quantize")
# For backends written in Python: from the same without the backend to ``((q, s), (addresses of x, q
# and s), (num_tokens, num_groups, x_token_stride, s_groups, column_tokens, column_length), (address
# of masked_m, or 0, its stride, batches, tokens of a batch, stride of x between them), index of the
# CUDA device or -1, stream)`` or, where it refuses, None.
prepare: Callable[..., tuple[Any, ...] | None] = function("prepare")
# ``(backend, q, s, group_size, dtype)`` to y; the same without the backend to ``(y, (addresses of
# q, s and y), (num_tokens, num_groups, batch_tokens, strides of s between batches, tokens and
# groups), index of the CUDA device or -1, stream)``; or None.
dequantize_directly: Callable[..., torch.Tensor | None] = function("dequantize")
prepare_dequantize: Callable[..., tuple[Any, ...] | None] = function("prepare_dequantize")


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
    # Every tensor's CUDA device has an index.
    if device.index is not None or backend == "cpu":
        _C.serve(-1 if backend == "cpu" else device.index)
    return None
