"""DeepGEMM: the cast that its GEMMs' users are shown, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from peers import Can

if TYPE_CHECKING:
    import torch
    from measure.workloads import Workload

IMPORTS = "deep_gemm"
# It checks on the host what it packs.
CAN = Can(scales=("row_float32", "row_ue8m0_float32", "row_packed"), waiting=("row_packed",))
OUT = False


def bind(workload: Workload, x: torch.Tensor, out: object) -> Callable[[], Any]:
    """Return a call of the cast."""
    cast = import_module(f"{IMPORTS}.utils.math").per_token_cast_to_fp8
    packed = workload.scales == "row_packed"
    return partial(
        cast,
        x,
        use_ue8m0=workload.scales != "row_float32",
        gran_k=workload.group_size,
        use_packed_ue8m0=packed,
    )
