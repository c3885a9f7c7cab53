"""What asv records about a machine, and whose results a name may have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("asv", reason="asv is not installed")

from tracking import machine

WITHOUT_DRIVER = """
import json, sys
from tracking import bisect, compare, machine, track
machine.has_driver = lambda: False
print(json.dumps([machine.facts(), "torch" in sys.modules]))
"""


def test_facts_are_the_same_without_importing_torch(monkeypatch):
    command = (sys.executable, "-c", WITHOUT_DRIVER)
    root = Path(__file__).parents[1]
    said = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "has_driver", lambda: True)
    assert json.loads(said) == [machine.facts(), False]


@pytest.mark.gpu
def test_a_gpu_has_a_driver():
    assert machine.has_driver()


def test_machines_are_named_after_what_they_measure_with():
    facts = {"gpu": "NVIDIA H200", "cpu": "AMD EPYC"}
    assert machine.default_name(facts) == "nvidia-h200"
    assert machine.default_name({**facts, "gpu": "none"}) == "amd-epyc"


@pytest.mark.parametrize(
    ("now", "expected"),
    [("25276518400", "25276514304"), ("25376518400", "25376518400"), ("unknown", "unknown")],
)
def test_memory_that_differs_by_a_boot_is_the_same(now, expected):
    assert machine.same_memory(now, "") == now
    assert machine.same_memory(now, "25276514304") == expected


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return what asv was told of this machine, whose results are in an empty folder."""
    told = {}
    monkeypatch.chdir(tmp_path)
    facts = {"gpu": "none", "cpu": "AMD EPYC (family 25 model 1)", "ram": "1000000"}
    monkeypatch.setattr(machine, "facts", lambda: dict(facts))
    monkeypatch.setattr(machine.MachineCollection, "save", told.__setitem__)
    return told


def test_a_machine_is_registered(here):
    facts = machine.identify(None)
    assert facts["machine"] == "amd-epyc-family-25-model-1"
    assert here == {}
    machine.register(facts)
    assert here == {facts["machine"]: facts}
    assert machine.identify("mine")["machine"] == "mine"


def test_a_name_of_another_processor_is_refused(here, tmp_path):
    stored = tmp_path / "results" / "mine" / "machine.json"
    stored.parent.mkdir(parents=True)
    stored.write_text('{"gpu": "none", "cpu": "AMD EPYC (family 26 model 2)", "ram": "1000001"}')
    expected = (
        "machine mine has results of AMD EPYC (family 26 model 2), this is AMD EPYC (family 25 "
        "model 1): another name is needed (--machine)"
    )
    assert machine.problems(machine.identify("mine")) == [expected]
    assert machine.problems(machine.identify("other")) == []
    stored.write_text(stored.read_text().replace("26 model 2", "25 model 1"))
    facts = machine.identify("mine")
    assert machine.problems(facts) == []
    assert facts["ram"] == "1000001"


def test_a_gpu_names_its_machine_whatever_the_processor(monkeypatch):
    monkeypatch.setattr(machine, "stored", lambda name: {"gpu": "NVIDIA H200", "cpu": "Intel"})
    found = {"machine": "nvidia-h200", "gpu": "NVIDIA H200", "cpu": "AMD"}
    assert machine.problems(found) == []
    message, _ = machine.problems({**found, "gpu": "none"})
    assert "has results of NVIDIA H200, this is none" in message
