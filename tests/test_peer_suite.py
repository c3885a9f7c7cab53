"""The family `peers` of the suite: what each row reads, and what is n/a with its reason."""

from __future__ import annotations

import itertools
import math
import re
from types import SimpleNamespace

import peers as implementations
import pytest
from measure import timers, workloads
from measure.against import Exactness
from measure.configurations import MASKED, PEER_MASKED, peers_asked_for

from benchmarks.suite import common, peers

READERS = [
    (peers.Peers, "track_default_shapes"),
    (peers.Peers, "track_serving_shapes"),
    (peers.Peers, "track_masked_rows"),
    *(
        (peers.PeerExactness, f"track_{what}")
        for what in ("differing_codes", "differing_scales", "relative_rms_error")
    ),
]
STATES = {"produced": 1e-6, "hot": 2e-6, "cold": 3e-6}
MASKED_SECONDS = 4e-6
FACTORS = {"cuda": 1, "triton": 2, "sglang": 3, "torch-eager": 4}


@pytest.fixture
def device(monkeypatch):
    """A device with ptgq, SGLang, which fails cold, and PyTorch; times are stated."""

    class Kernels:
        def __init__(self, workload, name=None):
            self.workload = workload

        def timer(self, name, state):
            if (name, state) == ("sglang", "cold"):
                raise RuntimeError("operation not permitted when stream is capturing")
            return lambda: FACTORS[name] * STATES[state]

    def bind(name, workload, x):
        return FACTORS[name]

    def checked(name, workload, x):
        return Exactness(7, 0, 40.0)

    def exactness(workload, x, result):
        return Exactness(0, 0, 20.0)

    against = SimpleNamespace(
        PeerKernels=Kernels, Exactness=Exactness, checked=checked, exactness=exactness, warm=id
    )

    class Workload(workloads.Workload):
        def make_input(self, device):
            return None

        def bind(self, x, backend):
            return FACTORS[backend]

        def call(self, x, backend):
            return None

    class MaskedRows:
        def __init__(self, counts, silu, device):
            self.silu = silu

        def masked(self, backend):
            return FACTORS[backend]

        peer = masked

        def timer(self, factor):
            return lambda: factor * MASKED_SECONDS

        def own(self, backend):
            return None

        of_peer = own

        def existing(self, result):
            return None, None, result

    modules = {
        "masked": SimpleNamespace(MaskedRows=MaskedRows),
        "kernels": SimpleNamespace(Kernels=Kernels),
        "against": against,
        "timers": timers,
        "workloads": SimpleNamespace(Workload=Workload),
        "clocks": SimpleNamespace(clock_for=lambda device: None),
    }

    def lacks(name, workload, device):
        if name not in ("sglang", "torch-eager"):
            return f"{name} is not installed"
        return "has no INT8" if workload.dtype == "int8" and name == "sglang" else None

    def lacks_masked(name, silu, device):
        return None if name == "sglang" else "has no masked rows"

    monkeypatch.setattr(implementations, "lacks_masked", lacks_masked)
    monkeypatch.setattr(common, "no_device", lambda: None)
    monkeypatch.setattr(common, "missing", lambda backend: None)
    monkeypatch.setattr(common, "measuring", modules.__getitem__)
    monkeypatch.setattr(common, "call_timer", lambda factor, clock, before: lambda: factor * 1e-5)
    monkeypatch.setattr(implementations, "lacks", lacks)
    monkeypatch.setattr(implementations, "bind", bind)
    return modules


def rows():
    cache = peers.measure()
    for reader, name in READERS:
        function = getattr(reader(), name)
        assert reader.setup_cache is peers.measure
        params = getattr(function, "params", None) or reader.params
        names = getattr(function, "param_names", None) or reader.param_names
        for values in itertools.product(*params):
            yield (
                name,
                dict(zip(names, values, strict=True)),
                lambda f=function, v=values: f(cache, *v),
            )


def test_each_row_has_its_number_or_why_not(device, capsys):
    count = 0
    for name, row, read in rows():
        count += 1
        own, state = row["implementation"], row.get("state")
        masked = row["variant"] in PEER_MASKED
        absent = own not in ("ptgq", "ptgq-triton", "sglang", "torch-eager")
        absent = absent or (masked and own == "torch-eager")
        if absent or (own == "sglang" and row["variant"] == "int8"):
            assert math.isnan(read())
        elif own == "sglang" and state == "cold":
            # A failure of another implementation is none of this project.
            assert math.isnan(read())
        elif state or "counts" in row:
            factor = FACTORS[{"ptgq": "cuda", "ptgq-triton": "triton"}.get(own, own)]
            seconds = STATES | {"call": 1e-5, None: MASKED_SECONDS}
            expected = factor * seconds[state]
            assert read()["samples"] == pytest.approx([expected] * peers.REPEAT)
        else:
            checked = own in FACTORS and not masked
            expected = {"track_differing_codes": 7 if checked else 0}
            expected |= {"track_differing_scales": 0}
            expected |= {"track_relative_rms_error": 0.01 if checked else 0.1}
            assert read() == pytest.approx(expected[name])
    said = capsys.readouterr().err.splitlines()
    assert "sglang: RuntimeError: operation not permitted when stream is capturing" in said
    assert "vllm: vllm is not installed" in said
    # asv looks each up, 15 ms each.
    assert count < 4500


def test_without_a_gpu_calls_of_small_shapes_are_measured(device, monkeypatch):
    monkeypatch.setattr(common, "no_device", lambda: common.NotAvailable("no CUDA device"))
    FACTORS["cpu"] = 5
    found = peers.measure()
    key = ("call", 16, 512, "row_float32")
    assert found[("default_shapes", "ptgq", *key)] == pytest.approx([5e-5] * peers.REPEAT)
    assert found[("default_shapes", "ptgq-triton", *key)].reason == "no CUDA device"
    assert found[("default_shapes", "torch-eager", "cold", *key[1:])].reason == "no CUDA device"
    assert found[("default_shapes", "vllm", *key)].reason == "vllm: vllm is not installed"
    assert isinstance(found["serving_shapes", "ptgq", "call", 1, 7168, "int8"], common.NotAvailable)


def test_a_bound_of_time_leaves_the_rest_out(device, monkeypatch):
    monkeypatch.setenv("PTGQ_PEERS_SECONDS", "10")
    now = itertools.count()
    monkeypatch.setattr(peers.time, "monotonic", lambda: next(now))
    found = peers.measure()
    numbers = [key for key, value in found.items() if isinstance(value, list)]
    # Ten rows: the usual format in each shape, then masked rows; and what is exact.
    usual = itertools.product(peers.PEER_TOKENS, peers.PEER_HIDDEN, ["row_float32"])
    assert {key[3:] for key in numbers if key[0] == "serving_shapes"} == set(usual)
    rest = {(key[0], *key[2:]) for key in numbers if key[0] != "serving_shapes"}
    assert rest == {("masked_rows", MASKED[0], variant) for variant in PEER_MASKED}
    late = found["serving_shapes", "ptgq", "hot", 1, 7168, "int8"]
    assert late.reason == "the time was over: PTGQ_PEERS_SECONDS"
    assert found["codes", "ptgq", "int8"] == 0


def test_variants_that_are_not_named_are_left_out(device, monkeypatch):
    monkeypatch.setenv("PTGQ_PEERS_VARIANTS", "int8,masked")
    found = peers.measure()
    measured = {key for key, value in found.items() if not hasattr(value, "reason")}
    forms = {key[2] if key[0] in ("codes", "scales", "error") else key[-1] for key in measured}
    assert forms == {"int8", "masked"}
    for key in (
        ("codes", "ptgq", "group_64"),
        ("masked_rows", "ptgq", "full", "masked_silu_and_mul"),
    ):
        assert found[key].reason == "not in PTGQ_PEERS_VARIANTS"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PTGQ_PEERS_VARIANTS", "int8,int4", "'int4' is none of row_float32, "),
        ("PTGQ_PEERS_VARIANTS", "", "'' is none of row_float32, "),
        ("PTGQ_PEERS_SECONDS", "5m", "'5m' is no number of seconds"),
        ("PTGQ_PEERS_SECONDS", "-1", "'-1' is no number of seconds"),
    ],
)
def test_what_can_not_be_asked_for_is_refused(variable, value, said):
    with pytest.raises(ValueError, match=f"^{variable}: {said}"):
        peers_asked_for({variable: value})


def test_nothing_measures_it_unasked():
    pytest.importorskip("asv", reason="asv is not installed")
    from tracking import canary, compare, track

    name = "peers.Peers.track_default_shapes('ptgq', 'produced', 16, 'int8')"
    patterns = [*track.BENCHMARKS.values(), *compare.WITH_GPU, *compare.WITHOUT_GPU]
    patterns += [*canary.WITH_GPU, *canary.WITHOUT_GPU]
    assert [pattern for pattern in patterns if re.search(pattern, name)] == []


def test_the_workloads_of_rows_exist(device):
    for variant in peers.PEER_VARIANTS:
        for hidden in (*peers.PEER_HIDDEN, *peers.DEFAULT_HIDDEN.values()):
            workload = workloads.Workload(4, hidden, **peers.PEER_VARIANTS[variant])
            if hidden in peers.PEER_HIDDEN or variant in peers.PEER_DEFAULT_VARIANTS:
                assert hidden % workload.group_size == 0
