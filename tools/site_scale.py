"""How large and how fast the site is with many results: ``python tools/site_scale.py FOLDER``.

Writes made-up results of 500 commits, 3 machines and 400 series to FOLDER, which must not exist,
publishes them, opens the front page in headless Chromium, prints the figures, and ends with status
1 if one is over its limit. Takes some minutes, so no test runs it.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import browser as browsers
import synthetic_results

ROOT = Path(__file__).resolve().parents[1]
# Seconds of the processor: other work on its cores takes none of them.
LIMITS = {"publish, CPU s": 120, "front page, MB": 2, "interactive, s": 2, "history drawn, s": 2}


def measure(folder: Path) -> dict[str, float]:
    """Publish what is in the folder and open it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = used.ru_utime + used.ru_stime
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "asv", "--config", str(folder / "asv.conf.json"), "publish"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=1800,
    )
    found = {"publish, s": time.monotonic() - start}
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found["publish, CPU s"] = used.ru_utime + used.ru_stime - before
    with browsers.serve(folder / "html") as address, browsers.launch() as browser:
        watch = browsers.Watch(browser.new_page(), address)
        responses = []
        watch.page.on("response", lambda response: responses.append(response))
        watch.page.goto(address)
        watch.page.wait_for_selector("html[data-ready]", state="attached")
        # The page's own clock, from the start of the navigation.
        found["interactive, s"] = watch.page.evaluate("performance.now()") / 1000
        watch.page.wait_for_selector("#history canvas")
        watch.page.wait_for_load_state("networkidle")
        # A listener that read them would be cut off in the middle by the browser's end.
        found["front page, MB"] = sum(len(response.body()) for response in [*responses]) / 1e6
        start = time.monotonic()
        watch.page.locator("#history select").nth(4).select_option("int8")
        browsers.wait_until(
            watch.page,
            "document.querySelector('#history .readout').textContent.includes('int8')",
        )
        found["history drawn, s"] = time.monotonic() - start
        if watch.wrong:
            raise SystemExit("\n".join(watch.wrong))
    found["site, MB"] = sum(path.stat().st_size for path in (folder / "html").rglob("*")) / 1e6
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commits", type=int, default=500)
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--series", type=int, default=400)
    options = parser.parse_args()
    synthetic_results.write_results(
        options.folder, options.commits, options.machines, options.series
    )
    figures = measure(options.folder)
    for name, value in figures.items():
        print(f"{name:18} {value:8.2f}" + (f"  limit {LIMITS[name]}" if name in LIMITS else ""))
    sys.exit(any(figures[name] > limit for name, limit in LIMITS.items()))
