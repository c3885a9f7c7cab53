"""A headless browser that may speak to one local folder, and remembers everything it should not."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
READY = "document.documentElement.dataset.ready === 'true'"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serve in silence."""

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of 127.0.0.1; yield its address, which ends in a slash."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def lacking(what: str) -> NoReturn:
    """Skip the test; a tool, which needs no pytest, ends with one line and status 2."""
    if "pytest" in sys.modules:
        sys.modules["pytest"].skip(what)
    print(f"error: {what}", file=sys.stderr)
    raise SystemExit(2)


@contextlib.contextmanager
def launch() -> Iterator[object]:
    """Start Chromium, or skip the test, or end the tool, and say what is missing."""
    try:
        from playwright import sync_api as api
    except ImportError:
        lacking("playwright is not installed")
    with api.sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        own = playwright.chromium.executable_path
        program = next(filter(None, map(shutil.which, names)), own)
        if not Path(program).is_file():
            lacking(f"no Chromium: none of {', '.join(names)} on PATH, nor playwright's own")
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


def wait_until(page, expression: str, seconds: float = 10) -> None:
    """Wait for an expression to be true; the pages' policy forbids playwright's own way, eval."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise AssertionError(f"never true: {expression}")
        page.wait_for_timeout(50)


class Watch:
    """What went wrong on a page."""

    def __init__(self, page: object, address: str):
        self.wrong: list[str] = []

        def seen(request):
            if not request.url.startswith((address, "file:", "data:")):
                self.wrong.append(f"left the page: {request.url}")

        self.page = page
        self.page.set_default_timeout(15_000)
        self.listeners = {
            # Chromium finds no other host: see ARGUMENTS.
            "request": seen,
            "console": self._console,
            "pageerror": lambda error: self.wrong.append(f"exception: {error}"),
            "requestfailed": self._failed,
            "response": self._response,
        }
        for event, listener in self.listeners.items():
            page.on(event, listener)

    def end(self) -> None:
        """Leave the page to others."""
        for event, listener in self.listeners.items():
            self.page.remove_listener(event, listener)

    def _console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console {message.type}: {message.text}")

    def _failed(self, request) -> None:
        # What a page still waits for is dropped when it is left: its icon, say.
        if request.failure != "net::ERR_ABORTED":
            self.wrong.append(f"failed: {request.url}")

    def _response(self, response) -> None:
        if response.status >= 400:
            self.wrong.append(f"status {response.status}: {response.url}")
