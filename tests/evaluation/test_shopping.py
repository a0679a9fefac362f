"""Agents in a shop: every goal once, in words, and nothing believed that does not follow."""

import dataclasses
import json
import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import recgym
from recgym.agents.shoppers import ShopRandom, ShopRule
from recgym.benchmarks import BENCHMARKS, Benchmark
from recgym.demonstrations import demonstrate
from recgym.errors import BadDataset, BadPredictions, InvalidArgument, UnknownName
from recgym.evaluation import closed_loop, shopping
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.report import evaluate
from recgym.evaluation.scoring import measured, outcomes_in, primary_outcomes
from recgym.evaluation.selection import judged
from recgym.evaluation.tasks import Task
from recgym.minari_format import content_hash
from recgym.shop.store import FROZEN, open_shop
from tests.sentences import said

HOMES = ("RECGYM_HOME", "MINARI_DATASETS_PATH")
ENV, OTHER = "recgym/MiniShop-v0", "recgym/MiniShopB-v0"
SMALL = Benchmark(
    "small-v0",
    "recgym/minishop/scripted-v0",
    "score",
    "that tests pass",
    "all else",
    "recgym data collect",
    env=OTHER,
    made_in=ENV,
    baseline="shop-rule",
)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A home with the shops' indices in it, and a few demonstrations."""
    with pytest.MonkeyPatch.context() as patch:
        for name in HOMES:
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        for split, sessions in (("train", 30), ("validation", 20)):
            demonstrate(ENV, "scripted", split, sessions=sessions)
        return {name: os.environ[name] for name in HOMES}


@pytest.fixture
def small(made_once, monkeypatch):
    for name, folder in made_once.items():
        monkeypatch.setenv(name, folder)
    return Task(SMALL, "test", lambda stage, share: None)


def shopped(agent, goals, **options):
    return shopping.shopped(ENV, agent, goals, lambda share: None, split="test", **options)


def by_hand(agent, goal):
    """One shopper in an environment of one: what was said, what it earned, what was odd."""
    env = gymnasium.make(ENV, split="test")
    text, info = env.reset(seed=5, options={"goal": goal})
    words, total, over = [], 0.0, False
    while not over:
        one = {key: np.array([value], object) for key, value in info.items()}
        words.append(agent.act(np.array([text], object), one)[0])
        text, reward, terminated, truncated, info = env.step(words[-1])
        total, over = total + reward, terminated or truncated
    return words, total, info["invalid"], info["page"] == "done"


class Fickle:
    """Depends on the page and the goal alone, and is not always understood."""

    def act(self, observations, infos):
        rule = ShopRule().act(observations, infos)
        for row, goal in enumerate(infos["goal"]):
            odd = int(infos["invalid"][row])
            if len(goal) % 3 == 0 and odd < len(goal) % 7:
                rule[row] = "nonsense"
            elif len(goal) % 11 == 0:
                rule[row] = "click[back to search]"
        return rule


def test_shopping_together_is_what_single_shoppers_do(monkeypatch):
    monkeypatch.setattr(closed_loop, "_TOGETHER", 9)
    trace = shopped(Fickle(), 25)
    found = shopping.worth(ENV, trace, split="test")
    assert not found.bought.all() and found.bought.any() and found.invalid.max() > 1
    ends = np.cumsum(trace[0])
    for goal in range(25):
        words, total, invalid, bought = by_hand(Fickle(), goal)
        assert trace[1][ends[goal] - trace[0][goal] : ends[goal]].tolist() == words
        assert (found.rewards[goal], found.invalid[goal]) == (total, invalid)
        assert found.bought[goal] == bought


def test_every_goal_of_the_split_is_shopped_for_once():
    class Noting(ShopRule):
        def act(self, observations, infos):
            for goal, page in zip(infos["goal"], infos["page"], strict=True):
                if page == "search":
                    goals.append(goal)
            assert all(goal in page for goal, page in zip(infos["goal"], observations, strict=True))
            return super().act(observations, infos)

    goals = []
    shopped(Noting(), 150)
    known = open_shop("minishop")
    assert goals == [known.goals[number].text for number in known.splits["test"]]
    assert len(known.splits["test"]) == BENCHMARKS["minishop-v0"].goals


@pytest.mark.parametrize("name", ["minishop", "minishop-b"])
def test_the_rule_reaches_what_was_measured_of_the_shop(name):
    stated = json.loads(FROZEN.read_text())[name]["scores"]["test"]["rule"]
    report = evaluate("shop-rule", f"{name}-v0")
    (result,) = report.results
    found = result["metrics"]["shop"]
    assert found["goals"] == 150 and found["bought"] == 1 and found["invalid"] == 0
    assert found["score"] == pytest.approx(stated["score"])
    assert (found["success"], found["length"]) == (stated["success"], stated["steps"])
    assert report.primary["mean"] == found["score"] and report.primary["metric"] == "score"
    assert report.dataset["sha256"] == BENCHMARKS[report.benchmark].sha256()
    again = evaluate("shop-rule", f"{name}-v0", anew=True).results[0]
    assert (again["metrics"], again["predictions"]) == (result["metrics"], result["predictions"])


def test_the_demonstrations_of_the_benchmarks_are_frozen():
    for split in ("train", "validation"):
        found = content_hash(demonstrate(ENV, "scripted", split))
        assert all(BENCHMARKS[f"{name}-v0"].sha256(split) == found
                   for name in ("minishop", "minishop-b"))  # fmt: skip
    assert BENCHMARKS["minishop-v0"].sha256("test") is None


def test_two_processes_that_need_the_same_demonstrations_make_them_once():
    script = (
        "from recgym.benchmarks import BENCHMARKS; from recgym.evaluation.tasks import Task\n"
        "task = Task(BENCHMARKS['minishop-{}v0'], 'test', lambda stage, share: None)\n"
        "print(task.sha256, task.goals)"
    )
    words = [[sys.executable, "-c", script.format(other)] for other in ("", "b-")]
    both = [subprocess.Popen(some, stdout=subprocess.PIPE, text=True) for some in words]
    found = {process.communicate()[0] for process in both}
    assert found == {f"{BENCHMARKS['minishop-v0'].sha256()} 150\n"}


def test_the_demonstrations_of_webshop_are_frozen_wherever_they_lie(samples):
    made = [content_hash(demonstrate("recgym/WebShop1k-v0", "scripted", split,
                                            files=str(samples / "webshop-1k")))
            for split in ("train", "validation")]  # fmt: skip
    asked = BENCHMARKS["webshop1k-v0"]
    assert made == [asked.sha256(split) for split in ("train", "validation")]
    report = evaluate("shop-rule", asked)  # the files are found by the data
    assert report.results[0]["metrics"]["shop"]["goals"] == asked.goals


def test_data_that_cannot_be_made_are_asked_for_by_a_command():
    with pytest.raises(UnknownName, match="recgym data collect recgym/WebShop1k-v0") as problem:
        evaluate("shop-rule", "webshop1k-v0")
    said(problem)


def test_metrics_are_means_over_goals_and_seeds_are_paired_by_goal(small):
    runs = [Predictions(said=shopping.shopped(OTHER, ShopRandom(seed), 20, lambda share: None,
                                              **small.shop)) for seed in (0, 1)]  # fmt: skip
    for run in runs:
        found, worth = measured(small, run)["shop"], shopping.worth(OTHER, run.said, **small.shop)
        assert found == {
            "goals": 20,
            "score": worth.rewards.mean(),
            "success": (worth.rewards == 1).mean(),
            "bought": worth.bought.mean(),
            "length": run.said[0].mean(),
            "invalid": 0.0,
        }
    for metric in ("score", "success"):
        found = outcomes_in(small, runs, metric)
        assert (found.counts == 1).all() and found.sums.shape == (2, 20)
        by_seed = [measured(small, run)["shop"][metric] for run in runs]
        assert found.sums.mean(1) == pytest.approx(by_seed)
    assert np.array_equal(
        primary_outcomes(small, runs).sums, outcomes_in(small, runs, "score").sums
    )


def test_what_learns_from_a_shop_is_given_that_of_its_data(small):
    class Learning(ShopRule):
        learns_from = "environment"

        def fit(self, train, validation=None, env=None):
            seen.append(
                (env.spec.id, [goal.text for goal in env.unwrapped.shoppers.shopping.goals])
            )
            return self

    seen = []
    evaluate(Learning, SMALL, users=3)
    known = open_shop("minishop")
    assert seen == [(ENV, [known.goals[number].text for number in known.splits["train"]])]


def test_pages_that_are_timed_are_those_of_the_validation_data(small):
    pages, infos = small.pages
    assert len(pages) == len(infos["goal"]) == sum(len(episode) for episode in small.validation)
    assert all(goal in page for goal, page in zip(infos["goal"], pages, strict=True))
    costs = evaluate("shop-rule", SMALL, users=2).results[0]["costs"]
    assert costs["latency_ms"] > 0 and costs["parameters"] == 0


@pytest.mark.parametrize(
    "edit", ["longer", "shorter", "moved", "none", "other words", "too many goals", "no goal"]
)
def test_a_trace_that_does_not_fit_is_refused(small, edit):
    goals = 150 if edit == "too many goals" else 6
    steps, texts = shopping.shopped(OTHER, ShopRule(), goals, lambda share: None, **small.shop)
    if edit == "longer":
        steps[2] += 1
        texts = np.insert(texts, 9, "click[buy now]")
    elif edit == "shorter":
        steps[1] -= 1
        texts = np.delete(texts, 5)
    elif edit == "moved":
        steps[0], steps[1] = steps[0] - 1, steps[1] + 1
    elif edit == "none":
        steps[:] = 0
    elif edit == "other words":
        texts[2] = "click[buy]"
    elif edit == "too many goals":
        steps, texts = np.append(steps, 3), np.append(texts, texts[:3])
    else:
        steps, texts = steps[:0], texts[:0]
    with pytest.raises(BadPredictions) as problem:
        measured(small, Predictions(said=(steps, texts)))
    said(problem)


def test_what_is_said_too_long_or_in_halves_of_characters_is_cut_and_kept(small, tmp_path):
    class Raving:
        def act(self, observations, infos):
            return ["search[" + "x" * 10**5 + "]\ud800" if odd < 1 else "\ud800\0\n🙂"
                    for odd in infos["invalid"]]  # fmt: skip

    trace = shopping.shopped(OTHER, Raving(), 2, lambda share: None, **small.shop)
    assert max(map(len, trace[1])) == shopping.LONGEST and trace[0].tolist() == [100, 100]
    run = Predictions(said=trace)
    again = Predictions.read(tmp_path, run.write(tmp_path))
    assert measured(small, again) == measured(small, run)
    assert measured(small, run)["shop"]["invalid"] == 100


@pytest.mark.parametrize(
    "answer", [None, "click[buy now]", [1, 2], np.zeros(2, int), ["a"], [["a"], ["b"]], ["a", None]]
)
def test_answers_that_are_no_texts_are_refused(small, answer):
    class Answering:
        def act(self, observations, infos):
            return answer

    with pytest.raises(InvalidArgument, match="one text for each of 2") as problem:
        shopping.shopped(OTHER, Answering(), 2, lambda share: None, **small.shop)
    said(problem)


def test_what_does_not_belong_in_a_shop_is_said_in_a_sentence(small):
    for agent, asked in (("popular", SMALL), ("shop-rule", BENCHMARKS["oracle-static-random-v0"])):
        recgym.collect("recgym/OracleStatic-v0", "random", sessions=2, name="unused", replace=True)
        with pytest.raises((InvalidArgument, BadDataset)) as problem:
            evaluate(agent, asked, seeds=[0])
        said(problem)
    with pytest.raises(InvalidArgument, match="Off-policy") as problem:
        judged(["shop-rule"], SMALL, users=2, progress=lambda stage, share: None)
    said(problem)
    with pytest.raises(InvalidArgument, match="from 1 on") as problem:
        evaluate("shop-rule", SMALL, users=0)
    said(problem)


def test_rewards_by_other_nouns_are_not_compared(small):
    small.train.storage.update_metadata({"nouns": "spacy en_core_web_sm 3.8.0"})
    try:
        with pytest.raises(BadDataset, match="as it was when") as problem:
            Task(SMALL, "test", lambda stage, share: None).goals  # noqa: B018
        said(problem)
    finally:
        small.train.storage.update_metadata({"nouns": "rule-1"})


@dataclasses.dataclass
class Moody:
    """By the rule where it is greedy, and at random where it draws."""

    acting: str = "greedy"
    seed: int = 0

    def __post_init__(self):
        self.moods = {"greedy": ShopRule(), "sampled": ShopRandom(self.seed)}

    def fit(self, train, validation=None, env=None):
        return self

    def act(self, observations, infos):
        return self.moods[self.acting].act(observations, infos)


def test_what_an_agent_reaches_however_it_acts_is_kept_beside_its_results(small, tmp_path):
    reports = {}
    for acting in ("greedy", "sampled"):
        folder = tmp_path / acting
        reports[acting] = evaluate(Moody, SMALL, config={"acting": acting}, seeds=[3],
                                   users=20, folder=folder)  # fmt: skip
        told = json.loads((folder / "seed-3" / "result.json").read_text())["training"]
        assert told.keys() == {
            "score (greedy)", "score (sampled)", "success (greedy)", "success (sampled)",
        }  # fmt: skip
        reports[f"{acting}, told"] = told
    assert reports["greedy"].primary["mean"] != reports["sampled"].primary["mean"]
    assert reports["greedy, told"] == reports["sampled, told"]
    for acting in ("greedy", "sampled"):
        found = reports[acting].results[0]["metrics"]["shop"]
        for name in ("score", "success"):
            assert reports["greedy, told"][f"{name} ({acting})"] == found[name]
