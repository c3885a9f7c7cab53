"""Every format of scales that is accepted, for parametrized tests."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from ptgq import ScaleFormat, scales
from ptgq.scales import known
from ptgq.scales.formats import DTYPES as DTYPES

# By the names of the library's list.
NAMED = {
    name: ScaleFormat(kind, getattr(torch, dtype), layout)
    for name, (kind, dtype, layout) in known.FORMATS.items()
}


def _formats():
    for f in NAMED.values():
        yield f
        if f.column_major and f.dtype is not torch.float8_e8m0fnu:
            yield replace(f, per_batch=True)


def name_of(f):
    per_batch = " per_batch" if f.per_batch else ""
    return f"{f.kind} {str(f.dtype).removeprefix('torch.')} {f.layout}{per_batch}"


FORMATS = {name_of(f): f for f in _formats()}
every_format = pytest.mark.parametrize("f", FORMATS.values(), ids=FORMATS)
# Each kind, type and layout.
INTERPRETED = {
    "float32 float32 row_major",
    "power_of_two float8_e8m0fnu column_major",
    "power_of_two float32 tma_aligned per_batch",
    "power_of_two int32 tma_aligned",
    "power_of_two int32 row_major",
}
# Of another shape than x: tests of all formats are in test_tiles.
TILED = {"all": ScaleFormat("power_of_two", torch.float8_e8m0fnu, "tiled")}
TILED["per_batch"] = replace(TILED["all"], per_batch=True)
# What INT8 codes have.
OF_INT8 = {name: f for name, f in FORMATS.items() if f.dtype is torch.float32}
PADDED = {name: f for name, f in FORMATS.items() if f.tma_aligned}


def interpret_few(backend_on, f):
    """Skip most formats in Triton's interpreter, whose bytes of all are tested elsewhere."""
    interpreted = backend_on == ("triton", "cpu")
    if interpreted and name_of(f) not in INTERPRETED and not os.environ.get("PTGQ_EVERY_CASE"):
        pytest.skip("every case in Triton's interpreter: PTGQ_EVERY_CASE=1")


def memory(s, f):
    """All bytes of the scales, padding included, as they lie in memory."""
    return scales.memory_of(s, f).cpu().view(torch.uint8)
