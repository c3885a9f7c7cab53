"""What ptgq uses of torch that is not public: calls give the same without each of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ptgq import extension

# In processes of their own, as ptgq looks for them once: forks of one that imported torch alone,
# which goes on without these.
FORKS = """
import ctypes, json, os, sys
import torch
import torch.utils._python_dispatch
for code in json.load(sys.stdin):
    if os.fork() == 0:
        exec(code, {"ctypes": ctypes, "torch": torch})
        sys.stdout.flush()
        # Taking torch apart takes as long as all of the rest.
        os._exit(0)
    if status := os.wait()[1]:
        sys.exit(status >> 8 or status)
"""
CODE = """
import json
import ptgq
from ptgq import extension

log, right = [], extension.quantize_directly
def quantize_directly(*call):
    log.append(right(*call))
    return log[-1]
extension.quantize_directly = quantize_directly

F = ptgq.ScaleFormat.deep_gemm_hopper()
x = torch.arange(-5 * 256.0, 5 * 256.0).view(5, 512)
ptgq.per_token_group_quant_int8(x, 128)
log.clear()
for function, options in (
    (ptgq.per_token_group_quant_int8, {}),
    (ptgq.per_token_group_quant_fp8, {"scale_format": F}),
    (ptgq.silu_and_mul_per_token_group_quant_fp8, {"scale_format": F}),
):
    expected = function(x, 128, backend="reference", **options)
    results = function(x, 128, **options)
    versions = [tensor._version for tensor in results]
    again = function(x, 128, out=results, **options)
    assert all(t._version > version for t, version in zip(again, versions))
    for a, b in zip((*results, *again), expected * 2):
        assert torch.equal(*(t.contiguous().view(torch.uint8) for t in (a, b)))
        assert a.untyped_storage().nbytes() == b.untyped_storage().nbytes()
    if options:
        ptgq.scales.check_scales(results[1], F, results[0].shape[-1] // 128)
print(json.dumps([one is not None for one in log]))
"""
OTHER_TABLE = """
new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
{memory}
torch.Tensor.__dlpack_c_exchange_api__ = new({address}, b"{name}", None)
"""
VERSION = "memory = (ctypes.c_uint32 * 64)(99)"
# By whether direct calls are refused without it.
REMOVALS = {
    "the exchange API": ("del torch.Tensor.__dlpack_c_exchange_api__", True),
    "its capsule's name": (OTHER_TABLE.format(memory="", address=8, name="other"), True),
    "its version": (
        OTHER_TABLE.format(
            memory=VERSION, address="ctypes.addressof(memory)", name="dlpack_exchange_api"
        ),
        True,
    ),
    "the stack of modes": ("del torch._C._len_torch_dispatch_stack", True),
    "the allocators": ("del torch._C._dynamo", False),
    "the counter of writes": (
        "count = torch._C._increment_version\n"
        "torch.autograd.graph.increment_version = lambda tensors: count(tensors)\n"
        "del torch._C._increment_version",
        False,
    ),
    "transforms": ("del torch._C._functorch", False),
}


def test_a_torch_without(tmp_path):
    codes = json.dumps([removal + CODE for removal, _ in REMOVALS.values()])
    options = {"capture_output": True, "text": True, "cwd": tmp_path}
    done = subprocess.run([sys.executable, "-c", FORKS], input=codes, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = map(json.loads, done.stdout.splitlines())
    # Those of reference are refused anyhow.
    assert dict(zip(REMOVALS, logs, strict=True)) == {
        what: [False] * 9 if refused else [False, True, True] * 3
        for what, (_, refused) in REMOVALS.items()
    }


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (torch.overrides, "_get_current_function_mode_stack"),
        (torch.utils, "_device"),
    ],
    ids=str,
)
def test_a_torch_that_does_not_say_which_modes_there_are(served, monkeypatch, module, name):
    import ptgq

    x = torch.ones(2, 64)
    with torch.device("meta"):
        ptgq.per_token_group_quant_int8(x, 64)
        monkeypatch.delattr(module, name)
        assert extension._is_followed()
    assert served == [True]


def test_each_private_name_is_looked_up_where_it_may_be_missing():
    package = Path(extension.__file__).parent
    private = re.compile(r"torch(?:\.\w+)*\._(?!_)\w+")
    found = {
        (path.name, name)
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        for name in private.findall(line.partition("#")[0])
    }
    # Those of _scaled_mm: in docstrings. The others are called where signs say that they exist.
    assert found == {
        ("extension.py", "torch._C._len_torch_dispatch_stack"),
        ("extension.py", "torch._C._get_tracing_state"),
        ("block_presets.py", "torch._scaled_mm"),
        ("formats.py", "torch._scaled_mm"),
    }
