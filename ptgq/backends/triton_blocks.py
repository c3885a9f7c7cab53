"""Blocks in Triton: choice of the kernel, and its launch; as triton.py and triton_dequantize.py."""

from __future__ import annotations

import os
from typing import Any

import torch
import triton

from ptgq.backends.reference import QMAX
from ptgq.backends.triton import specialized
from ptgq.backends.triton_block_kernels import dequantize_blocks_kernel, per_block_quant_kernel
from ptgq.blocks import prepare, prepare_dequantize
from ptgq.extension import increment_version
from ptgq.scales import ScaleFormat, memory_of

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Elements that a program holds at a time: a block of 128 x 128, 32 for each of its 512 threads;
# larger ones are read twice.
_TILE = 16384
_MAX_WARPS = 16
# The elements of a tile of products.
_PRODUCTS = 4096
# Elements of the smallest tile: instructions take up to four of a thread at once.
_LEAST = 4 * 32
# What 31 bits count, with what a tile reaches beyond.
_SMALL = 2**31 - _TILE

_launches: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}
_products: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}


def _inside(block_size: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    """Return a block's rows and columns; larger ones than the matrix are the matrix."""
    return min(block_size[0], rows), min(block_size[1], columns)


def _tile(block: tuple[int, int], elements: int) -> tuple[int, int]:
    columns = min(triton.next_power_of_2(block[1]), elements)
    rows = min(triton.next_power_of_2(block[0]), elements // columns)
    return max(rows, _LEAST // columns), columns


def _warps(tile: tuple[int, int]) -> int:
    return max(1, min(_MAX_WARPS, tile[0] * tile[1] // 1024))


def _capability(tensor: torch.Tensor) -> int:
    if _INTERPRETED:
        return 0
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


def _blocks(sizes: tuple[int, ...], block: tuple[int, int]) -> tuple[int, int, int]:
    batches, rows, columns = sizes[:3]
    return batches, -(-rows // block[0]), -(-columns // block[1])


def _key(
    device: int,
    dtype: torch.dtype,
    pointers: tuple[int, int, int],
    sizes: tuple[int, ...],
    block_size: tuple[int, int],
    code: int,
    saturate: bool,
) -> tuple[Any, ...] | None:
    """Return what determines the compiled kernel, or None for the rare ones."""
    _, rows, columns, batch_stride, row_stride, s_row_stride = sizes
    if _is_rare(pointers, sizes):
        return None
    block = _inside(block_size, rows, columns)
    whole = rows % block[0] == 0 and columns % block[1] == 0
    padded = s_row_stride > -(-columns // block[1])
    kinds = specialized(columns, batch_stride, row_stride)
    return device, dtype, block, whole, padded, kinds, code, saturate


def _is_rare(pointers: tuple[int, int, int], sizes: tuple[int, ...]) -> bool:
    return any(pointer % 16 for pointer in pointers) or max(sizes) >= _SMALL


def per_block_quant(
    w: torch.Tensor,
    q: torch.Tensor,
    s: torch.Tensor,
    block_size: tuple[int, int],
    eps: float,
    scale_format: ScaleFormat,
    saturate: bool = False,
) -> None:
    """Quantize `w` ``[batches, N, K]`` in blocks into `q` and `s`."""
    batches, rows, columns = w.shape
    block = _inside(block_size, rows, columns)
    row_stride = columns if rows == 1 else w.stride(1)
    batch_stride = rows * columns if batches == 1 else w.stride(0)
    memory = memory_of(s, scale_format)
    grid = _blocks((batches, rows, columns), block)
    s_row_stride = memory.numel() // (grid[0] * grid[1])
    sizes = batches, rows, columns, batch_stride, row_stride, s_row_stride
    tile = _tile(block, _TILE)
    e8m0 = s.dtype is torch.float8_e8m0fnu
    constants = {
        "BLOCK_ROWS": block[0],
        "BLOCK_COLUMNS": block[1],
        "ROWS": tile[0],
        "COLUMNS": tile[1],
        "WHOLE": rows % block[0] == 0 and columns % block[1] == 0 and tile == block,
        "PADDED": s_row_stride > grid[2],
        "QMAX": QMAX[q.dtype],
        "POWER_OF_TWO": scale_format.power_of_two,
        "SATURATE": saturate,
        "E8M0": e8m0,
        "CAPABILITY": _capability(w),
        "INTERPRETED": _INTERPRETED,
    }
    with torch.cuda.device_of(w):
        compiled = per_block_quant_kernel[(grid[0] * grid[1] * grid[2], 1, 1)](
            w,
            q.view(torch.uint8),
            memory.view(torch.uint8) if e8m0 else memory,
            *sizes,
            float(eps),
            **constants,
            num_warps=_warps(tile),
            enable_fp_fusion=False,
        )
    pointers = w.data_ptr(), q.data_ptr(), s.data_ptr()
    key = _key(w.get_device(), w.dtype, pointers, sizes, block_size, scale_format.code, saturate)
    if compiled is not None and key is not None:
        _launches[key] = compiled, tuple(constants.values())


def quantize_directly(
    w: torch.Tensor,
    block_rows: int,
    block_columns: int,
    code: int,
    saturate: bool,
    eps: float,
    out: tuple[torch.Tensor, torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Check, allocate and launch a kernel that an ordinary call compiled, or return None."""
    call = prepare(w, block_rows, block_columns, code, saturate, eps, out)
    if call is None or triton.knobs.compilation.instrumentation_mode:
        return None
    results, pointers, sizes, device, stream = call
    block_size = block_rows, block_columns
    key = _key(device, w.dtype, pointers, sizes, block_size, code, saturate)
    launch = None if key is None else _launches.get(key)
    if launch is None:
        return None
    compiled, constants = launch
    batches, down, across = _blocks(sizes, _inside(block_size, *sizes[1:3]))
    grid = batches * down * across, 1, 1
    compiled[grid](*pointers, *sizes, eps, *constants, stream=stream)
    if out is not None:
        increment_version(results)
    return results


def _products_key(
    device: int,
    dtypes: tuple[torch.dtype, torch.dtype],
    pointers: tuple[int, int, int],
    sizes: tuple[int, ...],
    block_size: tuple[int, int],
) -> tuple[Any, ...] | None:
    """As _key, of s and y."""
    if _is_rare(pointers, sizes):
        return None
    _, rows, columns, *_ = sizes
    return device, dtypes, _inside(block_size, rows, columns), specialized(columns)


def _tiles(sizes: tuple[int, ...], tile: tuple[int, int]) -> tuple[int, int, int]:
    batches, down, across = _blocks(sizes, tile)
    return batches * down * across, 1, 1


def dequantize(
    q: torch.Tensor, s: torch.Tensor, block_size: tuple[int, int], dtype: torch.dtype
) -> torch.Tensor:
    """Return ``q * s`` block by block."""
    y = torch.empty(q.shape, dtype=dtype, device=q.device)
    if y.numel() == 0:
        return y
    q = q.contiguous()
    s = s.resolve_neg().reshape(-1, *s.shape[-2:])
    sizes = len(s), *q.shape[-2:], *s.stride()
    block = _inside(block_size, *sizes[1:3])
    tile = _tile(block, _PRODUCTS)
    e8m0 = s.dtype is torch.float8_e8m0fnu
    constants = {
        "BLOCK_ROWS": block[0],
        "BLOCK_COLUMNS": block[1],
        "ROWS": tile[0],
        "COLUMNS": tile[1],
        "CHUNK": 16 // dtype.itemsize,
        "E8M0": e8m0,
        "HARDWARE": _capability(q) >= 89,
        "INTERPRETED": _INTERPRETED,
    }
    with torch.cuda.device_of(q):
        compiled = dequantize_blocks_kernel[_tiles(sizes, tile)](
            q.view(torch.uint8),
            # What points to its bytes: their strides are told apart.
            s.as_strided((1,), (1,)).view(torch.uint8) if e8m0 else s,
            y,
            *sizes[1:],
            **constants,
            num_warps=max(1, min(4, tile[0] * tile[1] // 1024)),
            enable_fp_fusion=False,
        )
    pointers = q.data_ptr(), s.data_ptr(), y.data_ptr()
    key = _products_key(q.get_device(), (s.dtype, dtype), pointers, sizes, block_size)
    if compiled is not None and key is not None:
        _products[key] = compiled, tuple(constants.values())
    return y


def dequantize_directly(
    q: torch.Tensor, s: torch.Tensor, block_rows: int, block_columns: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """As quantize_directly."""
    call = prepare_dequantize(q, s, block_rows, block_columns, dtype)
    if call is None or triton.knobs.compilation.instrumentation_mode:
        return None
    y, pointers, sizes, device, stream = call
    block_size = block_rows, block_columns
    key = _products_key(device, (s.dtype, dtype), pointers, sizes, block_size)
    launch = None if key is None else _products.get(key)
    if launch is None:
        return None
    compiled, constants = launch
    compiled[_tiles(sizes, constants[2:4])](*pointers, *sizes[1:], *constants, stream=stream)
    return y
