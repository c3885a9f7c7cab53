"""Pages open without a word on the console, and nothing leaves 127.0.0.1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import browser as browsers
import pytest
from pages import (
    CALL,
    ERROR,
    H200,
    HOSTILE,
    KERNEL,
    MACHINES,
    TWO_CORE,
    git,
    open_front,
    publish,
    row,
    wait_for_history,
)


@pytest.mark.parametrize("machine", MACHINES)
def test_front_page_opens_clean(page, address, machine):
    open_front(page, address, machine)
    pressed = page.locator("#machines button[aria-pressed=true]")
    assert pressed.inner_text().startswith(machine)
    page.wait_for_selector("#history canvas")
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("place", ["index.html", "asv.html"])
def test_a_script_that_got_into_a_page_would_not_run(watch, address, place):
    watch.page.goto(address + place)
    watch.page.wait_for_load_state("networkidle")
    assert watch.wrong == []
    added = """() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        document.head.append(script);
        return window.hacked ?? null;
    }"""
    assert watch.page.evaluate(added) is None
    browsers.wait_until(watch.page, "true")
    (message,) = watch.wrong
    assert "Content Security Policy" in message
    watch.wrong.clear()


@pytest.mark.parametrize(
    ("place", "selector"),
    [
        ("#/", "#summarygrid-display .benchmark-container"),
        ("#/summarylist", "#summarylist-body tbody tr"),
        ("#/regressions", "#regressions-body tbody tr"),
        (f"#{CALL}", "#main-graph canvas"),
    ],
)
def test_asv_pages_open_clean_and_show_markup_as_text(page, address, place, selector):
    page.goto(f"{address}asv.html{place}")
    page.wait_for_selector(selector)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("window.hacked ?? null") is None
    assert page.locator("img[src=x]").count() == 0


def test_pages_lead_to_each_other(page, address):
    open_front(page, address)
    page.get_by_role("link", name="Regressions").click()
    page.wait_for_selector("#regressions-body tbody tr")
    page.get_by_role("link", name="CUDA vs Triton").click()
    browsers.wait_until(page, browsers.READY)


def test_addresses_of_asv_front_page_still_lead_to_it(page, address):
    page.goto(f"{address}index.html#/regressions")
    page.wait_for_url("**/asv.html#/regressions")
    page.wait_for_selector("#regressions-body tbody tr")


def copied(published, folder, kept):
    """Copy the record, not its pages, with these benchmarks alone."""
    folder = Path(shutil.copytree(published, folder, ignore=shutil.ignore_patterns("html")))
    for path in (folder / "results").glob("*/*-*.json"):
        content = json.loads(path.read_text())
        content["results"] = {name: content["results"][name] for name in kept}
        path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("kept", [(ERROR,), (ERROR, KERNEL)])
def test_what_was_not_measured_is_said_not_tabulated(context, published, tmp_path, kept):
    # The same machine's results without the calls, or any times: an older measurement, say.
    folder = copied(published, tmp_path / "record", kept)
    publish(folder)
    with browsers.serve(folder / "html") as address:
        watch = browsers.Watch(context.new_page(), address)
        open_front(watch.page, address)
        assert "not measured" in watch.page.locator("#speedup .na").first.inner_text()
        assert watch.page.locator("#speedup table").count() == (KERNEL in kept)
        assert watch.page.locator("#accuracy tbody tr").count() == 10
        # asv's pages ask for graphs that nobody has.
        for place in ("#/", f"#{CALL}"):
            watch.page.goto(f"{address}asv.html{place}")
            watch.page.wait_for_load_state("networkidle")
        assert watch.wrong == []


def test_numbers_say_of_which_commit_they_are_and_the_machine_just_measured_opens(
    context, published, tmp_path
):
    folder = copied(published, tmp_path / "record", (ERROR, KERNEL, CALL))
    newest = git(published, "rev-parse", "main")[:8]
    (path,) = (folder / "results").glob(f"two_core/{newest}-*.json")
    content = json.loads(path.read_text())
    content["results"] = {ERROR: content["results"][ERROR]}
    content["results"][ERROR][content["result_columns"].index("started_at")] = 1_900_000_000_000
    path.write_text(json.dumps(content))
    # All between the oldest and the newest but one.
    oldest, *between, before, _ = git(published, "rev-list", "--reverse", "main").split()
    for commit in between:
        next((folder / "results").glob(f"two_core/{commit[:8]}-*.json")).unlink()
    # As nox -s record does.
    publish(folder, PTGQ_SITE_OPENS="measured")
    with browsers.serve(folder / "html") as address:
        watch = browsers.Watch(context.new_page(), address)
        open_front(watch.page, address, None)
        page = watch.page
        # Measured last, although others have a GPU.
        assert page.locator("#machines [aria-pressed=true]").inner_text().startswith(TWO_CORE)
        assert not page.locator("#unknown").is_visible()
        note = page.locator("#accuracy .measured").inner_text()
        assert note == f"Numbers of {newest}, measured on 2030-03-17."
        assert "not of the newest commit" in page.locator("#speedup .measured").inner_text()
        assert page.locator("#speedup tbody tr").count() == 30
        assert "the newest of main" in page.locator("#machine .commit").inner_text()
        # A step between two measured commits is not the newer one's alone.
        plot = page.locator("#history .u-over")
        box = plot.bounding_box()
        plot.hover(position={"x": box["width"] - 2, "y": 20})
        readout = page.locator("#history .readout").inner_text()
        assert readout.startswith(before[:8])
        assert f"(of 4 commits after {oldest[:8]}, 2 touch csrc)" in readout
        page.goto(f"{address}#machine=typo")
        browsers.wait_until(page, browsers.READY)
        assert "No results of a machine named typo" in page.locator("#unknown").inner_text()
        assert watch.wrong == []


@pytest.mark.parametrize(
    ("opens", "machine"),
    [("", H200), ("measured", TWO_CORE)],
)
def test_the_best_machine_opens_unless_one_has_just_measured(context, address, opens, machine):
    page = context.new_page()

    def answer(route):
        text = route.fetch().text()
        # The one without a GPU measured a day after the others.
        text += f""";(() => {{
            const slow = ptgq.front.machines.find(one => one.params.machine === "{TWO_CORE}");
            for (const measured of Object.values(slow.measured)) measured[1] += 86400;
            ptgq.front.opens = "{opens}";
        }})();"""
        route.fulfill(body=text, content_type="text/javascript")

    page.route("**/data/front.js*", answer)
    page.goto(address)
    browsers.wait_until(page, browsers.READY)
    assert page.locator("#machines [aria-pressed=true]").inner_text().startswith(machine)


def test_without_results_the_page_says_so(context, published, tmp_path):
    folder = copied(published, tmp_path / "record", ())
    for path in (folder / "results").glob("*/*-*.json"):
        path.unlink()
    publish(folder)
    with browsers.serve(folder / "html") as address:
        watch = browsers.Watch(context.new_page(), address)
        open_front(watch.page, address)
        assert "No results of main's commits" in watch.page.locator("#sections").inner_text()
        assert watch.wrong == []


def test_markup_in_results_and_commits_is_inert(context, address):
    watch = browsers.Watch(context.new_page(), address)
    page = watch.page
    open_front(page, address, HOSTILE)
    page.wait_for_load_state("networkidle")
    assert "<script>window.hacked = 1</script>" in page.locator("#machine").inner_text()
    assert page.locator("main script, main img, img[src=x]").count() == 0
    assert page.evaluate("window.hacked") is None
    assert watch.wrong == []
    # asv itself puts the machine's facts into a tooltip as markup: its page's policy stops them.
    page.goto(f"{address}asv.html#{CALL}")
    page.wait_for_selector("#main-graph canvas")
    page.get_by_text(HOSTILE, exact=True).hover()
    page.wait_for_selector(".tooltip")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None


def test_policy_allows_nothing_from_elsewhere(page, address):
    open_front(page, address)
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    sources = {source for rule in policy.split(";") for source in rule.split()[1:]}
    assert sources == {"'none'", "'self'"}
    assert page.locator("script:not([src])").count() == 0


def test_leaving_a_page_that_still_loads_is_no_fault(context, address):
    watch = browsers.Watch(context.new_page(), address)
    page = watch.page
    add = "name => { document.body.append(Object.assign(new Image(), { src: name })) }"
    asked = []
    page.route("**/never.png", lambda route: asked.append(route))
    page.route("**/fails.png", lambda route: route.abort("connectionreset"))
    page.goto(address)
    page.evaluate(add, "never.png")
    while not asked:
        page.wait_for_timeout(20)
    page.goto(f"{address}asv.html")
    page.wait_for_load_state("networkidle")
    assert watch.wrong == []
    page.evaluate(add, "fails.png")
    while not any(word.startswith("failed") for word in watch.wrong):
        page.wait_for_timeout(20)
    assert f"failed: {address}fails.png" in watch.wrong


def test_opens_from_a_file(page, published):
    page.goto((published / "html" / "index.html").as_uri())
    browsers.wait_until(page, browsers.READY)
    page.wait_for_selector("#history canvas")
    # Each link works there: asv's pages do not.
    row(page, "speedup", "32 × 128", "128", "int8").locator("td a").first.click()
    wait_for_history(page, "Call latency, 32 × 128, group 128, int8")
    assert page.locator("a[href*='asv.html']").count() == 0
    assert "nox -s site -- --serve" in page.locator(".top").inner_text()
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    assert page.locator("dialog a[href*='asv.html']").count() == 0


@pytest.mark.parametrize(
    "place", ["#/regressions", "#summarylist", f"#{CALL}?p-backend='cuda'&x=1"]
)
def test_places_of_asv_are_said_to_need_a_server_where_there_is_none(page, published, place):
    page.goto("about:blank")
    page.goto((published / "html" / "index.html").as_uri() + place)
    browsers.wait_until(page, browsers.READY)
    assert page.locator("#sections > section").count() > 5
    said = page.locator("#unknown p").inner_text()
    assert "asv's pages, which need a server: nox -s site -- --serve" in said
    assert len(said.splitlines()) == 1
