"""What only a device can show: streams, graphs, the current device, sizes past 2^31, memory."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from numeric import assert_same_results
from values import random_input

import ptgq
from ptgq import extension

pytestmark = pytest.mark.gpu
FP8 = ptgq.per_token_group_quant_fp8
BACKENDS = ("cuda", "triton", "reference")


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def test_default_is_the_extension():
    from ptgq.backends import choose_backend

    assert ptgq.backends()["cuda"].available
    assert choose_backend(None, torch.device("cuda")) == "cuda"


def test_use_backend_forces_triton(monkeypatch):
    from ptgq.backends import load

    triton = load("triton")
    right, calls = triton.per_token_group_quant, []
    monkeypatch.setattr(triton, "_launches", {})
    monkeypatch.setattr(
        triton, "per_token_group_quant", lambda *args: (calls.append(1), right(*args))
    )
    x = random_input((4, 256), torch.bfloat16).cuda()

    async def in_task(name):
        with ptgq.use_backend(name):
            await asyncio.sleep(0)
            return FP8(x, 64)

    async def main():
        return await asyncio.gather(*(in_task(name) for name in BACKENDS))

    # In a thread of its own: the browser's driver leaves an event loop in the main one.
    with ThreadPoolExecutor() as pool:
        results = pool.submit(asyncio.run, main()).result()
    assert calls == [1]
    for result in results[1:]:
        assert_same_results(result, results[0])


def test_runs_on_the_current_stream(backend):
    x = random_input((512, 4096), torch.bfloat16).cuda()
    expected = FP8(x, 128, backend=backend)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    later = torch.zeros_like(x)
    with torch.cuda.stream(stream):
        # Were the kernel on another stream, it would read the zeros.
        torch.cuda._sleep(50_000_000)
        later.copy_(x)
        actual = FP8(later, 128, backend=backend)
        for tensor in actual:
            tensor.record_stream(stream)
    stream.synchronize()
    assert_same_results(actual, expected)


@pytest.mark.parametrize("column_major", [False, True])
def test_graph_replay_follows_changed_inputs(column_major):
    for backend in ("cuda", "triton"):
        x = random_input((64, 1024), torch.bfloat16).cuda()
        out = FP8(x, 128, column_major, backend=backend)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            FP8(x, 128, column_major, out=out, backend=backend)
            q, s = FP8(x, 128, column_major, backend=backend)
        for seed in range(3):
            x.copy_(random_input((64, 1024), torch.bfloat16, seed))
            graph.replay()
            expected = FP8(x, 128, column_major, backend="reference")
            assert_same_results(out, expected)
            assert_same_results((q, s), expected)


def programmatic_edges(graph):
    """Count a captured graph's edges, all and those of programmatic dependent launch."""
    cuda = ctypes.CDLL("libcuda.so.1")
    handle, count = ctypes.c_void_p(graph.raw_cuda_graph()), ctypes.c_size_t()
    assert cuda.cuGraphGetEdges_v2(handle, None, None, None, ctypes.byref(count)) == 0
    nodes = [(ctypes.c_void_p * count.value)() for _ in range(2)]
    edges = (ctypes.c_ubyte * 8 * count.value)()  # CUgraphEdgeData: the third byte is the type
    assert cuda.cuGraphGetEdges_v2(handle, *nodes, edges, ctypes.byref(count)) == 0
    return count.value, sum(edge[2] == 1 for edge in edges)


needs_dependent_launch = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (9, 0),
    reason="dependent launch needs compute capability 9.0",
)


def edges_of_three_calls():
    """Count the edges between three calls in a graph, see programmatic_edges."""
    x = random_input((64, 1024), torch.bfloat16).cuda()
    out = FP8(x, 128)
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        for _ in range(3):
            FP8(x, 128, out=out)
    return programmatic_edges(graph)


@needs_dependent_launch
@pytest.mark.parametrize(("setting", "dependent"), [("1", 2), ("0", 0)])
def test_ptgq_pdl_turns_dependent_launch_off(setting, dependent):
    # In processes of their own: what the variable says is found out once.
    done = subprocess.run(
        [sys.executable, "-c", "import test_gpu; print(test_gpu.edges_of_three_calls())"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PTGQ_PDL": setting},
    )
    assert done.stdout.strip() == f"(2, {dependent})", done.stderr


@needs_dependent_launch
def test_a_graph_launches_dependently_behind_our_kernels_alone():
    x = random_input((64, 1024), torch.bfloat16).cuda()
    out = FP8(x, 128)
    branch = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        x.abs_()
        for _ in range(3):
            FP8(x, 128, out=out)  # the second and the third
        x.abs_()
        FP8(x, 128, out=out)
        branch.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(branch):
            y = x.abs()
        x.abs_()
        torch.cuda.current_stream().wait_stream(branch)
        FP8(y, 128, out=out)  # behind two
    assert programmatic_edges(graph) == (9, 2)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_results_are_the_caching_allocators_own(backend, recorded):
    # The results' memory is free again only when the streams that they are recorded on are done.
    x = random_input((1024, 4096), torch.bfloat16).cuda()
    FP8(x, 128, backend=backend)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    results = FP8(x, 128, backend=backend)
    pointers = {tensor.data_ptr() for tensor in results}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
    if recorded:
        results[0].record_stream(side)
        results[1].record_stream(side)
    del results
    again = FP8(x, 128, backend=backend)
    assert not side.query()
    assert (not pointers & {tensor.data_ptr() for tensor in again}) == recorded


@pytest.mark.parametrize("out", [False, True])
def test_ordinary_calls_are_direct(monkeypatch, out):
    right, log = extension.quantize_directly, []

    def quantize_directly(*call):
        log.append(right(*call))
        return log[-1]

    monkeypatch.setattr(extension, "quantize_directly", quantize_directly)
    x = random_input((4, 256), torch.bfloat16).cuda()
    first = FP8(x, 64)
    again = FP8(x, 64, out=first if out else None)
    assert log[-1] is not None
    assert again is log[-1]
    assert_same_results(again, FP8(x.cpu(), 64, backend="reference"))


def test_a_launch_that_fails_raises():
    # In a process of its own: after a failed assertion on the device, nothing runs there any more.
    code = (
        "import torch, ptgq\n"
        "x = torch.ones(4, 256, device='cuda')\n"
        "out = ptgq.per_token_group_quant_fp8(x, 64)\n"
        "for fail in (lambda: x[torch.tensor([7], device='cuda')].sum().item(),\n"
        "             lambda: ptgq.per_token_group_quant_fp8(x, 64, out=out)):\n"
        "    try: fail()\n"
        "    except RuntimeError: print('RuntimeError')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["RuntimeError"] * 2, done.stderr


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_runs_on_the_device_of_x(backend):
    x = random_input((4, 256), torch.bfloat16)
    with torch.cuda.device(0):
        actual = FP8(x.to("cuda:1"), 64, backend=backend)
    assert_same_results(actual, FP8(x, 64, backend="reference"))


@pytest.mark.parametrize("group_size", [128, 96])
@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_more_than_2_31_elements(name, group_size):
    # 96: the kernels for any group size. The last rows lie past 2^31 elements of x and q.
    hidden = 96 * 128
    tokens = 2**31 // hidden + 64
    x = torch.zeros(tokens, hidden, dtype=torch.bfloat16, device="cuda")
    tail = random_input((65, hidden), torch.bfloat16).cuda()
    x[-65:] = tail
    for column_major in (False, True):
        q, s = FP8(x, group_size, column_major, backend=name)
        expected = FP8(tail, group_size, backend="reference")
        assert_same_results((q[-65:], s[-65:].contiguous()), expected)
        assert not q[:-65].view(torch.uint8).any()
        del q, s
    row = x.view(1, -1)[:, : 2**31]
    q, _ = FP8(row, group_size if group_size == 128 else 2**31, backend=name)
    assert not q[0, : 2**20].view(torch.uint8).any()


@pytest.mark.parametrize("name", ["cuda", "triton"])
def test_more_than_2_32_bytes_of_scales(name):
    if torch.cuda.mem_get_info()[1] < 32 * 2**30:
        pytest.skip("takes 22 GB of device memory")
    # A word a row, and all rows the same, so that x takes none of it.
    x = random_input((1, 16), torch.bfloat16).cuda().expand(2**30 + 64, 16)
    packed = ptgq.ScaleFormat("power_of_two", torch.int32)
    q, s = FP8(x, 16, scale_format=packed, backend=name)
    expected = FP8(x[:1].cpu(), 16, scale_format=packed, backend="reference")
    assert_same_results((q[-64:-63], s[-64:-63]), expected)
    assert bool((s == s[-1]).all())
    assert bool((q[:: 2**20].view(torch.uint8) == q[-1].view(torch.uint8)).all())


def test_more_than_65535_rows_and_groups(backend):
    for shape in ((70_000, 128), (2, 70_000 * 64)):
        x = random_input(shape, torch.bfloat16)
        actual = FP8(x.cuda(), 64, True, True, backend=backend)
        assert_same_results(actual, FP8(x, 64, True, True, backend="reference"))


def test_outputs_are_allocated_once(backend):
    x = random_input((256, 4096), torch.bfloat16).cuda()
    FP8(x, 128, backend=backend)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    q, s = FP8(x, 128, backend=backend)
    allocations = torch.cuda.memory_stats()["allocation.all.allocated"] - before
    assert (q.is_contiguous(), s.is_contiguous()) == (True, True)
    if backend != "reference":
        assert allocations == 2
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    FP8(x, 128, out=(q, s), backend=backend)
    if backend != "reference":
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_every_float16_and_bfloat16_value():
    patterns = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    for dtype in (torch.bfloat16, torch.float16):
        x = patterns.view(dtype).view(-1, 64).cuda()
        for name in ("cuda", "triton"):
            for ue8m0 in (False, True):
                actual = FP8(x, 64, False, ue8m0, backend=name)
                assert_same_results(actual, FP8(x.cpu(), 64, False, ue8m0, backend="reference"))
