"""The formats of scales by name, which of them known consumers read, and what x is; without torch.

The library, its tests, the exhaustive checks, the table, the suite and the site read these lists.
The suite measures older commits, too, so it loads this file by its path.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["float32", "power_of_two"]
Layout = Literal["row_major", "column_major", "tma_aligned", "tiled", "aligned_rows"]


class Stored(NamedTuple):
    """The attributes of a :class:`ptgq.ScaleFormat`, `dtype` by its name in torch."""

    kind: Kind
    dtype: str
    layout: Layout


class Preset(NamedTuple):
    """What a consumer reads: a format, the group sizes, and whether also columns of each batch."""

    scales: str
    group_sizes: tuple[int, ...]
    per_batch: bool = False


# Of x.
INPUT_DTYPES = ("bfloat16", "float16", "float32")
# Every combination that somebody reads; columns also of each batch, but for bytes.
FORMATS = {
    "row_float32": Stored("float32", "float32", "row_major"),
    "row_ue8m0": Stored("power_of_two", "float8_e8m0fnu", "row_major"),
    "column_float32": Stored("float32", "float32", "column_major"),
    "column_ue8m0": Stored("power_of_two", "float8_e8m0fnu", "column_major"),
    "row_packed": Stored("power_of_two", "int32", "row_major"),
    "tma_float32": Stored("float32", "float32", "tma_aligned"),
    "tma_packed": Stored("power_of_two", "int32", "tma_aligned"),
    "row_ue8m0_float32": Stored("power_of_two", "float32", "row_major"),
    "column_ue8m0_float32": Stored("power_of_two", "float32", "column_major"),
    "tma_ue8m0_float32": Stored("power_of_two", "float32", "tma_aligned"),
}
# Those that a preset alone names, not the functions' other arguments; also of each batch.
TILED_FORMATS = {"tiled_ue8m0": Stored("power_of_two", "float8_e8m0fnu", "tiled")}
TILED_PRESETS = {"torch_scaled_mm_mx": Preset("tiled_ue8m0", (32,), per_batch=True)}
# Formats of a weight's blocks alone.
BLOCK_FORMATS = {
    "aligned_row_float32": Stored("float32", "float32", "aligned_rows"),
    "aligned_row_ue8m0_float32": Stored("power_of_two", "float32", "aligned_rows"),
}
BLOCK_SIZE = (128, 128)
BLOCK_PRESETS = {
    "torch_scaled_mm_blocks": "aligned_row_float32",
    "deep_gemm_hopper_blocks": "row_float32",
    "deep_gemm_blackwell_blocks": "row_ue8m0_float32",
}
# By the methods of ptgq.ScaleFormat, which name their sources.
PRESETS = {
    "deep_gemm_hopper": Preset("tma_float32", (128,), per_batch=True),
    "deep_gemm_blackwell": Preset("tma_packed", (32, 128), per_batch=True),
    "deep_gemm_mega_moe": Preset("row_packed", (32,)),
    "torch_scaled_mm": Preset("column_float32", (128,)),
    "vllm_cutlass": Preset("column_float32", (128,)),
    "sglang_cutlass": Preset("column_float32", (128,)),
    "ocp_mx": Preset("row_ue8m0", (32,)),
}
