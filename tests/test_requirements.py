"""The pinned requirements: with hashes, and what the dependency groups ask for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")

ROOT = Path(__file__).resolve().parents[1]
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
# Which groups a file pins: requirements/update.sh.
FILES = {
    "all": ("build", "typecheck", "test"),
    "site": ("site",),
    "lint": ("lint",),
}


def members(group: str) -> list[Requirement]:
    found = []
    for entry in GROUPS[group]:
        found += (
            members(entry["include-group"]) if isinstance(entry, dict) else [Requirement(entry)]
        )
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(name: str) -> dict[str, set[str]]:
    """The releases of each package in a file; each must have hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    releases: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.M).strip()):
        package, version = re.match(r"([\w.-]+)==(\S+)", entry).groups()
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry), f"{package} has no hash"
        releases.setdefault(canonical(package), set()).add(version)
    return releases


@pytest.mark.parametrize("name", FILES)
def test_a_file_pins_what_its_groups_ask_for(name):
    releases = pinned(name)
    for group in FILES[name]:
        for requirement in members(group):
            if requirement.name == "triton":
                continue
            versions = releases[canonical(requirement.name)]
            assert all(requirement.specifier.contains(version) for version in versions)


def test_files_agree():
    everything = pinned("all")
    for name in ("site", "lint", "nox"):
        for package, versions in pinned(name).items():
            # They share an environment.
            assert versions <= everything.get(package, versions)
    assert "nox" in pinned("nox")


def test_torch_is_pinned_by_its_release_alone():
    assert not {"torch", "triton"} & set(pinned("all"))
    assert re.search(r'"torch==\d+\.\d+\.\d+"', (ROOT / "noxfile.py").read_text())


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_a_set_up_brings_the_nox_that_the_page_runs(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "`nox -s" in text
    # All begin with a new environment; README's second makes what the first did.
    set_ups = re.findall(r"^python3 -m venv .*$", text, re.MULTILINE)
    assert set_ups
    for line in set_ups:
        files = re.findall(r"-r requirements/(\w+)\.txt", line)
        assert "pip install nox" in line or any("nox" in pinned(name) for name in files)
