"""Any two measured commits and any two machines, by the one rule of verdicts."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import browser as browsers
import pytest
from pages import COMMITS, H200, HOSTILE, TWO_CORE, cells, git, open_front, row

from asv_plugins import pairs, record
from asv_plugins.verdict import Measurement, drift_of, smallest_change, verdict

SERIES = "Kernel time, default shapes: cuda, cold, 64 × 256, group 128, int8"


def test_the_pages_rule_is_pythons(page, address):
    open_front(page, address)
    chance = random.Random(7)

    def measurement(value):
        width = chance.choice([0, 0.001, 0.03, 0.3])
        low, high = value * (1 - width * chance.random()), value * (1 + width * chance.random())
        # Too few samples leave an end open.
        low, high = (
            one if chance.random() < 0.97 else end
            for one, end in ((low, -math.inf), (high, math.inf))
        )
        return Measurement(value, low, high) if width else Measurement(value, value, value)

    def stored(one):
        return None if one is None else record.encode(one)

    cases = []
    for _ in range(3000):
        before = measurement(chance.choice([0.0, 1e-6, 1.0, 1859408.0]))
        after = measurement(before.value * chance.choice([1, 1, 1.01, 0.9, 1.06, 0.5, 2]))
        cases.append(
            (before, after, chance.choice([0.0, 0.05, 0.1, 0.2]), chance.choice([0, 0, 0.03, 0.4]))
        )
    given = [[stored(a), stored(b), limit, drift] for a, b, limit, drift in cases]
    found = page.evaluate(
        """cases => cases.map(([before, after, threshold, drift]) => {
            const ends = [before, after].map(ptgq.ends);
            const smallest = ptgq.smallestChange(...ends, threshold, drift);
            const word = ptgq.verdict(...ends, threshold, drift);
            return [word, Number.isFinite(smallest) ? smallest : null];
        })""",
        given,
    )  # fmt: skip
    expected = [[verdict(*case), record.finite(smallest_change(*case))] for case in cases]
    assert {word for word, _ in expected} == {"worse", "better", "same", "undecided"}
    assert [word for word, _ in found] == [word for word, _ in expected]
    for (_, mine), (_, pythons) in zip(found, expected, strict=True):
        assert mine == pytest.approx(pythons, rel=1e-12) if pythons is not None else mine is None
    for count in (0, 9, 10, 11, 37, 100):
        pairs = [
            (measurement(1.0), measurement(chance.choice([0.0, 1.0, 1.1]))) for _ in range(count)
        ]
        of_page = page.evaluate(
            "pairs => ptgq.driftOf(pairs.map(pair => pair.map(ptgq.ends)))",
            [[stored(a), stored(b)] for a, b in pairs],
        )
        assert of_page == pytest.approx(drift_of(pairs), rel=1e-12)


def test_the_newest_pair_has_the_verdicts_that_were_exported(page, address):
    open_front(page, address)
    differing = page.evaluate("""async () => {
        const [rules, before, after] = await Promise.all(
            ["rules", `commit/0/${ptgq.front.machines[0].commits.at(-2)}`,
             `commit/0/${ptgq.front.machines[0].commits.at(-1)}`].map(ptgq.load));
        const [one, other] = ptgq.front.machines[0].commits.slice(-2);
        const sides = [[0, { commit: one, cells: before }], [0, { commit: other, cells: after }]];
        const found = new Map(ptgq.compared(rules, ...sides).map(
            entry => [`${entry.read.name} ${entry.read.index}`, entry]));
        const exported = ptgq.changed(0);
        const judged = [...found.values()].filter(({ verdict }) => verdict !== "not judged").length;
        const wrong = exported.filter(({ read, verdict }) =>
            found.get(`${read.name} ${read.index}`).verdict !== verdict);
        return [exported.length, judged, wrong.length];
    }""")
    exported, judged, wrong = differing
    assert (wrong, judged) == (0, exported)
    assert exported > 100


@pytest.mark.parametrize("how", ["served", "file"])
def test_two_commits_and_two_machines_are_compared(page, address, published, how):
    open_front(page, address if how == "served" else (published / "html/index.html").as_uri())
    section = page.locator("#compare")
    assert section.locator("table").count() == 0
    oldest, newest = (git(published, "rev-parse", name) for name in (f"main~{COMMITS - 1}", "main"))
    commits = section.locator("select")
    commits.nth(1).select_option("0")
    section.locator("table").wait_for()
    assert cells(row(page, "compare", SERIES))[5] == "slower"
    # Its address says what is compared.
    assert f"compare.before={oldest[:8]}" in page.url
    assert f"compare.after={newest[:8]}" in page.url
    page.reload()
    browsers.wait_until(page, browsers.READY)
    assert cells(row(page, "compare", SERIES))[5] == "slower"
    # Another machine of the same kind, made up with the same numbers and another noise.
    commits.nth(0).select_option(
        label=commits.nth(0).locator("option", has_text=HOSTILE).inner_text()
    )
    browsers.wait_until(page, "location.hash.includes('before-machine=x')")
    browsers.wait_until(page, "document.querySelectorAll('#compare tbody tr').length > 90")
    # All verdicts on two machines are shown, also none.
    unjudged = section.get_by_role("button", name="not judged")
    assert unjudged.get_attribute("aria-pressed") == "true"
    assert (
        section.locator("select").nth(2).locator("option[selected]").inner_text().startswith(H200)
    )


def test_equal_machine_code_is_the_same_whatever_its_time(page, address):
    name, hashes = "kernel_time.KernelTime.track_default_shapes", "code_hash.CudaKernels.track_hash"
    benchmarks = {
        name: {"params": [["'cuda'", "'triton'"]]},
        hashes: {"params": [["'all'", "'small_kernel'"]]},
    }
    order = {"a" * 40: 0, "b" * 40: 1, "c" * 40: 2}
    results = SimpleNamespace(get_all_result_keys=lambda: [hashes])
    series = SimpleNamespace(commits={commit: [results] for commit in order})
    rules = pairs.rules(
        [series], order, benchmarks, {}, lambda commit: "y" if commit[0] == "c" else "x"
    )
    slow = {name: [[2.0, 1.9, 2.1], [2.0, 1.9, 2.1]], hashes: [5, 6]}
    fast = {name: [[1.0, 0.9, 1.1], [1.0, 0.9, 1.1]], hashes: [5, 6]}
    open_front(page, address)

    def words(one, other, machines=(0, 0), cells_of=fast):
        given = [rules, [machines[0], {"commit": one, "cells": cells_of}],
                 [machines[1], {"commit": other, "cells": slow}]]  # fmt: skip
        found = page.evaluate(
            "given => ptgq.compared(...given).map(({ read, verdict }) => [read.index, verdict])",
            given,
        )
        return [word for _, word in sorted(found)]

    assert words(0, 1) == ["same code", "worse"]
    # Another launch, another machine, another hash.
    assert words(0, 2) == ["worse", "worse"]
    assert words(0, 1, (0, 1)) == ["worse", "worse"]
    assert words(0, 1, (0, 0), {**fast, hashes: [5, 7]}) == ["worse", "worse"]


@pytest.mark.parametrize("section", ["changes", "compare"])
def test_verdicts_are_seen_without_scrolling(page, address, section):
    open_front(page, f"{address}#changes.verdicts=same&compare.verdicts=same", machine=None)
    page.locator("#compare").get_by_role("button", name="Compare", exact=True).click()
    box = page.locator(f"#{section} .scroll")
    box.wait_for()
    # A name as long as the longest of the suite.
    page.locator(f"#{section} tbody th").first.evaluate(
        "cell => cell.textContent = 'Call / abs and two allocations: ' + 'deep_gemm, '.repeat(9)"
    )
    assert box.evaluate("box => box.scrollWidth <= box.clientWidth")


@pytest.mark.parametrize("how", ["served", "file"])
def test_two_machines_are_compared_by_times_and_the_rest_has_its_reason(
    page, address, published, how
):
    base = address if how == "served" else (published / "html/index.html").as_uri()
    newest = git(published, "rev-parse", "main")[:8]

    def compared(other, commit):
        page.goto("about:blank")
        page.goto(f"{base}#machine={H200}&compare.before-machine={other}"
                  f"&compare.before={commit}&compare.after={newest}")  # fmt: skip
        page.locator("#compare .pair").wait_for(state="attached")
        names = {text.partition(":")[0] for text in page.locator("#compare th").all_inner_texts()}
        assert not [name for name in names if name.startswith("footprint")]
        return page.locator("#compare .pair").inner_text(), names

    said, names = compared(TWO_CORE, newest)
    assert "differ in gpu (none; NVIDIA H200)" in said
    assert "num_cpu (2; 16)" in said
    assert "Kernel times: two-core has no GPU." in said
    assert "Footprint and start-up: these depend on the compiler" in said
    # Calls of the CPU's backends, which both have: shown, although nothing is called slower.
    assert {"Call latency", "CPU call time"} <= names
    # The same commit and machine, on which nothing differs.
    assert compared(H200, newest)[0] == ""


def test_machines_without_a_common_time_say_what_to_measure(context, address, published):
    page = context.new_page()
    newest = git(published, "rev-parse", "main")[:8]

    def only(kept):
        # What else the first machine measured is taken away.
        return lambda route: route.fulfill(
            body=f"{route.fetch().text()};(() => {{ for (const [key, data] of ptgq.received)"
            f" if (/^commit.0/.test(key)) for (const name in data)"
            f' if (!name.startsWith("{kept}")) delete data[name]; }})()',
            content_type="text/javascript",
        )

    page.route("**/data/commit/0/*", only("footprint"))
    page.goto(f"{address}#machine={H200}&compare.before-machine={TWO_CORE}"
              f"&compare.before={newest}&compare.after={newest}")  # fmt: skip
    page.locator("#compare .pair").wait_for(state="attached")
    said = page.locator("#compare .pair").inner_text()
    assert "No time was measured on both" in said
    assert f"Calls: not measured on {H200} at this commit, but at {newest}." in said
    assert page.locator("#compare table").count() == 0
