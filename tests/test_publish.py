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

from tracking import publish

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


def linked(folder, place, **changes):
    """Another configuration of the same record, with a site that is there already."""
    conf = json.loads((folder / "asv.conf.json").read_text())
    for name in ("repo", "results_dir"):
        conf[name] = str(folder / conf[name])
    (place / "asv.conf.json").write_text(json.dumps(conf | changes))
    (place / "html").mkdir()
    (place / "html" / "index.html").write_text("before")
    return place


def left(place):
    """What a run that did not end well leaves, with the page that was there."""
    assert (place / "html" / "index.html").read_text() == "before"
    return sorted(path.name for path in place.iterdir())


def test_failure_of_asv_leaves_the_site_that_is_there(folder, tmp_path):
    done = run(linked(folder, tmp_path, plugins=[".no_such_plugin"]))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"site: error: not published, {tmp_path / 'html'} is as it was: ")
    assert "no_such_plugin" in line
    assert left(tmp_path) == ["asv.conf.json", "html"]


def test_the_site_is_exchanged_when_it_is_whole(folder, tmp_path):
    linked(folder, tmp_path)
    page, seen = tmp_path / "html" / "index.html", set()
    with subprocess.Popen(
        COMMAND, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            seen.add(page.read_text())
    assert process.returncode == 0
    # The old one, then the new one: never none, never asv's own.
    assert seen | {page.read_text()} == {"before", page.read_text()}
    assert "ptgq performance record" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asv.conf.json", "html"]


# From a terminal, whose every process gets it, and from a kill of the command alone.
@pytest.mark.parametrize(
    ("number", "send"), [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)]
)
@pytest.mark.parametrize("moment", ["imports", "asv"])
def test_an_interruption_leaves_the_site_that_is_there(folder, tmp_path, number, send, moment):
    place = linked(folder, tmp_path)
    command = [sys.executable, "-v", *COMMAND[1:]] if moment == "imports" else COMMAND
    with subprocess.Popen(
        command,
        cwd=place,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        if moment == "imports":
            next(line for line in process.stderr if line.startswith("import 'asv'"))
        else:
            while not list(place.glob("html-*/new/index.html")):
                assert process.poll() is None
        send(process.pid, number)
        said = process.stderr.read()
    assert process.returncode == 130
    lines = [line for line in said.splitlines() if not line.startswith(("import ", "#"))]
    assert "Traceback" not in said
    assert "site: interrupted: what is published is whole" in lines
    assert moment == "imports" or len(lines) == 1
    assert left(place) == ["asv.conf.json", "html"]


def test_without_an_exchange_in_one_rename_it_takes_two(tmp_path, monkeypatch):
    monkeypatch.setattr(publish.ctypes, "CDLL", lambda _: None)
    for name in ("html", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    publish.exchange(tmp_path / "new", tmp_path / "html")
    assert [path.name for path in (tmp_path / "html").iterdir()] == ["new"]
    # What can't be moved there leaves what is.
    (tmp_path / "beside").mkdir()
    with pytest.raises(FileNotFoundError):
        publish.exchange(tmp_path / "beside" / "none", tmp_path / "html")
    assert [path.name for path in (tmp_path / "html").iterdir()] == ["new"]


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


# nox is not installed where its sessions run: a stand-in is.
NOX = """if True:
    import runpy, sys
    from unittest import mock
    sys.modules["nox"] = sys.modules["nox.virtualenv"] = mock.MagicMock()
    tracking = runpy.run_path("noxfile.py")["tracking"]
    try:
        tracking(mock.MagicMock(venv_backend="none"), ("cleans",), ("never",))
    except KeyboardInterrupt:
        print("interrupted")"""
CLEANS = """if True:
    import sys, time
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        # subprocess.run would kill it after a quarter of a second.
        time.sleep(0.6)
        print("cleaned", flush=True)
        sys.exit(130)"""


def test_nox_waits_for_what_an_interrupted_command_cleans_up(tmp_path):
    (tmp_path / "cleans.py").write_text(CLEANS)
    with subprocess.Popen(
        [sys.executable, "-c", NOX],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "cleaned\ninterrupted\n"
