"""Packages that the tests' machine can't have, with the signatures of their releases.

Each function takes what the real one takes (vLLM 0.33.0, SGLang 0.5.23, FlashInfer 0.7.4,
Transformer Engine 2.20, DeepGEMM 2.6) and returns what that returns, by ptgq's reference: so a test
sees which format each call asks for.
"""

# Arguments have the names that callers give them by.
# ruff: noqa: A002

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace

import torch

import ptgq


def quantize(x, size, *, int8=False, silu=False, column=False, ue8m0=False, dtype=None, tma=False):
    if int8:
        return ptgq.per_token_group_quant_int8(x, size, backend="reference")
    function = ptgq.per_token_group_quant_fp8
    if silu:
        function = ptgq.silu_and_mul_per_token_group_quant_fp8
    flags = {"scale_dtype": dtype, "tma_aligned_scales": tma, "backend": "reference"}
    return function(x, size, column, ue8m0, **flags)


def quantize_masked(x, masked_m, silu):
    """As DeepGEMM reads it on Hopper, each batch by itself."""
    function = ptgq.per_token_group_quant_fp8
    if silu:
        function = ptgq.silu_and_mul_per_token_group_quant_fp8
    f = ptgq.ScaleFormat.deep_gemm_hopper(per_batch=True)
    return function(x, 128, scale_format=f, masked_m=masked_m, backend="reference")


def vllm() -> dict[str, dict]:
    def per_token_group_quant_fp8(
        x, group_size, eps=1e-10, dtype=None, column_major_scales=False, tma_aligned_scales=False,
        out_q=None, use_ue8m0=None,
    ):  # fmt: skip
        # None is the platform's default, which differs by GPU.
        assert use_ue8m0 is not None
        options = {"column": column_major_scales, "tma": tma_aligned_scales}
        float32 = torch.float32 if use_ue8m0 else None
        return quantize(x, group_size, ue8m0=use_ue8m0, dtype=float32, **options)

    def per_token_group_quant_fp8_packed_for_deepgemm(
        x, group_size, eps=1e-10, use_ue8m0=None, out_q=None
    ):
        assert use_ue8m0
        return quantize(x, group_size, column=True, ue8m0=True, dtype=torch.int32, tma=True)

    def per_token_group_quant_int8(x, group_size, eps=1e-10, dtype=torch.int8):
        return quantize(x, group_size, int8=True)

    def silu_and_mul_per_block_quant(
        input, group_size, quant_dtype, scale_ub=None, is_scale_transposed=False
    ):
        assert quant_dtype == torch.float8_e4m3fn
        return quantize(input, group_size, silu=True, column=is_scale_transposed)

    def persistent_masked_m_silu_mul_quant(
        y, tokens_per_expert, num_parallel_tokens=16, group_size=128
    ):
        return quantize_masked(y, tokens_per_expert, True)

    masked = persistent_masked_m_silu_mul_quant
    experts = "vllm.model_executor.layers.fused_moe.experts.batched_deep_gemm_moe"
    utils = "vllm.model_executor.layers.quantization.utils"
    fp8 = per_token_group_quant_fp8, per_token_group_quant_fp8_packed_for_deepgemm
    return {
        f"{utils}.fp8_utils": {function.__name__: function for function in fp8},
        f"{utils}.int8_utils": {"per_token_group_quant_int8": per_token_group_quant_int8},
        "vllm._custom_ops": {"silu_and_mul_per_block_quant": silu_and_mul_per_block_quant},
        experts: {masked.__name__: masked},
    }


def sglang() -> dict[str, dict]:
    def per_token_group_quant(
        input, output_q=None, output_s=None, group_size=128, scale_ue8m0=False,
        fuse_silu_and_mul=False, masked_m=None, expected_m=None, *, out_dtype=None,
        column_major_scales=False,
    ):  # fmt: skip
        if masked_m is not None:
            q, s = quantize_masked(input, masked_m, fuse_silu_and_mul)
            exist = torch.arange(input.shape[1]) < masked_m.unsqueeze(-1)
            # Nothing is written of other rows.
            output_q.view(torch.uint8)[exist] = q.view(torch.uint8)[exist]
            output_s[exist] = s[exist]
            return output_q, output_s
        options = {"ue8m0": scale_ue8m0, "silu": fuse_silu_and_mul}
        if output_q is None:
            options |= {"column": column_major_scales, "tma": column_major_scales}
            options |= {"int8": out_dtype == torch.int8}
        else:
            # By the tensor's strides, as the package does.
            column = output_s.stride(-2) < output_s.stride(-1)
            aligned = column and output_s.stride(-1) % 4 == 0
            options |= {"column": column, "tma": aligned and output_s.dtype != torch.int8}
            options |= {"int8": output_q.dtype == torch.int8}
        packed = torch.int32 if scale_ue8m0 else None
        q, s = quantize(input, group_size, dtype=packed, **options)
        if output_q is None:
            return q, s
        output_q.copy_(q)
        output_s.copy_(s)
        return output_q, output_s

    name = "sglang.kernels.ops.quantization.per_token_group_quant"
    return {name: {"per_token_group_quant": per_token_group_quant}}


def flashinfer() -> dict[str, dict]:
    def per_token_group_quant_8bit(
        x, group_size, eps=1e-10, dst_dtype=None, column_major_scales=False,
        scale_tma_aligned=False, scale_ue8m0=False, backend="cutile",
    ):  # fmt: skip
        assert backend == ("cuda" if group_size == 128 else "cutile")
        options = {"column": column_major_scales, "tma": scale_tma_aligned, "ue8m0": scale_ue8m0}
        options |= {"dtype": torch.float32 if scale_ue8m0 else None}
        return quantize(x, group_size, int8=dst_dtype == torch.int8, **options)

    def mxfp8_quantize(input, is_sf_swizzled_layout=True, alignment=32):
        assert not is_sf_swizzled_layout
        q, s = quantize(input, 32, ue8m0=True)
        return q, s.view(torch.uint8).flatten()

    def silu_and_mul_mxfp8_quantize(gated_input, *, rowwise=True, colwise=False):
        q, s = quantize(gated_input, 32, silu=True, ue8m0=True)
        return q, q[:0], s.view(torch.uint8), s[:0]

    top = {
        "mxfp8_quantize": mxfp8_quantize,
        "silu_and_mul_mxfp8_quantize": silu_and_mul_mxfp8_quantize,
    }
    eight_bits = {"per_token_group_quant_8bit": per_token_group_quant_8bit}
    return {"flashinfer": top, "flashinfer.quantization": eight_bits}


def transformer_engine() -> dict[str, dict]:
    class Float8BlockQuantizer:
        def __init__(
            self, fp8_dtype, *, rowwise, columnwise, amax_epsilon=0.0, force_pow_2_scales=True,
            block_scaling_dim=2,
        ):  # fmt: skip
            assert (fp8_dtype, rowwise, columnwise, block_scaling_dim) == ("e4m3", True, False, 1)
            self.powers = force_pow_2_scales

        def __call__(self, x):
            float32 = torch.float32 if self.powers else None
            q, s = quantize(x, 128, column=True, tma=True, ue8m0=self.powers, dtype=float32)
            padded = torch.full((s.shape[1], -(-s.shape[0] // 4) * 4), -1.0)
            padded[:, : s.shape[0]] = s.t()
            return SimpleNamespace(_rowwise_data=q.view(torch.uint8), _rowwise_scale_inv=padded)

    class MXFP8Quantizer:
        def __init__(self, fp8_dtype, *, rowwise=True, columnwise=True):
            assert (fp8_dtype, rowwise, columnwise) == ("e4m3", True, False)

        def __call__(self, x):
            q, s = quantize(x, 32, ue8m0=True)
            padded = torch.full((-(-s.shape[0] // 128) * 128, -(-s.shape[1] // 4) * 4), 9)
            padded = padded.to(torch.uint8)
            padded[: s.shape[0], : s.shape[1]] = s.view(torch.uint8)
            return SimpleNamespace(_rowwise_data=q.view(torch.uint8), _rowwise_scale_inv=padded)

    top = {"DType": SimpleNamespace(kFloat8E4M3="e4m3")}
    top |= {cls.__name__: cls for cls in (Float8BlockQuantizer, MXFP8Quantizer)}
    return {"transformer_engine.pytorch": top}


def deep_gemm() -> dict[str, dict]:
    def per_token_cast_to_fp8(x, use_ue8m0, gran_k=128, use_packed_ue8m0=False):
        stored = torch.int32 if use_packed_ue8m0 else torch.float32
        options = {"ue8m0": use_ue8m0, "dtype": stored if use_ue8m0 else None}
        return quantize(x, gran_k, **options)

    math = {"per_token_cast_to_fp8": per_token_cast_to_fp8}
    return {"deep_gemm": {}, "deep_gemm.utils.math": math}


FAKES = {
    "vllm": vllm,
    "sglang": sglang,
    "flashinfer": flashinfer,
    "transformer-engine": transformer_engine,
    "deep-gemm": deep_gemm,
}


def install(monkeypatch, name: str) -> None:
    """Put a package in sys.modules for a test."""
    for path, contents in FAKES[name]().items():
        parts = path.split(".")
        for length in range(1, len(parts) + 1):
            part = ".".join(parts[:length])
            if part not in sys.modules or sys.modules[part].__spec__.origin != "fake":
                module = ModuleType(part)
                module.__path__ = []
                module.__spec__ = importlib.machinery.ModuleSpec(part, None, origin="fake")
                monkeypatch.setitem(sys.modules, part, module)
        vars(sys.modules[path]).update(contents)
