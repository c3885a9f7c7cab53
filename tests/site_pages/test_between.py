"""A change says how many commits lie between the two that were measured."""

from __future__ import annotations

import json
import re

import pytest
from pages import COMMITS, H200, cells, git, open_front, row

WORDS = "96 commits before, 34 touch csrc"


@pytest.fixture
def far(context, address):
    """A page whose newest measured commit has 95 unmeasured ones before it."""
    page = context.new_page()

    def answer(route):
        body = route.fetch().text()
        # The newest of the commits: its number on the branch, and how many of these touch csrc.
        body, found = re.subn(r",(\d+),(\d+)\]\],\"benchmarks\"",
                              lambda m: f',{int(m[1]) + 95},{int(m[2]) + 33}]],"benchmarks"',
                              body, count=1)  # fmt: skip
        assert found == 1
        route.fulfill(body=body, content_type="text/javascript")

    page.route("**/data/front.js*", answer)
    open_front(page, address)
    return page


def test_no_change_is_the_newer_commits_alone(far, published):
    before, newest = (git(published, "rev-parse", name)[:8] for name in ("main^", "main"))
    day = git(published, "log", "-1", "--format=%cs", "main^")
    assert f"since {before}, {WORDS}" in far.locator(".tiles").inner_text()
    note = far.locator("#changes p.note").inner_text()
    assert f"previous measured commit ({before}, {WORDS})" in note
    row(far, "speedup", "64 × 256", "128", "int8").get_by_role("button").click()
    said = far.locator("dialog .note", has_text="Before").first.inner_text()
    assert said.startswith(f"Before, at {before} of {day} ({WORDS}): ")
    far.locator("dialog").get_by_role("button", name="Close").click()
    far.locator("#history summary").click()
    first, second = (far.locator("#history tbody tr th").nth(place) for place in (0, 1))
    first.wait_for()
    assert first.inner_text().startswith(f"{newest} {day} ")
    assert first.inner_text().endswith(f"(after {before}, {WORDS})")
    assert second.inner_text().endswith("the commit before)")


def test_added_kernels_and_other_cpus_have_no_verdict(context, address, published):
    page = context.new_page()
    newest, before = (git(published, "rev-parse", name)[:8] for name in ("main", "main^"))
    first = COMMITS - 1
    # A kernel more, and twice the CPUs, at the newest commit; its import takes twice as long.
    names = {"count": "footprint.Kernels.track_kernels", "time": "footprint.Startup.track_import",
             "size": "footprint.Library.track_bytes"}  # fmt: skip

    def answer(route):
        text = (
            route.fetch().text()
            + f""";(() => {{
            const names = {json.dumps(names)};
            const front = ptgq.front, machine = front.machines[0];
            machine.facts = {{ {first - 1}: {{ num_cpu: "8" }} }};
            machine.cells[names.count][0] = [4, 3, "worse", 0];
            machine.cells[names.size][0] = [2e6, 1859408, "worse", 0];
            machine.cells[names.time][0] = [[2.6, 2.59, 2.61], [1.3, 1.29, 1.31], "worse", 0.1];
        }})();"""
        )
        route.fulfill(body=text, content_type="text/javascript")

    def commit(route):
        text = route.fetch().text()
        text += f""";(() => {{
            const names = {json.dumps(names)}, cells = ptgq.received.get("commit/0/{first}");
            if (!cells) return;
            [cells[names.count][0], cells[names.size][0]] = [4, 2e6];
            cells[names.time][0] = [2.6, 2.59, 2.61];
        }})();"""
        route.fulfill(body=text, content_type="text/javascript")

    page.route("**/data/front.js*", answer)
    page.route("**/data/commit/0/*", commit)
    shown = "failed,worse,other kernels,other CPUs"
    page.goto(f"{address}#machine={H200}&compare.before={before}&compare.after={newest}"
              f"&compare.verdicts={shown}&changes.verdicts={shown}")  # fmt: skip
    page.locator("#compare table").wait_for()
    for section in ("changes", "compare"):
        words = {
            name: cells(row(page, section, name))[5]
            for name in (f"{names['count']}: all", names["size"], names["time"])
        }
        assert list(words.values()) == ["other kernels", "other kernels", "other CPUs"]
        # Times come before what is counted.
        kinds = [
            "Kernel time" in text
            for text in page.locator(f"#{section} tbody tr").all_inner_texts()
            if "failed" not in text
        ]
        assert kinds == sorted(kinds, reverse=True)
        assert kinds[0] is True
    for place in ("#changes .differ", "#compare .pair"):
        assert "the machine " in page.locator(place).inner_text().lower()
        assert "num_cpu (8; 16)" in page.locator(place).inner_text()
