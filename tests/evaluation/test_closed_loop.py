import gymnasium
import numpy as np
import pytest

import recgym  # noqa: F401  # registers the ids
from recgym.envs.oracle import Oracle
from recgym.envs.policies import HELD_OUT, reference_policies, returns_of
from recgym.errors import BadPredictions, InvalidArgument
from recgym.evaluation import closed_loop
from tests.sentences import said

ENV = "recgym/OracleBoredom-v0"


class Cycling:
    """Shows one item after the other."""

    def act(self, observations, infos):
        return (observations[:, :25] != 1000).sum(1) * 7 % 1000


class Answering:
    def __init__(self, answer):
        self.answer = answer

    def act(self, observations, infos):
        return self.answer(len(observations))


def test_a_trace_is_what_single_environments_say():
    steps, items = closed_loop.acted(ENV, Cycling(), HELD_OUT, 7, lambda share: None)
    returns = closed_loop.returns_of(ENV, (steps, items), HELD_OUT)
    offsets = np.concatenate([[0], np.cumsum(steps)])
    for user in range(7):
        env = gymnasium.make(ENV)
        observation, _ = env.reset(seed=HELD_OUT + user)
        total, over, shown = 0.0, False, []
        while not over:
            shown.append(int(Cycling().act(observation[None], {})[0]))
            observation, reward, terminated, truncated, _ = env.step(shown[-1])
            total, over = total + reward, terminated or truncated
        assert shown == items[offsets[user] : offsets[user + 1]].tolist()
        assert returns[user] == pytest.approx(total)


def test_the_users_are_those_of_the_reference_scores():
    steps, items = closed_loop.acted(ENV, _Observer(), HELD_OUT, 40, lambda share: None)
    returns = closed_loop.returns_of(ENV, (steps, items), HELD_OUT)
    seeds = np.arange(HELD_OUT, HELD_OUT + 40, dtype=np.uint64)
    oracle = Oracle(**gymnasium.spec(ENV).kwargs)
    wanted = returns_of(oracle, reference_policies()["observer"], seeds)
    assert returns == pytest.approx(wanted)


class _Observer:
    def act(self, observations, infos):
        from recgym.envs.policies import observed, planner, recommended

        oracle = Oracle(**gymnasium.spec(ENV).kwargs)
        return recommended(oracle, observed(oracle, observations), planner)


def test_what_users_are_shown_together_does_not_matter(monkeypatch):
    whole = closed_loop.acted(ENV, Cycling(), HELD_OUT, 11, lambda share: None)
    monkeypatch.setattr(closed_loop, "_TOGETHER", 4)
    parts = closed_loop.acted(ENV, Cycling(), HELD_OUT, 11, lambda share: None)
    assert all((one == other).all() for one, other in zip(whole, parts, strict=True))
    assert closed_loop.returns_of(ENV, parts, HELD_OUT).shape == (11,)


@pytest.mark.parametrize("edit", ["longer", "shorter", "foreign", "negative", "moved", "none"])
def test_a_trace_that_does_not_fit_is_refused(edit):
    steps, items = closed_loop.acted(ENV, Cycling(), HELD_OUT, 5, lambda share: None)
    steps, items = steps.copy(), items.copy()
    if edit == "longer":
        steps[2] += 1
        items = np.insert(items, steps[:3].sum() - 1, 3)
    elif edit == "shorter":
        items = np.delete(items, steps[:2].sum() - 1)
        steps[1] -= 1
    elif edit == "moved":
        steps[0], steps[1] = steps[0] - 1, steps[1] + 1
    elif edit == "foreign":
        items[3] = 1000
    elif edit == "negative":
        items[0] = -1
    else:
        steps[:] = 0
    with pytest.raises(BadPredictions) as problem:
        closed_loop.returns_of(ENV, (steps, items), HELD_OUT)
    said(problem)


@pytest.mark.parametrize(
    "answer",
    [
        lambda count: np.zeros(count),
        lambda count: np.zeros((count, 2), int),
        lambda count: np.full(count, 1000),
        lambda count: np.full(count, -1),
    ],
)
def test_answers_that_are_no_items_are_refused(answer):
    with pytest.raises(InvalidArgument) as problem:
        closed_loop.acted(ENV, Answering(answer), HELD_OUT, 3, lambda share: None)
    said(problem)
