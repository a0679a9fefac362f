"""The truth about a simulator: one that knows it, one that knows nothing, and items alone."""

import json

import gymnasium
import numpy as np
import pytest
from scipy.stats import spearmanr

from recgym.agent import View
from recgym.envs.oracle import SKIP
from recgym.envs.policies import HELD_OUT, MIXED, TIERS, LoggingPolicy
from recgym.errors import InvalidArgument
from recgym.rollouts import collect
from recgym.simulator.moments import Moments
from recgym.simulator.rivals import ItemKNNUser
from recgym.simulator.truth import truth

from ..sentences import said
from .test_measures import Told, noise, nothing

WORLD = "recgym/OracleBoredom-v0"
SMALL = {"n_items": 60, "n_topics": 4, "n_liked": 1, "history": 8, "organic": 2, "fresh": 2}
USERS, STEPS = 12, 10


class Cheating(Told):
    """A user who walks beside, and answers what is true."""

    def __init__(self, sign=1, seed=0):
        super().__init__(None, 60)
        envs = gymnasium.make_vec(
            WORLD, num_envs=USERS, vectorization_mode="vector_entry_point", **SMALL
        )
        users = envs.unwrapped.users
        policy = LoggingPolicy(*(TIERS[tier] for tier in MIXED))
        observations, _ = envs.reset(seed=HELD_OUT + USERS * seed)
        policy.begin(users, HELD_OUT + USERS * seed + np.arange(USERS, dtype=np.uint64))
        view = View(60, {name: slice(*ends) for name, ends in users.layout.items()}, SKIP)
        there, self.truth, self.others, self.pasts = np.ones(USERS, bool), [], [], []
        for step in range(STEPS):
            true = np.stack([users.accepting(np.full(USERS, item)) for item in range(60)], 1)
            for user in np.flatnonzero(there) if step % 4 == 0 else ():
                past = view.consumed(observations[user][None])[0]
                if (past != 60).any():
                    self.truth.append(sign * true[user])
                    self.others.append(np.delete(true, user, 0).mean(0))
                    self.pasts.append([int(item) for item in past if item != 60][-10:])
            observations, _, left, over, _ = envs.step(policy.act(observations)[0])
            there &= ~(left | over)

    def rewards(self, histories, items):
        assert [[i for i in row if i != 60] for row in histories.tolist()] == self.pasts
        self.asked.append((histories, items))
        return np.take_along_axis(np.stack(self.truth), items, 1).astype(np.float32)


def found_of(user, **more):
    return truth(user, WORLD, SMALL, **{"users": USERS, "steps": STEPS} | more)


@pytest.mark.parametrize("seed", [0, 3])
def test_one_who_knows_the_truth_is_right_and_its_opposite_is_wrong(seed):
    right, wrong = (found_of(Cheating(sign, seed), seed=seed) for sign in (1, -1))
    assert right["rank correlation"]["mean"] == pytest.approx(1, abs=1e-3)  # float32 has ties
    assert wrong["rank correlation"]["mean"] == pytest.approx(-1, abs=1e-3)
    assert right["of items alone"] == wrong["of items alone"]
    assert right["users"] == USERS and 2 * USERS < right["moments"] <= 3 * USERS


def test_what_others_would_do_is_told_without_the_user_in_question():
    user = Cheating()
    found = found_of(user)["of items alone"]["mean"]
    ((_, items),) = user.asked
    pairs = zip(user.others, user.truth, items, strict=True)
    each = [spearmanr(others[asked], true[asked]).statistic for others, true, asked in pairs]
    assert found == pytest.approx(np.mean(each), abs=1e-9)


def test_one_who_knows_nothing_has_no_correlation():
    found = found_of(Told(nothing, 60))
    assert found["rank correlation"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    by_chance = found_of(Told(noise, 60), users=60)["rank correlation"]
    assert abs(by_chance["mean"]) < 0.1


def test_items_alone_say_something_where_users_differ_and_all_where_they_do_not():
    differ = found_of(Told(nothing, 60), users=60)["of items alone"]
    assert 0.05 < differ["low"] < differ["high"] < 0.5
    alike = {**SMALL, "n_topics": 1, "liked": (0.5, 0.5), "fresh": 0, "boring": 0, "drift": 0.0}
    same = truth(Told(nothing, 60), WORLD, alike, users=USERS, steps=STEPS)
    assert same["of items alone"]["mean"] == pytest.approx(1)


def test_what_is_found_is_json_and_the_same_again():
    one, again, other = (found_of(Told(noise, 60), seed=seed) for seed in (0, 0, 1))
    assert json.loads(json.dumps(one, allow_nan=False)) == one == again != other


def test_one_who_learned_from_a_log_knows_more_than_items_alone():
    log = collect(WORLD, "mixed", sessions=300, name="n", **SMALL)
    found = truth(ItemKNNUser(Moments.of(log)), WORLD, SMALL, users=60)
    assert found["rank correlation"]["low"] > found["of items alone"]["high"]


def test_users_without_a_history_are_left_out():
    user = Told(noise, 60)
    found = truth(user, WORLD, SMALL | {"organic": 0}, users=30, steps=9)
    ((histories, _),) = user.asked
    assert 0 < found["moments"] == len(histories) < 30 * 2
    assert (histories[:, 0] != 60).all()


@pytest.mark.parametrize("observation", ["flat", "dict"])
def test_the_form_of_observations_does_not_matter(observation):
    found = found_of(Told(noise, 60))
    more = SMALL | {"observation": observation}
    assert truth(Told(noise, 60), WORLD, more, users=USERS, steps=STEPS) == found


def test_a_world_of_other_items_is_refused():
    with pytest.raises(InvalidArgument) as problem:
        truth(Told(nothing, 59), WORLD, SMALL)
    assert "59 items" in said(problem) and WORLD in said(problem)
