"""Build ``ptgq._C``: the CPU code wherever there is a C++ compiler, the CUDA code where nvcc is.

Metadata is in ``pyproject.toml``. Environment: ``PTGQ_CUDA`` = ``auto`` (default), ``0`` or ``1``
(fail without nvcc); ``TORCH_CUDA_ARCH_LIST`` = e.g. ``9.0;10.0``, ``9.0+PTX`` or ``Hopper``, by
default the architectures of the visible GPUs, else 9.0; ``CXX``; ``CUDA_HOME``; ``PTGQ_LIBRARY`` =
a library built before of the same ``csrc`` and ``setup.py``, taken as it is: nothing is compiled.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The stable ABI of torch 2.11: one library serves that release and all later ones.
STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"
# Likewise of CPython 3.10, but free-threaded CPython 3.14 has none: there the wheel is cp314t.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
CXX_FLAGS = ["-O3", "-std=c++20", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", STABLE_ABI]
# Python asks for debug information, a third of the library; who wants it says so by CFLAGS=-g.
CXX_FLAGS += [] if "-g" in os.environ.get("CFLAGS", "").split() else ["-g0"]
# With _FORTIFY_SOURCE=3, Ubuntu's default, GCC makes no vectors of loops that have a memcpy: the
# CPU backend took 5 to 12 times as long.
CXX_FLAGS += ["-U_FORTIFY_SOURCE"]
NVCC_FLAGS = ["-O3", "-std=c++20", "-Xcompiler=-fPIC,-fvisibility=hidden"]
# Its folders are named in each #include.
CSRC = Path("csrc")
# The compute capability that first reduces over a warp in one instruction.
LEAST_CAPABILITY = (8, 0)
# As torch names architectures.
NAMED_ARCHITECTURES = {
    "Ampere": "8.0 8.6+PTX",
    "Ampere+Tegra": "8.7",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell": "10.0 10.3 12.0 12.1+PTX",
    "Blackwell+Tegra": "11.0",
}


def say(line: str) -> None:
    print(f"ptgq: {line}", file=sys.stderr)


def find_nvcc() -> str | None:
    setting = os.environ.get("PTGQ_CUDA", "auto")
    if setting not in ("auto", "0", "1"):
        raise SystemExit(f"PTGQ_CUDA must be auto, 0 or 1, got {setting!r}")
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which("nvcc", path=f"{home}/bin") if home else shutil.which("nvcc")
    nvcc = nvcc or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if setting == "1" and nvcc is None:
        raise SystemExit("PTGQ_CUDA=1 needs nvcc, which is neither in CUDA_HOME nor on the PATH")
    return None if setting == "0" else nvcc


def capability_of(architecture: str) -> tuple[int, int]:
    major, _, minor = architecture.removesuffix("+PTX").rstrip("af").partition(".")
    return int(major), int(minor)


def cuda_architectures(listed: str, visible: list[str]) -> list[str]:
    """What to compile for: what TORCH_CUDA_ARCH_LIST says, else the visible GPUs', else 9.0.

    What is too old is left out, as containers list all that torch has; nothing remains where no
    visible GPU can be served.
    """
    least = "{}.{}".format(*LEAST_CAPABILITY)
    entries = []
    for entry in re.sub("[;,]", " ", listed).split():
        entries += NAMED_ARCHITECTURES.get(entry, entry).split()
    for entry in entries:
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", entry):
            raise SystemExit(
                f"TORCH_CUDA_ARCH_LIST: got {entry!r}, accepted are compute capabilities from "
                f"{least} (9.0, 9.0a, 9.0+PTX) and {', '.join(NAMED_ARCHITECTURES)}"
            )
    wanted = list(dict.fromkeys(entries or sorted(visible) or ["9.0"]))
    served = [one for one in wanted if capability_of(one) >= LEAST_CAPABILITY]
    if wanted != served:
        older = ", ".join(one for one in wanted if one not in served)
        reason = f"the CUDA code needs compute capability {least}, not {older}"
        if entries and not served:
            raise SystemExit(f"TORCH_CUDA_ARCH_LIST: {reason}; PTGQ_CUDA=0 builds without it")
        say(f"{reason}: left out")
    return served


def gencode(architecture: str) -> list[str]:
    number = architecture.removesuffix("+PTX").replace(".", "")
    flags = [f"-gencode=arch=compute_{number},code=sm_{number}"]
    if architecture.endswith("+PTX"):
        flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def library_dirs(nvcc: str) -> list[str]:
    """The toolkit's, as nvcc itself states it: nvcc on the PATH may be a link or a script."""
    dryrun = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True)
    stated = dict(re.findall("^#[$] (TOP|_TARGET_DIR_)=(.*)", dryrun.stderr, re.MULTILINE))
    top = Path(stated["TOP"].strip().strip('"')).resolve()
    places = (top / "lib64", top / "lib", top / stated.get("_TARGET_DIR_", "").strip() / "lib")
    return [str(path) for path in places if path.is_dir()]


def commit() -> str:
    """The commit that is built, with + if files differ from it; nothing outside a checkout."""
    if not Path(".git").exists() or shutil.which("git") is None:
        return ""
    # Under a hook git exports another repository than this folder's.
    exported = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in exported},
    )
    return described.stdout.strip()


class WithCommit(build_ext):
    """Write the commit beside the library, not into it: no commit alone compiles anything."""

    def run(self):
        super().run()
        package = "ptgq" if self.inplace else Path(self.build_lib, "ptgq")
        Path(package, "commit.txt").write_text(commit())


class Copy(WithCommit):
    """Take the library that PTGQ_LIBRARY names."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], Path(os.environ["PTGQ_LIBRARY"]).name))

    def build_extension(self, ext: Extension):
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.environ["PTGQ_LIBRARY"], target)


def extension(nvcc: str | None, architectures: list[str]) -> Extension:
    from torch.utils.cpp_extension import CppExtension

    cxx_flags = [*CXX_FLAGS, f'-DPTGQ_CUDA_ARCHITECTURES="{";".join(architectures)}"']
    # torch loads its libraries with local visibility: only a NEEDED entry finds their symbols.
    options = {"py_limited_api": LIMITED_API, "extra_link_args": ["-Wl,--no-as-needed", "-ltorch"]}
    if architectures:
        cxx_flags.append("-DPTGQ_WITH_CUDA")
        # A static CUDA runtime, so that the same library loads on machines without CUDA.
        runtime = ["-Wl,--exclude-libs,ALL", "-lcudart_static", "-lrt", "-lpthread", "-ldl"]
        options["extra_link_args"] += runtime
        options["library_dirs"] = library_dirs(nvcc)
    return CppExtension(
        "ptgq._C",
        sorted(map(str, CSRC.glob("*/*.cpp"))),
        include_dirs=[str(CSRC.resolve())],
        depends=sorted(map(str, CSRC.glob("*/*"))),
        extra_compile_args={"cxx": cxx_flags},
        **options,
    )


def build_command(nvcc: str | None, architectures: list[str]):
    from torch.utils.cpp_extension import BuildExtension, include_paths

    flags = [*NVCC_FLAGS, *(flag for arch in architectures for flag in gencode(arch))]
    flags += [f"-I{path}" for path in (CSRC, *include_paths())]

    class Build(WithCommit, BuildExtension):
        """Compile .cu files with nvcc alone: torch may have no CUDA, or another one, and refuse."""

        def compile_cuda(self) -> list[str]:
            Path(self.build_temp).mkdir(parents=True, exist_ok=True)

            def compile_one(source: Path) -> str:
                target = str(Path(self.build_temp, source.stem + ".o"))
                self.spawn([nvcc, "-c", str(source), "-o", target, *flags])
                return target

            with ThreadPoolExecutor() as pool:
                return list(pool.map(compile_one, sorted(CSRC.glob("*/*.cu"))))

        def build_extensions(self):
            link = self.compiler.link_shared_object
            # Beside the C++ compiler, which takes as long.
            with ThreadPoolExecutor() as pool:
                cuda = pool.submit(self.compile_cuda if architectures else list)

                def link_all(objects, *args, **options):
                    link([*objects, *cuda.result()], *args, **options)

                self.compiler.link_shared_object = link_all
                super().build_extensions()

    return Build.with_options(no_python_abi_suffix=True)


def described(extension: Extension, command) -> dict:
    """What setup() is told of the library."""
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": command},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}} if LIMITED_API else {},
    }


def copied(library: str) -> dict:
    """The library as it is."""
    if not Path(library).is_file():
        raise SystemExit(f"PTGQ_LIBRARY must be a file, got {library!r}")
    return described(Extension("ptgq._C", []), Copy)


def compiled() -> dict:
    """The library from its sources."""
    if find_spec("torch") is None:
        raise SystemExit(
            "ptgq: building needs torch>=2.11, and none is installed: install it first, or leave "
            "out --no-build-isolation"
        )
    import torch

    if torch.__version__ < (2, 11):
        raise SystemExit(f"ptgq: building needs torch>=2.11, here is {torch.__version__}")
    nvcc = find_nvcc()
    architectures = []
    if nvcc:
        devices = range(torch.cuda.device_count())
        visible = {"{}.{}".format(*torch.cuda.get_device_capability(i)) for i in devices}
        architectures = cuda_architectures(os.environ.get("TORCH_CUDA_ARCH_LIST", ""), visible)
        if not architectures and os.environ.get("PTGQ_CUDA") == "1":
            raise SystemExit("PTGQ_CUDA=1: no visible GPU can run it, name TORCH_CUDA_ARCH_LIST")
    return described(extension(nvcc, architectures), build_command(nvcc, architectures))


if __name__ == "__main__":
    # An sdist, and metadata, are made without torch.
    if {"sdist", "egg_info", "dist_info"} & set(sys.argv):
        setup()
    elif library := os.environ.get("PTGQ_LIBRARY"):
        setup(**copied(library))
    elif shutil.which(os.environ.get("CXX", "c++")) is None and shutil.which("g++") is None:
        say("no C++ compiler: installing without the cpu and cuda backends")
        setup()
    else:
        setup(**compiled())
