"""Masked rows of other implementations: each one's call, what is compared, why there are none."""

from __future__ import annotations

import dataclasses

import fake_peers
import peers
import pytest
import torch
from measure import against, masked
from measure.configurations import MASKED, PEER_MASKED

from benchmarks.suite import common, masked_peers

SERVED = [
    (name, silu)
    for name in peers.NAMES
    for silu in PEER_MASKED.values()
    if peers.module(name).CAN.lacks_masked(silu) is None
]
TOKENS = 6


def rows_of(counts="routed", silu=False):
    return masked.MaskedRows(counts, silu, "cpu", TOKENS)


def exactness(rows, result):
    return against.exactness(*rows.existing(result))


def test_those_that_have_them():
    assert SERVED == [("vllm", True), ("sglang", False), ("sglang", True)]
    for name, silu in SERVED:
        assert hasattr(peers.module(name), "bind_masked"), silu


@pytest.mark.parametrize("counts", ["routed", "full"])
@pytest.mark.parametrize(("name", "silu"), SERVED)
def test_rows_that_exist_are_compared(monkeypatch, name, silu, counts):
    fake_peers.install(monkeypatch, name)
    rows = rows_of(counts, silu)
    found = exactness(rows, rows.of_peer(name))
    assert (found.codes, found.scales) == (0, 0)
    assert found.snr > 25


@pytest.mark.parametrize("silu", [False, True])
def test_own_rows_are_compared_with_the_reference(silu):
    rows = rows_of(silu=silu)
    for backend in ("cpu", "reference"):
        found = exactness(rows, rows.own(backend))
        assert (found.codes, found.scales) == (0, 0)


def test_what_differs_or_was_not_written_is_counted(monkeypatch):
    rows = rows_of()
    q, s = rows.own("reference")
    exist = (torch.arange(TOKENS) < rows._masked_m.unsqueeze(-1)).nonzero()
    first, last = exist[0].tolist(), exist[-1].tolist()
    q.view(torch.uint8)[(*first, slice(3))] ^= 1
    s[(*last, 7)] *= 2
    found = exactness(rows, (q, s))
    assert (found.codes, found.scales) == (3, 1)
    # Rows that don't exist are nobody's.
    q, s = rows.own("reference")
    others = ~(torch.arange(TOKENS) < rows._masked_m.unsqueeze(-1))
    assert others.any()
    q.view(torch.uint8)[others] = 1
    s[others] = 3
    assert exactness(rows, (q, s)).codes == 0
    # One that writes nothing differs in all.
    monkeypatch.setattr(peers.module("sglang"), "bind_masked", lambda *given: lambda: None)
    found = exactness(rows, rows.of_peer("sglang"))
    assert found.scales == rows.rows * masked.HIDDEN // masked.GROUP_SIZE
    assert found.codes == rows.rows * masked.HIDDEN


def test_another_layout_of_scales_is_no_result():
    rows = rows_of()
    q, s = rows.own("reference")
    with pytest.raises(ValueError, match=r"s is .*, not "):
        rows.existing((q, s.contiguous()))
    with pytest.raises(ValueError, match="q is "):
        rows.existing((q.view(torch.uint8), s))


@pytest.mark.parametrize(("name", "silu"), SERVED)
def test_a_timed_call_writes_into_the_same_tensors_or_keeps_its_own(monkeypatch, name, silu):
    fake_peers.install(monkeypatch, name)
    rows, seen = rows_of(silu=silu), []
    bind = peers.module(name).bind_masked

    def recorded(silu, x, masked_m, out):
        assert (out is not None) is peers.module(name).OUT
        call = bind(silu, x, masked_m, out)
        return lambda: seen.append(call()) or seen[-1]

    monkeypatch.setattr(peers.module(name), "bind_masked", recorded)
    call = rows.peer(name)
    call()
    call()
    assert len(seen) == 2
    assert (seen[0][0].data_ptr() == seen[1][0].data_ptr()) is peers.module(name).OUT
    assert exactness(rows, seen[1]).codes == 0


@pytest.mark.parametrize(
    ("name", "silu", "reason"),
    [
        ("torchao", False, "has no masked rows"),
        ("vllm", False, "has no masked rows without the fused SiLU"),
        ("flashinfer", True, "has masked rows with scales tiled_ue8m0 alone"),
        ("sglang", True, None),
    ],
)
def test_what_lacks_them_says_so(name, silu, reason):
    can = peers.module(name).CAN
    assert can.lacks_masked(silu) == reason
    if name == "sglang":
        alone = dataclasses.replace(can, masked={False: peers.MASKED_SCALES})
        assert alone.lacks_masked(True) == "has no masked rows with the fused SiLU"


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with SGLang and vLLM, whose calls fail; a timer takes what its call returns."""
    made = []

    class Rows(masked.MaskedRows):
        def __init__(self, counts, silu, device):
            made.append((counts, silu, device))
            super().__init__(counts, silu, "cpu", TOKENS)

        def masked(self, backend):
            return {"cuda": 1.0, "triton": 2.0}[backend]

        def own(self, backend):
            return super().own("reference")

        def peer(self, name):
            if name == "vllm":
                raise RuntimeError("no kernel image is available")
            return 3.0

        def of_peer(self, name):
            return super().of_peer(name) if name == "sglang" else self.peer(name)

        def timer(self, seconds):
            return lambda: seconds

    fake_peers.install(monkeypatch, "sglang")
    monkeypatch.setattr(common, "no_device", lambda: None)
    monkeypatch.setattr(common, "missing", lambda backend: None)
    monkeypatch.setattr(masked, "MaskedRows", Rows)
    there = ("sglang", "vllm", "torch-eager")
    monkeypatch.setattr(
        peers, "missing", lambda name: None if name in there else f"{name} is not installed"
    )
    return made


def test_the_suite_has_samples_or_the_reason(gpu):
    found = masked_peers.times("full", "masked_silu_and_mul", "cuda")
    assert gpu == [("full", True, "cuda")]
    assert {name for (name,) in found} == set(masked_peers.IMPLEMENTATIONS)
    expected = {"ptgq": 1.0, "ptgq-triton": 2.0, "sglang": 3.0}
    for name, seconds in expected.items():
        assert found[name,] == [seconds] * masked_peers.REPEAT
    # A failure of another implementation is none of this project.
    assert found["vllm",].reason == "vllm: RuntimeError: no kernel image is available"
    assert found["torch-eager",].reason == "torch-eager: has no masked rows"
    assert found["torchao",].reason == "torchao: torchao is not installed"
    found = masked_peers.times("full", "masked", "cuda")
    assert found["vllm",].reason == "vllm: has no masked rows without the fused SiLU"


def test_the_suite_has_what_differs(gpu):
    for variant in PEER_MASKED:
        found = masked_peers.differences(variant, "cuda")
        for name in ("ptgq", "ptgq-triton", "sglang"):
            assert found["codes", name, variant] == found["scales", name, variant] == 0
            assert 0.02 < found["error", name, variant] < 0.03
        assert found["codes", "vllm", variant].reason.startswith("vllm: ")
    assert gpu == [(masked_peers.EXACT_COUNTS, silu, "cuda") for silu in PEER_MASKED.values()]


def test_a_commit_without_masked_rows_is_not_available(gpu, monkeypatch):
    def none(*given):
        raise NotImplementedError("this commit has no masked_m=")

    monkeypatch.setattr(masked, "MaskedRows", none)
    found = masked_peers.times("routed", "masked", "cuda")
    assert found["ptgq",].reason == found["sglang",].reason == "this commit has no masked_m="
    assert masked_peers.differences("masked", "cuda")["codes", "ptgq", "masked"].reason


def test_without_a_gpu_there_are_none():
    if torch.cuda.is_available():
        pytest.skip("it is here")
    for counts in MASKED:
        found = masked_peers.times(counts, "masked", "cpu")
        assert {type(value) for value in found.values()} == {common.NotAvailable}
