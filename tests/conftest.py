"""Backends under test, each with a device; without a GPU, what needs one is left out."""

from __future__ import annotations

import fcntl
import gc
import importlib.util
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

# Read when torch is imported. Its threads wait without spinning; its compiler starts no process a
# core, each with torch, and believes the processor's flags without compiling a program for each.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

import interpreter
import parsing
import torch
from every import TRITON

# At the end: an installed ptgq is tested, not the folder of that name.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# Before anything runs git: under a hook, tests would commit to the user's repository.
import asv_plugins  # noqa: F401

# What is imported stays: Python need not look through it for garbage, again and again.
gc.disable()

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
HAS_GPU = torch.cuda.is_available()
# Files of tests that build, from the longest: workers that start them last would end last.
LONGEST = ("test_end_to_end.py", "test_wheel.py", "test_asv_environment.py")
if not HAS_GPU:
    # Before triton is imported: its kernels then run on CPU tensors.
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_report_header():
    """Say what is left out."""
    return None if HAS_GPU else "no CUDA device is visible: tests that need one are left out"


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    """Leave out what needs a device where there is none; skip what takes gigabytes unless asked."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [*LONGEST, item.path.name].index(item.path.name))
    if not os.environ.get("PTGQ_LARGE"):
        skip = pytest.mark.skip(reason="takes gigabytes and minutes: PTGQ_LARGE=1")
        for item in items:
            if item.get_closest_marker("large"):
                item.add_marker(skip)
    # The selection by -m and -k comes first: where such tests alone remain, each is skipped.
    yield
    if not HAS_GPU:
        dropped = [item for item in items if item.get_closest_marker("gpu")]
        if len(dropped) < len(items):
            config.hook.pytest_deselected(items=dropped)
            items[:] = [item for item in items if not item.get_closest_marker("gpu")]
        for item in dropped:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish():
    """Let Python look for garbage again, but not in what is there now."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish():
    """Look for what tests left behind once: pytest does so five times, through all of torch."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_unconfigure():
    """End as Python does: else Triton's bindings say that all objects have leaked."""
    try:
        return (yield)
    finally:
        gc.unfreeze()


@pytest.fixture(
    params=[
        pytest.param(("reference", "cuda"), marks=pytest.mark.gpu),
        pytest.param(("cuda", "cuda"), marks=pytest.mark.gpu),
        pytest.param(("triton", "cuda"), marks=pytest.mark.gpu),
        pytest.param(
            TRITON,
            marks=pytest.mark.skipif(HAS_GPU, reason="triton runs on the GPU here"),
        ),
        ("cpu", "cpu"),
    ],
    ids="-".join,
)
def backend_on(request):
    """A backend and the device type it runs on."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _nothing_for_nothing():
    if not HAS_GPU and importlib.util.find_spec("triton"):
        interpreter.leave_out_repetition()
    parsing.leave_out_repetition()
    # For its log, torch measures the checks of all that it compiles, with all caches flushed.
    guards = sys.modules.get("torch._dynamo.guards")
    if hasattr(guards, "profile_guard_manager"):
        guards.profile_guard_manager = lambda *_: 0.0


@pytest.fixture
def served(monkeypatch):
    """Whether the calls so far were served directly, in order."""
    import ptgq
    from ptgq import extension

    ptgq.per_token_group_quant_int8(torch.ones(1, 64), 64)  # the first call of a process is not
    right, log = extension.quantize_directly, []

    def quantize_directly(*call):
        results = right(*call)
        log.append(results is not None)
        return results

    monkeypatch.setattr(extension, "quantize_directly", quantize_directly)
    return log


@pytest.fixture(scope="session")
def chromium():
    """Chromium: one a session, as its driver allows no second."""
    import browser

    with browser.launch() as started:
        yield started


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory):
    """A folder that pytest's workers share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder


@pytest.fixture(scope="session")
def made_once(session_folder):
    """Let pytest's workers share what takes long to make: one makes it, the others wait."""

    def made(name, make):
        folder = session_folder / name
        with (session_folder / f"{name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if lock.seek(0, os.SEEK_END) == 0:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                lock.write("made")
        return folder

    return made


@pytest.fixture
def cached_compiler(session_folder, monkeypatch):
    """Let builds compile equal code once a session, and not optimize it: what is tested is built.

    Without a compiler nothing is changed.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        return
    folder = session_folder / "objects"
    folder.mkdir(exist_ok=True)
    program = folder / f"c++-{os.getpid()}"
    script = Path(__file__).with_name("compiler_cache.py")
    call = shlex.join([sys.executable, str(script), str(folder), compiler])
    program.write_text(f'#!/bin/sh\nexec {call} "$@" -O0 -g0\n')
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))


@pytest.fixture
def load_script(monkeypatch):
    """Load a file of benchmarks/, anew for each test, under a name by which others import it."""

    def load(name, file):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load
