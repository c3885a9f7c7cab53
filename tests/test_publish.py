"""The command that publishes and serves the site."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

import synthetic_results

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "tracking.publish"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("publish") / "record"
    synthetic_results.write_results(folder, 2, 1, 400)
    return folder


def run(folder, *arguments):
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_site_is_served_to_this_machine_alone(folder):
    with subprocess.Popen(
        [*COMMAND, "--serve", "--port", "0"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Ignored by what a shell has put in the background, tests too, and inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            lines = iter(process.stdout)
            place = next(line for line in lines if line.startswith("site: "))
            assert place == f"site: {folder / 'html' / 'index.html'}\n"
            assert (folder / "html" / "index.html").is_file()
            line = next(line for line in lines if line.startswith("serving"))
            address, port = re.search(r"(http://127\.0\.0\.1:(\d+)/)", line).groups()
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert b"ptgq performance record" in answer.read()
            # A server on all addresses would answer here.
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", int(port)), timeout=10)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


def test_failure_of_asv_is_the_status(folder, tmp_path):
    conf = json.loads((folder / "asv.conf.json").read_text())
    conf["repo"] = str(folder / conf["repo"])
    conf["plugins"] = [".no_such_plugin"]
    (tmp_path / "asv.conf.json").write_text(json.dumps(conf))
    done = run(tmp_path)
    assert done.returncode == 1
    assert "no_such_plugin" in done.stdout + done.stderr


def test_port_in_use_is_one_line(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(folder, "--serve", "--port", str(port))
    assert done.returncode == 2
    assert re.fullmatch(f"site: can't serve on 127.0.0.1:{port}: .*in use\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--port", "70000"], "must be 0 to 65535, got 70000")]
)
def test_bad_port_is_refused(folder, arguments, message):
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
