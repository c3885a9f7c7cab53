"""What commands of tracking and the site refuse: one line, status 2, before anything is built."""

from __future__ import annotations

import subprocess

import pytest

pytest.importorskip("asv", reason="asv is not installed")


from asv_plugins import environment, lock
from tracking import bisect, compare, merge, publish, track

# Their history, and what stands in for asv.
pytest_plugins = ("tracked_history",)

COMMANDS = {"track": track, "compare": compare, "bisect": bisect, "merge": merge, "site": publish}
ONE = "footprint.TritonKernels.track_instructions"
REFUSED = [
    (["track", "nowhere"], "git: fatal: bad revision 'nowhere'"),
    (["track", ""], "git: fatal: bad revision ''"),
    (["track", "main..nowhere"], "git: fatal: bad revision 'main..nowhere'"),
    (["track", "--", "--all"], "git: fatal: bad revision '--all'"),
    (["track", "main\0"], "embedded null byte"),
    (["track", "main", "--newest", "-3"], "argument --newest: must be 1 or more, got -3"),
    (["track", "main", "--newest", "0"], "argument --newest: must be 1 or more, got 0"),
    (["track", "--newest", "two"], "--newest: must be a whole number, 1 or more, got 'two'"),
    (["track", "--newest", "9" * 5000], "--newest: must be a whole number, 1 or more, got '999"),
    (["track", "--bench", "("], "--bench: '(' is no regular expression: missing )"),
    (["track", "--bench", "NoSuch"], "no benchmark matches 'NoSuch'"),
    (["track", "--bench", ONE, "--bench", "NoSuch"], "no benchmark matches 'NoSuch'"),
    (["track", "--machine", ""], "argument --machine: must be 1 to 64 letters"),
    (["track", "--machine", "a/b"], "got 'a/b'"),
    (["track", "--machine", ".."], "got '..'"),
    (["track", "--machine", "a b\n"], r"got 'a b\n'"),
    (["track", "--machine", "x" * 65], "must be 1 to 64 letters"),
    (["track", "--all=1"], "argument --all: ignored explicit argument '1'"),
    (["track", "main", "nowhere"], "git: fatal: bad revision 'nowhere'"),
    (["track", "main", "--shard", "2"], "--shard: must be 1/N to N/N, such as 2/4, got '2'"),
    (["track", "main", "--shard", "0/2"], "such as 2/4, got '0/2'"),
    (["track", "main", "--shard", "3/2"], "such as 2/4, got '3/2'"),
    (["track", "main", "--shard", "1/0"], "such as 2/4, got '1/0'"),
    (["track", "main", "--shard", "1/2/3"], "such as 2/4, got '1/2/3'"),
    (["track", "--shard", "1/2"], "--shard takes a RANGE: "),
    (["compare"], "the following arguments are required: base, head"),
    (
        ["compare", "main", "nowhere"],
        "'nowhere' names no commit: git: fatal: Needed a single revision",
    ),
    (["compare", "main", "main:csrc"], "git: "),
    (["compare", "main", "HEAD"], "'main' and 'HEAD' are one commit, "),
    (["compare", "main~1", "main", "--bench", "["], "'[' is no regular expression: "),
    (["compare", "main~1", "main", "--bench", "NoSuch"], "no benchmark matches 'NoSuch'"),
    (["compare", "main~1", "main", "--rounds", "2"], "--rounds: must be 3 or more, got 2"),
    (["compare", "main~1", "main", "--rounds", "1.5"], "must be a whole number, 3 or more"),
    (["bisect", "main"], "the following arguments are required: bench"),
    (["bisect", "nowhere", ONE], "git: fatal: bad revision 'nowhere'"),
    (["bisect", "main..main", ONE], "'main..main' has 0 commits, to search takes two"),
    (["bisect", "main~1..main", ONE], "'main~1..main' has 1 commits, to search takes two"),
    (["bisect", "main", "NoSuch"], "'NoSuch' must match one benchmark, it matches none"),
    (["bisect", "main", "track_"], "'track_' must match one benchmark, it matches "),
    (["bisect", "main", "*"], "'*' is no regular expression: nothing to repeat"),
    (["site", "--port", "-1"], "argument --port: must be 0 to 65535, got -1"),
    (["site", "--port", "65536"], "argument --port: must be 0 to 65535, got 65536"),
    (["site", "--port", "http"], "must be a whole number, 0 to 65535, got 'http'"),
    (["merge"], "the following arguments are required: FOLDER"),
    (["merge", ""], "argument FOLDER: must be a folder of results, got ''"),
    (["merge", "nowhere"], "argument FOLDER: must be a folder of results, got 'nowhere'"),
    (["merge", "csrc"], "benchmarks.json missing!"),
    (["site", "elsewhere"], "unrecognized arguments: elsewhere"),
]


def refused(command, *arguments):
    """Run a command that refuses: at once, or by argparse's exit; return its status."""
    try:
        return COMMANDS[command].main(arguments)
    except SystemExit as left:
        return left.code


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_nonsense_is_one_line_before_anything_is_built(
    history, asv_calls, monkeypatch, capsys, call, message
):
    monkeypatch.setattr(environment.Host, "create", None)
    assert refused(*call) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"{call[0]}: error: ")
    assert message in err
    assert asv_calls == []


@pytest.mark.parametrize("call", [["track"], ["track", "main^0"], ["site"]], ids=" ".join)
def test_without_the_branch_of_the_record_nothing_is_measured(history, asv_calls, capsys, call):
    subprocess.run(["git", "branch", "-qm", "main", "work"], check=True)
    revision = {"main^0": "work"}
    assert refused(*(revision.get(word, word) for word in call)) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{call[0]}: error: no branch main here, whose commits the record shows")
    assert err.count("\n") == 1
    assert asv_calls == []
    # What is not kept needs no branch.
    assert track.main(["work", "--quick"]) == 0


@pytest.mark.parametrize("call", [["track"], ["compare", "main~1", "main"], ["site"]], ids=" ".join)
def test_without_git_one_line_says_so(history, asv_calls, monkeypatch, capsys, call):
    monkeypatch.setenv("PATH", "/nowhere")
    assert refused(*call) == 2
    assert "git does not run: " in capsys.readouterr().err
    assert asv_calls == []


MEASURING = [["track", "main"], ["compare", "main~1", "main"], ["bisect", "main", ONE]]


@pytest.mark.parametrize("call", MEASURING, ids=" ".join)
def test_a_second_run_is_refused_before_it_begins(history, asv_calls, monkeypatch, capsys, call):
    def take(path):
        raise environment.util.UserError("in use by process 123 on here (asv run)")

    monkeypatch.setattr(lock, "take", take)
    assert refused(*call) == 2
    assert capsys.readouterr().err == f"{call[0]}: error: in use by process 123 on here (asv run)\n"
    assert asv_calls == []


@pytest.mark.parametrize("call", MEASURING, ids=" ".join)
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CXX": "no-such-compiler"}, "no C++ compiler: 'no-such-compiler' does not run"),
        ({"PTGQ_CUDA": "yes"}, "PTGQ_CUDA must be auto, 0 or 1, got 'yes'"),
    ],
)
def test_what_building_needs_is_there_before_it_begins(
    history, asv_calls, monkeypatch, capsys, call, variables, message
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert refused(*call) == 2
    err = capsys.readouterr().err
    assert (err.count("\n"), message in err) == (1, True)
    assert asv_calls == []


def test_the_environment_is_left_to_the_asv_that_is_run_next(history, asv_calls):
    assert bisect.main(["main", ONE]) == 0
    assert track.main(["main", "--bench", ONE]) == 0
    assert len(asv_calls) == 2
    conf = environment.Config.load("asv.conf.json")
    path = environment.the_environment(conf)._lock
    assert path.exists()
    assert lock.take(path)
    lock.release(path)
