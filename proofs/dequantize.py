"""dequantize against integer arithmetic: every code with scales of every upper half of a float32.

A product is a significand, an integer, times a power of two; it is rounded to float32, and that to
the dtype. What lies below the scales' upper halves is 0, all ones, or differs from scale to scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import torch

import ptgq
from proofs.oracle import BFLOAT16, FLOAT16, FLOAT32, FLOAT32_INFINITY, FloatFormat
from proofs.report import Line, Report

CODES = {"e4m3": torch.float8_e4m3fn, "int8": torch.int8}
STORAGES = {"float32": torch.float32, "e8m0": torch.float8_e8m0fnu, "packed": torch.int32}
FORMS = (BFLOAT16, FLOAT16, FLOAT32)
# Of whole vectors; and of one element, which other kernels serve.
GROUP_SIZES = (256, 1)
# The significand of a NaN.
NAN = -1


def rounded(significand: torch.Tensor, exponent: torch.Tensor, form: FloatFormat) -> torch.Tensor:
    """Return keys of ``significand * 2**exponent``, half to even; significands have 33 bits."""
    highest = torch.zeros_like(significand)
    rest = significand
    for shift in (32, 16, 8, 4, 2, 1):
        upper = rest >> shift
        highest = torch.where(upper > 0, highest + shift, highest)
        rest = torch.where(upper > 0, upper, rest)
    # The exponent of the last bit that is kept.
    last = (highest + exponent).clamp(min=1 - form.bias) - form.fraction_bits
    down = (last - exponent).clamp(0, 40)
    nearest = (
        significand + ((1 << down) >> 1) - (down > 0).long() + (significand >> down & 1)
    ) >> down
    nearest = torch.where(down > 0, nearest, significand << (exponent - last).clamp(0, 40))
    keys = nearest + ((last + form.fraction_bits + form.bias - 1) << form.fraction_bits)
    keys = keys.clamp(max=form.infinity).where(significand > 0, torch.zeros_like(keys))
    return keys.where(significand != NAN, form.infinity + 1)


def parts_of(keys: torch.Tensor, form: FloatFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """Return significands and exponents of finite keys; NAN for those of NaN."""
    field = keys >> form.fraction_bits
    fraction = keys & ((1 << form.fraction_bits) - 1)
    significand = fraction + ((field > 0).long() << form.fraction_bits)
    exponent = field.clamp(min=1) - form.bias - form.fraction_bits
    return significand.where(keys <= form.infinity, NAN), exponent


def values_of(codes: str, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the significand, exponent and sign of each byte that is a code."""
    byte = torch.arange(256, device=device)
    if codes == "int8":
        negative = byte >= 128
        return torch.where(negative, 256 - byte, byte), torch.zeros_like(byte), negative
    field, fraction = byte >> 3 & 15, byte & 7
    significand = (fraction + 8 * (field > 0)).where(byte & 0x7F != 0x7F, NAN)
    return significand, field.clamp(min=1) - 10, byte >= 128


def expected(scales: torch.Tensor, codes: str, form: FloatFormat) -> torch.Tensor:
    """Return bits of the products of scales, float32 bits, with every code: ``[scales, 256]``."""
    significand, exponent, negative = values_of(codes, scales.device.type)
    keys = scales[:, None] & 0x7FFFFFFF
    own, own_exponent = parts_of(keys, FLOAT32)
    infinite = keys == FLOAT32_INFINITY
    nan = (own == NAN) | (significand == NAN) | (infinite & (significand == 0))
    product = (own * significand).where(~nan, NAN)
    exact = rounded(product, own_exponent + exponent, FLOAT32)
    exact = exact.masked_fill(infinite & ~nan, FLOAT32_INFINITY)
    if form is not FLOAT32:
        infinite = exact == FLOAT32_INFINITY
        exact = rounded(*parts_of(exact, FLOAT32), form).masked_fill(infinite, form.infinity)
    sign = (scales[:, None] < 0) ^ negative
    return canonical(exact | sign.long() << (form.dtype.itemsize * 8 - 1), form)


def canonical(bits: torch.Tensor, form: FloatFormat) -> torch.Tensor:
    """Return bits, those of any NaN as one: which they are is the device's."""
    bits = bits.long() & ((1 << form.dtype.itemsize * 8) - 1)
    magnitude = bits & ~(1 << (form.dtype.itemsize * 8 - 1))
    return bits.masked_fill(magnitude > form.infinity, form.infinity + 1)


def float32_scales(device: str, rows: int, stride: int) -> Iterator[torch.Tensor]:
    """Yield bits: of `stride` upper halves one, with three lower halves each."""
    upper = torch.arange(0, 1 << 16, stride, device=device)
    for lower in (torch.zeros_like(upper), upper * 40503 & 0xFFFF, upper * 0 + 0xFFFF):
        yield from (upper << 16 | lower).to(torch.int32).split(rows)


def byte_scales(device: str) -> torch.Tensor:
    """Return float32 bits of all 256 bytes."""
    byte = torch.arange(256, device=device)
    bits = byte << 23
    return bits.masked_fill(byte == 0, 1 << 22).masked_fill(byte == 255, 0x7FC00000).int()


def prove(
    report: Report, device: str, backends: Sequence[str], *, rows: int = 1 << 12, stride: int = 1
) -> None:
    """Check every code with scales in each storage, in each dtype, on every backend.

    `rows` scales are handled at a time; of `stride` float32 scales one is checked.
    """
    names = [SimpleNamespace(name=f"{c}_{s}") for c in CODES for s in STORAGES]
    lines = report.lines_for("dequantize", "every code times a scale", backends, names)
    for codes in CODES:
        for bits in float32_scales(device, rows, stride):
            _compare(lines, backends, codes, ["float32"], bits)
        _compare(lines, backends, codes, ["e8m0", "packed"], byte_scales(device))
    report.show(lines)


def stored(bits: torch.Tensor, storage: str, repeats: int) -> torch.Tensor:
    """Return scales ``[scales, repeats]`` of float32 bits, all of a row alike."""
    if storage == "float32":
        return bits.view(torch.float32)[:, None].expand(-1, repeats).contiguous()
    bytes_of_row = torch.arange(256, dtype=torch.uint8, device=bits.device)[:, None]
    if storage == "e8m0":
        return bytes_of_row.expand(-1, repeats).contiguous().view(STORAGES[storage])
    padded = torch.zeros(256, -(-repeats // 4) * 4, dtype=torch.uint8, device=bits.device)
    padded[:, :repeats] = bytes_of_row
    return padded.view(torch.int32)


def _compare(
    lines: dict[tuple[str, str], Line],
    backends: Sequence[str],
    codes: str,
    storages: Sequence[str],
    bits: torch.Tensor,
) -> None:
    q = torch.arange(256, dtype=torch.uint8, device=bits.device).repeat(len(bits), 1)
    for form in FORMS:
        right = expected(bits, codes, form)

        def describe(at: Sequence[int], form: FloatFormat = form) -> str:
            scale = bits[at[0]].item() & 0xFFFFFFFF
            return f"code 0x{at[1]:02x} times the scale 0x{scale:08x} in {form.dtype}"

        for storage, group_size, backend in itertools.product(storages, GROUP_SIZES, backends):
            line = lines[backend, f"{codes}_{storage}"]
            s = stored(bits, storage, 256 // group_size)
            y = ptgq.dequantize(
                q.view(CODES[codes]), s, group_size, dtype=form.dtype, backend=backend
            )
            line.compare("y", canonical(y.view(form.integer), form), right, describe)
            line.checked += y.numel()
