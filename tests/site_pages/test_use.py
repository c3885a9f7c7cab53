"""Commands, contents, themes, a phone, a keyboard."""

from __future__ import annotations

import itertools
import json
import re
import shlex

import browser as browsers
import pytest
from pages import (
    CALL,
    MACHINES,
    TWO_CORE,
    git,
    open_front,
    row,
)

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


@pytest.mark.parametrize("machine", MACHINES)
def test_phone_needs_no_sideways_scrolling(page, address, machine):
    page.set_viewport_size({"width": 390, "height": 844})
    open_front(page, address, machine)
    page.wait_for_selector("#history canvas")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    width = page.locator("dialog").bounding_box()["width"]
    assert width < 390
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width


def test_keyboard_alone_is_enough(page, address):
    focused = "document.activeElement"
    open_front(page, address)
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.textContent") == "Skip to the content"
    outline = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
    assert outline == "solid"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"({focused}.ariaLabel || '').startsWith('Details and commands')"):
            break
    else:
        pytest.fail("no details button within 40 tabs")
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
