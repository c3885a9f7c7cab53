"""The Triton kernel's conversions of float32 to E4M3: in hardware on a GPU, and in integers.

Every finite float32, as it is and after a product that keeps or flushes subnormals; and each
midpoint of two codes with its two neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import torch
import triton
import triton.language as tl

from proofs import oracle
from proofs.oracle import E4M3, FLOAT32
from proofs.report import Report
from ptgq.backends.triton_numerics import e4m3_code, hardware_e4m3_code

BLOCK = 1024
# How a float32 becomes a code.
WAYS = ("hardware", "hardware after a product", "hardware after a flush", "integers")


@triton.jit
def convert_kernel(bits_ptr, codes_ptr, one, WAY: tl.constexpr, BLOCK: tl.constexpr):
    """Convert BLOCK float32 values to E4M3 in one of WAYS."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y = tl.load(bits_ptr + places).to(tl.float32, bitcast=True)
    if WAY == 1:
        y = y * one
    if WAY == 2:
        y = tl.inline_asm_elementwise(
            "mul.rn.ftz.f32 $0, $1, $2;", "=f,f,f", [y, tl.zeros_like(y) + one], tl.float32, True, 1
        )
    if WAY == 3:
        codes = e4m3_code(y)
    else:
        codes = hardware_e4m3_code(y)
    tl.store(codes_ptr + places, codes)


def convert(bits: torch.Tensor, way: int) -> torch.Tensor:
    """Return the codes of int32 bit patterns; their number is a multiple of BLOCK."""
    codes = torch.empty_like(bits, dtype=torch.uint8)
    with torch.cuda.device_of(bits) if bits.is_cuda else nullcontext():
        convert_kernel[(bits.numel() // BLOCK,)](bits, codes, 1.0, WAY=way, BLOCK=BLOCK)
    return codes


def midpoints() -> Iterator[tuple[int, int]]:
    """Yield float32 bits and codes: each midpoint of two codes and its neighbours, both signs."""
    for code, (low, high) in enumerate(zip(E4M3.values, E4M3.values[1:], strict=False)):
        middle = oracle.float32_bits(float((low + high) / 2))
        even = code + code % 2
        for key, expected in ((middle - 1, code), (middle, even), (middle + 1, code + 1)):
            yield key, expected
            yield key - (1 << 31), expected | 0x80


def prove(report: Report, device: str, *, chunk: int = 1 << 20, stride: int = 1) -> None:
    """Check each of WAYS that `device` has; of `stride` chunks of values, one is checked."""
    ways = [SimpleNamespace(name=name) for name in (WAYS if device == "cuda" else WAYS[3:])]
    lines = report.lines_for("conversion", "float32 to E4M3", ["triton"], ways)
    one = torch.tensor([oracle.float32_bits(1.0)])
    first = oracle.thresholds(one, E4M3, FLOAT32)[0].tolist()
    middles, codes_of_middles = map(list, zip(*midpoints(), strict=True))
    padding = -len(middles) % BLOCK
    middles = torch.tensor(middles + [0] * padding, dtype=torch.int32, device=device)
    codes_of_middles = torch.tensor(codes_of_middles + [0] * padding, dtype=torch.uint8)
    for way in ways:
        line, number = lines["triton", way.name], WAYS.index(way.name)

        def check(bits: torch.Tensor, codes: torch.Tensor, line=line, number=number) -> None:
            line.compare(
                "the code",
                convert(bits, number),
                codes,
                lambda at: f"0x{bits[tuple(at)].item() & 0xFFFFFFFF:08x}",
            )
            line.checked += len(bits)

        check(middles, codes_of_middles.to(device))
        line.checked -= padding
        for start in range(0, oracle.FLOAT32_INFINITY, chunk * stride):
            size = min(chunk, oracle.FLOAT32_INFINITY - start)
            keys = torch.arange(start, start + size, dtype=torch.int32, device=device)
            codes = oracle.codes_of_range(first, start, size, device)
            check(keys, codes)
            check(keys | -(1 << 31), codes | 0x80)
    report.show(lines)
