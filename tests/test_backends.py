"""Every backend against the reference: the same bytes, dtypes, shapes and strides."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from every import every
from numeric import assert_same_bytes, assert_same_results, bits
from scale_cases import NAMED
from values import DTYPES, hard_input, random_input

import ptgq

# Without padding: the others are in test_scale_formats.
FORMATS = [
    *({"scale_format": f} for f in NAMED.values() if not (f.packed or f.tma_aligned)),
    "int8",
]


def quantize(x, group_size, scale_format, **options):
    """Call the public function for one of FORMATS."""
    if scale_format == "int8":
        return ptgq.per_token_group_quant_int8(x, group_size, **options)
    return ptgq.per_token_group_quant_fp8(x, group_size, **scale_format, **options)


def check(x, group_size, scale_format, backend_on, **options):
    """Compare a backend on its device with the reference on the CPU."""
    backend, device = backend_on
    on_device = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device).copy_(x)
    actual = quantize(on_device, group_size, scale_format, backend=backend, **options)
    assert {t.device.type for t in actual} == {device}
    expected = quantize(x, group_size, scale_format, backend="reference", **options)
    assert_same_results(actual, expected)


@every(
    dtype=DTYPES,
    group_size=[1, 7, 32, 64, 96, 128, 256, 512, None],
    scale_format=FORMATS,
)
def test_groups_dtypes_and_formats(backend_on, dtype, group_size, scale_format):
    hidden_dim = 672 if group_size is None else group_size * 3
    group_size = group_size or hidden_dim
    check(hard_input(17, hidden_dim, group_size, dtype), group_size, scale_format, backend_on)


@every(
    shape=[(256,), (1, 256), (3, 5, 256), (2, 1, 3, 256), (1, 1, 64)],
    scale_format=FORMATS,
)
def test_ranks(backend_on, shape, scale_format):
    check(random_input(shape, torch.bfloat16), 64, scale_format, backend_on)


@every(shape=[(0, 256), (4, 0, 256), (3, 0), (0,)], scale_format=FORMATS)
def test_nothing_to_quantize(backend_on, shape, scale_format):
    check(torch.empty(shape), 64, scale_format, backend_on)


@every(num_tokens=[1, 3, 63, 129], scale_format=FORMATS)
def test_odd_rows(backend_on, num_tokens, scale_format):
    check(random_input((num_tokens, 5 * 128), torch.bfloat16), 128, scale_format, backend_on)


@every(
    view={
        "rows": lambda x: x[:, :384],  # 16-byte aligned
        "unaligned": lambda x: x[:, 3:387],
        "every_third": lambda x: x[::3, :384],
        "rank3": lambda x: x[:, :384].unflatten(0, (4, 5)),  # one stride
        "transposed": lambda x: x[:, :384].unflatten(0, (4, 5)).transpose(0, 1),  # two strides
        "expanded": lambda x: x[:1, :384].expand(6, 384),  # stride 0
    },
    dtype=DTYPES,
    scale_format=FORMATS,
)
def test_strided_rows(backend_on, view, dtype, scale_format):
    backend, device = backend_on
    x = random_input((20, 517), dtype)
    actual = quantize(view(x.to(device)), 128, scale_format, backend=backend)
    expected = quantize(view(x).contiguous(), 128, scale_format, backend="reference")
    assert_same_results(actual, expected)


@every(eps=[1e-24, 1e-3, 1.0, 1e30], scale_format=FORMATS)
def test_eps(backend_on, eps, scale_format):
    check(hard_input(8, 256, 32, torch.float32), 32, scale_format, backend_on, eps=eps)


@every(offset=[0, 1], group_size=[48, 128], scale_format=FORMATS)
def test_out_is_written_whole_and_nothing_beyond(backend_on, offset, group_size, scale_format):
    backend, device = backend_on
    x = random_input((9, 5 * group_size), torch.bfloat16)
    expected = quantize(x, group_size, scale_format, backend="reference")
    for poison in (0x00, 0xA5):
        arenas, out = [], []
        for tensor in expected:
            size = tensor.element_size()
            arena = torch.full(((tensor.numel() + 64) * size,), poison, dtype=torch.uint8)
            arena = arena.to(device)
            inside = arena.view(tensor.dtype).as_strided(tensor.shape, tensor.stride(), 32 + offset)
            arenas.append((arena, (32 + offset) * size, tensor.numel() * size))
            out.append(inside)
        result = quantize(x.to(device), group_size, scale_format, backend=backend, out=tuple(out))
        assert result[0] is out[0]
        assert result[1] is out[1]
        assert_same_results(result, expected)
        for arena, start, size in arenas:
            arena = arena.cpu()
            assert (arena[:start] == poison).all()
            assert (arena[start + size :] == poison).all()


def test_code_of_every_bfloat16(backend_on):
    # All finite values up to 448, in groups whose first element fixes the scale at 1.
    patterns = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    values = patterns[patterns.abs() <= 448]
    x = torch.full((len(values) // 127 + 1, 128), 448.0, dtype=torch.bfloat16)
    x[:, 1:] = torch.cat([values, values[: x[:, 1:].numel() - len(values)]]).view(-1, 127)
    for scale_format in FORMATS:
        check(x, 128, scale_format, backend_on)


def small_groups():
    for dtype, size, scale_format in itertools.product(DTYPES, (7, 64, 128, 200), FORMATS):
        check(hard_input(19, size * 3, size, dtype), size, scale_format, ("cpu", "cpu"))


def past_the_caches():
    for size in (64, 128):
        x = hard_input(64, 56 * 128, size, torch.bfloat16)
        for scale_format in FORMATS:
            expected = quantize(x, size, scale_format, backend="reference")
            actual = quantize(x.repeat(30, 1), size, scale_format, backend="cpu")
            for name, have, rows in zip("qs", actual, expected, strict=True):
                assert torch.equal(bits(have), bits(rows).repeat(30, 1)), name


def seconds_of_a_call():
    torch.set_num_threads(1)
    x = random_input((64, 4096), torch.bfloat16)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        quantize(x, 128, FORMATS[0], backend="cpu")
        times.append(time.perf_counter() - start)
    return min(times)


def said():
    with contextlib.redirect_stdout(io.StringIO()) as output:
        import_module("ptgq.__main__")
    return re.search("^  instruction set +(.*)$", output.getvalue(), re.MULTILINE)[1]


def blocks_at_their_edges():
    sys.path.append(str(Path(__file__).parents[1]))
    from proofs import blocks
    from proofs.report import Report

    report = Report()
    with contextlib.redirect_stdout(io.StringIO()):
        blocks.run_calls(report, "cpu", ["cpu"], 5)
    return report.wrong if report.checked > 100_000 else "nothing checked"


def norms():
    from test_rms_norm import DTYPE_SETS, FUSED, Case, hard_rows

    for dtype, *others in DTYPE_SETS.values():
        for hidden_dim, group_size in ((2176, 128), (1541, 23)):
            case = Case((10, hidden_dim), dtype, *others, hard_rows(hidden_dim, dtype))
            case.check(("cpu", "cpu"), FUSED, group_size)


PARTS = (
    small_groups, blocks_at_their_edges, past_the_caches, norms, seconds_of_a_call, said,
)  # fmt: skip
# In forks, as the instruction set is chosen at the first call of a process.
RUN_PARTS = """
import json, os, sys, traceback, test_backends

def outcome(part):
    try:
        return part() or 0
    except Exception:
        return traceback.format_exc()

for isa in sys.argv[1:]:
    if os.fork() == 0:
        os.environ["PTGQ_CPU_ISA"] = isa
        outcomes = {part.__name__: outcome(part) for part in test_backends.PARTS}
        print(json.dumps(outcomes), flush=True)
        # Taking torch apart takes half a second.
        os._exit(0)
    assert os.wait()[1] == 0, isa
"""
ISAS = ("baseline", "avx2", "avx512")


@functools.cache
def run_parts():
    """Return the outcomes of PARTS by the instruction set, of those that this processor has."""
    capability = torch.backends.cpu.get_cpu_capability()
    isas = ISAS[: {"AVX512": 3, "AVX2": 2}.get(capability, 1)]
    command = [sys.executable, "-c", RUN_PARTS, *isas]
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    return dict(zip(isas, map(json.loads, done.stdout.splitlines()), strict=True))


def run_with(isa):
    if isa not in run_parts():
        pytest.skip(f"this processor has no {isa}")
    return run_parts()[isa]


@pytest.mark.parametrize("isa", ISAS)
def test_instruction_sets_of_the_cpu_backend(isa):
    assert run_with(isa)["small_groups"] == 0
    assert run_with(isa)["blocks_at_their_edges"] == 0


@pytest.mark.parametrize("isa", ISAS)
def test_norms(isa):
    assert run_with(isa)["norms"] == 0


@pytest.mark.parametrize("isa", ISAS)
def test_the_instruction_set_that_is_used_is_said(isa):
    assert run_with(isa)["said"] == isa


@pytest.mark.parametrize("isa", ISAS)
def test_outputs_written_past_the_caches(isa):
    assert run_with(isa)["past_the_caches"] == 0


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_instruction_sets_are_used(isa):
    # 3 and 4 times as fast as the baseline; as slow where the compiler made no vectors.
    seconds = run_with(isa)["seconds_of_a_call"]
    assert seconds < run_with("baseline")["seconds_of_a_call"] / 1.5


def test_minus_zero_keeps_its_sign(backend_on):
    backend, device = backend_on
    x = torch.tensor([[-0.0, 1.0] * 16], device=device)
    q, _ = ptgq.per_token_group_quant_fp8(x, 32, backend=backend)
    assert bits(q)[0, :2].tolist() == [0x80, 0x7E]


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[:, :64]], ids=["whole", "rows"])
def test_negated_views(backend_on, view):
    backend, device = backend_on
    x = random_input((4, 128), torch.float32)
    for function in (
        ptgq.per_token_group_quant_fp8,
        ptgq.silu_and_mul_per_token_group_quant_fp8,
        ptgq.per_token_group_quant_int8,
    ):
        negated = view(torch._neg_view(x.to(device)))
        actual = function(negated, 32, backend=backend)
        assert_same_results(actual, function(view(-x), 32, backend="reference"))


def test_input_is_left_alone(backend_on):
    backend, device = backend_on
    x = hard_input(16, 256, 64, torch.bfloat16).to(device)
    before = x.clone()
    quantize(x, 64, FORMATS[0], backend=backend)
    assert_same_bytes(x, before, "x")
