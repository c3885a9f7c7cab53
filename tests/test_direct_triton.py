"""Direct calls of Triton's kernels: launched by addresses as they were compiled."""

from __future__ import annotations

import ctypes
import itertools

import pytest
import torch
from numeric import assert_same_results, memory
from scale_cases import FORMATS, PADDED, every_format
from values import hard_input, random_input

import ptgq
from ptgq import ScaleFormat
from ptgq.backends import load

FP8 = ptgq.per_token_group_quant_fp8
SILU = ptgq.silu_and_mul_per_token_group_quant_fp8
INT8 = ptgq.per_token_group_quant_int8
X = hard_input(6, 256, 64, torch.bfloat16)
POWERS = {"use_ue8m0": True, "scale_dtype": torch.float32}


class Compiled:
    """In the place of a kernel, and of what Triton compiles of it: writes down its launches."""

    def __init__(self, names):
        self.names, self.launches = names, []

    def __getitem__(self, grid):
        def launch(*arguments, stream=None, **constants):
            for option in ("num_warps", "maxnreg", "enable_fp_fusion"):
                constants.pop(option, None)
            values = [getattr(a, "data_ptr", lambda a=a: a)() for a in arguments]
            self.launches.append((grid, *values, *constants.values()))
            if constants:
                assert [*self.names[: len(arguments)], *constants] == self.names
            return self

        return launch


@pytest.fixture
def compiled(monkeypatch):
    triton = load("triton")
    compiled = Compiled(list(triton.per_token_group_quant_kernel.arg_names))
    monkeypatch.setattr(triton, "_launches", {})
    monkeypatch.setattr(triton, "per_token_group_quant_kernel", compiled)
    monkeypatch.setattr(triton, "_INTERPRETED", True)
    return compiled


class Interpreted:
    """Triton's kernel in its interpreter, which takes no addresses, launched by them, too."""

    def __init__(self, kernel):
        self.kernel, self.direct = kernel, []

    def __getitem__(self, grid):
        names = self.kernel.arg_names

        def launch(*arguments, stream=None, **constants):
            if constants:
                self.dtypes = [tensor.dtype for tensor in arguments[:3]]
                self.kernel[grid](*arguments, **constants)
                return self
            self.direct.append(arguments[1])
            named = dict(zip(names, arguments, strict=True))
            rows = named["num_tokens"] // named["column_tokens"] * named["column_length"]
            width = named["num_groups"] * named["GROUP_SIZE"]
            row = 2 * width if named["SILU"] else width
            sizes = (
                (named["num_tokens"] - 1) * named["x_token_stride"] + row,
                named["num_tokens"] * width,
                rows * named["s_groups"],
            )
            for name, dtype, size in zip(names, self.dtypes, sizes, strict=False):
                place = (ctypes.c_char * (size * dtype.itemsize)).from_address(named[name])
                named[name] = torch.frombuffer(place, dtype=dtype)
            self.kernel[grid](**named)
            return None

        return launch


@pytest.fixture
def interpreted(monkeypatch):
    triton = load("triton")
    interpreted = Interpreted(triton.per_token_group_quant_kernel)
    monkeypatch.setattr(triton, "per_token_group_quant_kernel", interpreted)
    return interpreted


needs_interpreter = pytest.mark.skipif(torch.cuda.is_available(), reason="tensors on the CPU")


ROWS = (X, X[:, :192], X.float()[:1].expand(5, 256), X.view(2, 3, 256), X[0], X[:5, :128])


@needs_interpreter
@every_format
@pytest.mark.parametrize("function", [FP8, SILU])
def test_triton_is_launched_as_it_compiled_it(served, compiled, monkeypatch, function, f):
    for x in ROWS:
        monkeypatch.setattr(load("triton"), "_launches", {})
        del compiled.launches[:], served[:]
        out = function(x, 16, backend="triton", scale_format=f)
        versions = [tensor._version for tensor in out]
        direct = function(x, 16, backend="triton", scale_format=f)
        assert function(x, 16, backend="triton", out=out, scale_format=f) is out
        assert [tensor._version for tensor in out] == [version + 1 for version in versions]
        first, (grid, _, q, s, *same), last = compiled.launches
        assert first == last
        assert (grid, *same) == (first[0], *first[4:])
        assert (q, s) == tuple(tensor.data_ptr() for tensor in direct)
        assert grid == (first[0][0], 1, 1)


@needs_interpreter
@pytest.mark.parametrize("function", [FP8, SILU])
def test_triton_launches_masked_rows_as_it_compiled_them(monkeypatch, function):
    triton = load("triton")
    compiled = Compiled(list(triton.per_token_group_quant_masked_kernel.arg_names))
    monkeypatch.setattr(triton, "per_token_group_quant_masked_kernel", compiled)
    monkeypatch.setattr(triton, "_INTERPRETED", True)
    monkeypatch.setattr(triton, "_launches", {})
    batches = X.view(2, 3, 256)
    for f in FORMATS.values():
        for x in (batches, batches.transpose(0, 1), batches[:, :1], batches[:1], X[:5]):
            counts = torch.ones(x.shape[0] if x.dim() == 3 else 1, dtype=torch.int64)
            for masked_m in (counts.int(), counts, counts.repeat(2)[::2]):
                del compiled.launches[:]
                options = {"scale_format": f, "masked_m": masked_m, "backend": "triton"}
                out = function(x, 16, **options)
                direct = function(x, 16, **options)
                function(x, 16, out=out, **options)
                first, (grid, _, q, s, *same), last = compiled.launches
                assert first == last
                assert (grid, *same) == (first[0], *first[4:])
                assert (q, s) == tuple(tensor.data_ptr() for tensor in direct)
                assert same[0] == masked_m.data_ptr()
    assert len({key[-1][0] for key in triton._launches}) == 2  # a kernel for each dtype of counts


@needs_interpreter
@pytest.mark.parametrize(
    ("function", "f"), [(INT8, None), *itertools.product((FP8, SILU), FORMATS.values())]
)
def test_triton_writes_the_reference_bytes_by_addresses(interpreted, monkeypatch, function, f):
    options = {} if f is None else {"scale_format": f}
    rows = random_input((6, 256), torch.bfloat16)  # of no values that the interpreter rounds wrong
    for x in (rows.view(2, 3, 256), rows[:5, :192]):
        monkeypatch.setattr(load("triton"), "_launches", {})
        del interpreted.direct[:]
        expected = function(x, 16, backend="reference", **options)
        for out in (None, None, function(x, 16, **options)):
            for tensor in out or ():
                tensor.untyped_storage().fill_(0xA5)
            results = function(x, 16, backend="triton", out=out, **options)
            assert_same_results(results, expected)
            assert [memory(tensor) for tensor in results] == [memory(t) for t in expected]
        assert len(interpreted.direct) == 2


@needs_interpreter
def test_triton_launches_of_another_kind_are_told_apart(compiled, monkeypatch):
    triton = load("triton")
    ordinary, log = triton.per_token_group_quant, []
    monkeypatch.setattr(
        triton,
        "per_token_group_quant",
        lambda *call, **silu: (log.append(1), ordinary(*call, **silu)),
    )
    packed_rows = ScaleFormat("power_of_two", torch.int32)
    unaligned = torch.empty(6 * 256 + 1, dtype=torch.bfloat16)[1:].view(6, 256)
    calls = [
        lambda: FP8(X, 64, backend="triton"),
        lambda: FP8(X, 32, backend="triton"),
        lambda: FP8(X, 64, True, backend="triton"),
        lambda: FP8(X, 64, use_ue8m0=True, backend="triton"),
        lambda: FP8(X, 64, **POWERS, backend="triton"),
        lambda: INT8(X, 64, backend="triton"),
        lambda: FP8(X.float(), 64, backend="triton"),
        lambda: FP8(X[:, :128], 64, backend="triton"),
        lambda: FP8(X[:, :200], 8, backend="triton"),
        lambda: FP8(X[:, :200].contiguous(), 8, backend="triton"),
        lambda: FP8(X[:, :1].contiguous(), 1, backend="triton"),
        lambda: SILU(X, 64, backend="triton"),
        *(
            lambda f=f, x=x: FP8(x, 64, scale_format=f, backend="triton")
            for f in PADDED.values()
            for x in (X[:4], X[:5])  # without and with padding
        ),
        *(
            lambda x=x: FP8(x, 64, scale_format=packed_rows, backend="triton")
            for x in (X, X[:, :192].contiguous())
        ),
    ]
    for call in calls:
        call()
    assert len(log) == len(calls)
    for call in calls:
        call()
    assert len(log) == len(calls)
    for _ in range(2):
        FP8(unaligned, 64, backend="triton")
    assert len(log) == len(calls) + 2


@needs_interpreter
def test_triton_launches_for_few_groups_do_not_serve_many(compiled, monkeypatch):
    FP8(X, 64, backend="triton")
    monkeypatch.setattr(load("triton"), "_SMALL", 24)  # of which X has so many
    for _ in range(2):
        FP8(X, 64, backend="triton")
    small = 1 + compiled.names.index("SMALL")
    assert [launch[small] for launch in compiled.launches] == [True, False, False]
