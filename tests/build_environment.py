"""What commits are built with, as tests set it."""

from __future__ import annotations

import pytest

from asv_plugins import toolchain


@pytest.fixture
def built_with(monkeypatch):
    """Set variables of the build, and let what it is built with be found out anew."""

    def build_with(**variables):
        monkeypatch.setenv("PTGQ_CUDA", "0")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        toolchain.description.cache_clear()

    build_with()
    yield build_with
    toolchain.description.cache_clear()
