"""Made-up asv results of a made-up repository, the same ones every time.

``python tools/synthetic_results.py FOLDER --commits 500 --machines 3 --series 400`` writes a git
repository, results in asv's own format, and an ``asv.conf.json`` that publishes them with this
project's plugin; ``PYTHONPATH=. python -m asv --config FOLDER/asv.conf.json publish`` then makes
the site.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import synthetic_peers
from asv.results import Results
from asv.util import load_json, write_json

FORMATS = ("fp8_row_float32", "fp8_column_float32", "fp8_row_ue8m0", "fp8_column_ue8m0", "int8")
DEFAULT = {"tokens": (16, 32, 64), "group": (64, 128), "format": FORMATS}
SERVING = {"tokens": (1, 16, 128, 1023, 1024, 8192, 32768), "hidden": (2048, 4096, 7168)}
VARIANTS = {"tokens": (128, 1024, 8192), "variant": ("deep_gemm_hopper", "silu_and_mul")}
FUNCTIONS = {"call": ("fp8_row_float32", "silu_row_float32", "dequantize"), "out": (False, True)}
GPU_BACKENDS = {"backend": ("cuda", "triton")}
BACKENDS = {"backend": ("cuda", "triton", "cpu", "reference")}
CPU_BACKENDS = {"backend": ("cpu", "reference")}
STATE = {"state": ("produced", "hot", "cold")}
DATA = {"data": ("normal", "heavy_tailed", "outlier_channels")}
# With the tokens of 7168 whose bytes are as many.
FORMS = {"norm_residual_8192x7168_cold": 19_000, "blocks_256x2048x7168_cold": 524_288}
FORM = {"form": tuple(FORMS)}
CHECKED = {"backend": ("cuda", "triton", "cpu"), "call": ("norm_residual", "dequantize-blocks")}
KERNEL = {"kernel": ("quantize<128, row>", "quantize<128, column>")}
FAMILY = {"family": ("all", "vector_kernel<bfloat16>", "vector_kernel<float16>", "small_kernel")}
# Text that must stay text, wherever a page shows it.
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"

GPU_MACHINE = {
    "machine": "h200", "gpu": "NVIDIA H200", "driver": "580.95", "cuda": "13.0", "cpu": "Xeon",
    "num_cpu": "16", "os": "Linux", "arch": "x86_64", "ram": "270334464000",
}  # fmt: skip


def stored_results(commit: str, machine: str = "box", values: object = (1.5,)) -> dict:
    """Return the content of one file of asv's, with one benchmark of one parameter."""
    return {
        "commit_hash": commit,
        "env_name": "env",
        "date": 0,
        "params": {"machine": machine},
        "python": "3.11",
        "requirements": {},
        "env_vars": {},
        "result_columns": ["result", "params"],
        "results": {"k.track": [list(values), [[repr(v) for v in range(len(values))]]]},
        "durations": {},
        "version": 2,
    }


def write_canary(folder: Path, day: int, factor: float = 1.0, toolchain=None, **facts) -> Path:
    """Write a run of the canary on GPU_MACHINE, of two rows; `factor` is how slow it was."""
    stored = stored_results("c" * 40, facts.get("machine", "h200"))
    stored["params"] = {**GPU_MACHINE, **facts}
    stored["toolchain"] = toolchain or {"nvcc": "13.0"}
    stored["result_columns"] = ["result", "params", "version", "started_at"]
    row = [factor * 1e-6, math.nan, factor * 3e-6], [["'a'", "'b'", "'c'"]], "1"
    stored["results"] = {"timed.Kernels.time": [*row, 86_400_000 * day]}
    path = folder / stored["params"]["machine"] / f"cccccccc-env-{day}.json"
    write_json(str(path.with_name("machine.json")), stored["params"], 1)
    write_json(str(path), stored, 2)
    return path


def machines(count: int) -> list[dict[str, str]]:
    """One with a GPU, one without, one whose facts are markup; then more like the first."""
    plain = {**GPU_MACHINE, "gpu": "none", "driver": "none", "cuda": "none"}
    known = [
        GPU_MACHINE,
        {**plain, "machine": "two-core", "cpu": "EPYC", "num_cpu": "2"},
        {**GPU_MACHINE, "machine": "x<img src=x onerror=hacked()>", "cpu": HOSTILE},
    ]
    more = [{**GPU_MACHINE, "machine": f"h200-{number}"} for number in range(3, count)]
    return (known + more)[:count]


def seconds(backend: str, tokens: int, hidden: int, launch: float) -> float:
    """A launch and the time that a copy at 4 TB/s takes, slower for the slower backends."""
    slower = {"cuda": 1, "triton": 1.4, "cpu": 60, "reference": 900}[backend]
    return slower * (launch + 3 * tokens * hidden / 4e12)


def hidden_of(values: dict) -> int:
    """The default shapes name their tokens only."""
    return values.get("hidden") or {16: 512, 32: 128, 64: 256}.get(values["tokens"], 7168)


def timed(launch: float) -> Callable[[dict], float]:
    return lambda v: seconds(v["backend"], v["tokens"], hidden_of(v), launch)


def differing(values: dict) -> float:
    return 0.0


# Name, unit, parameters, value, whether it is counted and not timed.
BENCHMARKS = (
    ("call_latency.CallLatency.track_default_shapes", "seconds", {**BACKENDS, **DEFAULT},
     timed(9e-6), False),
    ("kernel_time.KernelTime.track_default_shapes", "seconds",
     {**GPU_BACKENDS, **STATE, **DEFAULT},
     timed(9e-7), False),
    ("cuda_vs_triton.CallRatio.track_default_shapes", "cuda / triton", DEFAULT, lambda v: 0.71,
     False),
    ("cuda_vs_triton.KernelRatio.track_default_shapes", "cuda / triton", {**STATE, **DEFAULT},
     lambda v: 0.7, False),
    ("copy_distance.DistanceToCopy.track_default_shapes", "time / copy time",
     {**GPU_BACKENDS, **STATE, **DEFAULT},
     lambda v: 1.02 if v["backend"] == "cuda" else 1.4, False),
    ("accuracy.Accuracy.track_relative_rms_error", "relative RMS error",
     {**DATA, "group": (64, 128), "format": FORMATS},
     lambda v: 0.0064 if v["format"] == "int8" else 0.0262, True),
    ("footprint.Library.track_bytes", "bytes", {}, lambda v: 1_859_408.0, True),
    ("footprint.Startup.track_import", "seconds", {}, lambda v: 1.3, False),
    # Above: about 400 series, the ones of the big site.
    ("kernel_time.KernelTime.track_serving_shapes", "seconds",
     {**GPU_BACKENDS, **STATE, **SERVING}, timed(9e-7), False),
    ("kernel_time.KernelTime.track_variants", "seconds",
     {**GPU_BACKENDS, **STATE, **VARIANTS}, timed(9e-7), False),
    ("copy_distance.DistanceToCopy.track_serving_shapes", "time / copy time",
     {**GPU_BACKENDS, **STATE, **SERVING}, lambda v: 1.02 if v["backend"] == "cuda" else 1.4,
     False),
    ("copy_distance.DistanceToCopy.track_variants", "time / copy time",
     {**GPU_BACKENDS, **STATE, **VARIANTS}, lambda v: 0.8, False),
    ("call_latency.CallLatency.track_functions", "seconds",
     {"backend": ("cuda", "triton", "cpu"), **FUNCTIONS},
     lambda v: seconds(v["backend"], 16, 512, 9e-6), False),
    ("accuracy.ByteIdentity.track_differing_bytes", "bytes",
     {**BACKENDS, **DATA, "group": (64, 128), "format": FORMATS}, differing, True),
    ("footprint.Kernels.track_registers", "registers", KERNEL, lambda v: 40.0, True),
    ("footprint.Kernels.track_spill_bytes", "bytes", KERNEL, lambda v: 0.0, True),
    ("footprint.Kernels.track_kernels", "kernels", FAMILY, lambda v: 3.0, True),
    ("cpu_time.CpuTime.track_call", "seconds",
     {**CPU_BACKENDS, "tokens": (16, 32, 64, 128, 1024), "group": (64, 128), "format": FORMATS},
     timed(9e-6), False),
    ("cpu_time.CpuTime.track_copy_ratio", "time / copy time",
     {**CPU_BACKENDS, "tokens": (16, 32, 64, 128, 1024), "group": (64, 128), "format": FORMATS},
     lambda v: 1.8 if v["backend"] == "cpu" else 27.0, False),
    *synthetic_peers.BENCHMARKS,
    ("beside_gemm.Kernels.track_time", "seconds", {**GPU_BACKENDS, **FORM},
     lambda v: seconds(v["backend"], FORMS[v["form"]], 7168, 9e-7), False),
    ("beside_gemm.Kernels.track_copy_ratio", "time / copy time", {**GPU_BACKENDS, **FORM},
     lambda v: 1.03 if v["backend"] == "cuda" else 1.2, False),
    ("beside_gemm.Bytes.track_differing_bytes", "bytes", CHECKED,
     lambda v: 3.0 * (v["call"] == "norm_residual" and v["backend"] == "triton"), True),
)  # fmt: skip


def selected(series: int | None) -> list[tuple]:
    """The first benchmarks that hold at least this many series together, or all."""
    chosen, total = [], 0
    for benchmark in BENCHMARKS:
        if series is not None and total >= series:
            break
        chosen.append(benchmark)
        total += math.prod(len(values) for values in benchmark[2].values())
    return chosen


def write_repository(path: Path, commits: int) -> list[str]:
    """Make a git repository whose every second commit touches csrc; return its hashes in order."""
    stream = []
    for number in range(commits):
        message = f"Change {number}: {HOSTILE}" if number % 3 == 2 else f"Change {number}"
        author = f"A <a@example.org> {1_700_000_000 + 3600 * number} +0000"
        stream.append(
            f"commit refs/heads/main\nmark :{number + 1}\ncommitter {author}\n"
            f"data {len(message.encode())}\n{message}\n" + (f"from :{number}\n" if number else "")
        )
        if number % 2:
            text = f"{number}\n"
            stream.append(f"M 100644 inline csrc/kernel.cu\ndata {len(text)}\n{text}\n")
    git = ["git", "-C", str(path)]
    path.mkdir(parents=True)
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "fast-import", "--quiet"], input="".join(stream), text=True, check=True)
    return subprocess.check_output([*git, "rev-list", "--reverse", "main"], text=True).split()


def result(benchmark: tuple, machine: dict, age: int, chance: random.Random) -> SimpleNamespace:
    """What asv's runner would return, `age` commits before the newest."""
    name, _, params, value, counted = benchmark
    values, samples = [], []
    for combination in itertools.product(*params.values()):
        given = dict(zip(params, combination, strict=True))
        needs_gpu = given.get("backend") in ("cuda", "triton") or "cuda_vs_triton" in name
        if machine["gpu"] == "none" and (needs_gpu or synthetic_peers.needs_gpu(name, given)):
            values.append(math.nan)
            samples.append(None)
            continue
        number = value(given)
        planted = given.get("tokens"), given.get("group"), given.get("format")
        if not counted and given.get("backend") == "cuda":
            if planted == (64, 128, "int8"):
                number *= 1.5 if age == 0 else 1
            elif planted == (64, 64, "int8"):
                number *= 2 if age > 0 else 1
        if "registers" in name and given["kernel"].endswith("row>"):
            number += 2 if age == 0 else 0
        if age == 0 and "CallLatency" in name and planted == (16, 64, "int8"):
            number = None
        values.append(number)
        noise = 0.3 if planted == (32, 64, "int8") else 0.004
        samples.append(
            None if number is None or counted or number != number
            else [number * (1 + chance.gauss(0, noise)) for _ in range(10)]
        )  # fmt: skip
    return SimpleNamespace(
        result=values,
        samples=samples,
        number=[None if sample is None else 1 for sample in samples],
        stderr="",
        errcode=0,
        profile=None,
    )


def write_results(folder: Path, commits: int, machine_count: int, series: int | None) -> None:
    """Write everything below `folder`, which must not exist."""
    hashes = write_repository(folder / "repository", commits)
    chosen = selected(series)
    described = {
        name: {
            "name": name,
            "pretty_name": name,
            "code": f"# {name}",
            "type": "time" if ".time_" in name else "track",
            "unit": unit,
            "version": "1",
            "timeout": 60,
            "param_names": list(params),
            "params": [[repr(value) for value in values] for values in params.values()],
        }
        for name, unit, params, _, _ in chosen
    }
    results = folder / "results"
    write_json(str(results / "benchmarks.json"), described, 2)
    for machine in machines(machine_count):
        # The machine's name is no folder name: asv reads it from the file.
        place = "".join(letter if letter.isalnum() else "_" for letter in machine["machine"])
        write_json(str(results / place / "machine.json"), machine, 1)
        chance = random.Random(machine["machine"])
        for position, commit in enumerate(hashes):
            params = {**machine, "python": "3.11", "torch": "2.13.0", "triton": "3.6.0"}
            date = 1000 * (1_700_000_000 + 3600 * position)
            stored = Results(params, {}, commit, date, "3.11", "host-py3.11", {})
            # All machines at one time, two hours later.
            started = datetime.fromtimestamp(date / 1000 + 7200, timezone.utc)
            for benchmark in chosen:
                stored.add_result(
                    described[benchmark[0]],
                    result(benchmark, machine, commits - 1 - position, chance),
                    started,
                )
            stored._filename = f"{place}/{commit[:8]}-host-py3.11.json"
            stored.save(str(results))
            synthetic_peers.write_known(results / stored._filename, described)
    configuration = {
        "version": 1,
        "project": "ptgq",
        "repo": "repository",
        "branches": ["main"],
        "plugins": [".asv_plugins.site"],
        "results_dir": "results",
        "html_dir": "html",
        "benchmark_dir": "benchmarks",
        "show_commit_url": "https://example.org/commit/",
        # As the project's own.
        "regressions_first_commits": load_json(
            str(Path(__file__).resolve().parents[1] / "asv.conf.json"), js_comments=True
        )["regressions_first_commits"],
        "regressions_thresholds": {"footprint\\.Kernels\\.": 0.0, "accuracy\\.": 0.0},
    }
    (folder / "asv.conf.json").write_text(json.dumps(configuration, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name, usual in {"commits": 500, "machines": 3, "series": 400}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    options = parser.parse_args()
    write_results(options.folder, options.commits, options.machines, options.series)
