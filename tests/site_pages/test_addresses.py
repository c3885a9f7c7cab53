"""What an address names that does not exist is said, never replaced in silence."""

from __future__ import annotations

import browser as browsers
import pytest
from pages import H200, git


def opened(page, base, choices):
    """Open the page with this machine and these choices; return what it says of them."""
    page.goto("about:blank")
    page.goto(f"{base}#machine={H200}&{choices}")
    browsers.wait_until(page, browsers.READY)
    if not page.locator("#unknown").is_visible():
        return ""
    return "\n".join(page.locator("#unknown p").all_inner_texts())


UNKNOWN = {
    "shape.state=foo": "shape.state=foo is not known here: produced is shown",
    "shape.machines=al": "shape.machines=al is not known here: this is shown",
    "bandwidth.state=foo": "bandwidth.state=foo is not known here: produced is shown",
    "speedup.state=foo": "speedup.state=foo",
    "speedup.sort=99": "speedup.sort=99 is not known here",
    "changes.verdicts=slow": "slow is no verdict; there are failed, worse",
    "history.zoom=1": "history.zoom=1 is not known here",
    "peers.format=zz": "peers.format=zz was not measured with the other choices",
    "peers.state=foo": "peers.state=foo is not known here",
    "peers.time=foo": "peers.time is no choice of this page",
    "nowhere.state=hot": "no section nowhere",
    "colour=red": "names colour, which this page does not know",
    "series=nope&value=1": "There is no history of nope, 1 on h200",
    "at=typo": "There is no section typo of h200",
    "compare.before-machine=typo": "compare.before-machine=typo names no machine",
}


def test_what_an_address_names_and_is_not_here_is_said(page, address):
    # One line says each, none the choice that is known; the page is opened once.
    lines = opened(page, address, "&".join(("speedup.find=int8", *UNKNOWN))).splitlines()
    for choice, said in UNKNOWN.items():
        assert sum(said in line for line in lines) == 1, choice
    assert len(lines) == len(UNKNOWN)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("peers.format=zz", "peers.format=zz was not measured with the other choices"),
        ("at=details", "There is no section details of h200"),
    ],
)
def test_what_is_said_is_in_sight_until_it_is_read(page, address, choice, said):
    text = opened(page, address, f"speedup.find=int8&{choice}")
    assert said in text
    assert len(text.splitlines()) == 1
    # In sight wherever the address leads, and gone with the choice.
    page.evaluate("document.querySelector('#footprint').scrollIntoView()")
    box = page.locator("#unknown").bounding_box()
    assert 0 < box["y"] < 900 - box["height"]
    page.locator("#unknown").get_by_role("button", name="Close").click()
    assert not page.locator("#unknown").is_visible()
    page.evaluate(f"location.hash = 'machine={H200}&speedup.find=int8'")
    browsers.wait_until(page, "!document.querySelector('#unknown p')")


@pytest.mark.parametrize("how", ["served", "file"])
def test_unknown_commits_are_not_compared(page, address, published, how):
    base = address if how == "served" else (published / "html/index.html").as_uri()
    newest = git(published, "rev-parse", "main")[:8]
    pair = f"compare.before=deadbeef&compare.after={newest}&at=compare"
    said = "compare.before=deadbeef names no commit measured on h200: nothing is compared."
    assert opened(page, base, pair) == said
    # What says so covers nothing of what the address leads to.
    title = page.locator("#compare-title").bounding_box()
    assert title["y"] + title["height"] < page.locator("#unknown").bounding_box()["y"]
    section = page.locator("#compare")
    assert said in section.inner_text()
    assert section.locator("table").count() == 0
    # Asked for by its button, the pair that the lists show is compared.
    section.get_by_role("button", name="Compare", exact=True).click()
    section.locator("table").wait_for()
    assert not page.locator("#unknown").is_visible()


def test_names_are_known_in_any_case(page, address, published):
    older, newest = (git(published, "rev-parse", name)[:8].upper() for name in ("main~3", "main"))
    page.goto("about:blank")
    page.goto(f"{address}#machine=TWO-core&compare.before-machine=H200"
              f"&compare.before={older}&compare.after={newest}")  # fmt: skip
    browsers.wait_until(page, browsers.READY)
    assert page.locator("#machines [aria-pressed=true]").inner_text().startswith("two-core")
    lists = page.locator("#compare select")
    assert lists.nth(0).locator("option[selected]").inner_text().startswith("h200")
    assert lists.nth(1).locator("option[selected]").inner_text().startswith(older.lower())
    assert not page.locator("#unknown").is_visible()


def test_an_address_that_is_no_text_leaves_a_whole_page(page, address):
    page.goto("about:blank")
    page.goto(f"{address}#%E0%A4%A")
    browsers.wait_until(page, browsers.READY)
    assert page.locator("#sections > section").count() > 5
    assert "this page does not know" in page.locator("#unknown").inner_text()
