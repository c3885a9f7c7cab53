"""The checks of arguments: each names the argument, its value and what is accepted."""

from __future__ import annotations

import math
import numbers
from typing import Literal, get_args

import torch

from ptgq import scales
from ptgq.scales import ScaleFormat, known
from ptgq.scales.flags import scale_format as format_of
from ptgq.scales.formats import check_format
from ptgq.scales.layouts import strides_match, strides_of
from ptgq.values import check_counts, check_tensor, shown

Nonfinite = Literal["mark", "saturate"]
# Of x.
INPUT_DTYPES = tuple(getattr(torch, name) for name in known.INPUT_DTYPES)
_CONTIGUOUS = scales.scale_format()

# eps / qmax, and every residual of a quotient by it that can change a code, are normal float32 from
# here on, so flushing subnormals, a GPU compiler's choice, changes nothing.
MIN_EPS = 1e-24
MAX_EPS = torch.finfo(torch.float32).max


def check_eps(eps: float, name: str = "eps", hint: str = "") -> float:
    """Return it as a float; raise unless it is a number in [MIN_EPS, MAX_EPS]."""
    if not isinstance(eps, (float, int, numbers.Real)) or isinstance(eps, bool):
        raise TypeError(f"{name} must be {hint}a float, got {shown(eps)}")
    try:
        value = float(eps)
    except OverflowError:  # of an int
        value = math.inf
    if not MIN_EPS <= value <= MAX_EPS:  # NaN fails too
        raise ValueError(
            f"{name} must {hint and 'be None or '}lie between {MIN_EPS} and {MAX_EPS:.8g}, "
            f"got {shown(eps)}"
        )
    return value


def check_nonfinite(nonfinite: Nonfinite) -> bool:
    """Return whether what is not finite saturates; raise unless it is one of the two names."""
    if not isinstance(nonfinite, str):
        raise TypeError(f"nonfinite must be a str, got {shown(nonfinite)}")
    if nonfinite not in get_args(Nonfinite):
        raise ValueError(f"nonfinite must be 'mark' or 'saturate', got {shown(nonfinite)}")
    return nonfinite == "saturate"


def check_swiglu_limit(limit: float | None) -> float | None:
    """Return it as a float or None; raise unless it is one of these, in the range of eps."""
    return None if limit is None else check_eps(limit, "swiglu_limit", "None or ")


def check_masked_m(masked_m: torch.Tensor | None, x: torch.Tensor) -> None:
    """Raise unless it is None, or counts the rows that exist of each batch of `x`."""
    if masked_m is None:
        return
    if x.dim() not in (2, 3):
        raise ValueError(
            "x must have 3 dimensions, or 2 of one batch, where masked_m is given, got shape "
            f"{tuple(x.shape)}"
        )
    check_counts(masked_m, x.shape[0] if x.dim() == 3 else 1, x.device)
    check_aligned("masked_m", masked_m)


_FLAGS = ("column_major_scales", "use_ue8m0", "scale_dtype", "tma_aligned_scales")
_DEFAULTS = (False, False, None, False)


def check_alone(scale_format: ScaleFormat, *flags: object) -> None:
    """Raise unless it is a format, and the other options of the scales are left out."""
    check_format("scale_format", scale_format)
    # Options are compared by identity, as comparing a tensor would read it.
    for name, default, option in zip(_FLAGS, _DEFAULTS, flags, strict=True):
        if option is not default:
            raise ValueError(
                "scale_format says all about the scales: column_major_scales, use_ue8m0, "
                f"scale_dtype and tma_aligned_scales must be left out, got {name}={shown(option)}"
            )


def chosen_format(
    scale_format: ScaleFormat | None,
    column_major_scales: bool,
    use_ue8m0: bool,
    scale_dtype: torch.dtype | None,
    tma_aligned_scales: bool,
) -> ScaleFormat:
    """Return the format that is given, or that the other options of the scales name."""
    flags = column_major_scales, use_ue8m0, scale_dtype, tma_aligned_scales
    if scale_format is None:
        return format_of(*flags)
    check_alone(scale_format, *flags)
    return scale_format


def check_read(name: str, x: torch.Tensor) -> None:
    """Raise unless it is of a dtype that is quantized, with contiguous, aligned elements."""
    check_tensor(name, x, INPUT_DTYPES)
    if x.stride(-1) != 1 and x.shape[-1] > 1:
        raise ValueError(
            f"{name} must be contiguous in its last dimension, got strides {x.stride()}"
        )
    check_aligned(name, x)


def check_int8_scales(
    scale_format: ScaleFormat, use_ue8m0: bool, scale_dtype: torch.dtype | None
) -> None:
    """Raise, with the arguments that were given, unless a format's scales are stored as float32."""
    if scale_format.dtype is torch.float32:
        return
    if use_ue8m0:
        raise ValueError(
            "use_ue8m0=True of int8 codes needs scale_dtype=torch.float32, "
            f"got scale_dtype={scale_dtype}"
        )
    raise ValueError(
        "scale_format must hold float32 scales of int8 codes, got one with "
        f"dtype={scale_format.dtype}"
    )


def check_out(
    out: tuple[torch.Tensor, torch.Tensor],
    x: torch.Tensor,
    q_shape: tuple[int, ...],
    q_dtype: torch.dtype,
    shape: tuple[int, ...],
    scale_format: ScaleFormat,
    first: int = 0,
    x_name: str = "x",
    masked_m: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (q, s) of `out`, or raise unless the results of x can be written there.

    They are ``out[first]`` and the next in messages.
    """
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"out must be a tuple (q, s), got {shown(out)}")
    q, s = out
    of_q, of_s = f"out[{first}]", f"out[{first + 1}]"
    compiling = torch.compiler.is_compiling()
    expected = (
        (of_q, q, q_dtype, q_shape, strides_of(q_shape, _CONTIGUOUS)),
        (of_s, s, scale_format.dtype, shape, strides_of(shape, scale_format)),
    )
    for name, tensor, dtype, size, strides in expected:
        check_tensor(name, tensor, (dtype,))
        if tensor.shape != size:
            raise ValueError(f"{name} must have shape {size}, got {tuple(tensor.shape)}")
        # Sizes may be data in compiled code, where the ops check strides.
        if not compiling and not strides_match(tensor, strides):
            raise ValueError(f"{name} must have strides {strides}, got {tensor.stride()}")
        check_written(name, tensor, x, x_name)
    memory = s
    if scale_format.aligned and not compiling:
        scales.check_memory(s, scale_format, of_s)
        memory = scales.memory_of(s, scale_format)
    check_apart(of_q, q, x_name, x)
    check_apart(of_s, memory, x_name, x)
    check_apart(of_s, memory, of_q, q)
    if masked_m is not None:
        check_apart(of_q, q, "masked_m", masked_m)
        check_apart(of_s, memory, "masked_m", masked_m)
    return q, s


def check_apart(name: str, tensor: torch.Tensor, other_name: str, other: torch.Tensor) -> None:
    """Raise if tensors overlap, from their first to their last elements."""
    span, others = _span(tensor), _span(other)
    overlap = span and others and span[0] < others[1] and others[0] < span[1]
    # While code is compiled, no tensor has an address.
    if overlap or tensor is other:
        raise ValueError(f"{name} must not overlap {other_name} in memory, got the same memory")


def check_written(name: str, tensor: torch.Tensor, x: torch.Tensor, x_name: str = "x") -> None:
    """Raise unless a tensor may be written, on the device of x, as the backends write it."""
    check_device(name, tensor, x, x_name)
    if tensor.requires_grad:
        raise ValueError(f"{name} must not require gradients, got requires_grad=True")
    if _address(tensor) is None:
        return
    if tensor.is_neg():
        raise ValueError(f"{name} must not be a negated view, got is_neg()=True")
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed: "
            f"{name} is one"
        )
    check_aligned(name, tensor)


def check_device(name: str, tensor: torch.Tensor, x: torch.Tensor, x_name: str = "x") -> None:
    """Raise unless a tensor is where x is."""
    if tensor.device != x.device:
        raise ValueError(f"{name} must be on {x_name}'s device {x.device}, got {tensor.device}")


def _address(tensor: torch.Tensor) -> int | None:
    """Return where a tensor begins; None while compiling, for fake ones and within torch.func."""
    if (
        torch.compiler.is_compiling()
        or type(tensor) not in (torch.Tensor, torch.nn.Parameter)
        or tensor.is_meta
        or tensor.numel() == 0
    ):
        return None
    try:
        return tensor.data_ptr() or None
    except RuntimeError:  # what torch.func wraps has no storage
        return None


def check_aligned(name: str, tensor: torch.Tensor) -> None:
    """Raise unless a tensor, which may be of foreign memory, is aligned to its elements."""
    size, address = tensor.element_size(), _address(tensor)
    if address and address % size:
        raise ValueError(
            f"{name} must be aligned to its elements of {size} bytes, got the address 0x{address:x}"
        )


def _span(tensor: torch.Tensor) -> tuple[int, int] | None:
    """Return the addresses where a tensor begins and ends, None if it has none."""
    begin = _address(tensor)
    if begin is None:
        return None
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + (last + 1) * tensor.element_size()
