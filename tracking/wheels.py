"""Build commits' wheels for other machines, and see that wheels given suit this one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asv.config import Config
from asv.repo import get_repo
from asv.util import ProcessError
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from asv_plugins import lock, toolchain
from asv_plugins.environment import the_environment
from asv_plugins.wheel_cache import extracted_library
from asv_plugins.wheels import Wheel, Wheels, describe
from benchmarks.suite.machine_code import cuobjdump
from tracking.commits import git


def device_code(library: str) -> list[tuple[str, int, str]] | None:
    """Return what a library holds for GPUs, as ``("sm", 90, "a")``; None if that can't be told."""
    program = cuobjdump()
    if program is None:
        return None
    command = [program, "--list-elf", "--list-ptx", library]
    listed = subprocess.run(command, capture_output=True, text=True)
    kinds = {"cubin": "sm", "ptx": "compute"}
    found = re.findall(r"\.sm_(\d+)([af]?)\.(cubin|ptx)$", listed.stdout, re.MULTILINE)
    return [(kinds[kind], int(number), suffix) for number, suffix, kind in found]


def runs_on(code: tuple[str, int, str], capability: str) -> bool:
    """Whether a GPU of a compute capability, such as ``9.0``, runs what a library holds."""
    kind, number, suffix = code
    device = int(capability.replace(".", ""))
    if suffix == "a":
        return number == device
    same_major = number // 10 == device // 10
    return number <= device and (same_major or (kind == "compute" and not suffix))


def unsuited(wheel: Wheel, commit: str, capabilities: Sequence[str]) -> str | None:
    """Return why a wheel of a commit can't be measured here, None if it can."""
    try:
        tags = parse_wheel_filename(wheel.path.name)[3]
    except InvalidWheelFilename as error:
        return str(error)
    if tags.isdisjoint(sys_tags()):
        here = next(sys_tags())
        return f"is for {', '.join(sorted(map(str, tags)))}, here is {here}"
    if not capabilities or not any(
        name.endswith(".cu") for name in git("ls-tree", "-r", "--name-only", commit, "csrc/")
    ):
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = extracted_library(wheel.path, folder)
        codes = device_code(library) if library else []
    if codes is None:
        return None
    for capability in capabilities:
        if not any(runs_on(code, capability) for code in codes):
            held = ", ".join(sorted({f"{k}_{n}{s}" for k, n, s in codes})) or "no GPU"
            return f"holds code for {held}, the GPU here has compute capability {capability}"
    return None


def check(wheels: Wheels, selected: Sequence[str], has_gpu: bool) -> list[str]:
    """Return the commits that have no wheel and are to be built here.

    Raises
    ------
    ValueError
        If a wheel does not suit this machine, or one is missing and can't be built here.
    """
    capabilities = toolchain.capabilities() if has_gpu else []
    lacking = []
    for commit in selected:
        wheel = wheels.of(commit)
        if wheel is None:
            lacking.append(commit)
        elif reason := unsuited(wheel, commit, capabilities):
            raise ValueError(f"{wheel.path} {reason}")
    if lacking and (missing := toolchain.problem()):
        names = " ".join(commit[:10] for commit in lacking)
        raise ValueError(f"no wheel of {names}, which can't be built here: {missing}")
    return lacking


def build_ahead(conf: Config, commits: Sequence[str]) -> None:
    """Build commits' wheels side by side, for asv to find: it builds one after the other.

    What does not build is built again by asv, which records it.
    """
    environment = the_environment(conf)
    environment.create()
    try:
        environment.wheels(get_repo(conf), commits)
    except ProcessError:
        pass
    finally:
        lock.release(environment._lock)


def build(conf: Config, selected: Sequence[str], folder: Path) -> int:
    """Build commits' wheels into `folder`, each with a file that says what it is; 2 if one fails.

    What is there and was built with this toolchain is kept.
    """
    environment = the_environment(conf)
    environment.create()
    repo = get_repo(conf)
    failed = 0
    try:
        for commit in selected:
            target = folder / commit[:10]
            there = Wheels(target, conf.project).of(commit)
            if there and not toolchain.difference(there.toolchain):
                print(f"{there.path}: kept")
                continue
            try:
                (wheel,) = environment.wheels(repo, [commit])
            except ProcessError as error:
                print(f"track: error: {commit[:10]} does not build: {error}", file=sys.stderr)
                failed += 1
                continue
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            path = Path(shutil.copy(wheel, target))
            describe(path, commit, toolchain.description())
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    finally:
        lock.release(environment._lock)
    return 2 if failed else 0
