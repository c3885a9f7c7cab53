"""The script that measures what a layer gains."""

from __future__ import annotations

import re

import pytest
import torch


@pytest.fixture
def layer(load_script):
    return load_script("layer", "layer.py")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is visible")
def test_a_gpu_is_needed(layer, capsys):
    assert layer.main(["--against", "torch-eager"]) == 2
    assert capsys.readouterr().err == "layer: error: no CUDA device is visible\n"


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0),
    reason="torch._scaled_mm has this recipe on compute capability 9.0",
)
def test_each_implementation_has_a_time(layer, monkeypatch, capsys):
    monkeypatch.setattr(layer, "TOKENS", (16,))
    monkeypatch.setattr(layer, "SAMPLES", 3)
    assert layer.main(["--against", "torch-eager"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    number = r"\d+\.\d+"
    assert re.fullmatch(rf" +16(?: +{number} \[{number}, {number}\] {number}){{3}}", row)
