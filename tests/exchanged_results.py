"""Results of two commits as somebody else would send them, and a repository that has none yet."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

from asv import util
from asv.environment import get_env_name
from asv.results import Results
from synthetic_results import GPU_MACHINE, write_repository

KERNELS, BYTES = "kernel_time.KernelTime.track_x", "accuracy.ByteIdentity.track_differing_bytes"
LOADED = "footprint.Startup.track_import"
FACTS = {**GPU_MACHINE, "torch": "2.13.0", "triton": "3.6.0"}
REQUIREMENTS = {"torch": "2.13.0", "triton": "3.6.0"}
ENVIRONMENT = get_env_name("host", "3.11", REQUIREMENTS, {})
BACKENDS = ["'cuda'", "'cpu'", "'reference'"]


def benchmark(name, unit, *params):
    names = ["backend", "tokens"][: len(params)]
    return {"name": name, "unit": unit, "params": list(params), "param_names": names} | {
        "version": "2", "type": "track", "code": ""
    }  # fmt: skip


BENCHMARKS = {
    found["name"]: found
    for found in (
        benchmark(KERNELS, "seconds", BACKENDS, ["16", "32"]),
        benchmark(BYTES, "bytes", BACKENDS),
        benchmark(LOADED, "seconds"),
    )
}


def measure(commit, position, facts=FACTS, scale=1.0, differing=0):
    """Return what asv would store: a kernel that is n/a, one that failed, one without samples."""
    date = 1000 * (1_700_000_000 + 3600 * position)
    params = {**facts, "python": "3.11"}
    results = Results(params, REQUIREMENTS, commit, date, "3.11", ENVIRONMENT, {})
    nothing = {"stderr": "", "errcode": 0, "profile": None}

    def add(name, values, samples, keep=True):
        values = [0 if sample else value for value, sample in zip(values, samples, strict=True)]
        number = [1 if sample else None for sample in samples]
        measured = SimpleNamespace(result=values, samples=samples, number=number, **nothing)
        results.add_result(BENCHMARKS[name], measured, record_samples=keep)

    times = [[scale * value for value in (3e-6, 1e-6, 2e-6, 4e-6, 2.5e-6)] for _ in range(2)]
    if facts["gpu"] == "none":
        times = [None, None]
    add(KERNELS, [math.nan] * 4 + [None, math.nan], [*times, None, None, None, None])
    add(BYTES, [0, differing, 0], [None] * 3)
    add(LOADED, [0], [[0.5, 0.75, 0.5]], keep=False)
    return results


def write(folder, results, facts=FACTS):
    results.save(str(folder))
    util.write_json(str(folder / facts["machine"] / "machine.json"), facts, 1)
    return folder / results._filename


def make(tmp_path):
    """Make a repository without results in `tmp_path`/here; return a folder with some of both."""
    here = tmp_path / "here"
    commits = write_repository(here, 2)
    conf = {"version": 1, "project": "p", "repo": ".", "branches": ["main"]}
    conf |= {"environment_type": "host", "results_dir": "results"}
    (here / "asv.conf.json").write_text(json.dumps(conf))
    util.write_json(str(here / "results" / "benchmarks.json"), BENCHMARKS, 2)
    folder = tmp_path / "theirs"
    for position, commit in enumerate(commits):
        write(folder, measure(commit, position))
    shutil.copy(here / "results" / "benchmarks.json", folder)
    return folder
