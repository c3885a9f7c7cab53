"""The wheel: built as its user's machine allows, and imported from a clean environment."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from ast import literal_eval
from importlib.util import find_spec
from pathlib import Path

import pytest
from building import load_setup

pytestmark = pytest.mark.usefixtures("cached_compiler")
ROOT = Path(__file__).parents[1]
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")

# Free-threaded CPython has no limited C API: its wheel is for one release of it.
FREE_THREADED = "cp{0}{1}-cp{0}{1}t".format(*sys.version_info)
TAG = FREE_THREADED if sysconfig.get_config_var("Py_GIL_DISABLED") else "cp310-abi3"


def copy_source(folder: Path) -> Path:
    ignored = shutil.ignore_patterns(".*", "build", "results", "*.so", "*.egg-info", "__pycache__")
    return shutil.copytree(ROOT, folder / "source", ignore=ignored)


def build(source: Path, environment: dict[str, str]) -> Path:
    """Build a wheel of a folder, beside it, as pip does: three processes of pip's less."""
    code = f"import build_backend; build_backend.build_wheel({str(source.parent)!r})"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **environment}
    subprocess.run(command, check=True, cwd=source, env=environment, stdout=subprocess.DEVNULL)
    (wheel,) = source.parent.glob("*.whl")
    return wheel


def build_sdist(source: Path) -> Path:
    """Build an sdist as an isolated build does: where there is no torch."""
    (source / "torch.py").write_text("raise ModuleNotFoundError('torch')")
    code = f"import build_backend; build_backend.build_sdist({str(source.parent)!r})"
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, cwd=source, stdout=subprocess.DEVNULL)
    (sdist,) = source.parent.glob("*.tar.gz")
    return sdist


def run_installed(wheel: Path, folder: Path, code: str) -> str:
    """Run code where nothing but the wheel is installed and torch is found."""
    python = folder / "env" / "bin" / "python"
    venv.create(folder / "env", with_pip=False)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    # As pip does, which the test from the sources to the browser calls.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    torch = find_spec("torch")
    assert torch is not None
    # Behind the environment's own packages, so the wheel's ptgq is found first.
    (site / "torch.pth").write_text(str(Path(torch.origin).parents[1]) + "\n")
    code = f"import ptgq; assert {str(site)!r} in ptgq.__file__, ptgq.__file__; {code}"
    # Else it looks through all of torch when it ends.
    code += "; import gc; gc.freeze()"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


QUANTIZE = (
    "import torch; q, s = ptgq.per_token_group_quant_fp8(torch.ones(4, 128), 64); "
    "print({n: tuple(b) for n, b in ptgq.backends().items()})"
)


def for_cuda() -> dict[str, str]:
    """What a build reads, with CUDA where there is an nvcc."""
    if NVCC is None:
        return {"PTGQ_CUDA": "0"}
    helped = subprocess.run([NVCC, "--help"], capture_output=True, text=True)
    # The kernels are of no interest here, and take most of the time.
    fast = "--Ofast-compile=max " if "--Ofast-compile" in helped.stdout else ""
    return {
        "PTGQ_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": "7.5 9.0a",
        "NVCC_APPEND_FLAGS": f"{fast}-Xcompiler=-O0",
    }


def leave_out_kernels(source: Path) -> None:
    """Leave all kernels out but the one that says what a device is: this environment has them.

    What is left is one file: nvcc takes seconds for what others include.
    """
    left = []
    for path in sorted((source / "csrc" / "cuda").glob("*.cu")):
        text = path.read_text()
        if path.stem == "float32":
            text, count = re.subn("quantize_on<.*;", "", text)
            path.write_text(text)
        else:
            own = source / "csrc" / "contract" / f"{path.stem}.h"
            contract = path.stem if own.exists() else "problem"
            text = re.sub('"cuda/.*"', f'"contract/{contract}.h"', text)
            text, count = re.subn(r"\) \{.*?\n\}\n", ") {}\n", text, flags=re.DOTALL)
            left.append(text)
            path.unlink()
        assert count > 0
    (source / "csrc" / "cuda" / "others.cu").write_text("\n".join(left))


def test_wheel_of_an_sdist_with_cuda(tmp_path):
    sdist = build_sdist(copy_source(tmp_path))
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    sources = (ROOT / "csrc").glob("*/*")
    assert {str(path.relative_to(ROOT)) for path in sources} <= names
    assert "build_backend.py" in names
    assert not [name for name in names if name.startswith("tests/")]
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    leave_out_kernels(unpacked)
    wheel = build(unpacked, for_cuda())
    assert wheel.name.endswith(f"-{TAG}-linux_{platform.machine()}.whl")
    statuses = literal_eval(run_installed(wheel, tmp_path, QUANTIZE))
    assert statuses["cpu"] == (True, "serves cpu")
    import torch

    if NVCC and not torch.cuda.is_available():
        assert statuses["cuda"] == (False, "no CUDA device is visible")


def committed_source(folder: Path) -> tuple[Path, str]:
    """Copy the source into a repository of its own; return it and its commit."""
    source = copy_source(folder)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    for arguments in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "One")):
        subprocess.run(["git", *arguments], cwd=source, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=source, capture_output=True, text=True)
    return source, head.stdout.strip()


def test_a_copy_of_the_source_is_committed_to_its_own_repository(tmp_path):
    source, head = committed_source(tmp_path)
    assert (source / ".git" / "refs" / "heads").is_dir()
    assert len(head) == 40


def test_a_wheel_without_cuda_knows_its_commit(tmp_path):
    source, head = committed_source(tmp_path)
    # As under a hook of another repository.
    wheel = build(source, {"PTGQ_CUDA": "0", "GIT_DIR": str(tmp_path / "no-such-repository")})
    assert f"-{TAG}-linux_" in wheel.name
    code = f"from ptgq import extension; print(extension.commit); {QUANTIZE}"
    commit, statuses = run_installed(wheel, tmp_path, code).splitlines()
    assert commit == head[:10]
    assert literal_eval(statuses)["cpu"][0]
    assert literal_eval(statuses)["cuda"] == (False, "the extension was built without CUDA")


def test_wheel_without_a_compiler(tmp_path):
    empty = tmp_path / "bin"
    empty.mkdir()
    wheel = build(copy_source(tmp_path), {"PATH": str(empty), "CXX": "no-such-compiler"})
    statuses = literal_eval(run_installed(wheel, tmp_path, QUANTIZE))
    reason = "the extension is not built: no C++ compiler was found at installation"
    assert statuses["cpu"] == statuses["cuda"] == (False, reason)
    assert statuses["reference"][0]


@pytest.mark.parametrize(
    ("setting", "said"), [("yes", "must be auto, 0 or 1, got 'yes'"), ("1", "=1 needs nvcc")]
)
def test_cuda_can_be_demanded(monkeypatch, setting, said):
    monkeypatch.setenv("PTGQ_CUDA", setting)
    monkeypatch.setattr(shutil, "which", lambda program, path=None: None)
    with pytest.raises(SystemExit, match=f"^PTGQ_CUDA {said}|^PTGQ_CUDA{said}"):
        load_setup().compiled()
