"""What proofs and the scripts for a GPU refuse: one line, status 2, before anything is measured."""

from __future__ import annotations

import pytest
import torch

from proofs import __main__ as command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format foo", "--format must be one of fp8_row_float32, "),
        ("--stride 0", "argument --stride: must be 1 or more, got 0"),
        ("--backend vulkan", "argument --backend: invalid choice: 'vulkan'"),
        ("--device cpu --backend cuda", "--backend: cuda is not available: it serves cuda tensors"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
    ],
)
def test_what_it_can_not_do_is_one_line_and_status_2(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("proofs: error: ")
    assert message in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_gpu_that_is_not_there_is_one_line_and_status_2(capsys, load_script):
    for main, arguments in (
        (command.main, ["--device", "cuda"]),
        (load_script("graph_lengths", "graph_lengths.py").main, []),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        (line,) = capsys.readouterr().err.splitlines()
        assert "no CUDA device is visible" in line
