"""The CUDA kernels of blocks without a GPU: an emulator runs their source on the CPU."""

from __future__ import annotations

import ctypes
from itertools import product

import pytest
import torch
from emulated_calls import TYPES
from products import assert_same, codes_of, strided
from test_blocks import NAMED, SHAPES, weight
from test_cuda_on_cpu import library as library
from test_cuda_on_cpu import pytestmark as pytestmark
from values import DTYPES

import ptgq
from ptgq import scales

# Tiles of a wide matrix, edges of some elements alone.
WEIGHTS = SHAPES | {"tiles": ((3, 130, 272), (128, 128)), "rows": ((9, 300), (1, 128))}


def call(function, tensors, block_size, *options, dtype=None):
    """Call with the tensors, their places and types, and a block size."""
    described = tensors[:2] if dtype else tensors
    places = [n for t in described for n in (*t.shape, *t.stride())]
    types = [TYPES.index(d) for d in [t.dtype for t in described] + [dtype] * (dtype is not None)]
    function.restype = ctypes.c_bool
    assert function(
        *(ctypes.c_void_p(t.data_ptr()) for t in tensors),
        *((ctypes.c_int64 * len(places))(*places), ctypes.c_int64(tensors[0].dim())),
        *((ctypes.c_int * 3)(*types), *map(ctypes.c_int64, block_size)),
        *options,
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bytes_are_those_of_integer_arithmetic(library, dtype, monkeypatch):
    monkeypatch.setenv("FIRST_WAVE", "4")
    for number, (name, (shape, size)) in enumerate(WEIGHTS.items()):
        w = weight(shape, dtype)
        wide = torch.nn.functional.pad(w, (0, 8))[..., :-8]
        inside = tuple(min(pair) for pair in zip(size, shape[-2:], strict=True))
        # Formats meet some shapes each: they differ in how a scale is stored alone.
        for fmt in [*NAMED.values()][number % 3 :: 3]:
            wanted_q, wanted_s = fmt.expected(w, inside)
            for given in (w, wide):
                q = torch.full(shape, 0xEE, dtype=torch.uint8).view(torch.float8_e4m3fn)
                s = scales.empty_scales(
                    scales.block_scale_shape(shape, size), fmt.scales, torch.device("cpu")
                )
                memory = scales.memory_of(s, fmt.scales).view(wanted_s.dtype).fill_(77)
                options = ctypes.c_double(1e-10), ctypes.c_int64(fmt.scales.code)
                call(library.quantize, (given, q, s), size, *options, ctypes.c_bool(fmt.saturate))
                at = f"{name} {fmt.name} {given.stride()}"
                assert torch.equal(q.view(torch.uint8), wanted_q), at
                assert torch.equal(memory, wanted_s.flatten()), at


@pytest.mark.parametrize("s_dtype", [torch.float32, torch.float8_e8m0fnu], ids=str)
def test_products(library, s_dtype, monkeypatch):
    monkeypatch.setenv("FIRST_WAVE", "4")
    for (shape, size), dtype in product(WEIGHTS.values(), DTYPES):
        s_shape = scales.block_scale_shape(shape, size)
        q = codes_of(shape, torch.float8_e4m3fn)
        s = codes_of((*s_shape[:-1], s_shape[-1] * s_dtype.itemsize), s_dtype, seed=1)
        apart = strided(s, [2 * step for step in s.stride()])
        wanted = ptgq.dequantize_blocks(q, s, size, dtype=dtype, backend="reference")
        for given in (s, apart):
            y = torch.full(shape, 7.0, dtype=dtype)
            call(library.dequantize, (q, given, y), size, dtype=dtype)
            assert_same(y, wanted)
