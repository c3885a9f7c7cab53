"""A change says how many commits lie between the two that were measured."""

from __future__ import annotations

import re

import pytest
from pages import git, open_front, row

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
    note = far.locator("#changes .note").inner_text()
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
