"""The site: ``asv publish`` writes asv's pages, and this plugin the front page before them.

What it shows is made by ``asv_plugins/record.py``; how it looks is in ``site/``. asv's own page
moves from ``index.html`` to ``asv.html`` and loads the vendored copies of its scripts.
"""

from __future__ import annotations

import functools
import hashlib
import html
import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path
from string import Template

from asv.console import log
from asv.graph import Graph
from asv.publishing import OutputPublisher
from asv.util import UserError

from asv_plugins import canary, pairs, peer_versions, record, same_code, vendor
from asv_plugins.series import load

SITE = vendor.VENDOR.parent
# "measured": the page opens on the machine that measured last, not on the newest with a GPU.
OPENS = "PTGQ_SITE_OPENS"
# Nothing from elsewhere, no inline script. asv's page styles elements inline.
ASV_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'"
)
# The theme, too, before the first paint.
THEME = '<link rel="stylesheet" href="css/asv.css"><script src="js/theme.js"></script>'
NAVIGATION = '<li id="nav-li-" class="active">'


class FrontPage(OutputPublisher):
    """Write the front page and its data, and make asv's page need no network."""

    name = "front"
    button_label = "CUDA vs Triton"
    description = "The newest measured commit of each machine"

    @classmethod
    def publish(cls, conf, repo, benchmarks, graphs, revisions):
        """Run once per ``asv publish``, after asv's own pages are there."""
        target = Path(conf.html_dir)
        try:
            manifest = vendor.verify()
            asv_page = localize((target / "index.html").read_text(encoding="utf-8"), manifest)
        except ValueError as error:
            raise UserError(str(error)) from error
        (target / "asv.html").write_text(asv_page, encoding="utf-8")
        # asv's advice to connect to the internet: nothing leads there any more.
        (target / "error.html").unlink(missing_ok=True)
        for package in manifest["packages"]:
            for file in package["files"]:
                path = vendor.stored(package, file)
                (target / "vendor" / path.parent).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(vendor.VENDOR / path, target / "vendor" / path)
        for name in ("js", "css"):
            shutil.copytree(SITE / name, target / name, dirs_exist_ok=True)
        shutil.copyfile(SITE / "icon.svg", target / "icon.svg")

        fill(target, benchmarks, [graph.params for _, graph in graphs])
        # asv's graph addresses name what differs between its graphs.
        values: dict[str, set] = {}
        for _, graph in graphs:
            for key, value in graph.params.items():
                values.setdefault(key, set()).add(value)
        differing = sorted(key for key in values.keys() - {"summary"} if len(values[key]) > 1)

        front = write_data(conf, repo, dict(benchmarks), revisions, differing, target / "data")
        log.info(f"Front page: data {front.stat().st_size} bytes")
        # A new version is a new address, so that no browser shows yesterday's data.
        version = hashlib.sha256(front.read_bytes()).hexdigest()[:12]
        page = Template((SITE / "index.html").read_text(encoding="utf-8"))
        (target / "index.html").write_text(
            page.substitute(project=html.escape(conf.project), version=version), encoding="utf-8"
        )


def fill(target: Path, benchmarks, params: list[dict]) -> None:
    """Write an empty graph where a machine has none of a benchmark: asv's pages ask for it."""
    shown = {tuple(machine.items()): machine for machine in [*params, {"summary": ""}]}
    for name, machine in itertools.product(benchmarks, shown.values()):
        path = target / f"{Graph.get_file_path(machine, name)}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("[]")


def localize(page: str, manifest: dict) -> str:
    """
    Make asv's index.html load the vendored files, and nothing else.

    Parameters
    ----------
    page : str
        asv's index.html.
    manifest : dict
        ``site/vendor/manifest.json``: ``asv_name`` is the last part of the address in asv's page.

    Returns
    -------
    str
        The page with local addresses, a Content-Security-Policy and a link to the front page.

    Raises
    ------
    ValueError
        If the page loads something that the manifest does not know, or is not as expected.
    """
    local = {
        file["asv_name"]: f"vendor/{vendor.stored(package, file).as_posix()}"
        for package in manifest["packages"]
        for file in package["files"]
        if "asv_name" in file
    }

    def tag(match: re.Match) -> str:
        address = re.search(r"""\b(?:src|href)\s*=\s*["']((?:https?:)?//[^"']*)["']""", match[0])
        if address is None:
            return match[0]
        name = address[1].rpartition("/")[2]
        if name in manifest["dropped"]:
            return ""
        if name not in local:
            raise ValueError(
                f"asv's index.html loads {address[1]}, which site/vendor/manifest.json does not "
                "map: add the npm package's file with this asv_name, or name it under dropped"
            )
        if match[1] == "script":
            return f'<script src="{local[name]}"></script>'
        return f'<link rel="stylesheet" href="{local[name]}">'

    # Only the vendored files' failure handler; the policy allows no inline script.
    page, removed = re.subn(r"<script[^>]*>\s*function js_load_failure.*?</script>", "", page,
                            flags=re.DOTALL)  # fmt: skip
    page = re.sub(r"<(script)\b[^>]*>\s*</script>|<(link)\b[^>]*>", tag, page)
    page, headed = re.subn(
        r"<title>",
        f'<meta http-equiv="Content-Security-Policy" content="{ASV_POLICY}">'
        f"\n    {THEME}\n    <title>",
        page,
    )
    page, linked = re.subn(
        re.escape(NAVIGATION),
        f'<li id="nav-li-front"><a href="index.html">CUDA vs Triton</a></li>\n\t{NAVIGATION}',
        page,
    )
    inline = re.search(r"<script[^>]*>\s*[^\s<]|\son\w+\s*=", page)
    if (removed, headed, linked) != (1, 1, 1) or inline:
        raise ValueError(
            "asv's index.html is not as asv_plugins/site.py expects it: "
            + (f"inline script {inline[0]!r}" if inline else "head or navigation changed")
        )
    return page


def write_data(
    conf, repo, benchmarks: dict, revisions: dict, differing: list[str], folder: Path
) -> Path:
    """Write the front page's data and each series' history; return the file loaded at start."""
    # Here: the other plugins serve checkouts that have no such benchmarks.
    from benchmarks.measure import configurations

    branch = conf.branches[0]
    measured = [commit for commit in repo.get_branch_commits(branch) if commit in revisions]
    order = {commit: position for position, commit in enumerate(reversed(measured))}
    # asv knows no subjects; its repository object is what knows where git looks.
    log = ["log", "--first-parent", "--format=%H%x09%ct%x09%s", repo.get_branch_name(branch)]
    lines = repo._run_git(log).splitlines()
    subjects = {line.split("\t")[0]: line.split("\t", 2)[1:] for line in lines}
    compiled = {
        line.partition("\t")[0] for line in repo._run_git([*log, "--", "csrc"]).splitlines()
    }
    # How many commits there are up to each, and how many of these touch csrc.
    upto = list(itertools.accumulate(commit in compiled for commit in reversed(subjects)))
    counts = dict(zip(reversed(subjects), enumerate(upto, 1), strict=True))
    commits = [
        [commit, int(subjects[commit][0]), subjects[commit][1], *counts[commit]] for commit in order
    ]

    equal_launches = functools.partial(same_code.equal_launches, repository=repo._path)
    names = list(benchmarks)
    all_series = load(conf.results_dir, order, benchmarks)
    machines = []
    # Newest first.
    behind = {commit: number for number, commit in enumerate(subjects)}
    for number, series in enumerate(all_series):
        shown = record.snapshot(
            series, order, benchmarks, conf.regressions_thresholds, equal_launches
        )
        drawn = []
        for position, name in enumerate(names):
            columns = list(record.histories(series, order, name, benchmarks[name]["params"]))
            if all(column["failed"] == [] and set(column["value"]) <= {None} for column in columns):
                continue
            drawn.append(name)
            for index, column in enumerate(columns):
                path = folder / "history" / str(number) / str(position) / f"{index}.js"
                write(path, f"history/{number}/{position}/{index}", column)
        at = sorted(order[commit] for commit in series.commits)
        for commit in series.commits:
            key = f"commit/{number}/{order[commit]}"
            write(folder / f"{key}.js", key, pairs.cells_at(series, commit, benchmarks))
        runs = canary.series(canary.folder_of(conf.results_dir), series.params["machine"])
        newest = max(series.commits, key=order.__getitem__)
        facts = {order[commit]: pairs.facts_at(series, commit) for commit in series.commits}
        shown["facts"] = {position: then for position, then in facts.items() if then}
        shown |= {"commits": at, "histories": drawn, "canary": runs, "behind": behind[newest]}
        shown["peers"] = peer_versions.newest(series.commits, conf.results_dir, order)
        machines.append({"params": series.params, **shown})
    launches = functools.partial(same_code.digest, repository=repo._path)
    rules = pairs.rules(all_series, order, benchmarks, conf.regressions_thresholds, launches)
    write(folder / "rules.js", "rules", rules)
    return write(
        folder / "front.js",
        "front",
        {
            "project": conf.project,
            "branch": repo.get_branch_name(branch),
            "show_commit_url": conf.show_commit_url,
            "hash_length": conf.hash_length,
            "published": int(time.time()),
            "opens": os.environ.get(OPENS, ""),
            "commits": commits,
            "benchmarks": [
                {
                    "name": name,
                    "unit": benchmarks[name].get("unit", ""),
                    "names": benchmarks[name]["param_names"],
                    "params": benchmarks[name]["params"],
                }
                for name in names
            ],
            "differing": differing,
            "configurations": configurations.for_site(),
            "machines": machines,
        },
    )


def write(path: Path, key: str, data: object) -> Path:
    """
    Write data as a script that hands it to the page.

    A browser that has opened the page from a file lets it load scripts, but fetch nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    path.write_text(f'ptgq.receive("{key}",{text});\n', encoding="utf-8")
    return path
