import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import recgym
from recgym.errors import BadPredictions
from recgym.evaluation import scoring
from recgym.evaluation.off_policy import Logged
from recgym.evaluation.predictions import Predictions
from recgym.evaluation.tasks import Task
from tests.evaluation.conftest import MASKED, SHOP, USERS
from tests.sentences import said


class Scoring:
    """Scores that depend on the last item, with ties."""

    def __init__(self, n_items):
        rng = np.random.default_rng(3)
        self.table = rng.integers(0, 40, size=(n_items + 1, n_items)).astype(np.float32)

    def scores(self, observations, infos):
        lengths = (observations != len(self.table) - 1).sum(1)
        last = observations[np.arange(len(observations)), np.maximum(lengths - 1, 0)]
        return self.table[last]

    def act(self, observations, infos):
        return self.scores(observations, infos).argmax(1)


class Acting:
    def act(self, observations, infos):
        return np.full(len(observations), 7)


def task(benchmark):
    return Task(benchmark, "test", lambda stage, share: None)


def predicted(agent, asked, users=30):
    return scoring.predicted(agent, asked, users, lambda stage, share: None)


def test_every_view_is_a_recount_of_its_targets(small):
    asked = task(SHOP)
    agent = Scoring(asked.n_items)
    found = scoring.measured(asked, predicted(agent, asked))["ranking"]
    log = recgym.load_log("demo")
    rows = log.rows("test")
    rows = rows[log.rewards[rows] > 0]
    scores = agent.scores(log.histories(rows, 10), {})
    hits = {view: [] for view in scoring.VIEWS}
    for place, row in enumerate(rows.tolist()):
        item, session = int(log.items[row]), int(log.sessions_of([row])[0])
        own = scores[place, item] if item < asked.n_items else None
        if own is None:
            hit = 0.0
        else:
            greater, equal = (scores[place] > own).sum(), (scores[place] == own).sum()
            hit = min(max((10 - greater) / equal, 0), 1)
        empty, known = log.depths[row] == 0, item < asked.n_items
        behaviour = log.manifest.behaviours[log.behaviours[row]]
        for view, belongs in (
            ("main", known and not empty),
            ("with unseen", not empty),
            ("with empty", known),
            ("without repeats",
             known and not empty and item not in log.items[log.offsets[session] : row]),
        ):  # fmt: skip
            if belongs:
                hits[view].append((behaviour, hit))
    for view, pairs in hits.items():
        assert found[view]["all"]["targets"] == len(pairs)
        assert found[view]["all"]["hr@10"] == pytest.approx(np.mean([hit for _, hit in pairs]))
        for behaviour in {name for name, _ in pairs}:
            of = [hit for name, hit in pairs if name == behaviour]
            assert found[view][behaviour]["targets"] == len(of)
            assert found[view][behaviour]["hr@10"] == pytest.approx(np.mean(of))


def test_an_agent_without_scores_is_ranked_by_its_item_alone(small):
    asked = task(SHOP)
    found = scoring.measured(asked, predicted(Acting(), asked))["ranking"]["with empty"]["all"]
    share = (asked.targets.items == 7).mean()
    n, k = asked.n_items, 5
    assert found["hr@5"] == pytest.approx(share + (1 - share) * (k - 1) / (n - 1))


def test_what_a_user_had_is_never_listed_where_that_is_masked(small):
    asked = task(MASKED)
    found = predicted(Scoring(asked.n_items), asked).ranking
    offsets, seen = asked.targets.seen(slice(0, len(asked.targets)))
    for place, listed in enumerate(found.items.tolist()):
        had = set(seen[offsets[place] : offsets[place + 1]].tolist())
        assert not had & set(listed)
        if asked.targets.items[place] in had:
            assert found.greater[place] == asked.n_items


def test_spread_is_a_recount_of_the_lists(small):
    asked = task(SHOP)
    predictions = predicted(Scoring(asked.n_items), asked)
    found = scoring.measured(asked, predictions)["lists"]
    listed = predictions.ranking.items[:, :10].ravel().tolist()
    counts = np.array([listed.count(item) for item in range(asked.n_items)])
    pairs = np.abs(counts[:, None] - counts[None]).sum()
    taken = asked.popularity / asked.popularity.sum()
    floor = 1 / asked.popularity.sum()
    assert found["coverage@10"] == pytest.approx((counts > 0).mean())
    assert found["gini@10"] == pytest.approx(pairs / (2 * len(counts) * counts.sum()))
    novelty = np.mean([-np.log2(max(taken[item], floor)) for item in listed])
    assert found["novelty@10"] == pytest.approx(novelty)


def test_the_return_is_on_the_scale_of_the_reference_policies(small):
    asked = task(USERS)
    found = scoring.measured(asked, predicted(Acting(), asked))["closed loop"]
    assert found["users"] == 30 and 1 <= found["length"] <= 50
    random, planner = 0.9459, 6.3746  # as frozen
    wanted = 100 * (found["return"] - random) / (planner - random)
    assert found["normalised"] == pytest.approx(wanted)


def test_outcomes_are_what_the_metrics_are_means_of(small):
    for benchmark in (SHOP, USERS):
        asked = task(benchmark)
        runs = [predicted(agent, asked) for agent in (Scoring(asked.n_items), Acting())]
        means = [scoring.primary_of(benchmark, scoring.measured(asked, run)) for run in runs]
        assert scoring.primary_outcomes(asked, runs).mean == pytest.approx(np.mean(means))


def _edited(ranking, **columns):
    return dataclasses.replace(ranking, **columns)


@pytest.mark.parametrize("edit", ["rank", "cut", "narrow", "swapped", "no actions", "more"])
def test_predictions_that_no_agent_can_give_are_refused(small, edit):
    asked = task(USERS)
    honest = predicted(Scoring(asked.n_items), asked)
    ranking, actions, agreement = honest.ranking, honest.actions, None
    if edit == "rank":
        ranking = _edited(ranking, greater=np.zeros_like(ranking.greater))
    elif edit == "cut":
        ranking = _edited(ranking, **{
            field.name: getattr(ranking, field.name)[:-1] for field in dataclasses.fields(ranking)
        })  # fmt: skip
    elif edit == "narrow":
        ranking = _edited(ranking, items=ranking.items[:, :5], scores=ranking.scores[:, :5])
    elif edit == "swapped":
        ranking = _edited(ranking, **{
            field.name: getattr(ranking, field.name)[::-1] for field in dataclasses.fields(ranking)
        })  # fmt: skip
    elif edit == "no actions":
        actions = None
    else:
        agreement = np.ones(4)
    with pytest.raises(BadPredictions) as problem:
        scoring.measured(asked, Predictions(ranking, actions, agreement))
    said(problem)


def test_click_rates_are_self_normalised(small):
    rewards, propensities = np.array([1.0, 0, 1, 0, 0]), np.array([0.5, 0.25, 0.1, 0.5, 1])
    data = Logged.__new__(Logged)
    object.__setattr__(data, "rewards", rewards)
    object.__setattr__(data, "propensities", propensities)
    found = scoring._snips(data, np.array([1.0, 1, 0, 0, 1]))
    weights = np.array([2.0, 4, 1])
    assert found["snips"] == pytest.approx(2 / weights.sum())
    assert found["effective"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert found["logged"] == pytest.approx(0.4) and found["steps"] == 5
    assert scoring._snips(data, np.zeros(5))["snips"] is None


def test_the_interval_of_click_rates_is_that_of_resampled_steps():
    rng = np.random.default_rng(0)
    count, rate = 4000, 0.2
    data = Logged.__new__(Logged)
    object.__setattr__(data, "rewards", (rng.random(count) < rate).astype(float))
    object.__setattr__(data, "propensities", np.full(count, 0.5))
    asked = SimpleNamespace(test=None)
    runs = [Predictions(agreement=(rng.random(count) < 0.5).astype(float)) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "logged", lambda dataset: data)
        found = scoring.snips_interval(asked, runs[:1])
        both = scoring.snips_interval(asked, runs)
    agreed = runs[0].agreement > 0
    error = np.sqrt(rate * (1 - rate) / agreed.sum())
    assert found.mean == pytest.approx(data.rewards[agreed].mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert both.high - both.low < found.high - found.low
