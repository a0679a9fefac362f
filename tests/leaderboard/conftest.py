"""A leaderboard with honest rows, made once: agents of a passer-by, scored on cheap benchmarks."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import recgym
from recgym.benchmarks import BENCHMARKS, Benchmark
from recgym.evaluation.report import evaluate
from recgym.leaderboard.submission import new

ORACLE, DEMO = "oracle-boredom-random-v0", "demo-v0"
AGENTS = """
import dataclasses
import json

import numpy as np


@dataclasses.dataclass
class Steady:
    first: int = 0

    def fit(self, train, validation=None, env=None):
        self.likes = np.roll(np.linspace(1, 0, train.action_space.n), self.first)
        return self

    def scores(self, observations, infos):
        return np.tile(self.likes.astype(np.float32), (len(observations), 1))

    def act(self, observations, infos):
        return self.scores(observations, infos).argmax(1)


@dataclasses.dataclass
class Plain:
    def fit(self, train, validation=None, env=None):
        return self

    def act(self, observations, infos):
        pages = zip(infos["page"], infos["goal"], infos["actions"])
        return [self.say(*known) for known in pages]

    def say(self, page, goal, actions):
        if page == "search":
            return f"search[{goal}]"
        products = json.loads(actions)[2:]
        return self.choose(products) if page == "results" else "click[buy now]"

    def choose(self, products):
        return products[0]


@dataclasses.dataclass
class Hasty(Plain):
    seed: int = 0

    def fit(self, train, validation=None, env=None):
        self.rng = np.random.default_rng(self.seed)
        return self

    def choose(self, products):
        return str(self.rng.choice(products))


@dataclasses.dataclass
class Lucky(Steady):
    seed: int = 0

    def fit(self, train, validation=None, env=None):
        self.likes = np.random.default_rng(self.seed).random(train.action_space.n)
        return self
"""


@dataclass(frozen=True)
class Board:
    """A copy of the leaderboard, and of the runs that its rows rest on."""

    root: Path
    runs: Path
    code: Path  # the repository of the passer-by
    lucky: Path  # a row of an agent with chance, three seeds
    steady: Path  # the baseline's row
    shop: Path  # a row on a log

    def predictions(self, file=None):
        """The folder of the run that a row was made of."""
        return self.runs / (file or self.lucky).relative_to(self.root).with_suffix("")

    def content(self, file=None):
        return json.loads((file or self.lucky).read_text())

    def edit(self, change, file=None):
        """Let `change` alter what a row states."""
        content = self.content(file)
        change(content)
        (file or self.lucky).write_text(json.dumps(content))


def board_at(home):
    root = home / "leaderboards"
    lucky = root / ORACLE / "lucky--passerby.json"
    steady, shop = root / ORACLE / "steady--recgym.json", root / DEMO / "lucky--passerby.json"
    return Board(root, home / "copies", home / "code", lucky, steady, shop)


def git(folder, *words):
    who = ["-c", "user.name=Passer-by", "-c", "user.email=passer@by"]
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


def settle(monkeypatch, home):
    """The world of these tests: a home, a repository of a stranger, benchmarks that are cheap."""
    monkeypatch.setenv("RECGYM_HOME", str(home / "home"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(home / "minari"))
    monkeypatch.syspath_prepend(home / "code")
    monkeypatch.delitem(sys.modules, "passerby.agents", raising=False)
    monkeypatch.delitem(sys.modules, "passerby", raising=False)
    oracle = replace(BENCHMARKS[ORACLE], baseline="steady")
    demo = Benchmark(DEMO, "recgym/demo/logged-v0", "ndcg@10", "Whether rows on logs work.",
                     "Anything.", "recgym data build demo --name demo", log="demo",
                     baseline="steady")  # fmt: skip
    monkeypatch.setitem(BENCHMARKS, ORACLE, oracle)
    monkeypatch.setitem(BENCHMARKS, DEMO, demo)


@pytest.fixture(scope="session")
def honest(tmp_path_factory):
    home = tmp_path_factory.mktemp("honest")
    for folder in ("home", "minari", "code/passerby"):
        (home / folder).mkdir(parents=True)
    (home / "code" / ".gitignore").write_text("__pycache__/\n")
    (home / "code" / "passerby" / "__init__.py").touch()
    (home / "code" / "passerby" / "agents.py").write_text(AGENTS)
    git(home / "code", "init", "--quiet")
    git(home / "code", "add", ".")
    git(home / "code", "commit", "--quiet", "--message", "Agents")
    board = board_at(home)
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle(monkeypatch, home)
        recgym.prepare("demo", name="demo")
        for agent, file in (
            ("Lucky", board.lucky),
            ("Steady", board.steady),
            ("Lucky", board.shop),
        ):
            run = board.predictions(file)
            evaluate(f"passerby.agents:{agent}", file.parent.name, folder=run)
            name, _, team = file.stem.partition("--")
            assert new(run, team, board.root, name=name, note="honest") == file
        shutil.copytree(board.predictions(board.steady), home / "home" / "runs" / ORACLE / "steady")
    return home


@pytest.fixture(autouse=True)
def own_home(honest, monkeypatch):
    """No test touches a user's logs and datasets; all of these share what was made once."""
    settle(monkeypatch, honest)


@pytest.fixture
def board(honest, tmp_path):
    for folder in ("leaderboards", "copies", "code"):
        shutil.copytree(honest / folder, tmp_path / folder)
    return board_at(tmp_path)
