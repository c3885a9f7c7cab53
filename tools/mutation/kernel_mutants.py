"""The faults that are planted in kernels, and what a fault is."""

from __future__ import annotations

from typing import NamedTuple

BYTES = "tests/test_backends.py"
SCALES = "tests/test_scale_formats.py"
SILU = "tests/test_silu_and_mul.py"


class Mutant(NamedTuple):
    """A file with one wrong piece of text.

    Attributes
    ----------
    file, old, new : str
        `old` is there once, and becomes `new`.
    tests : str
        Arguments for pytest: where it should be found. If nothing is, all tests are run.
    gpu : bool
        Whether it takes a GPU to find it.
    """

    file: str
    old: str
    new: str
    tests: str
    gpu: bool = False


CPU = {
    "cpu: scale by a reciprocal": Mutant(
        "csrc/contract/numerics.h", "  return absmax / qmax;", "  return absmax * (1.0f / qmax);",
        f"{BYTES} -k cpu-cpu",
    ),
    "cpu: quotient by a reciprocal alone": Mutant(
        "csrc/cpu/groups.inc",
        "return __builtin_fmaf(x, by.reciprocal, of_rest * by.rest);",
        "return x * by.reciprocal + 0 * of_rest;",
        "tests/test_hard_quotients.py",
    ),
    "cpu: INT8 rounded down": Mutant(
        "csrc/cpu/numerics.h",
        "return bits_of(y + 0x1.8p23f * kUnit);",
        "return bits_of(y - 0.5f * kUnit + 0x1.8p23f * kUnit);",
        f"{BYTES} -k cpu-cpu",
    ),
    "cpu: power of two rounded down": Mutant(
        "csrc/contract/numerics.h", "(bits_of(positive) + 0x7FFFFF) & 0x7F800000",
        "bits_of(positive) & 0x7F800000",
        f"{BYTES} -k cpu-cpu",
    ),
    "cpu: infinity is finite": Mutant(
        "csrc/contract/numerics.h", "return absmax_bits < kInfinityBits;",
        "return absmax_bits <= kInfinityBits;",
        f"{BYTES} -k cpu-cpu",
    ),
    "cpu: float16 subnormals": Mutant(
        "csrc/cpu/numerics.h", "magnitude < 0x04000000u", "magnitude < 0x02000000u",
        f"{BYTES} -k cpu-cpu",
    ),
    "cpu: rows as if contiguous": Mutant(
        "csrc/cpu/groups.inc", "place.token * p.x_token_stride + place.group * size",
        "place.token * p.num_groups * size + place.group * size",
        f"{BYTES} -k 'cpu-cpu and strided'",
    ),
    "cpu: the last element skipped": Mutant(
        "csrc/cpu/groups.inc", "for (; i < size; ++i) q[i] = code_of",
        "for (; i + 1 < size; ++i) q[i] = code_of",
        f"{BYTES} -k cpu-cpu",
    ),
    "cpu: bytes of a word reversed": Mutant(
        "csrc/contract/scales.h", "return p.packed ? 4 * at + group % 4 : at;",
        "return p.packed ? 4 * at + 3 - group % 4 : at;",
        f"{SCALES} -k 'golden and cpu-cpu'",
    ),
    "cpu: padding of words left": Mutant(
        "csrc/contract/scales.h",
        "(token == column_tokens - 1 || group == static_cast<Index>(p.num_groups) - 1)",
        "(token == column_tokens - 1)",
        f"{SCALES} -k 'padding and cpu-cpu'",
    ),
    "cpu: scales of the next batch": Mutant(
        "csrc/contract/scales.h",
        "token -= batch * column_tokens;",
        "token -= batch * column_tokens - 1;",
        f"{SCALES} -k cpu-cpu",
    ),
    "cpu: eps is not the floor": Mutant(
        "csrc/contract/numerics.h", "absmax > eps ? absmax : eps", "absmax > 0 ? absmax : eps",
        f"{BYTES} -k cpu-cpu",
    ),
    "cpu: an instruction set nobody asked for": Mutant(
        "csrc/cpu/quantize.cpp", "std::strcmp(wanted, set.name) == 0", "std::strlen(wanted) != 4",
        f"{BYTES} -k instruction_set",
    ),
    "cpu: a scale of no tokens": Mutant(
        "csrc/cpu/matrices.cpp", "store_scale(c, column, group, 0.0f);",
        "store_scale(c, column, group, 1.0f);",
        "tests/test_masked_transposed.py -k cpu-cpu",
    ),
    "op: any strides of scales": Mutant(
        "csrc/contract/check.cpp",
        "require(s.sizes[i] == 1 ||",
        "require(true || s.sizes[i] == 1 ||",
        "tests/test_errors.py",
    ),
}  # fmt: skip
DIRECT = {
    "direct: columns without their padding": Mutant(
        "csrc/bindings/module.cpp", "padded ? scale_elements(p) : 0", "0",
        "tests/test_direct_formats.py -k 'direct and tma'",
    ),
    "direct: out without the memory of its padding": Mutant(
        "csrc/bindings/module.cpp", ">= 4 * scale_elements(p)", ">= 0",
        "tests/test_direct_formats.py -k out_of_memory",
    ),
    "direct: padding that reaches q": Mutant(
        "csrc/contract/views.h", "scale_elements(p) * (bytes ? 1 : 4)",
        "p.num_tokens * (bytes ? 1 : 4)",
        "tests/test_direct_formats.py -k out_of_memory",
    ),
    "direct: products without gradients": Mutant(
        "csrc/bindings/fast_path.h", "|| !requires_grad(s_tensor)", "|| true",
        "tests/test_direct_blocks.py -k others",
    ),
}  # fmt: skip
TRITON = {
    "triton: the next group's element": Mutant(
        "ptgq/backends/triton_kernel.py", "inside_tile & (columns < GROUP_SIZE)",
        "inside_tile & (columns <= GROUP_SIZE)",
        f"{BYTES} -k triton-cpu",
    ),
    "triton: absmax of the last block": Mutant(
        "ptgq/backends/triton_kernel.py",
        "absmax = tl.maximum(absmax, absmax_bits(x, halved, SATURATE, INTERPRETED))",
        "absmax = absmax_bits(x, halved, SATURATE, INTERPRETED)",
        f"tests/test_triton_indices.py {SILU}",
    ),
    "triton: rows as if contiguous": Mutant(
        "ptgq/backends/triton_kernel.py",
        "* x_token_stride + group * GROUP_SIZE\n            if PADDED:",
        "* num_groups * GROUP_SIZE + group * GROUP_SIZE\n            if PADDED:",
        f"{BYTES} -k 'triton-cpu and strided'",
    ),
    "triton: padding of 1": Mutant(
        "ptgq/backends/triton_kernel.py", "scale = tl.where(inside, scale, 0.0)",
        "scale = tl.where(inside, scale, 1.0)",
        f"{SCALES} -k triton-cpu",
    ),
    "triton: the next batch's place": Mutant(
        "ptgq/backends/triton_kernel.py", "(s_groups // (4 if PACKED else 1) - 1)",
        "(s_groups // (4 if PACKED else 1))",
        f"{SCALES} -k triton-cpu",
    ),
    "triton: INT8 of NaN left": Mutant(
        "ptgq/backends/triton_kernel.py",
        "tl.store(q_ptrs, tl.zeros_like(codes), mask=inside & (finite == 0))", "pass",
        f"{BYTES} -k triton-cpu",
    ),
    "triton: float32 groups of 96 in columns": Mutant(
        "ptgq/backends/triton_kernel.py", "slot // adjacent % TOKENS\n",
        "slot // adjacent % (TOKENS // (1 + (GROUP_SIZE == 96 and not E8M0)))\n",
        f"{BYTES} -k 'triton-cpu and groups'",
    ),
    "triton: codes of tokens that don't exist left": Mutant(
        "ptgq/backends/triton_transposed_kernel.py",
        "past = (index >= existing) & (index < length - first_token)",
        "past = (index >= tokens_left) & (index < length - first_token)",
        "tests/test_masked_transposed.py -k triton-cpu",
    ),
    "triton: a launch of other groups": Mutant(
        "ptgq/backends/triton.py", "return device, dtypes, strides, group_size,",
        "return device, dtypes, strides,",
        "tests/test_direct_triton.py",
    ),
    "triton: padding left by a direct launch": Mutant(
        "ptgq/backends/triton_transposed.py", "if padded or any(", "if any(",
        "tests/test_transposed.py -k launched",
    ),
}  # fmt: skip
GPU = {
    "cuda: scale by a reciprocal": Mutant(
        "csrc/contract/numerics.h", "return __fmaf_rn(__fmaf_rn(-y, qmax, absmax), reciprocal, y);",
        "return y;", BYTES, gpu=True,
    ),
    "cuda: padding of words left": Mutant(
        "csrc/contract/scales.h",
        "(token == column_tokens - 1 || group == static_cast<Index>(p.num_groups) - 1)",
        "(token == column_tokens - 1)", SCALES, gpu=True,
    ),
}  # fmt: skip
KERNELS = CPU | DIRECT | TRITON | GPU
