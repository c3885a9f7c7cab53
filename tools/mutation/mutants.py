"""The planted faults: what is replaced by what, and the tests that should find it first."""

from __future__ import annotations

from kernel_mutants import KERNELS, SCALES, SILU, Mutant

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
MUTANTS = KERNELS | PYTHON | RECORD
