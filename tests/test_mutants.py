"""Mutation testing itself, which takes an hour: that there is something to plant."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", MUTANTS)
def test_what_a_fault_replaces_is_there_once(name):
    mutant = MUTANTS[name]
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new
