"""Threads, processes, modes, large sizes, exhausted memory: what a server does with a kernel."""

from __future__ import annotations

import gc
import multiprocessing
import resource
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Barrier

import pytest
import torch
from numeric import assert_same_results
from values import hard_input, random_input

import ptgq

FP8, INT8 = ptgq.per_token_group_quant_fp8, ptgq.per_token_group_quant_int8
GPU = pytest.param("cuda", marks=pytest.mark.gpu)
EVERY_GPU = pytest.param(
    "every cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
    ],
)
BACKENDS = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}
THREADS = 16
# What a hang is ended after.
SECONDS = 120


def variants(x, backend):
    """Each kind of result; those of one thread are checked against those of one before."""
    return [
        *FP8(x, 64, backend=backend),
        *FP8(x, 64, True, True, backend=backend),
        *INT8(x, 64, backend=backend),
    ]


def assert_same(actual, expected):
    for k in range(0, len(expected), 2):
        assert_same_results(actual[k : k + 2], expected[k : k + 2])


@pytest.mark.parametrize("where", ["cpu", GPU, EVERY_GPU])
def test_16_threads_with_streams_and_backends_of_their_own(where):
    barrier = Barrier(THREADS)

    def work(number):
        kind = where.rpartition(" ")[2]
        backend = BACKENDS[kind][number % len(BACKENDS[kind])]
        # Threads of the same backend are on different devices.
        index = number // 3 % torch.cuda.device_count() if where == "every cuda" else 0
        device = torch.device(kind, index)
        stream = torch.cuda.Stream(device) if kind == "cuda" else None
        shapes = [(1 + number, 128), (33, 64 * (1 + number)), (512, 2048)]
        inputs = [hard_input(*shape, 64, torch.bfloat16, seed=number) for shape in shapes]
        expected = [variants(x, "reference") for x in inputs]
        on_device = [x.to(device) for x in inputs]
        barrier.wait(SECONDS)
        with torch.cuda.stream(stream) if stream else nullcontext(), ptgq.use_backend(backend):
            for _ in range(8):
                results = [variants(x, None) for x in on_device]
            if stream:
                stream.synchronize()
            for result, wanted in zip(results, expected, strict=True):
                assert_same(result, wanted)
        return number

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS), timeout=SECONDS)) == list(range(THREADS))


# The reference has no C++ of ours, and each of its calls is many of torch's.
@pytest.mark.parametrize(("backend", "rounds"), [("cpu", 667), ("reference", 67)])
def test_16_threads_of_many_small_calls(backend, rounds):
    # Of so few elements most of the time is Python's, and the way to C++ and back.
    barrier = Barrier(THREADS)

    def work(number):
        shapes = [(1 + number, 128), (2, 64 * (1 + number)), (3 + number % 3, 320)]
        inputs = [hard_input(*shape, 64, torch.bfloat16, seed=number) for shape in shapes]
        expected = [variants(x, "reference") for x in inputs]
        barrier.wait(SECONDS)
        # Three calls a round.
        for k in range(rounds):
            assert_same(variants(inputs[k % 3], backend), expected[k % 3])
        return number

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS), timeout=SECONDS)) == list(range(THREADS))


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs free-threaded Python"
)
def test_free_threaded_python_stays_so(tmp_path):
    # A module that does not say it is safe turns the lock on for the whole process, with a warning.
    code = (
        "import sys, torch, ptgq; ptgq.per_token_group_quant_fp8(torch.ones(4, 128), 64); "
        "print(sys._is_gil_enabled())"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "False", done.stderr


def in_process(queue, method, device, shapes, expected):
    if method == "fork":
        # GNU OpenMP's threads do not survive a fork: without this torch's own operations hang,
        # too. torch's DataLoader does it in its workers.
        torch.set_num_threads(1)
    for shape, results in zip(shapes, expected, strict=True):
        x = random_input(shape, torch.bfloat16).to(device)
        for backend in BACKENDS[device]:
            assert_same(variants(x, backend), results)
    queue.put("the same")


def run_in_process(method, device, *shapes):
    """What a child says that is made after this process has quantized with several threads."""
    expected = [
        [t.cpu() for t in variants(random_input(shape, torch.bfloat16).to(device), None)]
        for shape in shapes
    ]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=in_process, args=(queue, method, device, shapes, expected))
    child.start()
    child.join(SECONDS)
    alive = child.is_alive()
    if alive:
        child.kill()
        child.join()
    assert not alive, "the child hangs"
    return child.exitcode, None if queue.empty() else queue.get()


# Of Python 3.12: a process with threads should not fork. What happens if it does is the question.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@FORKS
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes(method):
    assert run_in_process(method, "cpu", (4, 128), (512, 4096)) == (0, "the same")


@FORKS
@pytest.mark.gpu
def test_a_spawned_process_has_the_gpu_and_a_forked_one_is_refused():
    assert run_in_process("spawn", "cuda", (64, 512)) == (0, "the same")
    # torch's own rule: CUDA can't be initialized again in a forked process.
    status, said = run_in_process("fork", "cuda", (64, 512))
    assert (status, said) == (1, None)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("mode", ["inference_mode", "no_grad", "autocast", "deterministic"])
def test_modes_change_nothing(mode, device):
    x = hard_input(33, 512, 64, torch.float32).to(device)
    for backend in BACKENDS[device]:
        expected = variants(x, backend)
        if mode == "deterministic":
            torch.use_deterministic_algorithms(True)
            try:
                actual = variants(x, backend)
            finally:
                torch.use_deterministic_algorithms(False)
        else:
            options = {"autocast": (device, torch.bfloat16)}.get(mode, ())
            with getattr(torch, mode)(*options):
                actual = variants(x, backend)
                out = FP8(x, 64, backend=backend)
                assert FP8(x, 64, out=out, backend=backend)[0] is out[0]
        assert_same(actual, expected)


@pytest.mark.parametrize("shape", [(70_000, 128), (3, 70_000 * 64), (70_000, 64)])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_more_than_65535_rows_and_groups(backend, shape):
    x = random_input(shape, torch.bfloat16)
    assert_same_results(FP8(x, 64, True, True, backend=backend)[:2],
                        FP8(x.clone(), 64, True, True, backend="reference"))  # fmt: skip
    rows = FP8(x[-1:], 64, True, True, backend="reference")
    q, s = FP8(x, 64, True, True, backend=backend)
    assert_same_results((q[-1:], s[-1:].contiguous()), (rows[0], rows[1].contiguous()))


@pytest.mark.large
@pytest.mark.parametrize("group_size", [128, 96])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_more_than_2_31_elements(backend, group_size):
    # Rows that share memory: only the results take some.
    hidden = 96 * 128
    tokens = 2**31 // hidden + 64
    x = hard_input(1, hidden, group_size, torch.bfloat16)
    row_q, row_s = FP8(x, group_size, backend="reference")
    for column_major in (False, True):
        q, s = FP8(x.expand(tokens, -1), group_size, column_major, backend=backend)
        assert q.numel() > 2**31
        for rows in q.view(torch.uint8).split(4096):
            assert torch.equal(rows, row_q.view(torch.uint8).expand(len(rows), -1))
        assert torch.equal(s.view(torch.int32), row_s.view(torch.int32).expand(tokens, -1))
        del q, s
    flat = torch.ones(1, dtype=torch.bfloat16).expand(1)
    assert FP8(flat, 1, backend=backend)[0].shape == (1,)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_exhausted_memory_raises_and_the_next_call_works(backend):
    x = random_input((1, 4096), torch.bfloat16).cuda()
    expected = FP8(x, 128, backend="reference")
    rows = torch.cuda.get_device_properties(0).total_memory // 4096 + 1
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            FP8(x.expand(rows, -1), 128, backend=backend)
        assert_same_results(FP8(x, 128, backend=backend), expected)


def resident() -> int:
    """Return how many bytes of memory the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(
    ("backend", "device", "calls"),
    [
        ("cpu", "cpu", 100_000),
        ("reference", "cpu", 2_000),
        pytest.param("cuda", "cuda", 100_000, marks=pytest.mark.gpu),
        pytest.param("triton", "cuda", 100_000, marks=pytest.mark.gpu),
    ],
)
def test_memory_does_not_grow(backend, device, calls):
    x = random_input((4, 256), torch.bfloat16).to(device)
    out = FP8(x, 64, backend=backend)

    def call(times):
        for _ in range(times // 4):
            FP8(x, 64, backend=backend)
            FP8(x, 64, out=out, backend=backend)
            INT8(x, 64, backend=backend)
            # An exception holds a traceback, which holds the arguments: not for ever.
            with pytest.raises(ValueError, match="group_size"):
                FP8(x, 100, backend=backend)
        gc.collect()

    call(2000)
    if device == "cuda":
        torch.cuda.synchronize()
        on_device = torch.cuda.memory_allocated()
    before = resident()
    call(calls)
    # Of one lost object a call this would be several times as much.
    assert resident() - before < max(calls, 20_000) * 16
    if device == "cuda":
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() == on_device
