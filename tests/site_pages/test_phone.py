"""The page on a phone."""

from __future__ import annotations

import pytest
from pages import H200, MACHINES, open_front, row


@pytest.mark.parametrize("machine", MACHINES)
def test_phone_needs_no_sideways_scrolling_to_numbers(page, address, machine):
    page.set_viewport_size({"width": 390, "height": 844})
    open_front(page, address, machine)
    page.wait_for_selector("#history canvas")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    width = page.locator("dialog").bounding_box()["width"]
    assert width < 390
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
    page.keyboard.press("Escape")
    # The first number of each table is on its first screen.
    page.locator("#compare").get_by_role("button", name="Compare").click()
    page.locator("#compare table").wait_for()
    page.locator("#history summary").click()
    page.wait_for_selector("#history details tbody tr")
    # The map of implementations holds words.
    tables = page.locator("main table:not(.map)")
    assert tables.count() >= 8
    for table in tables.all():
        # The first number that is neither a group size nor a shape.
        label, number, seen = table.evaluate("""table => {
            table.scrollIntoView();
            const cells = [...table.tBodies[0].querySelectorAll("td:not(.text)")];
            const text = cell => cell.textContent.trim();
            const found = cells.find(cell => /^\\D?\\d/.test(text(cell)) &&
                !/^(64|128)$| × /.test(text(cell)));
            const box = found.getBoundingClientRect();
            const seen = box.right <= innerWidth && box.bottom <= innerHeight;
            return [table.caption.textContent, text(found), seen];
        }""")
        assert seen, (label, number)


def test_a_phone_shows_what_changed_on_the_first_screen(page, address):
    page.set_viewport_size({"width": 390, "height": 844})
    open_front(page, address, H200, "changes")

    def seen(place):
        box = place.bounding_box()
        return box["x"] + box["width"] <= 390 and box["y"] > 0 and box["y"] + box["height"] <= 844

    slower = page.locator("#changes tbody td.text", has_text="failed").first
    assert seen(slower)
    assert seen(page.locator("#changes thead th", has_text="change"))
    page.locator("#compare").get_by_role("button", name="Compare").click()
    page.locator("#compare tbody tr").first.wait_for()
    page.locator("#compare table").evaluate("table => table.scrollIntoView()")
    assert seen(page.locator("#compare tbody td.text").first)
    # What is not beside it is behind its button.
    page.locator("#changes tbody tr", has_text="slower").first.get_by_role("button").click()
    said = page.locator("dialog").inner_text()
    assert "Before, at" in said
    assert "The smallest slow-down that would have been called" in said
    page.keyboard.press("Escape")
    page.locator("#footprint").evaluate("section => section.scrollIntoView()")
    assert seen(page.locator("#footprint .was").first)
