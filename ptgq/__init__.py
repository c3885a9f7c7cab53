"""Per-token group quantization to 8 bits (FP8 E4M3 and INT8) on CUDA, Triton and CPU."""

from ptgq import scales
from ptgq.api import (
    per_token_group_quant_fp8,
    per_token_group_quant_int8,
    silu_and_mul_per_token_group_quant_fp8,
    silu_and_mul_per_token_group_quant_int8,
)
from ptgq.arguments import Nonfinite
from ptgq.backends import (
    Backend,
    BackendStatus,
    PerformanceWarning,
    backends,
    use_backend,
)
from ptgq.blocks import dequantize_blocks, per_block_quant_fp8
from ptgq.dequantization import dequantize
from ptgq.rms_norm import (
    rms_norm_per_token_group_quant_fp8,
    rms_norm_per_token_group_quant_int8,
)
from ptgq.scales import ScaleFormat
from ptgq.transposed import per_token_group_quant_fp8_transposed

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendStatus",
    "Nonfinite",
    "PerformanceWarning",
    "ScaleFormat",
    "backends",
    "dequantize",
    "dequantize_blocks",
    "per_block_quant_fp8",
    "per_token_group_quant_fp8",
    "per_token_group_quant_fp8_transposed",
    "per_token_group_quant_int8",
    "rms_norm_per_token_group_quant_fp8",
    "rms_norm_per_token_group_quant_int8",
    "scales",
    "silu_and_mul_per_token_group_quant_fp8",
    "silu_and_mul_per_token_group_quant_int8",
    "use_backend",
]
