"""Take the README's picture of the published site: ``python tools/site_picture.py docs/front.png``.

Run it after ``nox -s site``, with the groups ``site`` and ``browser``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import browser as browsers
from site_scale import ROOT

# The README's numbers are of this machine; unasked, the page opens on the one measured last.
MACHINE = "nvidia-h200"


def main(picture: Path) -> None:
    """Open the front page and write its first 1280 x 1300 pixels."""
    with browsers.serve(ROOT / ".asv/html") as address, browsers.launch() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 1300})
        watch = browsers.Watch(context.new_page(), address)
        watch.page.goto(f"{address}#machine={MACHINE}")
        watch.page.wait_for_selector("html[data-ready]", state="attached")
        watch.page.wait_for_selector("#history canvas")
        watch.page.screenshot(path=picture)
        if watch.wrong:
            raise SystemExit("\n".join(watch.wrong))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, metavar="FILE.png")
    main(parser.parse_args().picture)
