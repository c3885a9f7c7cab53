"""Machine code is read without a GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.suite import footprint, machine_code
from ptgq.extension import _runs_on

ROOT = Path(__file__).resolve().parents[1]
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
COMPILE = """
import json, sys
sys.path.append(sys.argv[1])
from benchmarks.suite import triton_offline
results = [triton_offline.compiled(90, "fp8_row_float32", 64) for _ in range(2)]
print(json.dumps([*map(triton_offline.metrics_of, results)]))
"""


@pytest.mark.skipif(machine_code.cuobjdump() is None, reason="there is no cuobjdump here")
def test_triton_kernels_compile_for_a_gpu_that_is_not_here(tmp_path):
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, str(ROOT)]
    run = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    first, second = json.loads(run.stdout)
    assert first == second
    assert set(first) == {"kernels", *machine_code.METRICS}
    assert 16 <= first["registers"] <= 255
    assert first["instructions"] > 50


RESOURCES = """
Fatbin elf code:
arch = sm_90
 Function kernel:
  REG:38 STACK:16 SHARED:128 LOCAL:0 CONSTANT[0]:608
Fatbin elf code:
arch = sm_100
 Function kernel:
  REG:40 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:608
"""
SASS = """
arch = sm_90
\t\tFunction : kernel
        /*0000*/                   LDC R1, c[0x0][0x28] ;       /* 0x00000a00ff017b82 */
                                                                /* 0x000fe20000000f00 */
        /*0010*/              @!P0 STL.64 [R1+0x8], R2 ;        /* 0x0 */
        /*0020*/                   STL [R1], R2 ;               /* 0x0 */
        /*0030*/               @P0 EXIT ;                       /* 0x0 */
        /*0040*/                   NOP;                         /* 0x0 */
"""


def test_metrics_of_a_dump(monkeypatch):
    def dump(command, **options):
        text = {"-res-usage": RESOURCES, "-sass": SASS}[command[1]]
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(machine_code, "cuobjdump", lambda: "cuobjdump")
    monkeypatch.setattr(subprocess, "run", dump)
    found = machine_code.kernels(Path("library.so"))
    codes = [metrics.pop("code") for metrics in found.values()]
    assert len({*codes}) == 2
    assert all(0 < code == float(code) < 2**48 for code in codes)
    sm_90 = dict(zip(machine_code.METRICS, (38, 12, 16, 128, 4), strict=False))
    sm_100 = dict(zip(machine_code.METRICS, (40, 0, 0, 0, 0), strict=False))
    assert found == {(90, "kernel"): sm_90, (100, "kernel"): sm_100}
    first, second = ({**metrics, "code": 1} for metrics in (sm_90, sm_100))
    combined = machine_code.combine([first, first, second])
    assert combined.pop("code") == machine_code.code_of([1, 1, 1])
    assert combined == {
        "kernels": 3,
        "registers": 40,
        "spill_bytes": 24,
        "stack_bytes": 16,
        "shared_bytes": 128,
        "instructions": 8,
    }
    assert machine_code.main("library.so") == 1  # it spills


@pytest.mark.parametrize(
    ("mangled", "plain", "family"),
    [
        ("_ZN4ptgq13vector_kernelI13__nv_bfloat16Lb0ELi16EEEvNS_15VectorArgumentsE",
         "vector_kernel<bfloat16, 0, 16>", "vector_kernel<bfloat16>"),
        ("_ZN4ptgq13vector_kernelI6__halfLb1ELNS_9PlacementE2ELi8EEEvNS_15VectorArgumentsE",
         "vector_kernel<float16, 1, 2, 8>", "vector_kernel<float16>"),
        ("_ZN4ptgq11tile_kernelI6__halfLb1EEEvNS_13TileArgumentsE", "tile_kernel<float16, 1>",
         "tile_kernel<float16>"),
        ("_ZN4ptgq28per_token_group_quant_kernelIfEEvNS_15KernelArgumentsE",
         "per_token_group_quant_kernel<float32>", "per_token_group_quant_kernel<float32>"),
        ("_ZN4ptgq5emptyILi3EEEvv", "empty<3>", "empty"),
        ("_ZN4ptgq5emptyEv", "empty", "empty"),
        ("triton_kernel", "triton_kernel", "triton_kernel"),
    ],
)  # fmt: skip
def test_names_of_kernels_are_readable(mangled, plain, family):
    assert machine_code.plain_name(mangled) == plain
    assert machine_code.family(mangled) == family


def test_each_kernel_is_counted_in_its_family_and_in_all(monkeypatch):
    template = "_ZN4ptgq11tile_kernelI6__halfLb{}ELb1EEEvNS_13TileArgumentsE"
    metrics = dict.fromkeys(machine_code.METRICS, 3)
    names = (template.format(0), template.format(1), "new")
    found = {(90, name): metrics for name in names}
    monkeypatch.setattr(machine_code, "cuobjdump", lambda: "cuobjdump")
    monkeypatch.setattr(machine_code, "kernels", lambda path: found)
    monkeypatch.setattr(footprint, "_library", lambda: Path("_C.so"))
    two, three = ({**metrics, "kernels": n, "spill_bytes": 3 * n, "instructions": 3 * n,
                   "code": machine_code.code_of([3] * n)} for n in (2, 3))  # fmt: skip
    assert footprint.families(Path("_C.so"))["new"]["kernels"] == 1
    results = footprint.library_kernels()
    assert list(results) == [(family,) for family in footprint.Kernels.params[0]]
    measured = {key: value for key, value in results.items() if isinstance(value, dict)}
    # A family that is not listed, as of an older commit, is in all.
    assert measured == {("tile_kernel<float16>",): two, ("all",): three}


def test_the_listed_families_are_those_of_the_library(monkeypatch):
    from ptgq import extension

    # Names are those of the resources: the instructions take seconds, and are read of other files.
    dump = machine_code._dump
    monkeypatch.setattr(
        machine_code, "_dump", lambda what, path: () if what == "-sass" else dump(what, path)
    )
    if machine_code.cuobjdump() is None or extension.missing("cuda"):
        pytest.skip("there is no cuobjdump here, or the library is built without CUDA")
    library = footprint._library()
    found = footprint.families(library)
    listed = footprint.FAMILIES.read_text().split()
    assert listed == list(found), f"python -m benchmarks.suite.footprint {library}"
    counts = {family: metrics["kernels"] for family, metrics in found.items()}
    assert counts.pop("all") == sum(counts.values()) == len(machine_code.kernels(library))


KERNEL = "__global__ void kernel(float* x) { x[threadIdx.x] *= 2; }"


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_equal_instructions_have_equal_hashes(tmp_path):
    def codes(folder, source):
        path = tmp_path / folder / "kernel.cu"
        path.parent.mkdir()
        path.write_text(source)
        command = [
            NVCC,
            "-cubin",
            "-arch=sm_90",
            "-lineinfo",
            "-o",
            path.with_suffix(".cubin"),
            path,
        ]
        subprocess.run(command, check=True)
        found = machine_code.kernels(path.with_suffix(".cubin"))
        return [metrics["code"] for metrics in found.values()]

    plain = codes("one", KERNEL)
    assert codes("another", f"// A comment.\n\n{KERNEL}") == plain
    assert codes("constant", KERNEL.replace("2", "3")) != plain
    # The same instructions, more shared memory.
    assert (
        codes("shared", KERNEL.replace("{ ", "{ __shared__ volatile int y[9]; y[0] = 1; ")) != plain
    )


def test_a_library_is_disassembled_once(tmp_path, monkeypatch):
    calls = []

    def disassembled(path):
        calls.append(path.read_text())
        return {(90, "kernel"): {"registers": len(calls)}}

    monkeypatch.setattr(machine_code, "disassembled", disassembled)
    monkeypatch.setenv("ASV_ENV_DIR", str(tmp_path))
    for name, text in (("a.so", "one"), ("b.so", "one"), ("c.so", "two"), ("a.so", "one")):
        (tmp_path / name).write_text(text)
        found = machine_code.kernels(tmp_path / name)
        assert found == {(90, "kernel"): {"registers": 1 + (text == "two")}}
    assert calls == ["one", "two"]
    monkeypatch.delenv("ASV_ENV_DIR")
    assert machine_code.kernels(tmp_path / "a.so") == {(90, "kernel"): {"registers": 3}}


def test_a_file_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    def fail(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "not an ELF file")

    monkeypatch.setattr(machine_code, "cuobjdump", lambda: "cuobjdump")
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(RuntimeError, match="not an ELF file"):
        machine_code.kernels(tmp_path / "x")


@pytest.mark.parametrize("capability", [*machine_code.CAPABILITIES, "8.7", "11.0", "12.1", "13.0"])
def test_the_wheel_serves_every_capability(capability):
    major, minor = map(int, capability.split("."))
    assert any(_runs_on(architecture, (major, minor)) for architecture in machine_code.WHEEL)


@pytest.mark.skipif(machine_code.cuobjdump() is None, reason="there is no cuobjdump here")
def test_a_library_without_device_code_has_no_kernels():
    import torch

    assert machine_code.kernels(Path(torch.__file__).parent / "lib" / "libc10.so") == {}


@pytest.mark.parametrize("module", ["machine_code", "footprint"])
@pytest.mark.parametrize("arguments", [[], ["nowhere.so"]], ids=["none", "no file"])
def test_without_a_library_its_command_is_one_line(module, arguments):
    command = [sys.executable, "-m", f"benchmarks.suite.{module}", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"{module}: error: one file is needed, _C.so\n"
