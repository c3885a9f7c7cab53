"""Compare tensors byte for byte; a failure names the place and both values."""

from __future__ import annotations

import torch

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's bit patterns as integers, on the CPU, in logical order."""
    return tensor.detach().cpu().contiguous().view(_BITS[tensor.element_size()])


def memory(tensor: torch.Tensor) -> bytes:
    """All of a tensor's storage, what lies beside the tensor too."""
    storage = tensor.untyped_storage()
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy().tobytes()


def copy_of(t: torch.Tensor) -> torch.Tensor:
    """A copy that lies in a copy of all of its storage."""
    place = t.storage_offset(), t.size(), t.stride()
    return torch.empty(0, dtype=t.dtype).set_(t.untyped_storage().clone(), *place)


def assert_same_bytes(actual: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    """Assert equal dtype, shape, strides (where a size fixes them) and bytes."""
    assert actual.dtype == expected.dtype, f"{name}: {actual.dtype} != {expected.dtype}"
    assert actual.shape == expected.shape, f"{name}: {actual.shape} != {expected.shape}"
    have, want = (
        [step for size, step in zip(t.shape, t.stride(), strict=True) if size > 1 and t.numel()]
        for t in (actual, expected)
    )
    assert have == want, f"{name}: strides {actual.stride()} != {expected.stride()}"
    differ = (bits(actual) != bits(expected)).nonzero()
    if len(differ):
        at = tuple(differ[0].tolist())
        raise AssertionError(
            f"{name}: {len(differ)} of {actual.numel()} differ, first at {at}: "
            f"0x{bits(actual)[at].item():x} ({float(actual[at])}) instead of "
            f"0x{bits(expected)[at].item():x} ({float(expected[at])})"
        )


def assert_same_results(
    actual: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Assert equal scales, then equal codes."""
    assert_same_bytes(actual[1], expected[1], "s")
    assert_same_bytes(actual[0], expected[0], "q")
