"""What scales are, how they are stored, and which combinations somebody reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import get_args

import torch

from ptgq.scales.block_presets import BlockPresets
from ptgq.scales.combinations import why_refused
from ptgq.scales.known import FORMATS, PRESETS, TILED_FORMATS, TILED_PRESETS, Kind, Layout
from ptgq.values import as_int, check_bool, check_dtype, check_tensor, shown

_KINDS, _LAYOUTS = get_args(Kind), get_args(Layout)

DTYPES = (torch.float32, torch.float8_e8m0fnu, torch.int32)
# Rows of a matrix (here: columns of scales) start at multiples of so many bytes for TMA, the copy
# engine of Hopper and later GPUs.
TMA_BYTES = 16
# Of tensor cores on Blackwell: tokens, and groups of each.
TILE = (128, 4)


@dataclass(frozen=True)
class ScaleFormat(BlockPresets):
    """How scales are stored. The presets below name what known consumers read.

    A marked group (its scale and its codes are NaN) makes its token's row of a product NaN, and no
    other row, unless its preset says otherwise; :func:`ptgq.scales.check_scales` finds it.

    Attributes
    ----------
    kind : {"float32", "power_of_two"}
        What values a scale can have: any, or (UE8M0) powers of two, to which it is rounded up.
    dtype : torch.dtype
        ``torch.float32``; ``torch.float8_e8m0fnu``, one byte, value ``2 ** (byte - 127)``, 0xFF is
        NaN (OCP Microscaling Formats v1.0, section 5.4.1); or ``torch.int32``, four such bytes of
        neighbouring groups, the first group in the lowest byte. Then the last dimension counts
        words, ``ceil(num_groups / 4)``, and the bytes of the last word past the last group are 0.
    layout : {"row_major", "column_major", "tma_aligned", "tiled", "aligned_rows"}
        ``row_major``: contiguous, the groups of a token side by side.
        ``column_major``: same shape, the storage is ``[num_groups, num_tokens]``, the tokens of a
        group side by side.
        ``tma_aligned``: column-major, each column as long as the next multiple of 16 bytes, so
        that all start at one. The memory past the last token of a column, of the last one too, is
        0.
        ``tiled``: bytes in tiles of 128 tokens and 4 groups, see :meth:`torch_scaled_mm_mx`.
        ``aligned_rows``: of blocks alone: row-major, each row as long as the next multiple of 16
        bytes; the memory behind the last block of a row is 0.
    per_batch : bool
        Whether each batch of a ``[batch, tokens, hidden_dim]`` input has columns of its own, one
        after the other: storage ``[batch, num_groups, num_tokens]``. Else a column runs over all
        leading dimensions of the input.
    group_sizes : tuple of int, or of pairs of int
        The group sizes that the consumer reads, or, as pairs, the block sizes; others are refused.
        Empty: any.
    preset : str or None
        What :attr:`group_sizes` come from, for messages. Formats are equal, and hash alike,
        whatever these two are; :func:`dataclasses.replace` keeps them.

    Raises
    ------
    TypeError
        If an attribute has a wrong type, or `dtype` is none that scales have.
    ValueError
        For a combination that nobody reads, with the reason.
    """

    kind: Kind
    dtype: torch.dtype
    layout: Layout = "row_major"
    per_batch: bool = False
    group_sizes: tuple[int | tuple[int, int], ...] = field(default=(), compare=False, kw_only=True)
    preset: str | None = field(default=None, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        for name, value, accepted in (
            ("kind", self.kind, _KINDS),
            ("layout", self.layout, _LAYOUTS),
        ):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, got {shown(value)}")
            if value not in accepted:
                raise ValueError(f"{name} must be one of {accepted}, got {shown(value)}")
        check_dtype("dtype", self.dtype, DTYPES)
        check_bool("per_batch", self.per_batch)
        if not isinstance(self.group_sizes, tuple):
            raise TypeError(f"group_sizes must be a tuple of ints, got {shown(self.group_sizes)}")
        for size in self.group_sizes:
            sides = size if isinstance(size, tuple) else (size,)
            if min(as_int("group_sizes", side) for side in sides or (0,)) < 1:
                raise ValueError(f"group_sizes must be at least 1 each, got {shown(size)}")
        if not isinstance(self.preset, (str, type(None))):
            raise TypeError(f"preset must be a str or None, got {shown(self.preset)}")
        reason = why_refused(self)
        if reason:
            raise ValueError(f"no such scales: {reason}")

    @cached_property
    def code(self) -> int:
        """What :func:`encode_format` returns."""
        return encode_format(self)

    def __getstate__(self) -> dict[str, object]:
        """What is pickled and copied: not `code`, which another version may count otherwise."""
        return {name: value for name, value in vars(self).items() if name != "code"}

    @property
    def column_major(self) -> bool:
        """Whether neighbouring tokens lie side by side."""
        return self.layout in ("column_major", "tma_aligned")

    @property
    def tma_aligned(self) -> bool:
        """Whether columns are padded to 16 bytes."""
        return self.layout == "tma_aligned"

    @property
    def aligned(self) -> bool:
        """Whether columns or rows are padded to 16 bytes."""
        return self.layout in ("tma_aligned", "aligned_rows")

    @property
    def power_of_two(self) -> bool:
        """Whether scales are rounded up to a power of two."""
        return self.kind == "power_of_two"

    @property
    def packed(self) -> bool:
        """Whether an element holds the scales of four groups."""
        return self.dtype is torch.int32

    @property
    def token_unit(self) -> int:
        """Of how many tokens a column is a multiple."""
        if self.layout == "tiled":
            return TILE[0]
        return TMA_BYTES // self.dtype.itemsize if self.tma_aligned else 1

    @property
    def group_unit(self) -> int:
        """Of how many groups a token is a multiple in memory."""
        return 4 if self.packed or self.layout == "tiled" else 1

    @classmethod
    def deep_gemm_hopper(cls, *, per_batch: bool = False) -> ScaleFormat:
        """DeepGEMM's FP8 GEMMs on Hopper: float32, TMA-aligned columns; group size 128.

        `per_batch` for its masked grouped GEMM. Source: DeepGEMM, ``check_sf_layout`` in
        ``csrc/utils/layout.hpp`` and ``get_mn_major_tma_aligned_tensor`` in
        ``csrc/jit_kernels/impls/smxx_layout.hpp``: strides ``(aligned * groups, 1, aligned)``.
        Its TMA descriptor covers the padding, whose results are not stored.
        vLLM: ``column_major_scales=True, tma_aligned_scales=True``; SGLang: ``scale_tma_aligned``.

        Not for Blackwell: there DeepGEMM packs float32 scales, and 2.6.1 asserts on the device that
        sign and mantissa are 0 (``transpose_and_pack_fp32_into_ue8m0`` in
        ``deep_gemm/include/deep_gemm/impls/smxx_layout.cuh``). A marked group, or a scale that is
        no power of two, ends the process.
        """
        return cls._preset("deep_gemm_hopper", per_batch)

    @classmethod
    def deep_gemm_blackwell(cls, *, per_batch: bool = False) -> ScaleFormat:
        """DeepGEMM's FP8 GEMMs on Blackwell: packed, TMA-aligned columns; group size 32 or 128.

        `per_batch` for its masked grouped GEMM. Source: DeepGEMM, README and
        ``get_mn_major_tma_aligned_packed_ue8m0_tensor`` in
        ``csrc/jit_kernels/impls/smxx_layout.hpp``, whose padding bytes are 0 as well. vLLM:
        ``per_token_group_quant_fp8_packed_for_deepgemm``; SGLang: ``scale_ue8m0``. No value is
        looked at: a marked group's byte reaches the tensor cores, for which 0xFF is NaN.
        """
        return cls._preset("deep_gemm_blackwell", per_batch)

    @classmethod
    def deep_gemm_mega_moe(cls) -> ScaleFormat:
        """DeepGEMM's fused mixture of experts: packed, row by row; group size 32.

        Source: DeepGEMM, ``x_sf`` ("K-major") in ``csrc/apis/mega.hpp`` and
        ``per_token_cast_to_fp8(..., use_packed_ue8m0=True)`` in ``deep_gemm/utils/math.py``.

        With ``activation_clamp`` a marked group is hidden: 2.6.1 clamps by ``__hmin2`` and
        ``__hmax2`` (``sm100_fp8_fp4_mega_moe.cuh`` in ``deep_gemm/include/deep_gemm/impls``), which
        drop a NaN, so its token gets finite values of the clamp's size.
        """
        return cls._preset("deep_gemm_mega_moe")

    @classmethod
    def vllm_cutlass(cls) -> ScaleFormat:
        """VLLM's CUTLASS block-scaled GEMM: float32 columns, no padding; group size 128.

        Source: vLLM, ``cutlass_scaled_mm`` in ``csrc/quantization/w8a8/cutlass``, whose
        ``c3x/scaled_mm_helper.hpp`` wants groups of ``[1, 128]``, fed with
        ``column_major_scales=True`` of ``per_token_group_quant_fp8`` in
        ``vllm/model_executor/layers/quantization/utils/fp8_utils.py``. On compute capability 10.0
        it needs a number of tokens that divides by 4.
        """
        return cls._preset("vllm_cutlass")

    @classmethod
    def sglang_cutlass(cls) -> ScaleFormat:
        """SGLang's CUTLASS block-scaled GEMM: float32 columns, no padding; group size 128.

        Source: SGLang, ``fp8_blockwise_scaled_mm`` in
        ``sgl-kernel/csrc/gemm/fp8_blockwise_gemm_kernel.cu``: "scales_a must be M major". Where the
        number of tokens does not divide by 4, it pads a copy itself.
        """
        return cls._preset("sglang_cutlass")

    @classmethod
    def torch_scaled_mm(cls) -> ScaleFormat:
        """``torch._scaled_mm``, block-wise 1 × 128 (cuBLAS, Hopper): float32 columns, no padding.

        Source: PyTorch, ``is_blockwise_1x128_scaling`` and ``_scaled_block1x128_block1x128`` in
        ``aten/src/ATen/native/cuda/ScaledBlas.cpp``: strides ``(1, num_tokens)``; for the second
        operand pass the transpose. One group a token (``group_size=hidden_dim``) is its row-wise
        recipe, in any float32 format, without this preset. Its MX recipe reads
        :meth:`torch_scaled_mm_mx`.
        """
        return cls._preset("torch_scaled_mm")

    @classmethod
    def torch_scaled_mm_mx(cls, *, per_batch: bool = False) -> ScaleFormat:
        """MXFP8 as the tensor cores of Blackwell read it: UE8M0 bytes in tiles; group size 32.

        `s` is ``[ceil(tokens / 128) * 128, ceil(groups / 4) * 4]``, contiguous, 0 where no token or
        no group is; with `per_batch` each batch has tiles of its own, one after the other. In
        memory the tiles of 128 tokens and 4 groups follow each other, 512 bytes each, those of the
        same tokens first; the byte of token t and group g of a tile is at
        ``t % 32 * 16 + t // 32 * 4 + g``. So rows and columns of `s` are none of tokens and
        groups: :func:`ptgq.scales.convert` makes these.

        Source: cuBLAS, "1D Block Scaling Factors Layout" of cublasLt; PyTorch,
        ``SwizzleType.SWIZZLE_32_4_4`` with ``ScalingType.BlockWise1x32`` of
        ``torch.nn.functional.scaled_mm``, which takes `s` as it is; for the second operand quantize
        its rows, too. That GEMM, on compute capability 10.0, was not run.
        """
        return cls._preset("torch_scaled_mm_mx", per_batch)

    @classmethod
    def ocp_mx(cls) -> ScaleFormat:
        """OCP Microscaling (MXFP8): one byte a group, row by row; group size 32.

        Source: OCP Microscaling Formats (MX) Specification v1.0, sections 5.2 and 5.4.1. The
        specification leaves the conversion open; ptgq rounds the scale up, so nothing saturates. By
        it all elements of a group whose scale is NaN are NaN.
        """
        return cls._preset("ocp_mx")

    @classmethod
    def _preset(cls, name: str, per_batch: bool = False) -> ScaleFormat:
        scales, group_sizes, _ = (PRESETS | TILED_PRESETS)[name]
        kind, dtype, layout = (FORMATS | TILED_FORMATS)[scales]
        dtype = getattr(torch, dtype)
        return cls(kind, dtype, layout, per_batch, group_sizes=group_sizes, preset=name)


def encode_format(f: ScaleFormat) -> int:
    """Return the format as a number, which ``decode_format`` reads, here and in ``csrc``."""
    # Properties are used, as a subclass may override them. torch does not compile cached ones.
    layout = 3 if f.layout == "tiled" else f.column_major + f.tma_aligned
    code = f.power_of_two | DTYPES.index(f.dtype) << 1 | layout << 3 | f.per_batch << 5
    return code | (f.layout == "aligned_rows") << 6


def decode_format(code: int) -> ScaleFormat:
    """Return the format that has a :attr:`ScaleFormat.code`; raise ValueError for other numbers."""
    storage, layout, rest = code >> 1 & 3, code >> 3 & 3, code >> 5
    if storage == 3 or rest not in (0, 1, 2) or (rest == 2 and layout):
        hint = ": this program was exported by an older ptgq, export it again" if code == -1 else ""
        raise ValueError(f"scale_format must be the code of a ptgq.ScaleFormat, got {code}{hint}")
    layout = layout if rest < 2 else 4
    return ScaleFormat(_KINDS[code & 1], DTYPES[storage], _LAYOUTS[layout], rest == 1)


def check_format(name: str, value: ScaleFormat) -> None:
    """Raise unless it is a format."""
    if not isinstance(value, ScaleFormat):
        raise TypeError(f"{name} must be a ptgq.ScaleFormat, got {shown(value)}")


def check_in_format(name: str, s: torch.Tensor, scale_format: ScaleFormat) -> None:
    """Raise unless it is a tensor of the format's dtype."""
    check_format("scale_format", scale_format)
    hint = ": the same scales, stored otherwise; ptgq.scales.convert changes that"
    known = getattr(s, "dtype", None) in DTYPES
    check_tensor(name, s, (scale_format.dtype,), hint if known else "")
