"""A published site of made-up results, and a page on it that may not leave it."""

from __future__ import annotations

import pytest

pytest.importorskip("asv", reason="asv is not installed")

import browser as browsers
import pages
import synthetic_results

VIEWPORT = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def published(made_once):
    return made_once("site", make_record) / "record"


def make_record(parent):
    folder = parent / "record"
    synthetic_results.write_results(folder, pages.COMMITS, len(pages.MACHINES), None)
    for day, factor in enumerate((1.0, 0.9, 1.05)):
        driver = "590.1" if factor > 1 else "580.95"
        synthetic_results.write_canary(folder / "canary", 20_000 + day, factor, driver=driver)
    pages.publish(folder)


@pytest.fixture(scope="session")
def address(published):
    with browsers.serve(published / "html") as url:
        yield url


@pytest.fixture(scope="session")
def shared_context(chromium, address):
    """One for all tests, with a page that most of them open: a new one takes 0.2 CPU-seconds."""
    context = chromium.new_context(viewport=VIEWPORT, color_scheme="light")
    context.new_page()
    yield context
    context.close()


@pytest.fixture
def context(shared_context):
    """Take back what a test leaves behind: pages, what they store, permissions."""
    yield shared_context
    first, *others = shared_context.pages
    for page in shared_context.pages:
        if page.url.startswith("http:"):
            page.evaluate("localStorage.clear()")
    for page in others:
        page.close()
    if not pages.untouched(first):
        first.goto("about:blank")
        first.emulate_media(color_scheme="light")
        first.set_viewport_size(VIEWPORT)
    shared_context.clear_permissions()


@pytest.fixture
def watch(context, address):
    """Fail the test if its page left 127.0.0.1, lost a request or wrote to the console."""
    watch = browsers.Watch(context.pages[0], address)
    yield watch
    watch.end()
    assert watch.wrong == []


@pytest.fixture
def page(watch):
    return watch.page
