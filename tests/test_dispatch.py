"""Which backend serves a call: status, forcing, threads, tasks; and the registered ops."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path
from threading import Barrier

import pytest
import torch
from numeric import assert_same_results
from values import hard_input

import ptgq
from ptgq import extension
from ptgq.backends import BACKENDS, as_bytes, choose_backend, load
from ptgq.scales import scale_format

CPU = torch.device("cpu")


def forced() -> str:
    return choose_backend(None, CPU)


def test_default_is_the_compiled_backend():
    assert forced() == "cpu"


def test_status_of_every_backend_has_a_reason():
    statuses = ptgq.backends()
    assert tuple(statuses) == BACKENDS
    assert statuses["cpu"].available
    assert statuses["reference"].available
    assert all(status.reason for status in statuses.values())
    assert statuses["cuda"].available == torch.cuda.is_available()


def test_python_m_ptgq_prints_each_backend_with_its_reason(tmp_path):
    command = [sys.executable, "-m", "ptgq"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    facts, statuses = lines[: -len(BACKENDS)], lines[-len(BACKENDS) :]
    assert [line.split()[0] for line in statuses] == list(BACKENDS)
    assert all(len(line.split()) > 2 for line in statuses)
    known = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in facts[1:])
    assert known["torch"] == torch.__version__
    assert known["commit"] == (extension.commit or "none: built outside a checkout")
    assert known["instruction set"] in ("avx512", "avx2", "baseline")
    assert re.fullmatch(r"none|[\d.;af+PTX]+", known["CUDA architectures"])


needs_cuda_code = pytest.mark.skipif(
    extension.missing("cuda") is not None, reason="the library holds no CUDA code"
)


@needs_cuda_code
@pytest.mark.parametrize(("setting", "said"), [(None, "on"), ("1", "on"), ("0", "off")])
def test_ptgq_pdl_turns_dependent_launch_off(monkeypatch, setting, said):
    monkeypatch.delenv("PTGQ_PDL", raising=False)
    if setting is not None:
        monkeypatch.setenv("PTGQ_PDL", setting)
    assert extension.built()["dependent launch"] == said


@needs_cuda_code
@pytest.mark.parametrize("setting", ["", "no", "2"])
def test_another_ptgq_pdl_is_said_and_refused(monkeypatch, setting):
    monkeypatch.setenv("PTGQ_PDL", setting)
    assert extension.built()["dependent launch"] == f"PTGQ_PDL must be 0 or 1, got {setting}"


def test_what_cuda_calls_return_is_checked():
    source = Path(__file__).parents[1] / "csrc"
    calls = [
        line.strip()
        for path in sorted(source.glob("cuda/*.cu*"))
        for line in path.read_text().splitlines()
        if re.search(r"\bcuda[A-Z]\w*\(", line) and not line.strip().startswith("//")
    ]
    # On the device, and the words for an error: what returns no error.
    silent = ("cudaTriggerProgrammatic", "cudaGridDependency", "cudaGetErrorString")
    unchecked = [line for line in calls if not re.match("check\\(", line)]
    assert len(calls) > 5
    assert [line for line in unchecked if not any(name in line for name in silent)] == []


def test_an_unknown_instruction_set_is_said_and_refused(tmp_path):
    code = "import ptgq.__main__, torch; ptgq.per_token_group_quant_int8(torch.ones(1, 4), 4)"
    environment = {**os.environ, "PTGQ_CPU_ISA": "mmx"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    said = "PTGQ_CPU_ISA must be avx512, avx2 or baseline.*got mmx"
    assert re.search(rf"^  instruction set +{said}$", done.stdout, re.MULTILINE)
    assert re.search(said, done.stderr)


def test_the_source_folder_says_that_it_hides_an_installed_ptgq(tmp_path):
    if '"editable": true' in (distribution("ptgq").read_text("direct_url.json") or ""):
        pytest.skip("an editable install finds its library for any folder ptgq")
    root = Path(__file__).parents[1]
    shutil.copytree(root / "ptgq", tmp_path / "ptgq", ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(root / "setup.py", tmp_path)
    command = [sys.executable, "-m", "ptgq"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    (line,) = re.findall("^  cpu .*", done.stdout, re.MULTILINE)
    assert f"not built in {tmp_path / 'ptgq'}, the source, which hides an installed ptgq" in line
    assert "pip install -e ." in line


def test_reference_unasked_warns_once(monkeypatch):
    monkeypatch.setattr(extension, "_C", None)
    monkeypatch.setattr(extension, "quantize_directly", lambda *call: None)
    warned = set()
    module = sys.modules["ptgq.backends"]  # ptgq.backends is the function
    monkeypatch.setattr(module, "_warned", warned)
    monkeypatch.setattr(module, "why_unavailable", module.why_unavailable.__wrapped__)
    x = torch.ones(2, 64)
    ptgq.per_token_group_quant_fp8(x, 64, backend="reference")
    with ptgq.use_backend("reference"):
        ptgq.per_token_group_quant_fp8(x, 64)
    for function in (ptgq.per_token_group_quant_int8, ptgq.silu_and_mul_per_token_group_quant_fp8):
        with pytest.warns(ptgq.PerformanceWarning, match="reference.*cpu tensors.*cpu:") as caught:
            function(x, 32)
        assert [warning.filename for warning in caught] == [__file__]
        function(x, 32)  # a second warning would be an error
        warned.clear()
    torch._dynamo.reset()  # what another test compiled would serve, and warn of nothing
    with pytest.warns(ptgq.PerformanceWarning):
        torch.compile(ptgq.per_token_group_quant_fp8, backend="eager", fullgraph=True)(x, 64)


def test_use_backend_nests_and_restores_on_exceptions():
    with ptgq.use_backend("reference"):
        assert forced() == "reference"
        with pytest.raises(KeyError), ptgq.use_backend("cpu"):
            raise KeyError(forced())
        assert forced() == "reference"
    assert forced() == "cpu"


def test_use_backend_runs_the_backend(monkeypatch):
    calls = []
    reference = load("reference")
    right = reference.per_token_group_quant
    monkeypatch.setattr(
        reference, "per_token_group_quant", lambda *args: (calls.append(1), right(*args))
    )
    x = torch.randn(2, 64)
    ptgq.per_token_group_quant_fp8(x, 64)
    assert not calls
    with ptgq.use_backend("reference"):
        ptgq.per_token_group_quant_fp8(x, 64)
        ptgq.per_token_group_quant_fp8(x, 64, backend="cpu")
    assert calls == [1]


@pytest.mark.parametrize(
    ("backend", "error"), [("vulkan", ValueError), (None, TypeError), (3, TypeError)]
)
def test_use_backend_refuses_what_is_no_backend(backend, error):
    with pytest.raises(error, match="backend must be"), ptgq.use_backend(backend):
        pass


def test_a_forced_backend_that_is_missing_raises_at_the_call():
    with (
        ptgq.use_backend("cuda"),
        pytest.raises(RuntimeError, match="backend 'cuda' is not available for cpu tensors: "),
    ):
        ptgq.per_token_group_quant_int8(torch.ones(1, 64), 64)


def test_use_backend_is_local_to_threads():
    barrier = Barrier(2)

    def in_thread(backend):
        with ptgq.use_backend(backend):
            barrier.wait(10)
            return forced()

    with ptgq.use_backend("reference"), ThreadPoolExecutor(2) as pool:
        assert list(pool.map(in_thread, ["cpu", "reference"])) == ["cpu", "reference"]
        # A thread starts in an empty context or, as free-threaded Python has it, in its starter's.
        inherited = getattr(sys.flags, "thread_inherit_context", False)
        assert pool.submit(forced).result() == ("reference" if inherited else "cpu")


def test_use_backend_is_local_to_tasks():
    async def in_task(backend):
        with ptgq.use_backend(backend):
            await asyncio.sleep(0)
            return forced()

    async def main():
        return await asyncio.gather(*(in_task(name) for name in ("cpu", "reference", "cpu")))

    # In a thread of its own: the browser's driver leaves an event loop in the main one.
    with ThreadPoolExecutor() as pool:
        assert pool.submit(asyncio.run, main()).result() == ["cpu", "reference", "cpu"]


OPS = [
    "per_token_group_quant",
    *(f"per_token_group_quant_{name}" for name in ("reference", "triton")),
]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_opcheck(op, device):
    if op.endswith("triton") and torch.cuda.is_available() and device == "cpu":
        pytest.skip("triton runs on the GPU here")
    for dtype, column_major, ue8m0 in [
        (torch.float8_e4m3fn, False, False),
        (torch.float8_e4m3fn, True, True),
        (torch.int8, False, False),
    ]:
        x = hard_input(6, 128, 64, torch.bfloat16).to(device)
        # As bytes: opcheck compares tensors, which torch does not do for 8-bit floating point.
        q = as_bytes(torch.zeros(x.shape, dtype=dtype, device=device))
        f = scale_format(column_major, ue8m0)
        s = as_bytes(torch.zeros(2, 6, device=device).to(f.dtype))
        s = s.t() if column_major else s.view(6, 2)
        arguments = (x, q, s, 64, 1e-10, f.code)
        torch.library.opcheck(getattr(torch.ops.ptgq, op).default, arguments)


def test_compiled_fullgraph(backend_on):
    backend, device = backend_on

    def run(x):
        a = ptgq.per_token_group_quant_fp8(x, 64, True, True, backend=backend)
        b = ptgq.per_token_group_quant_int8(x, 32, backend=backend)
        return *a, *b

    x = hard_input(6, 128, 64, torch.bfloat16).to(device)
    actual = torch.compile(run, fullgraph=True)(x)
    expected = run(x)
    assert_same_results(actual[:2], expected[:2])
    assert_same_results(actual[2:], expected[2:])


def test_compiled_with_dynamic_rows_and_out():
    compiled = torch.compile(
        lambda x, q, s: ptgq.per_token_group_quant_fp8(x * 2, 64, out=(q, s)),
        fullgraph=True,
        dynamic=True,
    )
    for rows in (3, 5, 8):
        x = torch.randn(rows, 128)
        q, s = torch.empty(rows, 128, dtype=torch.float8_e4m3fn), torch.empty(rows, 2)
        assert_same_results(compiled(x, q, s), ptgq.per_token_group_quant_fp8(x * 2, 64))


def test_fake_tensors_take_every_backend():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(4, 256)
        for backend in ("cpu", "reference"):
            q, s = ptgq.per_token_group_quant_fp8(x, 64, True, backend=backend)
            assert (q.shape, s.stride()) == ((4, 256), (1, 4))
