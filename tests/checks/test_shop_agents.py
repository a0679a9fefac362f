"""Agents that shop are checked in a shop: those that are here pass, and each fault is found."""

import json
import pickle
import random
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import minari
import numpy as np
import pytest

from recgym.agent import training_data
from recgym.agents.choices import query_of
from recgym.checks import check_agent
from recgym.cli import run
from recgym.demonstrations import demonstrate
from recgym.errors import CheckFailed

from ..sentences import said

RECGYM = Path(sys.executable).with_name("recgym")


@dataclass
class Toy:
    """Does what was done most often, and searches for a goal's own words."""

    smooth: float = 1.0
    counts = None
    shops = True

    def fit(self, train, validation=None, env=None):
        training_data(train, validation)
        self.counts = {}
        for episode in train:
            for action in episode.actions:
                self.counts[action] = self.counts.get(action, self.smooth) + 1
        return self

    def scores(self, observations, infos):
        return [np.array([self.counts.get(action, 0.0) for action in json.loads(known)])
                for known in infos["actions"]]  # fmt: skip

    def act(self, observations, infos):
        scores = Toy.scores(self, observations, infos)
        return np.array([
            query_of(goal) if page == "search" else json.loads(known)[some.argmax()]
            for goal, page, known, some
            in zip(infos["goal"], infos["page"], infos["actions"], scores, strict=True)
        ], object)  # fmt: skip

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "agent.json").write_text(json.dumps([asdict(self), self.counts]))

    @classmethod
    def load(cls, folder):
        options, counts = json.loads((folder / "agent.json").read_text())
        agent = cls(**options)
        agent.counts = counts
        return agent


def problem_of(*arguments, **options):
    with pytest.raises(CheckFailed) as problem:
        check_agent(*arguments, **options)
    return said(problem)


# ------------------------------------------------------------------------------ without a fault


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A BERT that has read nothing, and options with which all is quick."""
    from recgym.agents.bert import make_small_bert

    folder = make_small_bert(["red lamp"], tmp_path_factory.mktemp("small") / "bert", steps=1)
    return {"reader": str(folder), "page_tokens": 32, "action_tokens": 8, "batch_size": 2}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("shop-imitation", {"steps": 2}),
        ("shop-imitation", {"steps": 1, "acting": "sampled", "queries": "learned"}),
        ("shop-dpo", {"steps": 2, "warmup_steps": 1}),
        ("shop-ppo", {"steps": 2, "warmup_steps": 1, "users": 2, "rollout": 3, "epochs": 1}),
    ],
)
@pytest.mark.usefixtures("one_thread")
def test_those_that_learn_to_shop_pass(name, options, small):
    found = check_agent(name, **small, **options)
    assert len(found) == 18
    assert "To each shopper of a batch, scores gives every action of the page a finite" in str(
        found
    )


def test_those_that_need_not_learn_pass():
    rule, drawn = check_agent("shop-rule"), check_agent("shop-random")
    assert set(rule) - set(drawn) == {
        "The same question has the same answer, whatever was asked in between.",
        "A user is answered the same alone, among others, and in another order of them.",
    }
    assert "To each shopper of a batch, act says one of the page's actions, or what to" in str(rule)


def test_agents_of_items_are_asked_for_items():
    assert set(check_agent("popular")) - set(check_agent(Toy)) == {
        "As long as it has learned nothing, act raises an error in words.",
        "To each user of a batch, act recommends an item, as a whole number.",
        "To each user of a batch, scores gives every item a finite float.",
        "Observations alone decide: infos, even those of the next step, change nothing.",
    }


def test_a_dataset_of_a_shop_is_asked_about_whatever_an_agent_says():
    class Silent(Toy):
        shops = False
        scores = None

    data = demonstrate("recgym/MiniShop-v0", "rule", sessions=5)
    assert check_agent(Silent, data) == check_agent(Silent, data.id)
    found = check_agent(Toy().fit(data), data)
    assert set(found) < set(check_agent(Toy)) and len(found) == 13
    asked_for_items = problem_of(Silent)
    assert "raised KeyError ('actions')" in asked_for_items
    assert asked_for_items.endswith("for shops, say shops = True in its class.")


def test_no_dataset_is_left_behind():
    check_agent(Toy)
    assert minari.list_local_datasets() == {}


def test_by_its_name_on_the_command_line():
    done = subprocess.run([RECGYM, "check", "shop-rule"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    first, *sentences = done.stdout.splitlines()
    assert first == "✓ shop-rule" and len(sentences) == 17


def test_options_are_given_on_the_command_line(capsys):
    with pytest.raises(SystemExit):
        run(["check", "shop-rule", "shop-random", "--set", "skill=0.5"])
    assert capsys.readouterr().out.splitlines() == [
        f"✗ shop-{name}: No option of {kind} is named 'skill'. There is no option of {kind} yet."
        for name, kind in (("rule", "ShopRule"), ("random", "ShopRandom"))
    ]


# ------------------------------------------------------------------------------------ with a fault


class SaysNothing(Toy):
    def act(self, observations, infos):
        return [""] * len(observations)


class SaysThePlaceholder(Toy):
    def act(self, observations, infos):
        return [json.loads(known)[0] for known in infos["actions"]]


class SearchesForNothing(Toy):
    def act(self, observations, infos):
        done = super().act(observations, infos)
        return np.where(infos["page"] == "search", "search[ ]", done)


class SearchesAnywhere(Toy):
    def act(self, observations, infos):
        return [query_of(goal) for goal in infos["goal"]]


class SearchesForEver(Toy):
    def act(self, observations, infos):
        done = super().act(observations, infos)
        return np.where(infos["page"] == "search", f"search[{'red ' * 600}]", done)


class BuysAnywhere(Toy):
    def act(self, observations, infos):
        done = super().act(observations, infos)
        return np.where(infos["page"] == "search", done, "click[buy now]")


class ActsInNumbers(Toy):
    def act(self, observations, infos):
        return np.zeros(len(observations), int)


class ActsForAll(Toy):
    def act(self, observations, infos):
        return str(super().act(observations, infos)[0])


class ScoresSideBySide(Toy):
    def scores(self, observations, infos):
        return np.zeros((len(observations), 99))


class ScoresInWholeNumbers(Toy):
    def scores(self, observations, infos):
        return [some.astype(int) for some in super().scores(observations, infos)]


class ScoresTheFirst(Toy):
    def scores(self, observations, infos):
        return super().scores(observations, infos)[0]


class ExcludesByInfinity(Toy):
    def scores(self, observations, infos):
        return [np.append(some[1:], -np.inf) for some in super().scores(observations, infos)]


class LearnsFromTests(Toy):
    def fit(self, train, validation=None, env=None):
        training_data(train)
        return super().fit(train)


class LabelsTheData(Toy):
    def fit(self, train, validation=None, env=None):
        super().fit(train, validation, env)
        train.storage.update_metadata({"learned_from": True})


class ReturnsItsLosses(Toy):
    def fit(self, train, validation=None, env=None):
        super().fit(train, validation, env)
        return [0.5]


class SavesAnObject(Toy):
    def save(self, folder):
        super().save(folder)
        (folder / "options").write_bytes(pickle.dumps({"smooth": 1.0}))


class SavesLess(Toy):
    def save(self, folder):
        self.counts.pop("click[buy now]")
        super().save(folder)


class ActsAtWill(Toy):
    scores = None

    def act(self, observations, infos):
        done = super().act(observations, infos)
        rng = np.random.default_rng()
        other = [rng.choice(json.loads(known)) for known in infos["actions"]]
        return np.where(infos["page"] == "search", done, np.array(other, object))


class DrawsFromRandom(Toy):
    def act(self, observations, infos):
        random.random()
        return super().act(observations, infos)


class ForgetsTheGoal(Toy):
    def act(self, observations, infos):
        done = super().act(observations, infos)
        infos["goal"][:] = ""
        return done


class RemembersPages(Toy):
    def scores(self, observations, infos):
        for known in infos["actions"]:
            for action in json.loads(known):
                self.counts[action] = self.counts.get(action, 0.0) + 1
        return super().scores(observations, infos)


class LooksAtTheBatch(Toy):
    def scores(self, observations, infos):
        return [some + len(observations) for some in super().scores(observations, infos)]


class LooksAtTheBatchSilently(Toy):
    scores = None

    def act(self, observations, infos):
        done = super().act(observations, infos)
        done[infos["page"] == "search"] = f"search[{len(done)}]"
        return done


class FillsABuffer(Toy):
    def scores(self, observations, infos):
        scores = super().scores(observations, infos)
        self.buffer = vars(self).get("buffer", np.zeros(9999))
        self.buffer[:] = len(scores)
        return [self.buffer[: len(some)] for some in scores]


FAULTS = {
    SaysNothing: "SaysNothing.act said '' where ['search[<query>]'] can be done: say one of the",
    SaysThePlaceholder: "act said 'search[<query>]' where ['search[<query>]'] can be done",
    SearchesForNothing: "act said 'search[ ]' where ['search[<query>]'] can be done",
    SearchesForEver: "for search[<query>] words of its own, 1 to 2,000 characters of them",
    SearchesAnywhere: "SearchesAnywhere.act said 'search[",
    BuysAnywhere: "BuysAnywhere.act said 'click[buy now]' where ['click[back to search]'",
    ActsInNumbers: "For a batch of 1, ActsInNumbers.act returned int64 of shape (1,), [0]: return",
    ActsForAll: "For a batch of 1, ActsForAll.act returned str 'search[",
    ScoresSideBySide: "ScoresSideBySide.scores gave float64 of shape (99,), [0.0, 0.0, 0.0",
    ScoresInWholeNumbers: "ScoresInWholeNumbers.scores gave int64 of shape (1,), [",
    ScoresTheFirst: "ScoresTheFirst.scores gave float64 np.float64(0.0) to a shopper who can",
    ExcludesByInfinity: "ExcludesByInfinity.scores gave float64 of shape (1,), [-inf] to a shopper",
    LearnsFromTests: "was given a test dataset as validation, and returned LearnsFromTests",
    LabelsTheData: "After LabelsTheData.fit, recgym/minishop/little-v0 was another one",
    ReturnsItsLosses: "ReturnsItsLosses.fit returned list [0.5]: return self, or nothing",
    SavesAnObject: "saved options, which is a pickle or holds one",
    SavesLess: "as KeyError was raised: 'click[buy now]'; mend that first",
    ActsAtWill: "ActsAtWill did not answer the same after it was saved and loaded (act/",
    DrawsFromRandom: "DrawsFromRandom draws from the global generator of random, or seeds it",
    ForgetsTheGoal: "ForgetsTheGoal.act changed what it was given (infos/goal[0] is ",
    RemembersPages: "RemembersPages was asked the same again, after other questions, and did not",
    LooksAtTheBatch: "The scores of LooksAtTheBatch for users together and alone are not the same",
    LooksAtTheBatchSilently: "for users together and alone are not the same ([0] is 'search[32]'",
    FillsABuffer: "What FillsABuffer returned has changed when it was asked again (scores",
}


@pytest.mark.parametrize("toy", FAULTS, ids=lambda toy: toy.__name__)
def test_a_fault_is_found(toy):
    assert FAULTS[toy] in problem_of(toy)


def test_who_draws_what_to_do_is_compared_from_the_first_draw_on():
    @dataclass
    class Draws(Toy):
        seed: int = 0
        scores = None

        def act(self, observations, infos):
            done = super().act(observations, infos)
            self.rng = vars(self).get("rng", np.random.default_rng(self.seed))
            other = [self.rng.choice(json.loads(known)) for known in infos["actions"]]
            return np.where(infos["page"] == "search", done, np.array(other, object))

    assert len(check_agent(Draws)) == len(check_agent("shop-random"))
