import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import recgym
from recgym.errors import InvalidArgument, UnknownName
from recgym.evaluation import report
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.report import evaluate, run_folder
from tests.evaluation.conftest import SHOP, USERS
from tests.sentences import said

FITTED = []


@dataclass
class Drawing:
    """Scores drawn once."""

    seed: int = 0
    spread: float = 1.0

    def fit(self, train, validation=None, env=None):
        FITTED.append((train.id, validation.id, env, self.seed))
        rng = np.random.default_rng(self.seed)
        self.table = self.spread * rng.normal(size=int(train.action_space.n))
        return self

    def scores(self, observations, infos):
        return np.tile(self.table.astype(np.float32), (len(observations), 1))

    def act(self, observations, infos):
        return self.scores(observations, infos).argmax(1)


class First:
    """Always the first item; leaves nothing to chance, and has no scores."""

    def fit(self, train, validation=None, env=None):
        return None

    def act(self, observations, infos):
        return np.zeros(len(observations), int)


class Acting:
    learns_from = "environment"

    def fit(self, train, validation=None, env=None):
        FITTED.append(env.spec.id)
        return self

    act = First.act


@pytest.fixture(autouse=True)
def forgotten():
    FITTED.clear()


def test_an_agent_with_chance_is_trained_with_three_seeds(small):
    found = evaluate(Drawing, SHOP)
    assert [seed for *_, seed in FITTED] == found.seeds == [0, 1, 2] and found.chance
    assert FITTED[0][:3] == ("recgym/demo/logged-v0", "recgym/demo/logged-validation-v0", None)
    means = found.primary["by_seed"]
    assert len(set(means)) == 3 and found.primary["mean"] == pytest.approx(np.mean(means))
    assert found.primary["low"] <= found.primary["mean"] <= found.primary["high"]


def test_an_agent_without_chance_is_trained_once(small):
    found = evaluate(First, SHOP, seeds=[4, 5])
    assert found.seeds == [0] and not found.chance and not found.ranks_all


def test_what_was_evaluated_is_not_evaluated_again(small, monkeypatch):
    monkeypatch.setattr(report, "code_of", lambda agent: {"commit": "a", "changed": False})
    first = evaluate(Drawing, SHOP, seeds=[0, 1])
    assert evaluate(Drawing, SHOP, seeds=[0, 1]) == first and len(FITTED) == 2
    evaluate(Drawing, SHOP, seeds=[0, 1, 2])
    assert len(FITTED) == 3
    evaluate(Drawing, SHOP, seeds=[0], anew=True)
    assert len(FITTED) == 4
    evaluate(Drawing, SHOP, seeds=[0], config={"spread": 2.0})
    assert len(FITTED) == 5
    monkeypatch.setattr(report, "code_of", lambda agent: {"commit": "b", "changed": False})
    evaluate(Drawing, SHOP, seeds=[0])
    assert len(FITTED) == 6


def test_what_was_learned_from_another_teacher_is_evaluated_again(small, monkeypatch):
    @dataclass
    class Taught(Drawing):
        def depends_on(self, dataset):
            return {f"teacher of {dataset}": teacher}

    monkeypatch.setattr(report, "code_of", lambda agent: {"commit": "a", "changed": False})
    teacher = "0" * 64
    assert evaluate(Taught, SHOP, seeds=[0]).also == {"teacher of recgym/demo/logged-v0": teacher}
    evaluate(Taught, SHOP, seeds=[0])
    assert len(FITTED) == 1
    teacher = "1" * 64
    assert evaluate(Taught, SHOP, seeds=[0]).also["teacher of recgym/demo/logged-v0"] == teacher
    assert len(FITTED) == 2


def test_changed_code_is_always_evaluated_again(small, monkeypatch):
    monkeypatch.setattr(report, "code_of", lambda agent: {"commit": "a", "changed": True})
    evaluate(Drawing, SHOP, seeds=[0])
    evaluate(Drawing, SHOP, seeds=[0])
    assert len(FITTED) == 2


def test_a_result_cut_by_a_kill_is_evaluated_again(small, monkeypatch):
    monkeypatch.setattr(report, "code_of", lambda agent: {"commit": "a", "changed": False})
    whole = evaluate(Drawing, SHOP, seeds=[0])
    file = run_folder(SHOP, Drawing, {}) / "seed-0" / "result.json"
    file.write_text(file.read_text()[:100])
    again = evaluate(Drawing, SHOP, seeds=[0])
    assert len(FITTED) == 2 and again.results[0]["metrics"] == whole.results[0]["metrics"]


def test_the_report_is_strict_json_beside_its_predictions(small, tmp_path):
    found = evaluate(Drawing, USERS, seeds=[3], users=20, folder=tmp_path / "run")

    def refuse(word):
        raise ValueError(word)

    text = (tmp_path / "run" / "report.json").read_text()
    content = json.loads(text, parse_constant=refuse)
    assert content["results"] == found.results and content["schema"] == 1
    folder = tmp_path / "run" / "seed-3"
    read = Predictions.read(folder, found.results[0]["predictions"])
    assert len(read.actions[0]) == 20 and read.ranking is not None and read.agreement is None
    assert content["dataset"]["id"] == USERS.dataset and len(content["dataset"]["sha256"]) == 64


def test_costs_are_beside_the_metrics(small):
    (result,) = evaluate(First, SHOP).results
    costs = result["costs"]
    assert costs["training_seconds"] >= 0 and costs["peak_memory_mb"] > 10
    assert costs["parameters"] is None and min(costs["latency_ms"], costs["batch_latency_ms"]) > 0


def test_an_agent_that_learns_from_users_is_given_their_environment(small):
    evaluate(Acting, USERS, users=5)
    assert [USERS.env] == FITTED
    with pytest.raises(InvalidArgument, match="learns from an environment") as problem:
        evaluate(Acting, SHOP)
    said(problem)


def test_options_are_recorded_where_they_differ(small):
    found = evaluate(Drawing, SHOP, seeds=[0], config={"spread": 3.0})
    assert found.config == {"spread": 3.0} and "--set spread=3.0" in found.command
    assert evaluate(Drawing, SHOP, seeds=[0], config={"spread": 1.0}).config == {}
    assert run_folder(SHOP, Drawing, {"spread": 3.0}) != run_folder(SHOP, Drawing, {})


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"spred": 2}, UnknownName),
        ({"seed": 2}, UnknownName),
        ({"spread": np.nan}, InvalidArgument),
        ({"spread": {1, 2}}, InvalidArgument),
    ],
)
def test_options_that_an_agent_does_not_have_are_refused(small, config, problem):
    with pytest.raises(problem) as found:
        evaluate(Drawing, SHOP, config=config)
    said(found)


def test_the_validation_split_is_kept_apart(small):
    found = evaluate(First, SHOP, split="validation")
    assert found.split == "validation"
    assert run_folder(SHOP, First, {}, "validation") != run_folder(SHOP, First, {})
    assert not (run_folder(SHOP, First, {}) / "report.json").exists()


def test_a_trial_with_fewer_users_is_kept_apart(small):
    found = evaluate(First, USERS, users=5)
    assert not run_folder(USERS, First, {}).exists() and "--users 5" in found.command
    assert (run_folder(USERS, First, {}, users=5) / "report.json").exists()
    assert run_folder(SHOP, First, {}, users=5) == run_folder(SHOP, First, {})


@pytest.mark.parametrize(
    ("agent", "more", "says"),
    [
        (First(), {}, "an object of First was given"),
        (Drawing, {"seeds": [0, -1]}, "-1 was given"),
        (Drawing, {"seeds": [0.5]}, "0.5 was given"),
        (Drawing, {"seeds": []}, "none was given"),
        (First, {"users": 0}, "0 was given"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_trained(small, agent, more, says):
    with pytest.raises(InvalidArgument, match=says) as problem:
        evaluate(agent, SHOP, **more)
    assert said(problem) and not FITTED


def test_the_same_seed_gives_the_same_predictions_in_another_process(small, tmp_path):
    found = evaluate("random", SHOP, seeds=[1])
    script = (
        "import json, sys; from recgym.evaluation.report import evaluate\n"
        "from tests.evaluation.conftest import SHOP\n"
        "print(json.dumps(evaluate('random', SHOP, seeds=[1], anew=True).results))"
    )
    root = Path(recgym.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    (again,) = json.loads(done.stdout)
    assert again["metrics"] == found.results[0]["metrics"]
    assert again["predictions"] == found.results[0]["predictions"]


def test_code_says_where_it_is_from(tmp_path):
    known = report.code_of(Drawing)
    assert known["commit"] is None or len(known["commit"]) == 40
    assert report.platform_facts()["threads"] >= 1
