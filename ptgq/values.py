"""What counts as an int, a bool, a shape or a tensor, and how a wrong value reads in a message."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex

import torch

# Types whose repr is short and waits for no device.
_PLAIN = (
    *(int, float, complex, str, bytes, type(None), torch.SymInt, torch.SymFloat),
    *(torch.dtype, torch.device, torch.layout),
)


def names_of(dtypes: tuple[torch.dtype, ...]) -> str:
    """Return the names of dtypes for a message."""
    return ", ".join(map(str, dtypes))


def shown(value: object) -> str:
    """Return a value for a message, or its type if it can hold tensors: their repr would wait."""
    kind = type(value)
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an int of {value.bit_length()} bits"
    if isinstance(value, _PLAIN):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    if isinstance(value, (tuple, list)):
        return f"a {kind.__name__} of {len(value)}"
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return module + kind.__qualname__


def as_int(name: str, value: SupportsIndex) -> int:
    """Return what is an int by ``__index__``, as NumPy's are; raise for bools and tensors."""
    if isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool):
        return value  # type: ignore[return-value]
    # A tensor has an __index__, too, which would wait for its device.
    if hasattr(type(value), "__index__") and not isinstance(value, (bool, torch.Tensor)):
        try:
            return operator.index(value)
        except TypeError:  # NumPy's bools and arrays
            pass
    raise TypeError(f"{name} must be an int, got {shown(value)}")


def check_bool(name: str, value: bool) -> None:
    """Raise unless it is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {shown(value)}")


def check_counts(masked_m: torch.Tensor, batches: int | None, device: torch.device) -> None:
    """Raise unless it has a count of rows for each batch; None: for any number of them."""
    check_tensor("masked_m", masked_m, (torch.int32, torch.int64))
    if masked_m.dim() != 1 or (batches is not None and masked_m.shape[0] != batches):
        expected = "one dimension" if batches is None else f"shape ({batches},)"
        raise ValueError(
            f"masked_m must have {expected}, a count for each batch, got {tuple(masked_m.shape)}; "
            "rows with an index each (DeepGEMM's contiguous layout, m_indices) are quantized "
            "without masked_m: no scale depends on it"
        )
    if masked_m.device != device:
        raise ValueError(f"masked_m must be on the rows' device {device}, got {masked_m.device}")


def check_dtype(
    name: str, value: torch.dtype | None, accepted: tuple[torch.dtype, ...], or_none: bool = False
) -> None:
    """Raise unless it is one of the dtypes, or None where that is accepted."""
    if value is None and or_none:
        return
    if not isinstance(value, torch.dtype) or value not in accepted:
        none = "None or " if or_none else ""
        raise TypeError(f"{name} must be {none}one of {names_of(accepted)}, got {shown(value)}")


def check_tensor(
    name: str, value: torch.Tensor, dtypes: tuple[torch.dtype, ...] | None, hint: str = ""
) -> None:
    """Raise unless it is a dense tensor of one of the dtypes (None: any), with a dimension."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if dtypes is not None and value.dtype not in dtypes:
        raise TypeError(f"{name} must have a dtype of {names_of(dtypes)}, got {value.dtype}{hint}")
    if value.layout is not torch.strided or value.is_nested:
        kind = "nested" if value.is_nested else str(value.layout)
        raise TypeError(f"{name} must be a dense (strided) tensor, got a {kind} one")
    if value.dim() == 0:
        raise ValueError(f"{name} must have at least one dimension, got shape ()")


def check_group_size(group_size: SupportsIndex, shape: tuple[int, ...], name: str) -> int:
    """Return it as an int; raise unless it divides the last dimension of a shape of `name`."""
    size = as_int("group_size", group_size)
    if size < 1:
        raise ValueError(f"group_size must be at least 1, got {shown(size)}")
    if shape[-1] % size != 0:
        raise ValueError(
            f"group_size must divide the last dimension of {name}, {shape[-1]}, got {shown(size)}"
        )
    return size


def as_ints(name: str, value: Sequence[SupportsIndex]) -> tuple[int, ...]:
    """Return a tuple or list of ints as a tuple of ints."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} must be a tuple of ints, got {shown(value)}")
    # The names of elements are made for unusual ones alone: empty_scales is part of a call.
    ints = [n if type(n) is int else as_int(f"{name}[{i}]", n) for i, n in enumerate(value)]
    return tuple(ints)


def as_sizes(name: str, value: Sequence[SupportsIndex]) -> tuple[int, ...]:
    """Return a tuple or list of at least one int, none negative, as a tuple of ints."""
    sizes = as_ints(name, value)
    if not sizes:
        raise ValueError(f"{name} must have at least one dimension, got ()")
    for size in sizes:
        if size < 0:
            raise ValueError(f"{name} must not be negative anywhere, got {shown(size)}")
    return sizes
