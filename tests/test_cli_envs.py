"""`recgym envs | play | check` as a person would use them, in real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import recgym
from recgym.envs import ORACLES, REPLAYS, SHOPS, SIMULATED


def recgym_says(*words, typed="", folder=None, fails=False):
    """What the command prints; the rest of what it says goes to the second value."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "from recgym.cli import main; main()", *words],
        input=typed, capture_output=True, text=True, cwd=folder,
        env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_all_environments_are_listed_with_what_they_need_and_bring():
    recgym.prepare("demo", name="demo")
    rows = {row["id"]: row for row in json.loads(recgym_says("envs", "--json")[0])}
    assert rows.keys() == {
        name for name in gymnasium.registry
        if name.startswith("recgym/") and name not in ("recgym/Replay-v0", "recgym/LLM-v0")
    }  # fmt: skip
    assert len(rows) == len(ORACLES) + len(REPLAYS) + len(SIMULATED) + len(SHOPS)
    boredom, demo = rows["recgym/OracleBoredom-v0"], rows["recgym/DemoReplay-v0"]
    assert (
        boredom["scores"]["random"] < boredom["scores"]["observer"] < boredom["scores"]["planner"]
    )
    assert "Discrete(1000)" in boredom["action_space"] and boredom["data"] == "embedded"
    metadata = recgym.to_minari("demo", "test").storage.metadata
    assert demo["scores"] == {
        "random": metadata["ref_min_score"],
        "logged": metadata["ref_max_score"],
    }
    assert "Discrete(300)" in demo["action_space"]
    missing = rows["recgym/MovieLens25MReplay-v0"]
    assert not missing["scores"] and "ml-25m.zip" in missing["build"]
    simulated = rows["recgym/OracleBoredomLLM-v0"]
    assert not simulated["fitted"] and simulated["simulator"] == "oracle-boredom-mixed-recgym-small"
    assert simulated["build"] == "recgym simulator fit --data recgym/oracle-boredom/mixed-v0"
    kept = Path(os.environ["RECGYM_HOME"]) / "simulators" / f"{simulated['simulator']}-training"
    kept.mkdir(parents=True)
    (kept / "simulator.safetensors").touch()
    rows = {row["id"]: row for row in json.loads(recgym_says("envs", "--json")[0])}
    assert rows["recgym/OracleBoredomLLM-v0"]["fitted"]


def test_the_list_fits_a_terminal():
    printed, _ = recgym_says("envs")
    assert max(map(len, printed.splitlines())) <= 80
    names = [*(f"{data}Replay" for data in REPLAYS), *(f"{data}LLM" for data in SIMULATED)]
    for name in (*ORACLES, *names):
        assert f"recgym/{name}-v0" in printed
    assert "…" not in printed
    assert "language models: of the last 10 taken" in " ".join(printed.split())


def test_a_planner_is_watched_for_an_episode():
    printed, _ = recgym_says("play", "recgym/OracleBoredom-v0", "--by", "planner", "--seed", "3")
    before, *steps, end, means = printed.splitlines()
    assert before.startswith("before: The ")
    rewards = [float(step.split()[-1]) for step in steps]
    assert [int(step.split()[0]) for step in steps] == list(range(1, len(steps) + 1))
    assert end.startswith(f"Return {sum(rewards):.2f}.") and "planner" in means
    assert printed == recgym_says(
        "play", "recgym/OracleBoredom-v0", "--by", "planner", "--seed", "3"
    )[0]  # fmt: skip


def test_you_choose_by_number_and_by_words():
    typed = "harbour\nno such words\nharbour\n2\n1\nq\n"
    printed, _ = recgym_says("play", "recgym/OracleStatic-v0", typed=typed)
    lines = printed.splitlines()
    second = [line for line in lines if " 2) " in line and "Harbour" in line][-1].partition(") ")[2]
    assert any(line.lstrip("> ").startswith(f"1  {second}") for line in lines)
    assert "No title has 'no such words'" in printed and "Return" in printed
    assert "You stopped." in recgym_says("play", "recgym/OracleStatic-v0")[0]  # nothing is typed


def test_an_agent_of_yours_is_watched(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "class Seven:\n"
        "    def act(self, observations, infos):\n"
        "        assert observations.shape == (1, 10) and infos['hit'].shape == (1,)\n"
        "        return np.full(len(observations), 7)\n"
    )
    recgym.prepare("demo", name="demo")
    words = ("play", "recgym/Replay-v0", "--log", "demo", "--by", "mine:Seven")
    done = subprocess.run(
        [sys.executable, "-c", "from recgym.cli import main; main()", *words],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=True,
    )  # fmt: skip
    title = recgym.load_log("demo").catalogue["title"][7].as_py()
    steps = [line for line in done.stdout.splitlines() if "recommended" in line]
    assert steps and all(f"recommended {title} " in step for step in steps)


def test_an_agent_that_was_trained_is_watched():
    data = "recgym/oracle-boredom/mixed-v0"
    recgym.collect("recgym/OracleBoredom-v0", "mixed", sessions=20)
    folder = recgym_says("train", "popular", "--data", data)[0].partition("folder ")[2].split()[0]
    lines = recgym_says("play", "recgym/OracleBoredom-v0", "--by", folder)[0].splitlines()
    titles = {line[4:].partition(" (")[0] for line in lines if line[:4].strip().isdigit()}
    assert len(titles) == 1 and any(line.startswith("Return") for line in lines)
    recgym.prepare("demo", name="demo")
    words = ("play", "recgym/DemoReplay-v0", "--by", "mixed/popular")
    assert f"has learned from {data}, whose" in recgym_says(*words, fails=True)[1]


def test_an_environment_that_a_module_of_yours_registers_is_checked(tmp_path, monkeypatch):
    (tmp_path / "my_envs.py").write_text(
        "import gymnasium\n"
        "class Both(gymnasium.Env):\n"
        "    observation_space = action_space = gymnasium.spaces.Discrete(3)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        self.step_ = 0\n"
        "        return self.np_random.integers(3), {}\n"
        "    def step(self, action):\n"
        "        self.step_ += 1\n"
        "        over = self.step_ == 4\n"
        "        return self.np_random.integers(3), 1.0, over, over, {}\n"
        "gymnasium.register('my/Both-v0', 'my_envs:Both')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    printed, _ = recgym_says("check", "my_envs:my/Both-v0", "nowhere:my/Both-v0", fails=True)
    first, second = printed.splitlines()
    assert first.startswith("✗ my_envs:my/Both-v0: ") and "both terminated and truncated" in first
    assert second.startswith("✗ nowhere:my/Both-v0: ") and "cannot be imported" in second
    _, said = recgym_says("play", "my_envs:my/Both-v0", "--by", "random", fails=True)
    assert "no render mode 'ansi'" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("play", "recgym/OracleBordom-v0"), "OracleBoredom"),
        (("play", "recgym/OracleBoredom-v0", "--by", "planer"), "Did you mean 'planner'"),
        (("play", "recgym/OracleBoredom-v0", "--by", "no.such:Agent"), "cannot be loaded"),
        (("play", "recgym/OracleBoredom-v0", "--by", "json:JSONDecoder"), "cannot be loaded"),
        (("play", "recgym/MovieLens1MReplay-v0"), "recgym data build movielens --raw ml-1m.zip"),
        (("play", "recgym/Replay-v0"), "needs a log"),
        (("play", "recgym/OracleBoredom-v0", "--seed", "-1"), "whole number from 0"),
        (("play", "recgym/OracleBoredom-v0", "--by", "itemknn"), "Give a run of `recgym train`"),
        (
            ("play", "recgym/OracleBoredom-v0", "--by", "recgym.agents.baselines:Popular"),
            "Give a run of `recgym train`",
        ),
        (("check",), "Nothing is named"),
        (("check", "populr"), "environment, dataset or agent is named 'populr'. Did you mean 'pop"),
        (("check", "OracleBoredom-v0"), "Did you mean 'recgym/OracleBoredom-v0'"),
        (("plai",), "Did you mean 'play'"),
    ],
    ids=str,
)
def test_a_slip_is_answered_in_a_sentence(words, says):
    printed, said = recgym_says(*words, fails=True)
    assert says in printed + said


def test_what_passes_is_said_and_what_fails_says_why():
    recgym.prepare("demo", name="demo")
    recgym.to_minari("demo")
    ids = ("recgym/DemoReplay-v0", "recgym/demo/logged-v0", "CartPole-v1", "nothing-v0")
    printed, _ = recgym_says("check", *ids, fails=True)
    lines = printed.splitlines()
    for known in ids[:2]:
        assert f"✓ {known}" in lines
    assert sum(line.startswith("    ") for line in lines) > 20
    assert any(line.startswith("✗ CartPole-v1: ") for line in lines)
    assert any(line.startswith("✗ nothing-v0: ") for line in lines)
    printed, _ = recgym_says("check", "recgym/demo/logged-v1", fails=True)
    assert "Did you mean 'recgym/demo/logged-v0'" in printed
    assert "✗" not in recgym_says("check", *ids[:2])[0]
