"""The CPU code on aarch64: cross-compiled, run by an emulator, the reference's bytes."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
import torch
from building import ROOT, load_setup
from emulated_calls import Call, calls_of, checked, torch_includes
from values import DTYPES, hard_input

from proofs import oracle, pairs
from proofs.formats import FORMATS as PROVEN
from proofs.formats import one_a_rule
from ptgq import scales

COMPILER = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
pytestmark = pytest.mark.skipif(
    not (COMPILER and EMULATOR), reason="needs aarch64-linux-gnu-g++ and qemu-aarch64"
)


def compile_for_aarch64(source, *options):
    flags = [*load_setup().CXX_FLAGS, "-Werror", f"-I{ROOT / 'csrc'}"]
    flags += [f"-I{path}" for path in torch_includes()]
    flags += ['-DPTGQ_COMMIT=""', '-DPTGQ_CUDA_ARCHITECTURES=""', "-DPy_LIMITED_API=0x030a0000"]
    done = subprocess.run([COMPILER, *flags, *options, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def build_program(folder):
    """The CPU code and what calls it, without torch, Python or libraries of the system."""
    sources = [ROOT / "proofs" / "cpu_calls.cpp", ROOT / "csrc" / "contract" / "check.cpp"]
    sources += (ROOT / "csrc" / "cpu").glob("*.cpp")
    objects = [folder / f"{source.stem}.o" for source in sources]
    with ThreadPoolExecutor() as pool:
        # What is left out of -O3 makes code for a minute more, of the same operations.
        options = [("-O1", "-c", "-o", path) for path in objects]
        list(pool.map(lambda source, more: compile_for_aarch64(source, *more), sources, options))
    subprocess.run([COMPILER, "-static", "-o", folder / "calls", *objects], check=True)
    return folder / "calls"


def calls_of_every_format():
    sizes = ((768, 128), (320, 64), (96, 3))
    for number, (dtype, (hidden_dim, group_size)) in enumerate(product(DTYPES, sizes)):
        x = hard_input(37, hidden_dim, group_size, dtype)
        fused = hard_input(37, 2 * hidden_dim, group_size, dtype)
        yield from calls_of(x, fused, group_size, number)


def calls_of_pairs():
    """Of some absmaxes, every value of their groups; expected is integer arithmetic's result."""
    for fmt, form in product(one_a_rule(PROVEN), (oracle.BFLOAT16, oracle.FLOAT16)):
        kind, dtype, layout = fmt.scales
        f = scales.ScaleFormat(kind, getattr(torch, dtype), layout)
        for absmaxes in pairs.blocks(form, 8, 701):
            block = pairs.Block(form, absmaxes, 128, "cpu")
            nonfinite = "saturate" if fmt.saturate else "mark"
            call = Call(block.x, 128, f, int8=fmt.codes is oracle.INT8, nonfinite=nonfinite)
            call.q, bits = block.expected(fmt, 1e-10)
            expected = fmt.expected_scales(bits, block.groups).contiguous()
            call.memory = expected.view(torch.uint8).flatten()
            yield call


# One test: each would compile.
def test_calls_return_the_bytes_of_the_reference(tmp_path):
    calls = [*calls_of_every_format(), *calls_of_pairs()]
    assert sum(call.q.numel() for call in calls) > 5_000_000
    checked(calls, [EMULATOR, build_program(tmp_path)])


def test_all_of_the_library_compiles(tmp_path):
    # Debian's Python.h includes a file of the architecture, which is alike on these two.
    here = Path(sysconfig.get_path("include"))
    there = tmp_path / "aarch64-linux-gnu" / here.name
    there.parent.mkdir()
    there.symlink_to(here.parent / str(sysconfig.get_config_var("MULTIARCH")) / here.name)
    options = ("-fsyntax-only", f"-I{tmp_path}")
    sources = (ROOT / "csrc" / "bindings").glob("*.cpp")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda source: compile_for_aarch64(source, *options), sources))
