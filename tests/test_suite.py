"""Suites: what their files may say, what is run and what is not, and what is said of it."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import recgym
from recgym import suite as suites
from recgym.agent import load_agent
from recgym.benchmarks import BENCHMARKS
from recgym.cli import run
from recgym.errors import Busy, RecGymError, UnknownName
from recgym.suite import Grid, Step, filled, read_results, read_suite, results_of, run_suite

from .sentences import said

ROOT = Path(__file__).parents[1]
TINY = '''
import os, signal, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from recgym.benchmarks import Benchmark
from recgym.errors import Diverged, InvalidArgument

ABOUT = {"shows": "that tests pass", "hides": "all else", "build": "", "log": "demo"}
SHOP = Benchmark("shop-v0", "recgym/demo/logged-v0", "ndcg@10", **ABOUT)
MASKED = Benchmark("masked-v0", "recgym/demo/logged-v0", "ndcg@10", mask_seen=True, **ABOUT)
USERS = Benchmark("users-v0", "recgym/users/mixed-v0", "return", shows="that tests pass",
                  hides="all else", build="", env="recgym/OracleBoredom-v0")

@dataclass
class Guess:
    """Scores by what was taken, with noise; what it does can be turned round."""
    noise: float = 0.0
    ranks: int = 1  # -1: the other way round
    acts: int = 1
    seed: int = 0
    sleep: float = 0.0

    def fit(self, train, validation=None, env=None):
        with Path(os.environ["TINY_FITTED"]).open("a") as lines:
            lines.write(f"{train.id} {self.noise:g} {self.ranks} {self.seed}\\n")
        time.sleep(self.sleep)
        self.counts = np.zeros(int(train.action_space.n), np.float32)
        for episode in train:
            np.add.at(self.counts, episode.actions[episode.rewards > 0], 1)
        rng = np.random.default_rng(self.seed)
        self.counts += self.noise * rng.random(len(self.counts)).astype(np.float32)
        return self

    def scores(self, observations, infos):
        return np.tile(self.ranks * self.counts, (len(observations), 1))

    def act(self, observations, infos):
        return np.full(len(observations), (self.acts * self.counts).argmax())

@dataclass
class Sure(Guess):
    """Leaves nothing to chance."""
    def __init__(self, noise: float = 0.0):
        super().__init__(noise)

@dataclass
class Wild(Guess):
    """Has a noise from which it diverges, or is killed."""
    def fit(self, train, validation=None, env=None):
        if self.noise == 1:
            raise Diverged("Wild stopped at step 1: its loss is nan. Try less noise.")
        if self.noise == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.noise == 3:
            raise KeyError("three")
        return super().fit(train, validation, env)
'''


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """A module of tiny agents and benchmarks, and homes in which their data are."""
    folder = tmp_path_factory.mktemp("suites")
    (folder / "code").mkdir()
    (folder / "code" / "tiny.py").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RECGYM_HOME", "MINARI_DATASETS_PATH"):
            patch.setenv(name, str(folder / name))
            (folder / name).mkdir()
        recgym.prepare("demo", name="demo")
        for split, sessions in (("train", 60), ("validation", 30), ("test", 30)):
            recgym.to_minari("demo", split)
            recgym.collect("recgym/OracleBoredom-v0", "mixed", split, sessions=sessions,
                           name="users")  # fmt: skip
    return folder


@pytest.fixture
def tiny(kept, tmp_path, monkeypatch):
    """Write a suite of tiny benchmarks, and say what was trained: copies of a test's own."""
    for name in ("RECGYM_HOME", "MINARI_DATASETS_PATH"):
        shutil.copytree(kept / name, tmp_path / name)
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("TINY_FITTED", str(tmp_path / "fitted"))
    monkeypatch.setenv("PYTHONPATH", str(kept / "code"))
    monkeypatch.syspath_prepend(str(kept / "code"))
    return Tiny(tmp_path)


class Tiny:
    def __init__(self, folder):
        self.folder, self.file = folder, folder / "grid.toml"

    def suite(self, text, benchmarks=("tiny:SHOP",)):
        head = f"benchmarks = {json.dumps(list(benchmarks))}\nusers = 10\n"
        self.file.write_text(head + text)
        return read_suite(self.file)

    def fitted(self):
        file = self.folder / "fitted"
        return sorted(file.read_text().splitlines()) if file.exists() else []

    def command(self, *words):
        recgym_command = str(Path(sys.executable).with_name("recgym"))
        return [recgym_command, "run", "--suite", str(self.file), *words]


def states(grid):
    return {str(step): grid.state(step) for step in grid.steps()}


GUESS = '[[rows]]\nname = "guess"\nagent = "tiny:Guess"\n'


# -------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sedes = [1]\n" + GUESS, "key of the suite is named 'sedes'. Did you mean 'seeds'"),
        (GUESS + "agnet = 1\n", "key of the row 'guess' is named 'agnet'. Did you mean 'agent'"),
        (GUESS.replace("tiny:Guess", "markow"), "No agent is named 'markow'. Did you mean 'markov"),
        (GUESS + "options = { nose = 1 }\n", "option of Guess is named 'nose'. Did you mean 'noi"),
        (GUESS + 'benchmarks = ["tiny:SHOPS"]\n', "Did you mean 'tiny:SHOP'"),
        ('seeds-of = { "tiny:SHO" = [1] }\n' + GUESS, "Did you mean 'tiny:SHOP'"),
        (GUESS + "seeds = []\n", "'seeds' of the row 'guess' is a list of one whole number"),
        (GUESS + 'seeds = ["a"]\n', "is a list of one whole number or more"),
        (GUESS + GUESS, "Two rows are named 'guess'"),
        (GUESS.replace('"guess"', '"A b"'), "'A b' cannot name a row"),
        (GUESS + "tune = true\n", "[tune] lists nothing to try"),
        (GUESS + "tune = 1\n", "'tune' of the row 'guess' is true or false"),
        (GUESS + "[tune]\nnoise = 1\n", "a list of what is tried"),
        (GUESS + "tune = true\n[tune]\nnose = [1]\n", "Did you mean 'noise'"),
        (GUESS + "tune = true\noptions.noise = 1\n[tune]\nnoise = [1]\n", "fixes 'noise'"),
        (GUESS + 'tuned-as = "guest"\n[tune]\nnoise = [1]\n', "Did you mean 'guess'"),
        (GUESS + 'tuned-as = "guess"\ntune = true\n[tune]\nnoise = [1]\n', "also tuned as another"),
        (GUESS + 'tuned-as = "other"\n[[rows]]\nname = "other"\nagent = "random"\n',
         "'other', which is not tuned"),
        (GUESS + "options = { noise = 2026-01-01 }\n", "numbers, texts and lists"),
        (GUESS + "options = { noise = nan }\n", "numbers, texts and lists"),
        (GUESS + '[[comparisons]]\nrow = "gues"\n', "No row is named 'gues'"),
        (GUESS + '[[comparisons]]\nrow = "guess"\nagainst = { x = ["vsknnn"] }\n', "'vsknnn'"),
        (GUESS + '[[comparisons]]\nrow = "guess"\nagainst = { x = [] }\n', "one name or more"),
        ("users = 1\n" + GUESS, "no TOML"),
        ("", "has no [[rows]]"),
        ("rows = [1]\n", "is a table"),
        ("rows = 1\n", "'rows' of the suite is a list"),
        ("[rows", "no TOML"),
    ],
)  # fmt: skip
def test_a_slip_in_a_suite_is_a_sentence_before_anything_runs(tiny, text, words):
    with pytest.raises(RecGymError) as problem:
        tiny.suite(text)
    assert words in said(problem)
    assert tiny.fitted() == []


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [
        ("oracle-static-mixd-v0", "Did you mean 'oracle-static-mixed-v0'"),
        ("tiny:NONE", "cannot be loaded"),
        ("tiny:Guess", "no benchmark"),
    ],
)
def test_a_benchmark_that_is_none_is_named(tiny, benchmark, words):
    with pytest.raises(RecGymError) as problem:
        tiny.suite(GUESS, [benchmark])
    assert words in said(problem)


def test_a_suite_that_is_not_there_and_words_that_fit_nothing_are_said(tiny):
    with pytest.raises(RecGymError) as problem:
        read_suite(tiny.folder / "none.toml")
    assert "cannot be read" in said(problem)
    tiny.suite(GUESS)
    with pytest.raises(UnknownName) as problem:
        run(["run", "--suite", str(tiny.file), "--only", "gess"])
    assert "Did you mean 'guess'" in said(problem)
    for words in (["--processes", "0"], ["--minutes", "-1"]):
        with pytest.raises(RecGymError) as problem:
            run(["run", "--suite", str(tiny.file), *words])
        said(problem)


def test_seeds_are_those_of_the_row_then_of_the_benchmark_then_of_all(tiny):
    found = tiny.suite(
        'seeds = [0, 1]\n[seeds-of]\n"tiny:USERS" = [0, 1, 2]\n' + GUESS
        + '[[rows]]\nname = "one"\nagent = "tiny:Guess"\nseeds = [7]\n'
        + '[[rows]]\nname = "more"\nagent = "tiny:Guess"\nseeds = [7]\n'
        + 'seeds-of = { "tiny:USERS" = [8, 9] }\n'
        + '[[rows]]\nname = "sure"\nagent = "tiny:Sure"\n',
        ["tiny:SHOP", "tiny:USERS"],
    )  # fmt: skip
    seeds = {name: list(row.seeds.values()) for name, row in found.rows.items()}
    assert seeds == {
        "guess": [(0, 1), (0, 1, 2)], "one": [(7,), (7,)], "more": [(7,), (8, 9)],
        "sure": [(0,), (0,)],
    }  # fmt: skip


def test_tables_fill_evenly_and_rows_with_few_seeds_come_last(tiny):
    found = tiny.suite(
        "seeds = [0, 1]\n" + GUESS + "tune = true\n"
        + '[[rows]]\nname = "wild"\nagent = "tiny:Wild"\n'
        + '[[rows]]\nname = "twin"\nagent = "tiny:Guess"\ntuned-as = "guess"\nseeds = [0]\n'
        + "options = { acts = -1 }\n[tune]\nseed = 9\nnoise = [0.0, 0.5]\n",
        ["tiny:SHOP", "tiny:USERS"],
    )  # fmt: skip
    order = [str(step).replace("tiny:", "") for step in Grid(found).steps()
             if step.kind != "report"]  # fmt: skip
    assert order == [
        "guess on SHOP, tuning noise=0.0", "guess on SHOP, tuning noise=0.5",
        "guess on SHOP, seed 0", "wild on SHOP, seed 0",
        "guess on USERS, tuning noise=0.0", "guess on USERS, tuning noise=0.5",
        "guess on USERS, seed 0", "wild on USERS, seed 0",
        "guess on SHOP, seed 1", "wild on SHOP, seed 1", "twin on SHOP, seed 0",
        "guess on USERS, seed 1", "wild on USERS, seed 1", "twin on USERS, seed 0",
    ]  # fmt: skip
    part = Grid(found, ["twin", "USERS"])
    assert [row.name for row in part.rows] == ["twin"] and part.benchmarks == ["tiny:USERS"]
    assert [step.kind for step in part.steps()] == ["tuning", "tuning", "seed", "report"]


# --------------------------------------------------------------------------------------- running


def test_validation_chooses_by_ndcg_whatever_the_return(tiny, capsys):
    found = tiny.suite(
        "seeds = [0]\n" + GUESS + "tune = true\n"
        + '[[rows]]\nname = "twin"\nagent = "tiny:Guess"\ntuned-as = "guess"\n'
        + "options = { noise = 0.25 }\n[tune]\nseed = 9\nranks = [-1, 1, 1]\nacts = [1, -1]\n",
        ["tiny:USERS"],
    )  # fmt: skip
    run(tiny.command("--processes", "2")[1:])
    grid = Grid(found)
    assert set(states(grid).values()) == {"done"} and "is done" in capsys.readouterr().out
    guess, twin = found.rows.values()
    assert grid.tuned(guess, "tiny:USERS") == {"ranks": 1, "acts": 1}  # a tie: the first
    assert grid.seeds(twin, "tiny:USERS")[0].options == {"noise": 0.25}
    results = [grid.found(step)["metrics"] for step in grid.tunings(guess, "tiny:USERS")]
    ndcg = [one["ranking"]["main"]["all"]["ndcg@10"] for one in results]
    assert ndcg[2] == ndcg[3] > ndcg[0]
    assert results[0]["closed loop"]["return"] == results[2]["closed loop"]["return"]
    train = "recgym/users/mixed-v0"  # four that differ, and each row once, on test
    assert tiny.fitted() == sorted(
        [f"{train} 0 -1 9"] * 2 + [f"{train} 0 1 9"] * 2 + [f"{train} 0 1 0", f"{train} 0.25 1 0"]
    )


def test_what_is_there_is_not_run_again_and_what_changed_is(tiny):
    text = "seeds = [0, 1]\n" + GUESS + '[[rows]]\nname = "same"\nagent = "tiny:Guess"\n'
    grid = Grid(tiny.suite(text))
    assert run_suite(grid, 2) == [] and grid.failed == {}
    assert [line[-1] for line in tiny.fitted()] == ["0", "1"]  # two rows, but the same work
    report = json.loads((grid.place(grid.steps()[0]) / "report.json").read_text())
    assert report["seeds"] == [0, 1] and report["platform"]["threads"] == 1
    assert report["benchmark"] == "shop-v0" and "--seeds 0 1" in report["command"]

    events = []
    again = Grid(tiny.suite(text + "options = { noise = 0.5 }\n"))
    assert run_suite(again, 2, say=events.append) == []
    assert [line.split()[1:] for line in tiny.fitted()][2:] == [
        ["0.5", "1", "0"],
        ["0.5", "1", "1"],
    ]
    assert [words for words in events if words.startswith("began guess")] == []
    events.clear()
    run_suite(Grid(read_suite(tiny.file)), 2, say=events.append)
    assert events == []


def test_a_failure_stops_nothing_else_and_is_tried_again(tiny, capsys):
    rows = "".join(
        f'[[rows]]\nname = "wild-{noise}"\nagent = "tiny:Wild"\noptions = {{ noise = {noise} }}\n'
        for noise in range(4)
    )
    found = tiny.suite("seeds = [0]\n" + rows)
    with pytest.raises(SystemExit) as stop:
        run(tiny.command("--processes", "3")[1:])
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert "wild-1 on tiny:SHOP, seed 0: Wild stopped at step 1: its loss is nan." in out
    assert "wild-2 on tiny:SHOP, seed 0: It was killed by the signal SIGKILL." in out
    assert "wild-3 on tiny:SHOP, seed 0: It stopped with code 1: KeyError: 'three'." in out
    assert "done wild-0 on tiny:SHOP, seed 0" in err and "[1/4" in err
    run(tiny.command("--list")[1:])
    out = capsys.readouterr().out
    assert "wild-0 on tiny:SHOP: done 0\n" in out and "wild-1 on tiny:SHOP: failed 0\n" in out
    assert "KeyError" in out and "1 done, 0 running, 3 failed, 0 to do" in out
    grid = Grid(found, ["wild-1"])
    assert len(run_suite(grid, 1)) == 1  # its report
    assert list(grid.failed.values()) == [
        "wild-1 on tiny:SHOP, seed 0: Wild stopped at step 1: its loss is nan. Try less noise."
    ]


def test_data_that_cannot_be_made_fail_their_benchmark_only(tiny):
    shutil.rmtree(tiny.folder / "RECGYM_HOME" / "logs" / "demo")
    found = tiny.suite("seeds = [0]\n" + GUESS, ["tiny:SHOP", "tiny:USERS"])
    grid = Grid(found)
    run_suite(grid, 2)
    (words,) = grid.failed.values()
    assert words.startswith("data of tiny:SHOP: No log is named 'demo'.")
    assert states(grid)["guess on tiny:USERS, seed 0"] == "done"


def test_what_diverges_in_tuning_has_lost_and_is_not_tried_again(tiny):
    text = (
        'seeds = [0]\n[[rows]]\nname = "wild"\nagent = "tiny:Wild"\ntune = true\n'
        "[tune]\nnoise = [1, 0.5]\n"
    )
    grid = Grid(tiny.suite(text))
    assert run_suite(grid, 2) == [] and grid.failed == {}
    assert grid.tuned(grid.rows[0], "tiny:SHOP") == {"noise": 0.5}
    events = []
    run_suite(Grid(read_suite(tiny.file)), 2, say=events.append)
    assert events == []


def test_a_row_whose_candidates_all_diverge_fails(tiny, capsys):
    tiny.suite(
        '[[rows]]\nname = "wild"\nagent = "tiny:Wild"\ntune = true\n[tune]\nnoise = [1, 1.0]\n'
    )
    for _ in range(2):  # the second time, nothing is begun
        with pytest.raises(SystemExit) as stop:
            run(tiny.command("--processes", "1")[1:])
        assert stop.value.code == 1
        assert "wild on tiny:SHOP: all that [tune] lists diverged" in capsys.readouterr().out
    run(tiny.command("--list")[1:])
    out = capsys.readouterr().out
    assert "wild on tiny:SHOP: tuned 2 of 2, failed 0" in out and "1 failed" in out


def test_a_killed_runner_loses_what_was_in_flight_and_goes_on(tiny):
    found = tiny.suite("seeds = [0, 1, 2]\n" + GUESS + "options = { sleep = 1.0 }\n")
    runner = subprocess.Popen(tiny.command("--processes", "1"), stderr=subprocess.PIPE, text=True)
    lines = []
    for line in runner.stderr:
        lines.append(line)
        if "began guess on tiny:SHOP, seed 1" in line:
            break
    assert "time left unknown" in lines[0]
    with pytest.raises(Busy) as problem:
        run(tiny.command()[1:])
    assert f"run by the process {runner.pid} already" in said(problem)
    assert states(Grid(found))["guess on tiny:SHOP, seed 1"] == "running"
    deadline = time.monotonic() + 60
    while len(tiny.fitted()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    runner.stderr.close()

    grid = Grid(found)
    before = states(grid)
    assert list(before.values()) == ["done", "to do", "to do", "to do"]
    assert run_suite(grid, 2, minutes=0) == grid.steps()[1:]
    time.sleep(1.2)  # as long as its child would have needed: it died, too
    assert states(Grid(found)) == before
    assert run_suite(grid, 3) == [] and set(states(grid).values()) == {"done"}
    assert [line[-1] for line in tiny.fitted()] == ["0", "1", "1", "2"]
    assert not list((grid.folder / "drafts").iterdir())


def test_time_that_is_up_leaves_the_rest_and_fails_nothing(tiny, capsys):
    tiny.suite("seeds = [0, 1]\n" + GUESS)
    run(tiny.command("--minutes", "0")[1:])
    assert "3 runs left" in capsys.readouterr().out and tiny.fitted() == []


def test_code_that_was_changed_is_not_run(tiny, monkeypatch):
    grid = Grid(tiny.suite(GUESS))
    changed = {"package": "tiny", "commit": "0" * 40, "changed": True}
    monkeypatch.setattr(suites, "_code", lambda agent: changed)
    with pytest.raises(RecGymError) as problem:
        run_suite(grid, 1)
    assert "changed after its last commit" in said(problem) and tiny.fitted() == []
    order = {"kind": "seed", "benchmark": "tiny:SHOP", "agent": "tiny:Guess", "options": {}}
    with pytest.raises(RecGymError) as problem:
        suites._work(order | {"code": changed})
    assert "changed since the suite began" in said(problem)


# -------------------------------------------------------------------------------- what came of it


COMPARED = (
    "seeds = [0, 1, 2]\n" + GUESS + "options = { noise = 0.01 }\n"
    + '[[rows]]\nname = "turned"\nagent = "tiny:Guess"\nseeds = [0]\noptions = { ranks = -1 }\n'
    + '[[rows]]\nname = "never"\nagent = "tiny:Wild"\nseeds = [0]\noptions = { noise = 1 }\n'
    + '[[comparisons]]\nrow = "guess"\n'
    + 'against = { "its other" = ["turned"], "all" = ["turned", "never"], "VSKNN" = ["vsknn"] }\n'
)  # fmt: skip


def test_what_was_reached_is_written_compared_rendered_and_submitted(tiny, capsys, monkeypatch):
    found = tiny.suite(COMPARED)
    with pytest.raises(SystemExit):
        run(tiny.command("--processes", "2")[1:])
    page = tiny.folder / "README.md"
    page.write_text("# Ours\n<!-- results -->\nold\n<!-- /results -->\nend\n")
    results = tiny.folder / "results.json"
    run(tiny.command("--results", str(results), "--render")[1:])
    content = read_results(results)
    cells = content["rows"]["tiny:SHOP"]
    assert cells["never"] is None and cells["guess"]["seeds"] == [0, 1, 2]
    assert cells["guess"]["options"] == {"noise": 0.01}
    assert cells["guess"]["low"] <= cells["guess"]["mean"] <= cells["guess"]["high"]
    assert cells["guess"]["mean"] == pytest.approx(cells["guess"]["ndcg@10"])
    first, again, never, agent = content["comparisons"]
    assert first["mean"] == pytest.approx(cells["guess"]["mean"] - cells["turned"]["mean"])
    assert first["low"] > 0 and first["adjusted"] == 2 * first["p"] and not first["claim"]
    assert again["against"] == "turned" and never["mean"] is agent["mean"] is None
    text = page.read_text()
    assert text.startswith("# Ours\n<!-- results -->\nThe grid of `grid.toml`")
    assert "| `never` | not run |" in text and f"won {first['mean']:+.3f}" in text
    assert "- `guess` against its other (`turned`): better on tiny:SHOP.\n" in text
    assert "- `guess` against all (`turned` and `never`): not all run on tiny:SHOP.\n" in text
    assert "- `guess` against VSKNN (`vsknn`): not run on tiny:SHOP.\n" in text
    assert filled(text, content) == text and text.endswith("<!-- /results -->\nend\n")

    board = tiny.folder / "board"
    submit = tiny.command("--submit", "us", "--root", str(board), "--only", "guess", "turned")[1:]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(submit)
    assert stop.value.code == 1  # a benchmark of one's own has no leaderboard
    assert "guess on tiny:SHOP: The run " in (out := capsys.readouterr().out)
    assert "No benchmark is named 'shop-v0'" in out and "Wrote 0 rows" in out
    monkeypatch.setitem(BENCHMARKS, "shop-v0", found.benchmarks["tiny:SHOP"])
    run(submit)
    out = capsys.readouterr().out
    assert "Wrote 1 row into" in out
    assert "Too few seeds for a table: turned on tiny:SHOP." in out
    row = json.loads((board / "shop-v0" / "guess--us.json").read_text())
    assert row["name"] == "guess" and row["seeds"] == [0, 1, 2]


def test_an_agent_that_was_evaluated_before_is_compared(tiny):
    found = tiny.suite(
        '[[rows]]\nname = "sure"\nagent = "tiny:Sure"\n'
        '[[comparisons]]\nrow = "sure"\nagainst = { nobody = ["random"] }\n'
    )
    grid = Grid(found)
    run_suite(grid, 2)
    shop = found.benchmarks["tiny:SHOP"]
    recgym.evaluate("random", shop, seeds=[0, 1, 2])
    (one,) = results_of(grid)["comparisons"]
    assert one["mean"] > 0 and not one["claim"]
    recgym.evaluate("random", shop, seeds=range(5))
    (one,) = results_of(grid)["comparisons"]
    assert one["claim"]  # one of them leaves nothing to chance, and the other has five seeds


def difference(benchmark, mean, adjusted, claim=False):
    return {
        "benchmark": benchmark, "row": "a", "group": "its twin", "against": "b", "mean": mean,
        "low": mean and mean - 0.1, "high": mean and mean + 0.1, "p": adjusted,
        "adjusted": adjusted, "claim": claim,
    }  # fmt: skip


def test_sentences_say_where_a_row_is_better_and_where_not():
    benchmarks = dict.fromkeys(["one", "two", "three", "four", "five"], "ndcg@10")
    results = {
        "schema": 1, "suite": "grid.toml", "benchmarks": benchmarks,
        "rows": {name: {"a": None, "b": None} for name in benchmarks},
        "comparisons": [
            difference("one", 0.5, 0.01, True), difference("two", 0.5, 0.04),
            difference("three", -0.5, 0.01, True), difference("four", 0.5, 0.06, True),
            difference("five", None, None),
        ],
    }  # fmt: skip
    text = filled("<!-- results --><!-- /results -->", results)
    assert (
        "- `a` against its twin (`b`): better on one ▲ and two; worse on three ▼; no difference "
        "on four; not run on five.\n" in text
    )
    assert (
        "| `a` | `b` | won +0.500 (+0.400 to +0.600) ▲ | won +0.500 (+0.400 to +0.600) | "
        "lost -0.500 (-0.600 to -0.400) ▼ | no difference +0.500 (+0.400 to +0.600) | not run |"
        in text
    )
    for page in ("", "<!-- results -->", 2 * "<!-- results --><!-- /results -->"):
        with pytest.raises(RecGymError) as problem:
            filled(page, results)
        assert "needs one block" in said(problem)


def test_a_file_without_results_is_said(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    for name in ("results.json", "none.json"):
        with pytest.raises(RecGymError) as problem:
            read_results(tmp_path / name)
        assert "holds no results" in said(problem)


# ------------------------------------------------------------------------------------ the project


def test_the_page_of_agents_is_what_its_results_say():
    page = (ROOT / "agents" / "README.md").read_text(encoding="utf-8")
    assert page.count("<!-- results -->") == page.count("<!-- /results -->") == 1
    file = ROOT / "agents" / "results.json"
    assert not file.exists() or filled(page, read_results(file)) == page


def test_the_grid_of_the_project_is_sound():
    found = read_suite(ROOT / "examples" / "grid.toml")
    assert len(found.benchmarks) == 7 and len(found.candidates) == 2
    for row in found.rows.values():
        assert isinstance(load_agent(row.agent), type)
    twins = [row for row in found.rows.values() if row.options.get("discount") == 0]
    assert len(twins) == 3 and all(row.tuned_as in found.rows for row in twins)
    assert {len(row.seeds["oracle-boredom-mixed-v0"]) for row in twins} == {5}
    assert {len(row.seeds["movielens-small-v0"]) for row in twins} == {1}
    for comparison in found.comparisons:
        assert comparison.against
    steps = [step for step in Grid(found).steps() if step.kind != "data"]
    assert len({step.key for step in steps}) == len(steps) > 400
    assert isinstance(steps[0], Step) and str(steps[0]).startswith("supervised-sasrec on movielens")


def test_options_are_given_to_all_agents_that_have_them_and_a_row_has_the_last_word(tiny):
    found = tiny.suite('''
        options = { noise = 0.25, steps = 5 }
        options-of = { "tiny:SHOP" = { noise = 0.5 } }
        rows = [
          { name = "one", agent = "tiny:Guess" },
          { name = "two", agent = "tiny:Guess", options = { noise = 0.75 } },
          { name = "popular" },
        ]
    ''', ("tiny:SHOP", "tiny:MASKED"))  # fmt: skip
    given = {
        (row.name, name): found.options_of(row, name)
        for row in found.rows.values() for name in found.benchmarks
    }  # fmt: skip
    assert given == {
        ("one", "tiny:SHOP"): {"noise": 0.5},
        ("one", "tiny:MASKED"): {"noise": 0.25},
        ("two", "tiny:SHOP"): {"noise": 0.75},
        ("two", "tiny:MASKED"): {"noise": 0.75},
        ("popular", "tiny:SHOP"): {},
        ("popular", "tiny:MASKED"): {},
    }
