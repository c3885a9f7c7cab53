"""Prove that the backends return the contract's bytes: ``python -m proofs --help``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# The installed package is proven, not the folder of that name.
sys.path.append(sys.path.pop(0))

from proofs import PARTS
from tracking.arguments import Parser, whole_number

BACKENDS = ("cuda", "triton", "cpu", "reference")
# On a CPU: a backend, one of how many cases it is checked on, in which parts, and what selects it.
# Triton's interpreter takes a minute for what a device does in a microsecond.
CPU_PLAN = (
    ("cpu", 1, (), {}),
    ("cpu", 16, (), {"PTGQ_CPU_ISA": "avx2"}),
    ("cpu", 16, (), {"PTGQ_CPU_ISA": "baseline"}),
    ("reference", 32, (), {}),
    ("triton", 1 << 14, ("pairs", "conversion", "dequantize"), {"TRITON_INTERPRET": "1"}),
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(prog="proofs", description=__doc__)
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), help="by default cuda where there is one")
    add("--backend", action="append", choices=BACKENDS, help="only this one; repeatable")
    add("--part", action="append", choices=PARTS, help="only this one; repeatable")
    add("--format", action="append", metavar="NAME", help="only this one; repeatable")
    add("--stride", type=whole_number(1), help="check one case of so many")
    add("--whole", action="store_true", help="on a CPU: every case on every instruction set")
    add("--record", type=Path, metavar="FILE", help="keep what is counted there, see newest.json")
    add("--out-of-bounds", action="store_true", help="read where nothing is, for a memory checker")
    options = parser.parse_args(arguments)
    if options.record and not options.record.absolute().parent.is_dir():
        parser.error(f"--record: {options.record.parent} is no folder")
    import torch

    from proofs.formats import FORMATS
    from ptgq.backends import why_unavailable

    names = [fmt.name for fmt in FORMATS]
    for name in options.format or ():
        if name not in names:
            parser.error(f"--format must be one of {', '.join(names)}, got {name!r}")
    gpu = torch.cuda.is_available()
    options.device = options.device or ("cuda" if gpu else "cpu")
    if options.device == "cuda" and not gpu:
        parser.error("--device: no CUDA device is visible")
    device = torch.device(options.device, 0 if options.device == "cuda" else None)
    for name in options.backend or ():
        if reason := why_unavailable(name, device):
            parser.error(f"--backend: {name} is not available: {reason}")
    return options


def unused_instruction_sets() -> tuple[str, ...]:
    """Return the sets that this processor has and does not use unasked."""
    import torch

    best = torch.backends.cpu.get_cpu_capability()
    return {"AVX512": ("avx2", "baseline"), "AVX2": ("baseline",)}.get(best, ())


def run_plan(options: argparse.Namespace) -> int:
    """Run CPU_PLAN, a process for each entry; return 1 if one found a difference."""
    unused = unused_instruction_sets()
    failed = []
    begin = time.perf_counter()
    for backend, stride, parts, environment in CPU_PLAN:
        parts = [part for part in options.part or PARTS if part in (parts or PARTS)]
        if not parts or (parts == ["conversion"] and backend != "triton"):
            continue
        if "PTGQ_CPU_ISA" in environment and environment["PTGQ_CPU_ISA"] not in unused:
            continue
        stride = options.stride or (1 if options.whole and backend == "cpu" else stride)
        entry = " ".join([*(f"{key}={value}" for key, value in environment.items()), backend])
        print(f"\n=== {entry}: one case of {stride}", flush=True)
        command = [sys.executable, "-m", "proofs", "--device=cpu", f"--backend={backend}"]
        command += [f"--stride={stride}", *(f"--part={part}" for part in parts)]
        command += [f"--format={name}" for name in options.format or ()]
        command += [f"--record={options.record}"] if options.record else []
        if subprocess.run(command, env={**os.environ, **environment}).returncode:
            failed.append(entry)
    print(f"\n{time.perf_counter() - begin:.0f} s in all; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def prove(device: str, backends: Sequence[str], options: argparse.Namespace) -> int:
    """Run the parts on one device in this process."""
    import torch

    from proofs import blocks, calls, dequantize, float32, pairs, record
    from proofs.formats import FORMATS, one_a_rule
    from proofs.report import Report

    formats = [fmt for fmt in FORMATS if fmt.name in (options.format or [fmt.name])]
    rules = one_a_rule(formats)
    parts, stride, gpu = options.part or PARTS, options.stride or 1, device == "cuda"
    # On a GPU the kernels for 16 to 512 elements, a power of two, and those for any other size.
    pair_groups, scale_groups, decision_groups = (
        ((128, 96), (16, 1), (512, 509)) if gpu else ((128,), (1,), (512,))
    )
    rows, chunk = (512, 1 << 25) if gpu else (64, 1 << 16 if "triton" in backends else 1 << 20)
    if not gpu:
        # Blocks fit the cache, and so little work is done faster by one thread.
        torch.set_num_threads(1)
    report = Report()
    for group_size in pair_groups if "pairs" in parts else ():
        every = group_size == 128
        for eps in (1e-10, 1e-24) if every and backends != ["triton"] else (1e-10,):
            pairs.prove(
                report, device, backends, formats if every else rules,
                eps=eps, group_size=group_size, rows=rows, stride=stride,
            )  # fmt: skip
    for group_size in scale_groups if "scales" in parts else ():
        float32.prove_scales(
            report, device, backends, rules,
            group_size=group_size, mantissas=max(2, (1 << 20) // stride),
        )  # fmt: skip
    for group_size in decision_groups if "decisions" in parts else ():
        float32.prove_decisions(
            report, device, backends, rules,
            group_size=group_size, mantissas=max(2, (1 << (10 if gpu else 8)) // stride),
        )  # fmt: skip
    if "quotients" in parts:
        # All scales are 1.
        plain = [fmt for fmt in rules if not fmt.power_of_two]
        float32.prove_quotients(report, device, backends, plain, chunk=chunk, stride=stride)
    if "conversion" in parts and "triton" in backends:
        from proofs import conversion

        conversion.prove(report, device, chunk=chunk, stride=stride)
    if "dequantize" in parts:
        dequantize.prove(report, device, backends, rows=1 << (16 if gpu else 8), stride=stride)
    if "blocks" in parts:
        # The oracle takes a CPU minutes for all: one case of 64.
        blocks.prove(report, device, backends, stride=stride if gpu else 64 * stride)
    if "calls" in parts:
        blocks.run_calls(report, device, backends, min(stride, len(blocks.FORMATS)))
        calls.run(report, device, backends, stride=stride)
    status = report.close()
    if options.record:
        selection = {"parts": list(parts), "formats": options.format, "one_case_of": stride}
        new = record.entry(device, backends, selection, report.checked, report.wrong)
        record.keep(options.record, new)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if nothing differs, 1 if something does."""
    options = parse(arguments)
    if options.out_of_bounds:
        from proofs import calls

        calls.read_out_of_bounds(options.device)
        return 0
    if options.device == "cpu" and not options.backend:
        return run_plan(options)
    return prove(options.device, options.backend or ["cuda", "triton"], options)


if __name__ == "__main__":
    sys.exit(main())
