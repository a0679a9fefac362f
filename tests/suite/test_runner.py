"""What a suite runs and what not, what fails, and what is left when it is stopped."""

import json
import shutil
import signal
import subprocess
import time

import pytest

from recgym.cli import run
from recgym.errors import Busy, RecGymError
from recgym.suite import runner
from recgym.suite.file import read_suite
from recgym.suite.grid import Grid
from recgym.suite.runner import run_suite
from tests.sentences import said
from tests.suite.conftest import GUESS, states, tiny_in

TUNED = (
    "seeds = [0, 1]\n" + GUESS + "tune = true\n"
    + '[[rows]]\nname = "twin"\nagent = "tiny:Guess"\ntuned-as = "guess"\nseeds = [0]\n'
    + "options = { noise = 0.25 }\n[tune]\nseed = 9\nranks = [-1, 1, 1]\nacts = [1, -1]\n"
    + '[[rows]]\nname = "same"\nagent = "tiny:Guess"\n'
)  # fmt: skip
WILD = (
    "seeds = [0]\n[tune]\nnoise = [1, 0.5]\n"
    + "".join(
        f'[[rows]]\nname = "wild-{noise}"\nagent = "tiny:Wild"\noptions.noise = {noise}\n'
        'benchmarks = ["tiny:USERS"]\n'
        for noise in range(4)
    )
    + '[[rows]]\nname = "tuned"\nagent = "tiny:Wild"\ntune = true\nbenchmarks = ["tiny:USERS"]\n'
    + '[[rows]]\nname = "doomed"\nagent = "tiny:Doomed"\ntune = true\n'
    + 'benchmarks = ["tiny:USERS"]\n'
    + '[[rows]]\nname = "lost"\nagent = "tiny:Guess"\nbenchmarks = ["tiny:LOST"]\n'
)


def once(name, text, benchmarks):
    """A fixture: a suite that is run once by the command, and what it printed."""

    @pytest.fixture(scope="module", name=f"{name}_once")
    def ran(kept, tmp_path_factory):
        folder = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            tiny = tiny_in(folder, kept, patch)
            tiny.suite(text, benchmarks)
            command = tiny.command("--processes", "2")
            done = subprocess.run(command, capture_output=True, text=True)
        (folder / "code").symlink_to(kept / "code")
        return folder, done

    return ran


def copied(once, folder, patch):
    """That suite in a folder of a test's own, and what it printed."""
    before, done = once
    tiny = tiny_in(folder, before, patch)
    for file in ("grid.toml", "fitted"):
        shutil.copy(before / file, folder / file)
    return tiny, done


tuned_once = once("tuned", TUNED, ["tiny:USERS"])
failed_once = once("failed", WILD, ["tiny:USERS", "tiny:LOST"])


@pytest.fixture
def tuned(tuned_once, tmp_path, monkeypatch):
    return copied(tuned_once, tmp_path, monkeypatch)


@pytest.fixture
def failed(failed_once, tmp_path, monkeypatch):
    return copied(failed_once, tmp_path, monkeypatch)


def test_validation_chooses_by_ndcg_whatever_the_return(tuned):
    tiny, done = tuned
    assert done.returncode == 0 and "All of grid is done." in done.stdout
    grid = Grid(read_suite(tiny.file))
    assert set(states(grid).values()) == {"done"}
    guess, twin, _ = grid.rows
    assert grid.tuned(guess, "tiny:USERS") == {"ranks": 1, "acts": 1}  # a tie: the first
    assert grid.seeds(twin, "tiny:USERS")[0].options == {"noise": 0.25}
    results = [grid.found(step)["metrics"] for step in grid.tunings(guess, "tiny:USERS")]
    ndcg = [one["ranking"]["main"]["all"]["ndcg@10"] for one in results]
    assert ndcg[2] == ndcg[3] > ndcg[0]
    assert results[0]["closed loop"]["return"] == results[2]["closed loop"]["return"]


def test_the_same_work_is_done_once(tuned):
    tiny, _ = tuned
    train = "recgym/users/mixed-v0"
    assert tiny.fitted() == sorted(
        [f"{train} 0 {ranks} 9" for ranks in (-1, -1, 1, 1)]  # four candidates differ
        + [f"{train} 0 1 0", f"{train} 0 1 1", f"{train} 0.25 1 0"]  # two rows do not
    )
    grid = Grid(read_suite(tiny.file), ["same"])
    report = json.loads((grid.place(grid.steps()[0]) / "report.json").read_text())
    assert report["seeds"] == [0, 1] and report["platform"]["threads"] == 1
    assert report["benchmark"] == "users-v0" and "--seeds 0 1" in report["command"]


def test_what_is_there_is_not_run_again_and_what_changed_is(tuned):
    tiny, _ = tuned
    before, events = tiny.fitted(), []
    run_suite(Grid(read_suite(tiny.file)), 2, say=events.append)
    assert events == [] and tiny.fitted() == before
    changed = TUNED + "seeds = [0]\noptions = { noise = 0.5 }\n"  # of the last row
    grid = Grid(tiny.suite(changed, ["tiny:USERS"]))
    assert run_suite(grid, 2, say=events.append) == []
    assert sorted([*before, "recgym/users/mixed-v0 0.5 1 0"]) == tiny.fitted()
    assert [words for words in events if words.startswith("began guess")] == []


def test_a_failure_stops_nothing_else_and_is_tried_again(failed, capsys):
    tiny, done = failed
    assert done.returncode == 1
    out, err = done.stdout, done.stderr
    assert "wild-1 on tiny:USERS, seed 0: Wild stopped at step 1: its loss is nan." in out
    assert "wild-2 on tiny:USERS, seed 0: It was killed by the signal SIGKILL." in out
    assert "wild-3 on tiny:USERS, seed 0: It stopped with code 1: KeyError: 'three'." in out
    assert "done wild-0 on tiny:USERS, seed 0" in err and "[1/11" in err
    run(tiny.command("--list")[1:])
    out = capsys.readouterr().out
    assert "wild-0 on tiny:USERS: done 0\n" in out and "wild-1 on tiny:USERS: failed 0\n" in out
    assert "KeyError" in out and "6 done, 0 running, 4 failed, 1 to do" in out
    grid = Grid(read_suite(tiny.file), ["wild-1"])
    assert len(run_suite(grid, 1)) == 1  # its report
    assert grid.failures() == [
        "wild-1 on tiny:USERS, seed 0: Wild stopped at step 1: its loss is nan. Try less noise."
    ]


def test_data_that_cannot_be_made_fail_their_benchmark_only(failed):
    tiny, done = failed
    assert "data of tiny:LOST: No log is named 'lost'." in done.stdout
    now = states(Grid(read_suite(tiny.file)))
    assert now["lost on tiny:LOST, seed 0"] == "to do"
    assert now["wild-0 on tiny:USERS, seed 0"] == "done"


def test_what_diverges_in_tuning_has_lost_and_is_not_tried_again(failed):
    tiny, done = failed
    grid = Grid(read_suite(tiny.file), ["tuned", "USERS"])
    assert grid.tuned(grid.rows[0], "tiny:USERS") == {"noise": 0.5}
    assert grid.failures() == [] and set(states(grid).values()) == {"done"}
    events = []
    assert run_suite(grid, 2, say=events.append) == events == []


def test_a_row_whose_candidates_all_diverge_fails(failed, capsys):
    tiny, done = failed
    assert "doomed on tiny:USERS: all that [tune] lists diverged" in done.stdout
    with pytest.raises(SystemExit) as stop:
        run(tiny.command("--only", "doomed", "USERS")[1:])
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert "doomed on tiny:USERS: all that [tune] lists diverged" in out
    assert "began" not in err
    run(tiny.command("--list", "--only", "doomed", "USERS")[1:])
    out = capsys.readouterr().out
    assert "doomed on tiny:USERS: tuned 2 of 2, failed 0" in out and "1 failed" in out


def test_a_killed_runner_loses_what_was_in_flight_and_goes_on(tiny):
    text = "seeds = [0, 1]\n" + GUESS + "options = { sleep = 0.5 }\n"
    found = tiny.suite(text, ["tiny:USERS"])
    command = subprocess.Popen(tiny.command("--processes", "1"), stderr=subprocess.PIPE, text=True)
    lines = []
    for line in command.stderr:
        lines.append(line)
        if "began guess on tiny:USERS, seed 1" in line:
            break
    assert "time left unknown" in lines[0]
    with pytest.raises(Busy) as problem:
        run(tiny.command()[1:])
    assert f"run by the process {command.pid} already" in said(problem)
    assert states(Grid(found))["guess on tiny:USERS, seed 1"] == "running"
    deadline = time.monotonic() + 60
    while len(tiny.fitted()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    command.send_signal(signal.SIGKILL)
    command.wait()
    command.stderr.close()

    grid = Grid(found)
    before = states(grid)
    assert list(before.values()) == ["done", "to do", "to do"]
    assert run_suite(grid, 2, minutes=0) == grid.steps()[1:]
    time.sleep(1)  # as long as its child would have needed: it died, too
    assert states(Grid(found)) == before
    assert run_suite(grid, 2) == [] and set(states(grid).values()) == {"done"}
    assert [line[-1] for line in tiny.fitted()] == ["0", "1", "1"]
    assert not list((grid.journal.drafts).iterdir())


def test_of_what_begins_alike_one_goes_ahead(tiny):
    """What begins otherwise is not kept waiting, nor is what finds what was learned before."""
    row = '[[rows]]\nname = "{}"\nagent = "tiny:Twofold"\noptions = {{ sleep = 1.5, {} }}\n'
    text = "".join(row.format(name, options) for name, options in (
        ("first", "ranks = 1"), ("alike", "ranks = -1"), ("alike-too", "acts = -1"),
        ("other", "noise = 0.1"),
    ))  # fmt: skip
    said_of = []
    assert run_suite(Grid(tiny.suite("seeds = [0]\n" + text)), 3, say=said_of.append) == []
    of_seeds = [words for words in said_of if "seed 0" in words]
    began = [words.split()[1] for words in of_seeds if words.startswith("began")]
    assert began == ["first", "other", "alike", "alike-too"]
    place = {" ".join(words.split()[:2]): number for number, words in enumerate(of_seeds)}
    assert place["began other"] < place["done first"] < place["began alike"]
    assert place["began alike-too"] < place["done alike"]


def test_time_that_is_up_leaves_the_rest_and_fails_nothing(tiny, capsys):
    tiny.suite("seeds = [0, 1]\n" + GUESS)
    run(tiny.command("--minutes", "0")[1:])
    assert "3 runs left" in capsys.readouterr().out and tiny.fitted() == []


def test_code_that_was_changed_is_not_run(tiny, monkeypatch):
    grid = Grid(tiny.suite(GUESS))
    changed = {"package": "tiny", "commit": "0" * 40, "changed": True}
    monkeypatch.setattr(runner, "code_at", lambda agent: changed)
    with pytest.raises(RecGymError) as problem:
        run_suite(grid, 1)
    assert "changed after its last commit" in said(problem) and tiny.fitted() == []
    order = {"kind": "seed", "benchmark": "tiny:SHOP", "agent": "tiny:Guess", "options": {}}
    with pytest.raises(RecGymError) as problem:
        runner._work(order | {"code": changed})
    assert "changed since the suite began" in said(problem)
