"""Publish the stored results as a site, and serve it to this machine alone.

``asv preview`` would do the second too, but listens on every address that the machine has.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tracking.arguments import Parser, whole_number

CONFIGURATION = "asv.conf.json"
ENDS = {signal.SIGINT, signal.SIGTERM}
# A flag of renameat2(2).
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def serve(folder: Path, port: int) -> None:
    """Serve a folder on 127.0.0.1 until interrupted; port 0 takes a free one."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"serving http://127.0.0.1:{server.server_port}/ until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def exchange(new: Path, folder: Path) -> None:
    """Let two folders change places, in one rename where the file system can; or move the first."""
    if not folder.exists():
        new.rename(folder)
        return
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(folder)
    if rename is None or rename(*paths, RENAME_EXCHANGE):
        old = folder.rename(new.with_name("old"))
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise


def publish(folder: Path) -> str | None:
    """Write the site beside `folder`, then exchange the two; return why not, if so.

    asv's own page, whose scripts come from elsewhere, stands in the new one for a while.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    command = [sys.executable, "-m", "asv", "publish", "--html-dir", str(beside / "new")]
    try:
        # In a session of its own: Ctrl-C reaches this process alone, which ends that one.
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as asv:
            try:
                _, said = asv.communicate()
            except BaseException:
                os.killpg(asv.pid, signal.SIGKILL)
                # The end of asv's line.
                print(flush=True)
                raise
        if asv.returncode:
            # What it states itself is on its standard output.
            lines = said.strip().splitlines()
            return lines[-1] if lines else f"asv publish ended with status {asv.returncode}"
        sys.stderr.write(said)
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        exchange(beside / "new", folder)
    finally:
        # Once more Ctrl-C would leave it there.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        shutil.rmtree(beside, ignore_errors=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    return None


def run(parser: Parser, options: argparse.Namespace) -> int:
    """Publish what is stored, say where it is, and serve it if asked to."""
    # Here: Ctrl-C while they are imported is an interruption like any other.
    from asv.config import Config

    from asv_plugins import canary, storage

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
    folder = Path(conf.html_dir).resolve()
    try:
        why = publish(folder)
    except OSError as error:
        why = str(error)
    if why is not None:
        print(f"site: error: not published, {folder} is as it was: {why}", file=sys.stderr)
        return 2
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: 0 done, 2 refused or failed, 130 interrupted."""
    parser = Parser(prog="site", description=__doc__)
    add = parser.add_argument
    add("--serve", action="store_true", help="serve it on 127.0.0.1")
    add("--port", type=whole_number(0, 65535), default=8000, help="to serve on (%(default)s)")
    options = parser.parse_args(arguments)
    if not Path(CONFIGURATION).is_file():
        parser.error(f"no {CONFIGURATION} here: run it from the repository's root")
    try:
        return run(parser, options)
    except KeyboardInterrupt:
        print("site: interrupted: what is published is whole", file=sys.stderr)
        return 130


if __name__ == "__main__":
    # As Ctrl-C: the folder beside is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
