"""The planted faults: what is replaced by what, and the tests that should find it first."""

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
        "absmax = tl.maximum(absmax, absmax_bits(x, pairs, SATURATE, INTERPRETED))",
        "absmax = absmax_bits(x, pairs, SATURATE, INTERPRETED)",
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
        "past = (token >= existing) & (token < length)",
        "past = (token >= num_tokens) & (token < length)",
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
PYTHON = {
    "reference: INT8 truncated": Mutant(
        "ptgq/backends/reference.py", "y.round().nan_to_num", "y.trunc().nan_to_num",
        "tests/test_reference.py",
    ),
    "reference: scales not rounded up": Mutant(
        "ptgq/backends/reference.py", "(scale.view(torch.int32) + 0x7FFFFF) & 0x7F800000",
        "scale.view(torch.int32) & 0x7F800000", "tests/test_reference.py tests/test_proofs.py",
    ),
    "reference: marked codes keep their sign": Mutant(
        "ptgq/backends/reference.py", ".where(~y.isnan(), 0x7F)",
        ".where(~y.isinf(), 0x7F)", "tests/test_reference.py",
    ),
    "reference: a tensor that threads share": Mutant(
        "ptgq/backends/reference.py",
        "scales[rows] = _scales_of(counted, QMAX[q.dtype], eps, scale_format.power_of_two)",
        "_quantize.groups = groups\n        scales[rows] = _scales_of(\n            counted, "
        "QMAX[q.dtype], eps, scale_format.power_of_two)\n        groups = _quantize.groups",
        "tests/test_concurrency.py -k 'small_calls and reference'",
    ),
    "reference: padding left": Mutant(
        "ptgq/scales/layouts.py", "        memory_of(s, scale_format).zero_()\n",
        "        memory_of(s, scale_format)\n", SCALES,
    ),
    "scales: always a row of padding": Mutant(
        "ptgq/scales/layouts.py", "-(-tokens // scale_format.token_unit)",
        "(tokens // scale_format.token_unit + 1)", f"tests/test_scales.py {SCALES}",
    ),
    "scales: NaN becomes infinity": Mutant(
        "ptgq/scales/conversion.py", ".masked_fill(exponents == 0xFF, _NAN)", "",
        "tests/test_scales.py",
    ),
    "scales: short memory is accepted": Mutant(
        "ptgq/scales/layouts.py", "> s.untyped_storage().nbytes()", "< 0",
        f"{SCALES} -k refused",
    ),
    "silu: the exponent's bound": Mutant(
        "ptgq/backends/activation.py", "gate.clamp(-87, 87)", "gate.clamp(-80, 87)", SILU
    ),
    "api: overlapping out": Mutant(
        "ptgq/arguments.py", "span[0] < others[1] and others[0] < span[1]",
        "span[0] == others[0]", "tests/test_errors.py",
    ),
    "api: a branch on a size that is data": Mutant(
        "ptgq/quantization.py", "(is_eager(x) and x.numel() == 0)", "x.numel() == 0",
        "tests/test_dynamic_sizes.py",
    ),
    "api: a forced backend stays": Mutant(
        "ptgq/backends/__init__.py", "        forced.reset(token)", "        pass",
        "tests/test_dispatch.py",
    ),
}  # fmt: skip
RECORD = {
    "record: another commit's file": Mutant(
        "asv_plugins/storage.py", """f"{stored['commit_hash'][:8]}-\"""", '""',
        "tests/test_storage.py",
    ),
    "record: written in place": Mutant(
        "asv_plugins/storage.py", 'partial = path.with_name(path.name + ".partial")',
        "partial = path", "tests/test_storage.py",
    ),
    "record: an infinity": Mutant(
        "asv_plugins/storage.py", "if math.isinf(number):", "if number is None:",
        "tests/test_storage.py",
    ),
    "record: intervals may meet": Mutant(
        "asv_plugins/verdict.py", "if after.low > before.high and after.value", "if after.value",
        "tests/test_site_build.py tests/test_verdict.py",
    ),
    "tracking: commits of a side branch": Mutant(
        "tracking/commits.py", '"rev-list", "--first-parent", "--end', '"rev-list", "--end',
        "tests/test_tracking.py",
    ),
    "tracking: the base measured twice": Mutant(
        "tracking/rounds.py", "folders.append(folder / \"AB\"[side])\n",
        "folders.append(folder / \"AB\"[side])\n        commit = hashes[0]\n",
        "tests/test_end_to_end.py",
    ),
    "tracking: faster is status 1": Mutant(
        "tracking/compare.py", "return 1 if SLOWER in words",
        "return 1 if {SLOWER, FASTER} & words",
        "tests/test_tracking.py",
    ),
    "tracking: setup.py is not of the library": Mutant(
        "asv_plugins/wheel_cache.py", '(f"{commit}:csrc", f"{commit}:setup.py")',
        '(f"{commit}:csrc", f"{commit}:csrc")',
        "tests/test_compiled_once.py",
    ),
    "tracking: what is installed is kept": Mutant(
        "asv.conf.json", "--no-index --force-reinstall", "--no-index",
        "tests/test_asv_environment.py",
    ),
    "measure: always the reference": Mutant(
        "benchmarks/suite/timed.py", "workload.bind(x, backend=backend, out=out)",
        'workload.bind(x, backend="reference", out=out)', "tests/test_timed.py -k every_row",
    ),
    "build: another commit in the library": Mutant(
        "setup.py", '"--abbrev=10"', '"--abbrev=9"', "tests/test_wheel.py -k commit"
    ),
    "measure: bytes of q left out": Mutant(
        "benchmarks/measure/workloads.py", "return input_bytes + elements + tokens * words",
        "return input_bytes + tokens * words", "tests/test_measure.py tests/test_table.py",
    ),
    "measure: a residual that costs nothing": Mutant(
        "benchmarks/measure/configurations.py", '"norm_residual": (7, 128)',
        '"norm_residual": (3, 128)', "tests/test_beside_gemm.py",
    ),
    "measure: transposed results are not compared": Mutant(
        "benchmarks/measure/agreement.py", '("q", "s", "q_t", "s_t")', '("q", "s")',
        "tests/test_limits_transposed.py",
    ),
    "site: a ratio upside down": Mutant(
        "site/js/speedup.js", "slow.value / fast.value", "fast.value / slow.value",
        "tests/site_pages/test_numbers.py",
    ),
    "site: scripts of others": Mutant(
        "site/index.html", "script-src 'self'", "script-src 'self' 'unsafe-inline'",
        "tests/site_pages/test_opening.py",
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
MUTANTS = CPU | DIRECT | TRITON | PYTHON | RECORD | GPU
