"""Eager calls of every format and function, as users write them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import ptgq
from measure.timers import Call

TOKENS, HIDDEN = 16, 512
# By the first two flags of the functions.
FLAGS: dict[str, tuple[bool, ...]] = {
    "row_float32": (),
    "column_float32": (True,),
    "row_ue8m0": (False, True),
    "column_ue8m0": (True, True),
}
# Presets of ptgq.ScaleFormat, each with its group size. vllm_cutlass and sglang_cutlass are equal
# to torch_scaled_mm.
PRESETS = {
    "deep_gemm_hopper": 128,
    "deep_gemm_hopper_per_batch": 128,
    "deep_gemm_blackwell": 128,
    "deep_gemm_blackwell_per_batch": 128,
    "deep_gemm_mega_moe": 32,
    "torch_scaled_mm": 128,
    "ocp_mx": 32,
}
FUNCTIONS = {
    "fp8": "per_token_group_quant_fp8",
    "silu": "silu_and_mul_per_token_group_quant_fp8",
    "int8": "per_token_group_quant_int8",
    "dequantize": "dequantize",
}
PER_BATCH = "_per_batch"
# Formats whose codes and scales dequantize is given.
DEQUANTIZED = ("fp8_row_float32", "fp8_deep_gemm_blackwell", "int8")
CALLS = (
    *(f"{function}_{name}" for function in ("fp8", "silu") for name in (*FLAGS, *PRESETS)),
    "fp8_strided_rows",
    "int8",
    *(f"dequantize_{name}" for name in DEQUANTIZED),
)


def _function(name: str, option: str | None = None) -> Callable[..., Any]:
    """Return a public function that has an option."""
    function = getattr(ptgq, FUNCTIONS[name], None)
    if function is None:
        raise NotImplementedError(f"this commit has no {FUNCTIONS[name]}")
    if option and option not in inspect.signature(function).parameters:
        raise NotImplementedError(f"{FUNCTIONS[name]} of this commit has no {option}=")
    return function


def _input(device: str, width: int) -> torch.Tensor:
    generator = torch.Generator(device).manual_seed(42)
    x = torch.randn(TOKENS, width, generator=generator, device=device)
    return (x * 8).to(torch.bfloat16)


def _without_out(name: str, device: str, backend: str) -> tuple[Callable[..., Any], torch.Tensor]:
    """Return a call, and the tensor that is quantized."""
    kind, _, which = name.partition("_")
    if kind == "dequantize":
        if backend == "triton":
            raise NotImplementedError("dequantize has one form on a device, with cuda")
        quantize, x = _without_out(which, device, backend)
        q, s = quantize()
        return partial(_function(kind), q, s, 128), x
    x = _input(device, 2 * HIDDEN if kind == "silu" else HIDDEN)
    if which == "strided_rows":
        x, which = _input(device, 2 * HIDDEN)[:, :HIDDEN], "row_float32"
    if which in PRESETS:
        function = _function(kind, "scale_format")
        preset = which.removesuffix(PER_BATCH)
        options = {"per_batch": True} if preset != which else {}
        x = x.unflatten(0, (2, -1)) if options else x
        scale_format = getattr(ptgq.ScaleFormat, preset)(**options)
        return partial(function, x, PRESETS[which], scale_format=scale_format, backend=backend), x
    return partial(_function(kind), x, 128, *FLAGS.get(which, ()), backend=backend), x


def bind(name: str, device: str, backend: str, out: bool) -> tuple[Call, torch.Tensor]:
    """Return one of CALLS on a backend, and its x.

    Parameters
    ----------
    name : str
        One of CALLS.
    device, backend : str
        Where x is, and what serves.
    out : bool
        Whether the results are written into tensors that are given.

    Raises
    ------
    NotImplementedError
        If the installed ptgq has no such function or option.
    RuntimeError
        If results that are both alive share memory, or given ones are not those that are returned.
    """
    call, x = _without_out(name, device, backend)
    if out:
        _function(name.partition("_")[0], "out")
        given = call()
        call = partial(call, out=given)
        if _memory(call()) != _memory(given):
            raise RuntimeError(f"{name}: out= is not what is returned")
    else:
        check_apart(name, call)
    return call, x


def check_apart(name: str, call: Call) -> None:
    """Raise RuntimeError if the results of two calls, both alive, share memory."""
    first, second = call(), call()
    shared = set(_memory(first)) & set(_memory(second))
    if shared or len(set(_memory(first))) < len(_memory(first)):
        raise RuntimeError(f"{name}: results of two calls share memory")


def _memory(results: Any) -> list[int]:
    """Return where the storages of results begin."""
    tensors = results if isinstance(results, tuple) else (results,)
    return [tensor.untyped_storage().data_ptr() for tensor in tensors]
