"""Publish the stored results as a site, and serve it to this machine alone.

``asv preview`` would do the second too, but listens on every address that the machine has.
"""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from asv.config import Config

from asv_plugins import canary, storage
from tracking.arguments import Parser, whole_number

CONFIGURATION = "asv.conf.json"


def serve(folder: Path, port: int) -> None:
    """Serve a folder on 127.0.0.1 until interrupted; port 0 takes a free one."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"serving http://127.0.0.1:{server.server_port}/ until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``asv publish`` and say where the site is; return asv's status, 2 for bad results."""
    parser = Parser(prog="site", description=__doc__)
    add = parser.add_argument
    add("--serve", action="store_true", help="serve it on 127.0.0.1")
    add("--port", type=whole_number(0, 65535), default=8000, help="to serve on (%(default)s)")
    options = parser.parse_args(arguments)
    if not Path(CONFIGURATION).is_file():
        parser.error(f"no {CONFIGURATION} here: run it from the repository's root")
    conf = Config.load(CONFIGURATION)
    results = Path(conf.results_dir)
    if wrong := storage.problems(results) + storage.problems(canary.folder_of(results)):
        print("site: these would be left out; repair them, or move them away:", file=sys.stderr)
        print("\n".join(wrong), file=sys.stderr)
        return 2
    if missing := storage.missing_branch(conf.branches[0], conf.repo):
        parser.error(missing)
    for line in storage.unpublished(results, conf.branches[0], conf.repo):
        print(f"site: {line}", file=sys.stderr)
    status = subprocess.run([sys.executable, "-m", "asv", "publish"]).returncode
    if status:
        return status
    folder = Path(conf.html_dir).resolve()
    print(f"site: {folder / 'index.html'}")
    if not options.serve:
        print("site: asv's own pages need a server: nox -s site -- --serve")
    else:
        try:
            serve(folder, options.port)
        except OSError as error:
            print(f"site: can't serve on 127.0.0.1:{options.port}: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
