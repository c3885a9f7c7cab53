"""Build ``ptgq._C``: the CPU code wherever there is a C++ compiler, the CUDA code where nvcc is.

Metadata is in ``pyproject.toml``. Environment: ``PTGQ_CUDA`` = ``auto`` (default), ``0`` or ``1``
(fail without nvcc); ``TORCH_CUDA_ARCH_LIST`` = e.g. ``9.0;10.0`` or ``9.0+PTX``, by default the
architectures of the visible GPUs, else 9.0; ``CXX``; ``CUDA_HOME``.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch
from setuptools import Extension, setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension, include_paths

# The stable ABI of torch 2.11: one library serves that release and all later ones.
STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"
# Likewise of CPython 3.10, but free-threaded CPython 3.14 has none: there the wheel is cp314t.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")
CXX_FLAGS = ["-O3", "-std=c++20", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", STABLE_ABI]
# With _FORTIFY_SOURCE=3, Ubuntu's default, GCC makes no vectors of loops that have a memcpy: the
# CPU backend took 5 to 12 times as long.
CXX_FLAGS += ["-U_FORTIFY_SOURCE"]
NVCC_FLAGS = ["-O3", "-std=c++20", "-Xcompiler=-fPIC,-fvisibility=hidden"]


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


def cuda_architectures() -> list[str]:
    listed = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    count = torch.cuda.device_count()
    visible = {"{}.{}".format(*torch.cuda.get_device_capability(i)) for i in range(count)}
    return listed or sorted(visible) or ["9.0"]


def gencode(architecture: str) -> list[str]:
    number = architecture.removesuffix("+PTX").replace(".", "")
    flags = [f"-gencode=arch=compute_{number},code=sm_{number}"]
    if architecture.endswith("+PTX"):
        flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def toolkit_of(nvcc: str) -> Path:
    """The toolkit's root, as nvcc itself states it: nvcc on the PATH may be a link or a script."""
    dryrun = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True)
    top = next(line for line in dryrun.stderr.splitlines() if line.startswith("#$ TOP="))
    return Path(top.removeprefix("#$ TOP=").strip().strip('"')).resolve()


def commit() -> str:
    """The commit that is built, with + if files differ from it; nothing outside a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"],
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() if Path(".git").exists() else ""


class Build(BuildExtension):
    """Compile .cu files with nvcc alone where torch has no CUDA, so CUDAExtension refuses to."""

    def build_extensions(self):
        for ext in self.extensions:
            for source, flags in ext.nvcc_sources.items():
                target = Path(self.build_temp, Path(source).stem + ".o")
                target.parent.mkdir(parents=True, exist_ok=True)
                includes = [f"-I{path}" for path in include_paths()]
                self.spawn([find_nvcc(), "-c", source, "-o", str(target), *flags, *includes])
                ext.extra_objects.append(str(target))
        super().build_extensions()


def extension() -> Extension:
    cpu_sources = sorted(map(str, Path("csrc").glob("*.cpp")))
    cuda_sources = sorted(map(str, Path("csrc").glob("*.cu")))
    nvcc = find_nvcc()
    architectures = cuda_architectures() if nvcc else []
    built = {"PTGQ_CUDA_ARCHITECTURES": ";".join(architectures), "PTGQ_COMMIT": commit()}
    cxx_flags = [*CXX_FLAGS, *(f'-D{name}="{value}"' for name, value in built.items())]
    if nvcc:
        cxx_flags.append("-DPTGQ_WITH_CUDA")
    # torch loads its libraries with local visibility: only a NEEDED entry finds their symbols.
    options = {"py_limited_api": LIMITED_API, "extra_link_args": ["-Wl,--no-as-needed", "-ltorch"]}
    if nvcc:
        # A static CUDA runtime, so that the same library loads on machines without CUDA.
        runtime = ["-Wl,--exclude-libs,ALL", "-lcudart_static", "-lrt", "-lpthread", "-ldl"]
        options["extra_link_args"] += runtime
        toolkit = toolkit_of(nvcc)
        libraries = (toolkit / "lib64", toolkit / "lib", toolkit / "targets/x86_64-linux/lib")
        options["library_dirs"] = [str(path) for path in libraries if path.is_dir()]
    nvcc_flags = [*NVCC_FLAGS, *(flag for arch in architectures for flag in gencode(arch))]
    if nvcc and torch.version.cuda:
        flags = {"cxx": cxx_flags, "nvcc": nvcc_flags}
        os.environ.setdefault("CUDA_HOME", str(toolkit))
        sources = cpu_sources + cuda_sources
        ext = CUDAExtension("ptgq._C", sources, extra_compile_args=flags, **options)
        ext.libraries = ["c10", "torch", "torch_cpu"]  # without torch_cuda: see above
    else:
        flags = {"cxx": cxx_flags}
        ext = CppExtension("ptgq._C", cpu_sources, extra_compile_args=flags, **options)
    ext.nvcc_sources = (
        dict.fromkeys(cuda_sources, nvcc_flags) if not torch.version.cuda and nvcc else {}
    )
    return ext


if shutil.which(os.environ.get("CXX", "c++")) is None and shutil.which("g++") is None:
    print("ptgq: no C++ compiler: installing without the cpu and cuda backends", file=sys.stderr)
    setup()
else:
    setup(
        ext_modules=[extension()],
        cmdclass={"build_ext": Build.with_options(no_python_abi_suffix=True)},
        options={"bdist_wheel": {"py_limited_api": "cp310"}} if LIMITED_API else {},
    )
