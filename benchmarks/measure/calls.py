"""Eager calls of every format and function, as users write them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import ptgq
from measure.configurations import ALL_PRESETS, PER_BATCH, group_size, scale_keywords
from measure.timers import Call

TOKENS, HIDDEN = 16, 512
FUNCTIONS = {
    "fp8": "per_token_group_quant_fp8",
    "silu": "silu_and_mul_per_token_group_quant_fp8",
    "int8": "per_token_group_quant_int8",
    "silu-int8": "silu_and_mul_per_token_group_quant_int8",
    "norm": "rms_norm_per_token_group_quant_fp8",
    "norm-int8": "rms_norm_per_token_group_quant_int8",
    "transposed": "per_token_group_quant_fp8_transposed",
    "blocks": "per_block_quant_fp8",
    "dequantize": "dequantize",
    "dequantize-blocks": "dequantize_blocks",
}


def _has_option(function: Callable[..., Any], option: str) -> bool:
    """Return whether a function of this commit has an option."""
    return option in inspect.signature(function).parameters


def public_function(name: str, option: str | None = None) -> Callable[..., Any]:
    """Return a public function that has an option."""
    function = getattr(ptgq, FUNCTIONS[name], None)
    if function is None:
        raise NotImplementedError(f"this commit has no {FUNCTIONS[name]}")
    if option and not _has_option(function, option):
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
        function = public_function(kind)
        chosen = {"backend": backend} if _has_option(function, "backend") else {}
        if backend == "triton" and not chosen:
            raise NotImplementedError("dequantize has one form on a device, with cuda")
        quantize, x = _without_out(which, device, backend)
        q, s = quantize()
        return partial(function, q, s, 128, **chosen), x
    given: tuple[torch.Tensor, ...]
    x = _input(device, 2 * HIDDEN if kind.startswith("silu") else HIDDEN)
    if kind.endswith("blocks"):
        function = public_function(kind)
        given = (x,) if kind == "blocks" else _without_out("blocks", device, backend)[0]()
        return partial(function, *given, backend=backend), x
    if which == "strided_rows":
        x, which = _input(device, 2 * HIDDEN)[:, :HIDDEN], "row_float32"
    if which == "masked":
        x, masked_m = x.unflatten(0, (2, -1)), torch.full((2,), TOKENS // 2, device=x.device)
        function = public_function(kind, "masked_m")
        return partial(function, x, 128, masked_m=masked_m, backend=backend), x
    given = (x,)
    options: dict[str, Any] = {"backend": backend}
    if kind.startswith("norm"):
        # Without a residual, which each call would change.
        given = x, torch.ones_like(x[0])
        options["norm_eps"] = 1e-6
    preset = which.removesuffix(PER_BATCH)
    if preset in ALL_PRESETS:
        function = public_function(kind, "scale_format")
        if not hasattr(ptgq.ScaleFormat, preset):
            raise NotImplementedError(f"ScaleFormat of this commit has no {preset}")
        per_batch = {"per_batch": True} if preset != which else {}
        x = x.unflatten(0, (2, -1)) if per_batch else x
        options["scale_format"] = getattr(ptgq.ScaleFormat, preset)(**per_batch)
        return partial(function, x, *given[1:], group_size(preset), **options), x
    return partial(public_function(kind), *given, 128, *_flags(which), **options), x


def _flags(scales: str) -> tuple[bool, ...]:
    """Return the first two arguments that ask for a format, those at the end left out."""
    given = scale_keywords(scales) if scales else {}
    column_major, ue8m0 = "column_major_scales" in given, "use_ue8m0" in given
    return (column_major, ue8m0) if ue8m0 else (True,) if column_major else ()


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
        public_function(name.partition("_")[0], "out")
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
