"""Tasks: ``nox -s NAME -- ARGUMENTS``; with ``--no-venv`` in the environment that nox runs in."""

import os
import runpy
import shutil
import sys
import time
from pathlib import Path

import nox
from nox.virtualenv import ALL_VENVS

nox.options.sessions = ["lint", "typecheck", "tests"]
nox.options.reuse_venv = "yes"

# One release, so that every machine builds and tests with the same; any from 2.11 works.
TORCH = os.environ.get("PTGQ_TORCH", "torch==2.13.0")
# CUDA builds of torch bring the release that they need.
TRITON = "triton>=3.6"


def shared(create):
    """Let all sessions but other_torch have one environment: with torch, each would take 2.2 GB."""

    def create_shared(envdir, **options):
        own = Path(envdir).name == "other_torch"
        return create(envdir if own else str(Path(envdir).with_name("shared")), **options)

    return create_shared


for backend in ("virtualenv", "venv", "uv"):
    ALL_VENVS[backend] = shared(ALL_VENVS[backend])


def pinned(session, name, *options):
    """Install requirements/NAME.txt, whose hashes pip checks; without a venv nothing."""
    if session.venv_backend != "none":
        session.install(*options, "--require-hashes", "-r", f"requirements/{name}.txt")


def pip_install(session, *arguments, env=None):
    """Install with pip, or with uv where nox uses it: its environments may hold no pip."""
    if session.venv_backend == "none":
        session.run_install("python", "-m", "pip", "install", "--quiet", *arguments, env=env)
    else:
        session.install("--quiet", *arguments, env=env)


def install(session, project=True):
    """Install what is pinned, torch and the project; without a venv, the project alone."""
    if session.venv_backend != "none":
        wanted = "\n".join((Path("requirements/all.txt").read_text(), TORCH, TRITON))
        stamp = Path(session.virtualenv.location, "installed")
        if not stamp.is_file() or stamp.read_text() != wanted:
            pinned(session, "all", "--no-compile")
            # By release alone: each index has its own builds of both. What they require is pinned.
            session.install("--no-compile", TORCH, TRITON)
            # On all cores, where pip takes one; without packages' tests. Templates do not compile.
            modules = ("compileall", "-qq", "-j0", "-x", "/tests?/", session.virtualenv.location)
            session.run_install("python", "-I", "-m", *modules, log=False, success_codes=[0, 1])
            stamp.write_text(wanted)
    if project:
        build(session)


def build(session):
    """Build and install the project, unless what is installed was built of the same."""
    built_of = runpy.run_path("tools/build_inputs.py")
    inputs, stamp = built_of["build_inputs"](), session.cache_dir / "built"

    def state():
        options = {"silent": True, "log": False, "success_codes": [0, 1]}
        installed = session.run_install("python", "-I", "-c", built_of["INSTALLED"], **options)
        # None with nox --no-install.
        return installed and inputs + installed

    before = state()
    if before is None or (stamp.is_file() and stamp.read_text() == before):
        return
    # Its dependencies are here; an isolated build would fetch another torch.
    pip_install(session, "--no-deps", "--no-build-isolation", "--force-reinstall", ".")
    stamp.write_text(state())


def only_installs(session):
    """Whether nox was told --install-only: then session.run does nothing."""
    return session.run("python", "-c", "", silent=True, log=False) is None


@nox.session
def lint(session):
    """Check style, ruff for Python, clang-format for csrc; and CI's workflows."""
    pinned(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    folders = ("csrc/*/*", "proofs/*.cpp", "tests/cuda_on_cpu/**/*.*")
    sources = sorted(str(path) for folder in folders for path in Path().glob(folder))
    session.run("clang-format", "--dry-run", "-Werror", *sources)
    workflows = map(str, sorted(Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "--offline", "--strict-collection", "--no-progress", ".github")


@nox.session
def typecheck(session):
    """Check the types of ptgq."""
    install(session, project=False)
    session.run("mypy")


@nox.session
def tests(session):
    """Run the tests: [PYTEST ARGUMENTS]."""
    install(session)
    # Not python -m pytest: that would test the folder ptgq, not the installed package.
    session.run("pytest", "-n", "auto", "--dist", "worksteal", *session.posargs)


@nox.session
def other_torch(session):
    """Run the tests with a wheel that another torch built: TORCH WHEEL [PYTEST ARGUMENTS]."""
    if len(session.posargs) < 2:
        session.error("say which: nox -s other_torch -- torch==2.11.0 ptgq-….whl")
    torch, wheel, *arguments = session.posargs
    pinned(session, "all")
    session.install(torch, TRITON)
    session.install("--no-deps", "--force-reinstall", "--quiet", wheel)
    session.run("pytest", "-n", "auto", *arguments)


@nox.session
def oldest_triton(session):
    """Check what the oldest Triton, before the newer one, makes of the kernels, without a GPU."""
    install(session)
    folder = Path(session.create_tmp(), "triton")
    shutil.rmtree(folder, ignore_errors=True)
    pip_install(session, "--no-deps", "--target", str(folder), TRITON.replace(">=", "=="))
    every = {"PYTHONPATH": str(folder), "PTGQ_EVERY_CASE": "1"}
    session.run("pytest", *sorted(Path("tests").glob("test_*_ptx.py")), env=every)


@nox.session
def mutate(session):
    """Plant faults and see that the tests find each: [PATTERN ...]."""
    install(session, project=False)
    session.run("python", "tools/mutation", *session.posargs)


@nox.session
def prove(session):
    """Prove the backends' bytes against integer arithmetic: [PROOFS ARGUMENTS]."""
    install(session)
    session.run("python", "-m", "proofs", *session.posargs)


@nox.session
def sanitize(session):
    """Run calls and fuzzing with every access to memory checked, on the CPU and on a GPU's."""
    install(session, project=False)
    folder = Path(session.create_tmp(), "sanitize")
    shutil.rmtree(folder, ignore_errors=True)
    compiler = os.environ.get("CXX", "c++")
    # Optimizations and inlined checks would take GCC four fifths of its time.
    faster = "-O1 -g1 --param=asan-instrumentation-with-call-threshold=0"
    program = Path(session.create_tmp(), "c++").resolve()
    program.write_text(f'#!/bin/sh\nexec {compiler} "$@" {faster}\n')
    program.chmod(0o755)
    flags = "-fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
    build = {"CXX": str(program), "CFLAGS": flags, "LDFLAGS": flags, "PTGQ_CUDA": "0"}
    options = ("--no-deps", "--no-build-isolation", "--target", str(folder))
    pip_install(session, *options, ".", env=build)
    if only_installs(session):
        return
    find = [(compiler, f"-print-file-name={name}") for name in ("libasan.so", "libstdc++.so")]
    paths = [session.run(*command, external=True, silent=True, log=False) for command in find]
    # Python itself is not built with the checks: their library comes first by hand.
    checked = {
        "LD_PRELOAD": ":".join(path.strip() for path in paths),
        "PYTHONPATH": str(folder),
        "ASAN_OPTIONS": "detect_leaks=0:exitcode=87",
        "PTGQ_FUZZ_SECONDS": os.environ.get("PTGQ_FUZZ_SECONDS", "1.5"),
    }
    proofs = ("python", "-m", "proofs", "--device=cpu")
    # That the checks are on: a read of what is not there ends the process.
    session.run(*proofs, "--out-of-bounds", env=checked, silent=True, success_codes=[87])
    session.run(*proofs, "--backend=cpu", "--part=calls", "--stride=6", env=checked)
    fuzzed = map(str, sorted(Path("tests").glob("test_fuzz*.py")))
    session.run("pytest", "-q", *fuzzed, *session.posargs, env=checked)
    if shutil.which("compute-sanitizer") and shutil.which("nvidia-smi"):
        session.run("proofs/compute_sanitizer.sh", external=True)


@nox.session
def bench(session):
    """Print the benchmark table of this machine, on its GPU if it has one: [SCRIPT ARGUMENTS]."""
    script = "benchmarks/benchmark_per_token_group_quant.py"
    if {"-h", "--help"} & set(session.posargs):
        session.run(sys.executable, script, "--help", external=True)
        return
    install(session)
    if only_installs(session):
        return
    probe = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    # The last line: warnings may come before it.
    device = session.run("python", "-c", probe, silent=True, log=False).splitlines()[-1]
    session.run("python", script, f"--device={device}", *session.posargs)


@nox.session
def site(session):
    """Publish the stored results as a site: [--serve on 127.0.0.1] [--port PORT]."""
    pinned(session, "site")
    # At Ctrl-C it removes what is half written: thousands of files.
    session.run("python", "-m", "tracking.publish", *session.posargs, interrupt_timeout=30)


# nvcc compiles for several architectures at a time.
WITH_CUDA = {"PTGQ_CUDA": "1", "NVCC_APPEND_FLAGS": "--threads=0"}


def machine_code():
    """What benchmarks/suite/machine_code.py defines, which needs nothing but Python."""
    return runpy.run_path("benchmarks/suite/machine_code.py")


@nox.session(name="compile")
def compile_all(session):
    """Compile CUDA for 8.0 to 12.0 without a GPU; fail if a kernel spills registers."""
    install(session, project=False)
    folder = Path(session.create_tmp(), "compile")
    shutil.rmtree(folder, ignore_errors=True)
    environment = {"TORCH_CUDA_ARCH_LIST": ";".join(machine_code()["CAPABILITIES"]), **WITH_CUDA}
    options = ("--no-deps", "--no-build-isolation", "--target", str(folder))
    pip_install(session, *options, ".", env=environment)
    session.run("python", "benchmarks/suite/machine_code.py", str(folder / "ptgq" / "_C.so"))


@nox.session
def wheel(session):
    """Build one wheel for all GPUs from 8.0 on into dist/, without a GPU; say its size."""
    install(session, project=False)
    if only_installs(session):
        return
    folder = Path(session.create_tmp(), "wheel")
    shutil.rmtree(folder, ignore_errors=True)
    environment = {"TORCH_CUDA_ARCH_LIST": ";".join(machine_code()["WHEEL"]), **WITH_CUDA}
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder))
    start = time.monotonic()
    session.run("python", "-m", "pip", "wheel", *options, ".", env=environment)
    minutes = (time.monotonic() - start) / 60
    (built,) = folder.iterdir()
    Path("dist").mkdir(exist_ok=True)
    path = Path(shutil.move(built, Path("dist", built.name)))
    session.log(f"{path}: {path.stat().st_size / 1e6:.1f} MB in {minutes:.1f} minutes")


def tracking(session, *commands, **variables):
    """Run modules one after the other; exit with the first failure's status, not a session's 1."""
    install(session, project=False)
    if only_installs(session):
        return
    finished = runpy.run_path("tools/finished.py")["finished"]
    python = sys.executable if session.venv_backend == "none" else f"{session.bin}/python"
    statuses = [finished([python, "-m", *command], **variables) for command in commands]
    if any(statuses):
        sys.exit(next(filter(None, statuses)))


@nox.session
def record(session):
    """Measure this machine's newest commits, publish all results, say where: [TRACK ARGUMENTS]."""
    rows = r"^(?!timed\.).*_default_shapes\(|cpu_time\.|code_hash\."  # asv times the same shapes
    track = ("tracking.track", "--newest", "2", "--older", rows, *session.posargs)
    # Also after a failure: it is on the record. Whoever has just measured finds their machine.
    tracking(session, track, ("tracking.publish",), PTGQ_SITE_OPENS="measured")


@nox.session
def track(session):
    """Measure commits here: [RANGE ...] [--shard I/N] [--bench RE], and more: [--help]."""
    tracking(session, ("tracking.track", *session.posargs))


@nox.session
def compare(session):
    """Compare two commits, alternating: BASE HEAD. Status 1: slower, 2: failed, 3: undecided."""
    tracking(session, ("tracking.compare", *session.posargs))


@nox.session
def bisect(session):
    """Find the commit in RANGE that made BENCH slower: RANGE BENCH."""
    tracking(session, ("tracking.bisect", *session.posargs))


@nox.session
def merge(session):
    """Check results that others measured, and merge them: FOLDER [FOLDER ...] [--replace]."""
    tracking(session, ("tracking.merge", *session.posargs))
