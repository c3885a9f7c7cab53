"""Other implementations: what each is asked for, what it gives back, and why it is not there."""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace

import fake_peers
import peers
import pytest
import torch
from measure import against, timers
from measure.configurations import STATES, STORED
from measure.workloads import Workload

ALWAYS = ("torch-eager", "torch-compile")
GROUPS = (32, 64, 128)


@pytest.fixture(autouse=True)
def forget():
    """What is missing is looked up anew."""
    peers.missing.cache_clear()
    peers.version_of.cache_clear()
    yield
    peers.missing.cache_clear()
    peers.version_of.cache_clear()


def forms(tokens=5):
    """Yield a small workload of every form."""
    for group, scales, silu in itertools.product(GROUPS, STORED, (False, True)):
        yield Workload(tokens, 3 * group, group, scales=scales, silu_and_mul=silu)
        if STORED[scales].dtype == "float32":
            yield Workload(tokens, 3 * group, group, "int8", scales, silu_and_mul=silu)


def served(name, device="cpu"):
    """Return those that an implementation serves, of a machine that has all it needs."""
    can = dataclasses.replace(peers.module(name).CAN, devices=("cpu",), capability=(0, 0))
    return [workload for workload in forms() if can.lacks(workload) is None]


def assert_same(workload, result, x):
    found = against.exactness(workload, x, result)
    assert (found.codes, found.scales) == (0, 0), workload
    assert found.snr > 25


def test_each_name_is_a_file_that_says_what_it_can():
    for name in peers.NAMES:
        module = peers.module(name)
        assert module.IMPORTS.partition(".")[0] == peers.PACKAGES[name]
        assert isinstance(module.CAN, peers.Can)
        assert isinstance(module.OUT, bool)
        assert module.__doc__
        assert set(module.CAN.scales + module.CAN.silu) <= set(STORED)
        assert served(name)


@pytest.mark.parametrize("name", fake_peers.FAKES)
def test_a_package_is_asked_for_the_form_that_is_measured(monkeypatch, name):
    fake_peers.install(monkeypatch, name)
    monkeypatch.setattr(peers.module("flashinfer"), "find_spec", lambda name: name == "cuda.tile")
    assert peers.missing(name) is None
    for workload in served(name):
        x = workload.make_input("cpu")
        call = peers.bind(name, workload, x)
        assert_same(workload, peers.results(name, workload, call()), x)


def test_results_are_written_into_tensors_that_are_given(monkeypatch):
    fake_peers.install(monkeypatch, "sglang")
    assert peers.module("sglang").OUT
    for workload in served("sglang"):
        x, out = workload.make_input("cpu"), workload.make_output("cpu")
        peers.bind_into("sglang", workload, x, out)()
        assert_same(workload, out, x)


def test_what_takes_none_keeps_its_results_until_the_next_call(monkeypatch):
    workload = Workload(4, 256, 128)
    x, seen = workload.make_input("cpu"), []

    def bind(workload, x, out):
        def call():
            # Let go of before the next one is made, so that the same memory serves.
            assert [last for last in seen if last() is not None] == []
            q = x.clone()
            seen[:] = [weakref.ref(q)]
            return q, None

        return call

    monkeypatch.setattr(peers.module("vllm"), "bind", bind)
    call = peers.bind_into("vllm", workload, x, workload.make_output("cpu"))
    for _ in range(3):
        call()
        assert seen[0]() is not None


@pytest.mark.parametrize("name", ["torch-eager", "torchao"])
def test_what_runs_on_a_cpu_runs(name):
    if peers.missing(name):
        pytest.skip(peers.missing(name))
    ran = 0
    for workload in served(name):
        x = workload.make_input("cpu")
        if peers.lacks(name, workload, "cpu"):
            continue
        try:
            found = against.checked(name, workload, x)
        except NotImplementedError:
            continue
        ran += 1
        if name in ALWAYS and not workload.silu_and_mul:
            assert (found.codes, found.scales) == (0, 0)
        # Fewer differ than the half that truncation gives.
        assert found.codes < 0.4 * workload.tokens * workload.hidden
        assert found.snr > 25
    assert ran >= 6


def test_inductor_gives_the_contracts_bytes():
    for workload in (
        Workload(6, 256, 64),
        # The same code, compiled for any number of tokens.
        Workload(9, 256, 64),
        Workload(6, 256, 64, scales="tma_packed"),
        Workload(6, 256, 64, scales="column_ue8m0"),
    ):
        x = workload.make_input("cpu")
        found = against.checked("torch-compile", workload, x)
        assert (found.codes, found.scales) == (0, 0)


def test_compiled_code_serves_all_tokens_and_is_never_eager_in_silence():
    compiled = peers.module("torch-compile")._compiled
    first, second = (compiled(128, "fp8", "row_float32", silu, 0) for silu in (False, True))
    assert first is compiled(128, "fp8", "row_float32", False, 0)
    code = [function._torchdynamo_orig_callable.__code__ for function in (first, second)]
    assert code[0] is not code[1]


@pytest.mark.parametrize(
    ("workload", "name", "reason"),
    [
        (Workload(4, 256, 128, dtype="int8"), "deep-gemm", "has no INT8"),
        (Workload(4, 256, 128, scales="row_packed"), "vllm", "has no scales row_packed"),
        (Workload(4, 256, 8), "sglang", "takes groups of 16, 32, 64, 128, 256, not 8"),
        (Workload(4, 256, 128, silu_and_mul=True), "torchao", "has no fused SiLU"),
        (
            Workload(4, 256, 32, scales="tma_packed", silu_and_mul=True),
            "vllm",
            "has no fused SiLU with scales tma_packed",
        ),
        (
            Workload(4, 256, 128, input_dtype=torch.float32),
            "flashinfer",
            "takes bfloat16, float16, not float32",
        ),
    ],
)
def test_what_lacks_a_form_says_which(workload, name, reason):
    assert peers.module(name).CAN.lacks(workload) == reason


def test_what_is_not_there_says_why(monkeypatch):
    workload = Workload(4, 256, 128)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers.importlib.util, "find_spec", lambda package: None)
        assert peers.lacks("sglang", workload, "cuda") == "sglang is not installed"
    peers.missing.cache_clear()
    broken = ModuleType("deep_gemm")
    broken.__spec__ = peers.importlib.machinery.ModuleSpec("deep_gemm", None)

    def fail(name):
        raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    real = peers.importlib.import_module
    monkeypatch.setitem(sys.modules, "deep_gemm", broken)
    monkeypatch.setattr(
        peers.importlib, "import_module", lambda n: (fail if n == "deep_gemm" else real)(n)
    )
    expected = "can't be imported: OSError (libcudart.so.13: cannot open shared object file)"
    assert peers.missing("deep-gemm") == f"deep_gemm {expected}"


def test_a_device_that_it_does_not_run_on(monkeypatch):
    fake_peers.install(monkeypatch, "vllm")
    assert peers.lacks("vllm", Workload(4, 256, 128), "cpu") == "does not run on cpu"


def test_other_shapes_than_the_references_are_no_result():
    workload = Workload(4, 256, 128)
    q, s = workload.make_output("cpu")
    with pytest.raises(ValueError, match=r"s is torch.float32 \(2, 4\), not .* \(4, 2\)"):
        peers.results("vllm", workload, (q, s.t()))


def test_differences_are_counted():
    workload = Workload(4, 256, 128)
    x = workload.make_input("cpu")
    q, s = (one.clone() for one in workload.call(x, backend="reference"))
    q.view(torch.uint8)[0, :3] ^= 1
    s[1, 1] *= 2
    right, wrong = (
        against.exactness(workload, x, result)
        for result in (workload.call(x, backend="reference"), (q, s))
    )
    assert (right.codes, right.scales) == (0, 0)
    assert (wrong.codes, wrong.scales) == (3, 1)
    assert wrong.snr < right.snr


def test_what_fills_the_caches_is_not_timed(monkeypatch):
    order, now = [], iter(range(100))
    monkeypatch.setattr(against.time, "perf_counter", lambda: next(now) * against.WARM_SECONDS / 3)
    clock = SimpleNamespace(start=lambda: order.append("start"), stop=lambda: 1.0)

    def call():
        order.append("call")

    timers.loop_timer(call, 2, clock, against.warm(call))()
    assert order == ["call"] * 2 + ["start"] + ["call"] * 2


def test_the_page_for_others_users_names_all_that_is_called():
    page = (Path(__file__).parents[1] / "docs/migration.md").read_text(encoding="utf-8")
    for package in fake_peers.FAKES.values():
        for contents in package().values():
            for name in contents:
                assert re.search(rf"\b{name}\b", page) or name == "DType", name
    for name in ("from_hp", "to_mx", "triton_fp8_blockwise_act_quant_lhs"):
        assert name in page


def test_a_call_that_waits_for_the_device_has_no_kernel_time():
    with pytest.raises(NotImplementedError, match="no CUDA graph holds it"):
        against.PeerKernels(Workload(4, 256, 32, scales="row_packed"), "deep-gemm", "cpu")


@pytest.mark.parametrize("name", ["torch-eager", "sglang"])
def test_a_peers_kernels_are_timed_in_every_state(monkeypatch, name):
    # As on a GPU, of whose graphs a replay runs the calls again.
    if name in fake_peers.FAKES:
        fake_peers.install(monkeypatch, name)
    monkeypatch.setattr(timers, "capture", lambda calls: lambda: [call() for call in calls])
    monkeypatch.setattr(timers, "SHORT_SECONDS", 1e-6)
    monkeypatch.setattr(against.Kernels, "_flush", property(lambda self: lambda: None))
    monkeypatch.setattr("measure.kernels.l2_bytes", lambda: 2**16)
    monkeypatch.setattr("measure.kernels._TRIAL", (1, 2))
    kernels = against.PeerKernels(Workload(4, 256, 128), name, "cpu")
    for state in STATES:
        assert isinstance(kernels.timer(name, state)(), float)
    if peers.module(name).OUT:
        # Each buffer of the rotation was written.
        for x, out, _ in (*kernels._one, *kernels._rotation):
            assert_same(kernels.workload, out, x)


def test_a_slow_calls_graphs_are_shorter(monkeypatch):
    lengths = []
    about = {"copy": 1e-6, "torch-eager": 5e-5}
    monkeypatch.setattr(against.Kernels, "_about", lambda self, name="copy": about[name])
    lengths = against.PeerKernels(Workload(4, 256, 128), "torch-eager", "cpu").lengths
    assert lengths == timers.lengths_for(5e-5) != timers.lengths_for(1e-6)
    kernels = against.PeerKernels(Workload(4, 256, 128), "torch-eager", "cpu")
    x, out, copied = kernels._one[0]
    assert kernels._bind("torch-eager", x, out, copied)() is None
    assert kernels._bind("copy", x, out, copied)() is copied
