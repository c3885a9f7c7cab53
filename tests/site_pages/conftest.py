"""A published site of made-up results, and a page on it that may not leave it."""

from __future__ import annotations

import pytest

pytest.importorskip("asv", reason="asv is not installed")

import browser as browsers
import pages
import synthetic_results


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "record"
    synthetic_results.write_results(folder, pages.COMMITS, len(pages.MACHINES), None)
    for day, factor in enumerate((1.0, 0.9, 1.05)):
        driver = "590.1" if factor > 1 else "580.95"
        synthetic_results.write_canary(folder / "canary", 20_000 + day, factor, driver=driver)
    pages.publish(folder)
    return folder


@pytest.fixture(scope="session")
def address(published):
    with browsers.serve(published / "html") as url:
        yield url


@pytest.fixture(scope="session")
def shared_context(chromium, address):
    """One for all tests, with a page that stays: a page in a new one takes three times as long."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.new_page().goto(address)
    yield context
    context.close()


@pytest.fixture
def context(shared_context):
    """Take back what a test leaves behind: pages, what they store, permissions."""
    yield shared_context
    for page in shared_context.pages[1:]:
        if page.url.startswith("http:"):
            page.evaluate("localStorage.clear()")
        page.close()
    shared_context.clear_permissions()


@pytest.fixture
def watch(context, address):
    """Fail the test if its page left 127.0.0.1, lost a request or wrote to the console."""
    watch = browsers.Watch(context, address)
    yield watch
    assert watch.wrong == []


@pytest.fixture
def page(watch):
    return watch.page
