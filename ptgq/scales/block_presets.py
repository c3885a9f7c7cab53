"""What the consumers of weights in blocks read: presets of ``ScaleFormat``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ptgq.scales.known import BLOCK_FORMATS, BLOCK_PRESETS, BLOCK_SIZE, FORMATS

if TYPE_CHECKING:
    from ptgq.scales.formats import ScaleFormat


class BlockPresets:
    """The presets of a weight's scales; all are for blocks of 128 x 128."""

    @classmethod
    def torch_scaled_mm_blocks(cls) -> ScaleFormat:
        """``torch._scaled_mm``, block-wise 128 x 128 (cuBLAS, Hopper): float32, aligned rows.

        Beside activations in :meth:`ScaleFormat.torch_scaled_mm`. Source: cuBLAS, "1D and 2D Block
        Scaling" of cublasLt: K-major, padded to a multiple of 4; PyTorch,
        ``is_blockwise_128x128_scaling`` in ``aten/src/ATen/native/cuda/ScaledBlas.cpp``: shape
        ``[ceil(N / 128), ceil(K / 128)]``, strides ``(ceil(K / 128) rounded up to 4, 1)``; that of
        2.11 refuses the padding, so there K has to divide by 512. As the
        second operand, the weight and its scales are passed transposed; ``w`` has sizes that divide
        by 16. ``torch.nn.functional.scaled_mm`` with ``ScalingType.BlockWise128x128`` wants the
        padding in the shape: ``ptgq.scales.memory_of(s, f).view(len(s), -1).t()``. Transformer
        Engine's ``Float8BlockQuantizer(block_scaling_dim=2)`` has the same rows.
        """
        return cls._of_blocks("torch_scaled_mm_blocks")

    @classmethod
    def deep_gemm_hopper_blocks(cls) -> ScaleFormat:
        """DeepGEMM's weights on Hopper: float32, row-major, no padding.

        Beside activations in :meth:`ScaleFormat.deep_gemm_hopper`; experts are the leading
        dimension. Source: DeepGEMM, ``per_block_cast_to_fp8`` in ``deep_gemm/utils/math.py``, and
        ``check_sf_layout`` with ``sm90_sfb_check`` in ``csrc/utils/layout.hpp``. vLLM's and
        SGLang's block-scaled GEMMs read the same ``weight_scale_inv``, transposed.
        """
        return cls._of_blocks("deep_gemm_hopper_blocks")

    @classmethod
    def deep_gemm_blackwell_blocks(cls) -> ScaleFormat:
        """DeepGEMM's weights on Blackwell: powers of two as float32, row-major, no padding.

        It packs them itself, once a row, and asserts on the device that sign and mantissa are 0
        (``transform_sf_into_required_layout`` in ``csrc/apis/layout.hpp``): a marked block ends the
        process, so quantize with ``nonfinite="saturate"`` what may not be finite. Source:
        ``per_block_cast_to_fp8(..., use_ue8m0=True)`` in ``deep_gemm/utils/math.py``.
        """
        return cls._of_blocks("deep_gemm_blackwell_blocks")

    @classmethod
    def _of_blocks(cls, name: str) -> ScaleFormat:
        kind, dtype, layout = (FORMATS | BLOCK_FORMATS)[BLOCK_PRESETS[name]]
        make: type[ScaleFormat] = cls  # type: ignore[assignment]
        sizes = (BLOCK_SIZE,)
        return make(kind, getattr(torch, dtype), layout, group_sizes=sizes, preset=name)
