"""Wheels that another machine has built: made, matched to their commits, and measured here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")
pytest.importorskip("virtualenv", reason="virtualenv is not installed")

from asv.config import Config
from asv.repo import get_repo
from asv.util import ProcessError, UserError
from tiny_library import MODULE, commit

from asv_plugins import lock, storage, toolchain
from asv_plugins.environment import the_environment
from asv_plugins.wheels import VARIABLE, Wheels, beside, describe
from tracking import track, wheels

pytest_plugins = ("build_environment", "tracked_history")

ROOT = Path(__file__).resolve().parents[1]
ABI3 = f"ptgq-0.1.0-cp310-abi3-linux_{os.uname().machine}.whl"
ONE, OTHER = "a" * 40, "b" * 40


def make(folder, commit_inside=None, name=ABI3, **others):
    """Write a wheel that holds nothing but the commit that setup.py writes."""
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ptgq/__init__.py", "")
        if commit_inside is not None:
            archive.writestr("ptgq/commit.txt", commit_inside)
        for inside, text in others.items():
            archive.writestr(inside, text)
    return path


def test_a_wheel_is_the_commits_that_it_names(tmp_path):
    path = make(tmp_path / "x", ONE[:10])
    found = Wheels(tmp_path, "ptgq")
    assert found.of(OTHER) is None
    assert found.of(ONE).path == path
    # Nothing else is known of it.
    assert set(found.of(ONE).toolchain) == {"wheel", "sha256"}
    assert not Wheels(tmp_path, "toy")
    assert not Wheels(None, "ptgq")


def test_a_wheel_of_no_known_commit_is_the_one_beside_it(tmp_path):
    path = make(tmp_path)
    describe(path, ONE, {"nvcc": "13.0"})
    found = Wheels(tmp_path, "ptgq").of(ONE)
    assert (found.path, found.toolchain) == (path, {"nvcc": "13.0"})


def other_hash(path):
    describe(path, ONE, {})
    make(path.parent, ONE[:10], more="text")


@pytest.mark.parametrize(
    ("inside", "spoil", "message"),
    [
        ("aaaaaaaaaa+", lambda path: None, "built of files that differ from commit aaaaaaaaaa"),
        (None, lambda path: None, "of which commit? None inside, and no "),
        ("", lambda path: None, "of which commit? None inside, and no "),
        (ONE[:10], lambda path: path.write_text("text"), "no wheel: "),
        (ONE[:10], other_hash, "written for another wheel than the one beside it"),
        (ONE[:10], lambda path: describe(path, OTHER, {}), "built of commit aaaaaaaaaa, "),
        (ONE[:10], lambda path: beside(path).write_text("{"), "unreadable"),
        (ONE[:10], lambda path: describe(path, ONE[:9], {}), "unreadable"),
        (ONE[:10], lambda path: make(path.parent / "more", ONE[:10]), "are of one commit"),
    ],
)
def test_a_wheel_that_can_not_be_believed_is_refused(tmp_path, inside, spoil, message):
    spoil(make(tmp_path, inside))
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        Wheels(tmp_path, "ptgq")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "capability", "runs"),
    [
        (("sm", 90, ""), "9.0", True),
        (("sm", 80, ""), "8.9", True),
        (("sm", 89, ""), "8.0", False),
        (("sm", 80, ""), "9.0", False),
        (("compute", 80, ""), "9.0", True),
        (("compute", 100, ""), "9.0", False),
        (("sm", 90, "a"), "9.0", True),
        (("sm", 100, "a"), "10.3", False),
        (("sm", 100, "f"), "10.3", True),
        (("compute", 100, "f"), "12.0", False),
        (("sm", 100, ""), "10.3", True),
    ],
)
def test_which_code_a_gpu_runs(code, capability, runs):
    assert wheels.runs_on(code, capability) is runs


def test_code_of_the_library_is_what_it_was_built_for():
    extension = pytest.importorskip("ptgq.extension")
    listed = extension._C and extension._C.cuda_architectures
    library = Path(extension.__file__).with_name("_C.so")
    if wheels.cuobjdump() is None or not library.is_file():
        pytest.skip("there is no library, or no cuobjdump")
    expected = []
    for one in listed.split(";") if listed else ():
        number = int(one.removesuffix("+PTX").replace(".", ""))
        expected.append(("sm", number, ""))
        expected += [("compute", number, "")] if one.endswith("+PTX") else []
    assert set(wheels.device_code(str(library))) == set(expected)


@pytest.fixture
def given(history, tmp_path):
    """Make a wheel of each commit of the history but the last, and return their folder."""
    folder = tmp_path / "given"
    for name in ("code", "merge", "setup"):
        make(folder / name, history[name][:10])
    return folder


def error_of(capsys, *arguments):
    """Return the one line with which track refuses."""
    assert track.main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.removeprefix("track: error: ")


def test_asv_is_told_of_the_wheels(given, asv_calls):
    assert track.main(["main", "--wheels", os.path.relpath(given)]) == 0
    assert asv_calls.env[VARIABLE] == str(given)
    assert track.main(["main"]) == 0
    assert VARIABLE not in asv_calls.env


def test_commits_without_a_wheel_need_a_compiler(given, asv_calls, history, monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    # All that touch code have one.
    assert track.main(["main", "--wheels", str(given)]) == 0
    capsys.readouterr()
    asv_calls.clear()
    names = f"{history['last'][:10]} {history['page'][:10]}"
    assert error_of(capsys, "main", "--all", "--wheels", given).startswith(
        f"no wheel of {names}, which can't be built here: no C++ compiler: 'no-such-compiler' "
    )
    assert asv_calls == []


def test_a_wheel_for_another_machine_is_refused(given, asv_calls, history, capsys):
    for name in ("ptgq-0.1.0-cp27-none-any.whl", "ptgq-0.1.0-cp310-abi3-win_amd64.whl"):
        shutil.rmtree(given / "merge")
        path = make(given / "merge", history["merge"][:10], name)
        tag = name.removeprefix("ptgq-0.1.0-").removesuffix(".whl")
        refused = error_of(capsys, "main", "--wheels", given)
        assert refused.startswith(f"{path} is for {tag}, here is ")
        # What is not measured may be of any machine.
        assert track.main([f"{history['setup']}^!", "--wheels", str(given)]) == 0
        capsys.readouterr()
    assert "there is none of ptgq in " in error_of(capsys, "main", "--wheels", "nowhere")
    assert "takes --wheels FOLDER" in error_of(capsys, "main", "--build-only")


def test_a_library_for_another_gpu_is_refused(given, history, monkeypatch):
    path = make(given / "code", history["code"][:10], **{"ptgq/_C.so": "x"})
    wheel = Wheels(given, "ptgq").of(history["code"])
    held = [[("sm", 80, "")]]
    monkeypatch.setattr(wheels, "device_code", lambda library: held[0])
    assert wheels.unsuited(wheel, history["code"], ["8.0"]) is None
    assert wheels.unsuited(wheel, history["code"], ["8.6", "9.0"]) == (
        "holds code for sm_80, the GPU here has compute capability 9.0"
    )
    held[0] = []
    assert "holds code for no GPU" in wheels.unsuited(wheel, history["code"], ["9.0"])
    assert wheels.unsuited(wheel, history["code"], []) is None
    assert path == wheel.path
    # A commit that has no CUDA code.
    subprocess.run(["git", "rm", "-qr", "csrc"], check=True)
    without = commit("ptgq/api.py", "x")
    assert wheels.unsuited(wheel, without, ["9.0"]) is None


@pytest.fixture
def checkout(tmp_path, monkeypatch, built_with):
    """The project's build with a library of a few lines, as this process's folder: its config."""
    if toolchain.problem():
        pytest.skip("there is no C++ compiler here")
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("setup.py", "build_backend.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    conf = Config.load(str(ROOT / "asv.conf.json"))
    conf.repo, conf.plugins = str(folder), []
    subprocess.run(["git", "init", "-qb", "main"], check=True)
    yield conf
    for path in tmp_path.glob("env*/*.lock"):
        lock.release(path)


def test_what_is_measured_first_is_built_side_by_side(history, asv_calls, monkeypatch, tmp_path):
    monkeypatch.setattr(track.canary, "COMMIT", history["code"])
    monkeypatch.setattr(track.canary, "run", lambda *arguments: ("", 0))
    newest = [history["setup"], history["merge"], history["code"]]
    assert track.main(["main"]) == track.main(["main", "--no-canary"]) == 0
    assert asv_calls.ahead == [[history["code"], *newest[:2]], newest]


def test_a_wheel_that_does_not_build_ahead_is_left_to_asv(monkeypatch, tmp_path):
    class Environment:
        _lock = tmp_path / "lock"

        def create(self):
            lock.take(self._lock)

        def wheels(self, repo, commits):
            raise ProcessError(["pip"], 1, "", "")

    monkeypatch.setattr(wheels, "the_environment", lambda conf: Environment())
    monkeypatch.setattr(wheels, "get_repo", lambda conf: None)
    wheels.build_ahead(None, ["0" * 40])
    # The next process can have the environment.
    assert lock.take(Environment._lock)
    lock.release(Environment._lock)


def test_wheels_are_built_there_and_installed_here(
    checkout, tmp_path, monkeypatch, built_with, capsys
):
    commit("csrc/bindings/module.cpp", MODULE)
    built, broken = commit("ptgq/__init__.py", "WHICH = 'built'\n"), commit("setup.py", "raise 1\n")
    mended = commit("setup.py", "#")
    folder, checkout.env_dir = tmp_path / "wheels", str(tmp_path / "env-there")
    assert wheels.build(checkout, [broken, built], folder) == 2
    assert f"{broken[:10]} does not build" in capsys.readouterr().err
    made = Wheels(folder, "ptgq").of(built)
    assert made.toolchain == toolchain.description()
    # Again: nothing is built.
    assert wheels.build(checkout, [built], folder) == 0
    assert capsys.readouterr().out == f"{made.path}: kept\n"

    # Here is another toolchain, then none.
    checkout.env_dir = str(tmp_path / "env-here")
    built_with(CXXFLAGS="-g")
    monkeypatch.setenv(VARIABLE, str(folder))
    for _ in range(2):
        environment = the_environment(checkout)
        environment.create()
        environment.install_project(checkout, get_repo(checkout), built)
        asked = environment.run(["-c", "import ptgq; print(ptgq.WHICH)"], cwd=str(tmp_path))
        assert asked.strip() == "built"
        lock.release(environment._lock)
        built_with(CXX="no-such-compiler")
    assert environment._cache.toolchain(built) == made.toolchain
    # It goes on the record.
    stored = tmp_path / "result.json"
    storage.write_json(stored, {"commit_hash": built, "results": {}}, 2)
    assert json.loads(stored.read_text())["toolchain"] == made.toolchain
    # Without a compiler, the build would leave the library out in silence.
    with pytest.raises(UserError, match="no C\\+\\+ compiler"):
        environment.install_project(checkout, get_repo(checkout), mended)

    # Another wheel of the commit takes the place of the one that is installed.
    path = shutil.copytree(folder, tmp_path / "others") / made.path.relative_to(folder.resolve())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("ptgq/more.txt", "")
    describe(path, built, made.toolchain)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "others"))
    environment = the_environment(checkout)
    environment.create()
    assert environment.installed_commit_hash is None
    (kept,) = Path(environment._cache.get_cache_dir(built)).glob("*.whl")
    assert kept.read_bytes() == path.read_bytes()
    lock.release(environment._lock)
    # A run that is given none builds its own.
    monkeypatch.delenv(VARIABLE)
    assert the_environment(checkout)._cache.get_cache_dir(built) is None
