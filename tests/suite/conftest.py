"""Agents and benchmarks so small that a suite of them runs in a test."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import recgym
from recgym.suite.file import read_suite

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
LOST = Benchmark("lost-v0", "recgym/lost/logged-v0", "ndcg@10", 
                 **(ABOUT | {"log": "lost", "build": "recgym data build lost"}))
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
class Twofold(Guess):
    """Begins as all of its noise begin."""
    @property
    def phase(self):
        return {"noise": self.noise}

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

@dataclass
class Doomed(Wild):
    """Diverges whatever its noise."""
    def fit(self, train, validation=None, env=None):
        raise Diverged("Doomed stopped at step 1: its loss is nan. Try something else.")
'''

GUESS = '[[rows]]\nname = "guess"\nagent = "tiny:Guess"\n'
HOMES = ("RECGYM_HOME", "MINARI_DATASETS_PATH")


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """A module of tiny agents and benchmarks, and homes in which their data are."""
    folder = tmp_path_factory.mktemp("suites")
    (folder / "code").mkdir()
    (folder / "code" / "tiny.py").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        for name in HOMES:
            patch.setenv(name, str(folder / name))
            (folder / name).mkdir()
        recgym.prepare("demo", name="demo")
        for split, sessions in (("train", 60), ("validation", 30), ("test", 30)):
            recgym.to_minari("demo", split)
            recgym.collect("recgym/OracleBoredom-v0", "mixed", split, sessions=sessions,
                           name="users")  # fmt: skip
    return folder


def tiny_in(folder, kept, patch):
    """A copy of the homes in a folder, as the homes of this process and of its children."""
    for name in HOMES:
        shutil.copytree(kept / name, folder / name)
        patch.setenv(name, str(folder / name))
    patch.setenv("TINY_FITTED", str(folder / "fitted"))
    patch.setenv("PYTHONPATH", str(kept / "code"))
    patch.syspath_prepend(str(kept / "code"))
    return Tiny(folder)


@pytest.fixture
def tiny(kept, tmp_path, monkeypatch):
    """Write a suite of tiny benchmarks, and say what was trained: copies of a test's own."""
    return tiny_in(tmp_path, kept, monkeypatch)


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
