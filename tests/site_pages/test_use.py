"""Commands, contents, themes, a keyboard."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex

import browser as browsers
import pytest
from pages import CALL, ROOT, TWO_CORE, git, open_front, row

from tracking import track


def test_commands_of_a_cell_select_exactly_it(page, address, published):
    open_front(page, address)
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    words = shlex.split(page.locator("dialog code").nth(1).inner_text())
    assert words[:4] == ["nox", "-s", "track", "--"]
    options = track.parse(words[4:])
    assert options.all
    assert options.dry_run
    benchmarks = json.loads((published / "results" / "benchmarks.json").read_text())
    entries = [
        f"{name}({', '.join(values)})"
        for name, benchmark in benchmarks.items() if name != "version"
        for values in itertools.product(*benchmark["params"])
    ]  # fmt: skip
    matching = [entry for entry in entries if re.search(options.bench[0], entry)]
    assert matching == [f"{CALL}('cuda', 32, 128, 'int8')"]
    assert git(published, "rev-list", *options.ranges) == git(published, "rev-parse", "main")


def test_it_is_said_once_beside_commands_how_nox_is_reached(page, address):
    open_front(page, address)
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    for place in ("dialog", "#footer"):
        (line,) = re.findall("Where nox is not found.*", page.locator(place).inner_text())
        # As the README has it.
        install = line.split(": ")[1].split(", then")[0]
        assert f"{install} && " in (ROOT / "README.md").read_text(encoding="utf-8")


def test_copy_button_copies_the_command(context, page, address):
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address.rstrip("/"))
    open_front(page, address)
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    page.locator("dialog").get_by_role("button", name="Copy").nth(1).click()
    page.locator("dialog").get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("dialog code").nth(1).inner_text()


def test_contents_lead_to_their_sections(page, address):
    open_front(page, address)
    page.locator("#contents").get_by_role("link", name="What changed").click()
    browsers.wait_until(page, "document.activeElement.id === 'changes-title'")
    assert page.evaluate("""() => {
        const top = document.activeElement.getBoundingClientRect().top;
        return top >= document.querySelector('.top').offsetHeight && top < innerHeight;
    }""")


@pytest.mark.parametrize("scales", ["int8", "fp8_column_ue8m0"])
def test_table_command_measures_exactly_its_row(page, address, load_script, scales):
    open_front(page, address)
    row(page, "speedup", "32 × 128", "128", scales).get_by_role("button").click()
    table = page.locator("dialog code").first.inner_text()
    *task, separator = shlex.split(table)[:4]
    assert (task, separator) == (["nox", "-s", "bench"], "--")
    arguments = shlex.split(table)[4:]
    options = load_script("table_arguments", "table_arguments.py").parse(arguments)
    (workload,) = load_script("table_rows", "table_rows.py").selected(options)
    expected = {"int8": ("int8", "row_float32")}.get(scales, ("fp8", "column_ue8m0"))
    assert (workload.tokens, workload.hidden, workload.group_size) == (32, 128, 128)
    assert (workload.dtype, workload.scales) == expected


def test_theme_follows_the_system_and_the_button(page, address):
    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    open_front(page, address)
    light = background()
    page.emulate_media(color_scheme="dark")
    browsers.wait_until(page, "document.documentElement.dataset.theme === 'dark'")
    assert background() != light
    page.get_by_role("button", name="Switch to the light theme").click()
    assert background() == light
    page.reload()
    browsers.wait_until(page, browsers.READY)
    assert background() == light


def test_keyboard_alone_is_enough(page, address):
    focused = "document.activeElement"
    open_front(page, address)
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.textContent") == "Skip to the content"
    outline = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
    assert outline == "solid"
    for _ in range(50):
        page.keyboard.press("Tab")
        if page.evaluate(f"({focused}.ariaLabel || '').startsWith('Details and commands')"):
            break
    else:
        pytest.fail("no details button within 50 tabs")
    opener = page.evaluate(f"{focused}.ariaLabel")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('dialog').open")
    page.keyboard.press("Escape")
    assert not page.evaluate("document.querySelector('dialog').open")
    assert page.evaluate(f"{focused}.ariaLabel") == opener


def test_choosing_a_machine_changes_the_address(page, address):
    open_front(page, address, None)
    page.get_by_role("button", name=TWO_CORE).click()
    assert page.url.endswith(f"#machine={TWO_CORE}")
    page.go_back()
    browsers.wait_until(
        page,
        "document.querySelector('#machines [aria-pressed=true]').textContent.startsWith('h200')",
    )


def place_of(published, address, how):
    return address if how == "served" else (published / "html" / "index.html").as_uri()


def shapes(page, section="speedup"):
    return page.locator(f"#{section} tbody th").all_inner_texts()


@pytest.mark.parametrize("how", ["served", "file"])
def test_every_choice_is_in_the_address_and_back_undoes_one(page, address, published, how):
    place = place_of(published, address, how)
    open_front(page, place)
    speedup, bandwidth = page.locator("#speedup select"), page.locator("#default-bandwidth select")
    verdict = page.locator("#changes button", has_text="undecided")
    speedup.select_option("hot")
    bandwidth.nth(1).select_option("int8")
    verdict.click()
    page.get_by_role("button", name="Zoom y").click()
    page.get_by_role("searchbox", name="Search in Accuracy").fill("ue8m0 64")
    assert len(shapes(page, "accuracy")) == 2
    sort = page.locator("#speedup thead").get_by_role("button", name="Format")
    sort.click()
    sort.click()
    # Other choices stay where a link from one place to another leads.
    page.locator("#contents").get_by_role("link", name="Accuracy").click()
    browsers.wait_until(page, "document.activeElement.id === 'accuracy-title'")
    sent = page.url
    page.goto("about:blank")
    page.goto(sent)
    browsers.wait_until(page, browsers.READY)
    assert speedup.input_value() == "hot"
    assert bandwidth.nth(1).input_value() == "int8"
    assert verdict.get_attribute("aria-pressed") == "true"
    zoom = page.get_by_role("button", name="Zoom y")
    assert zoom.get_attribute("aria-pressed") == "true"
    assert len(shapes(page, "accuracy")) == 2
    ordered = page.locator("#speedup tbody td.text:nth-child(3)").all_inner_texts()
    assert ordered == sorted(ordered, reverse=True)
    bandwidth.nth(1).select_option("fp8_row_ue8m0")
    speedup.select_option("cold")
    for undone in ("hot", "hot"):
        page.go_back()
        browsers.wait_until(page, "document.querySelector('#speedup select').value === 'hot'")
        assert speedup.input_value() == undone
    browsers.wait_until(
        page, "document.querySelectorAll('#default-bandwidth select')[1].value === 'int8'"
    )


def test_back_undoes_a_choice_of_a_series(page, address):
    open_front(page, address)
    page.wait_for_selector("#history canvas")
    page.locator("#history select").nth(4).select_option("int8")
    browsers.wait_until(page, "location.hash.includes('int8')")
    page.go_back()
    browsers.wait_until(
        page,
        "document.querySelectorAll('#history select')[4].value === 'fp8_row_float32'",
    )


def test_tables_sort_by_size_not_by_letters(page, address):
    open_front(page, address)
    button = page.locator("#bandwidth thead").get_by_role("button", name="Tokens")
    button.click()
    ascending = [
        [int(number) for number in shape.split(" × ")] for shape in shapes(page, "bandwidth")
    ]
    assert ascending == sorted(ascending)
    head = page.locator("#bandwidth thead th[aria-sort]")
    assert head.get_attribute("aria-sort") == "ascending"
    # What is in µs and what in ms is compared as it is stored; what is none comes last.
    page.locator("#changes thead").get_by_role("button", name="before").click()
    shown = page.locator("#changes tbody td:nth-child(2)")
    values = [
        float(value) for value in shown.evaluate_all("cells => cells.map(one => one.dataset.sort)")
        if value != "failed"
    ]  # fmt: skip
    assert values == sorted(values)
    assert "failed" not in shown.first.inner_text()
    button.click()
    button.click()
    assert head.count() == 0


def test_commits_link_to_their_page_where_one_is_configured(page, address, published):
    open_front(page, address)
    newest = git(published, "rev-parse", "main")
    page.locator("#history summary").click()
    page.wait_for_selector("#history details tbody tr")
    for place in ("#machine .commit", "#speedup .measured", "#history details tbody tr"):
        link = page.locator(f"{place} a").first
        assert link.get_attribute("href") == f"https://example.org/commit/{newest}"
    before = git(published, "rev-parse", "main^")
    link = page.locator("#changes .note a").first
    assert link.get_attribute("href") == f"https://example.org/commit/{before}"


def test_asvs_pages_follow_the_theme(page, address):
    def lightness():
        """Of a screenshot's corner of the page, as a browser decodes it."""
        picture = base64.b64encode(page.screenshot()).decode()
        return other.evaluate(
            """async picture => {
            const image = new Image();
            image.src = "data:image/png;base64," + picture;
            await image.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.width, image.height];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const { data } = context.getImageData(0, 0, image.width, image.height);
            let sum = 0;
            for (let i = 0; i < data.length; i += 4) sum += data[i];
            return sum / (data.length / 4);
        }""",
            picture,
        )

    other = page.context.new_page()
    open_front(page, address)
    page.get_by_role("button", name="Switch to the dark theme").click()
    for place in ("#/", "#/summarylist", f"#{CALL}"):
        page.goto(f"{address}asv.html{place}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert lightness() < 90
    page.evaluate("localStorage.setItem('theme', 'light')")
    page.reload()
    page.wait_for_load_state("networkidle")
    assert lightness() > 200
