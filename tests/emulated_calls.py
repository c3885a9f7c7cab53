"""Calls for proofs/cpu_calls.cpp, with the reference's results."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sysconfig
from itertools import product

import torch
from scale_cases import FORMATS, OF_INT8, TILED, memory
from torch.utils.cpp_extension import include_paths

import ptgq

# As csrc/contract/check.h numbers them.
TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn]
TYPES += [torch.float8_e8m0fnu, torch.int8, torch.int32, torch.int64]


def torch_includes():
    """Return the folders of the headers that csrc includes."""
    return [*include_paths(), sysconfig.get_path("include")]


def calls_of(x, fused, group_size, number):
    """Yield a call of every format, and one with other options, which differ by `number`.

    With PTGQ_EVERY_CASE=1 with each of them.
    """
    both = ("mark", "saturate")
    others = [{"x": x, "nonfinite": "saturate"}]
    for limit, nonfinite in product((None, 7.77), both):
        others.append({"x": fused, "silu_and_mul": True, "limit": limit, "nonfinite": nonfinite})
    formats = [f for f in (*FORMATS.values(), TILED["all"]) if not f.per_batch]
    stored = [(f, False) for f in formats] + [(f, True) for f in formats if f in OF_INT8.values()]
    for place, (f, int8) in enumerate(stored):
        yield Call(x, group_size, f, int8)
        chosen = others if os.environ.get("PTGQ_EVERY_CASE") else [others[(number + place) % 5]]
        for options in chosen:
            yield Call(group_size=group_size, scale_format=f, int8=int8, **options)


def masked_calls(x, fused, group_size, number):
    """Yield a call of every format, of other counts and options each, which differ by `number`.

    `x` and `fused` are rows of batches, of which the memory may hold more.
    """
    batches, tokens = x.shape[:2]
    counts = (3, 0, tokens, 1, -5, tokens + 9, 2, tokens - 1)
    formats = [*FORMATS.values(), *TILED.values()]
    stored = [(f, False) for f in formats] + [(f, True) for f in formats if f in OF_INT8.values()]
    for place, (f, int8) in enumerate(stored):
        case = number + place
        chosen = [counts[(case + batch) % len(counts)] for batch in range(batches)]
        if case % 11 == 0:
            chosen = [tokens * (case % 2)] * batches
        dtype, stride = ((torch.int32, 1), (torch.int64, 2))[case % 2]
        masked_m = torch.tensor(chosen, dtype=dtype).repeat_interleave(stride)[::stride]
        options = {"masked_m": masked_m, "nonfinite": ("mark", "saturate")[case % 3 == 0]}
        if case % 5 < 3:
            yield Call(x, group_size, f, int8, **options)
        else:
            limit = (None, 7.77)[case % 5 == 4]
            yield Call(fused, group_size, f, int8, silu_and_mul=True, limit=limit, **options)


def storage_of(tensor):
    """All memory of a tensor from its first element on."""
    storage = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    return storage[tensor.storage_offset() * tensor.itemsize :].numpy().tobytes()


class Call:
    """One call: its input, and the reference's results."""

    def __init__(
        self, x, group_size, scale_format, int8=False, silu_and_mul=False,
        eps=1e-10, limit=None, nonfinite="mark", masked_m=None,
    ):  # fmt: skip
        f = scale_format
        self.name = f"{x.dtype} {f} {group_size=} {int8=} {silu_and_mul=} {limit=} {nonfinite}"
        self.name += f" {tuple(x.shape)} {masked_m=}"
        options = {"scale_format": f, "eps": eps, "nonfinite": nonfinite, "backend": "reference"}
        prologue = "silu_and_mul_" if silu_and_mul else ""
        if limit is not None:
            options["swiglu_limit"] = limit
        function = getattr(ptgq, f"{prologue}per_token_group_quant_{'int8' if int8 else 'fp8'}")
        self.q, self.s = function(x, group_size, **options)
        if masked_m is not None:
            self.q.view(torch.uint8).fill_(0xEE)  # as the program has it
            function(x, group_size, masked_m=masked_m, out=(self.q, self.s), **options)
        self.memory = memory(self.s, f)
        counts = torch.zeros(0, dtype=torch.int32) if masked_m is None else masked_m
        types = (TYPES.index(tensor.dtype) for tensor in (x, self.q, self.s, counts))
        sizes = (x.shape, x.stride(), self.q.shape, self.s.shape, self.s.stride())
        places = (x.dim(), self.s.dim(), *(n for size in sizes for n in (*size, 0, 0)[:3]))
        x_bytes, counts_bytes = storage_of(x), storage_of(counts)
        lengths = (len(x_bytes), len(self.memory), len(counts_bytes), len(counts), *counts.stride())
        saturates = nonfinite == "saturate"
        fields = (*types, *places, *lengths, group_size, int8, f.code, silu_and_mul, saturates)
        floats = eps, math.inf if limit is None else limit
        self.sent = struct.pack("<31q2d", *map(int, fields), *floats) + x_bytes + counts_bytes

    def check(self, output):
        """Compare the results at the start of the output; return what is behind them."""
        split = self.q.numel(), self.q.numel() + len(self.memory)
        q, s = output[: split[0]], output[split[0] : split[1]]
        assert s == self.memory.numpy().tobytes(), f"s: {self.name}"
        assert q == self.q.view(torch.uint8).numpy().tobytes(), f"q: {self.name}"
        return output[split[1] :]


def checked(calls, command, environment=None):
    """Run calls, and compare what comes back with the reference's results."""
    sent = b"".join(call.sent for call in calls)
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, input=sent, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr.decode()
    output = done.stdout
    for call in calls:
        output = call.check(output)
    assert output == b""
