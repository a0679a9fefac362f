"""Measures: each counted again one by one, and of users of whom the answer is known."""

import itertools
import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from torch import nn

from recgym.envs.draws import keys_of, origins_of, uniforms
from recgym.errors import InvalidArgument
from recgym.simulator import measures
from recgym.simulator.calibration import Scale, calibrated
from recgym.simulator.feedback import LanguageUser
from recgym.simulator.measures import (
    SEARCHED,
    adversarial,
    agreement,
    by_popularity,
    calibration,
    consistency,
    flat,
    measured,
    neighbours,
    of_users,
    spearman,
)
from recgym.simulator.moments import Moments
from recgym.simulator.prompts import DOMAINS, Prompts
from recgym.simulator.rivals import GRUUser, ItemKNNUser, PopularityUser

from ..agents.worlds import cyclic
from ..sentences import said
from .shelves import N_ITEMS, shelved

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = Scale(0.0, 1.0, 1.0, 0.0, 0.01)


class Told:
    """A user whose rewards are a function of the last item and of those that are asked about."""

    sha256, width = "", 1

    def __init__(self, rewarding, n_items=N_ITEMS):
        self.rewarding, self.n_items, self.asked = rewarding, n_items, []

    def rewards(self, histories, items):
        self.asked.append((histories, items))
        places = (histories != self.n_items).sum(1, keepdims=True) - 1
        last = np.take_along_axis(histories, places, 1).astype(np.int64)
        return np.asarray(self.rewarding(last, items), np.float32)

    def states(self, histories):
        return np.zeros((len(histories), 1), np.float32)

    def choices(self, histories, five, seed):
        return self.rewards(histories, five).argmax(1)


def knows(last, items):
    """What comes next in a cycle."""
    return items == (last + 1) % N_ITEMS


def nothing(last, items):
    return np.zeros(items.shape)


def noise(last, items):
    """Numbers that look like any, the same whenever they are asked for."""
    keys = keys_of(origins_of(last.astype(np.uint64)), np.zeros(last.shape, np.int64))
    return uniforms(keys, 0, items.astype(np.int64))


@pytest.fixture
def held():
    """Each user takes six of twelve items in a row."""
    return Moments.of(cyclic("held", N_ITEMS, 60, 6))


def scale_of(user, held, base_rate=0.05):
    rng = np.random.default_rng(5)
    items = [held.items[:, None], held.untaken(rng, 1), rng.integers(N_ITEMS, size=(len(held), 9))]
    raw = user.rewards(held.histories, np.concatenate(items, 1))
    return calibrated(raw[:, 0], raw[:, 1], raw[:, 2:], base_rate)


def found_of(user, held, seed=0, base_rate=0.05):
    return measured(user, scale_of(user, held, base_rate), held, held.popularity, seed)


# ---------------------------------------------------------------------- users that are known


def test_one_who_knows_the_next_item_is_always_right(held):
    found = found_of(Told(knows), held)
    assert set(found["accuracy"]) == set(found["hits"]) == {"uniform", "popular", "true next"}
    for name, figure in found["accuracy"].items():
        assert figure == {"mean": 1.0, "low": 1.0, "high": 1.0}
        assert found["hits"][name] == [1.0] * len(held)
    accepted = {name: part["mean"] for name, part in found["acceptance"].items()
                if name != "items searched"}  # fmt: skip
    assert accepted["true next"] == accepted["adversarial"] > 0.2 > accepted["random"]
    assert found["consistency"]["both"] > 0.9


def test_one_who_knows_nothing_is_right_by_half_and_accepts_the_base_rate(held):
    found = found_of(Told(nothing), held)
    for name in ("uniform", "popular"):
        assert found["accuracy"][name] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    picked = found["accuracy"]["true next"]
    assert picked["low"] < 0.2 < picked["high"] < 0.35  # though argmax takes the first of equals
    for name in ("random", "popular", "true next", "adversarial"):
        assert found["acceptance"][name]["mean"] == pytest.approx(0.05, abs=1e-6)
    assert found["calibration"]["error"] == pytest.approx(0, abs=1e-6)
    assert found["calibration"]["points"] == [pytest.approx([0.05, 0.05, 1], abs=1e-6)]
    assert found["consistency"] == {"item": 0.0, "user": 0.0, "both": 0.0}
    assert set(found["reward by popularity"]) <= {0.0, None}


@pytest.mark.parametrize("kind", [PopularityUser, ItemKNNUser, GRUUser, "language", "told"])
def test_what_is_measured_of_anyone_is_json_and_the_same_again(kind, tokenizer, held):
    train = Moments.of(shelved("train", 30))
    user = {"language": lambda: language_user(tokenizer), "told": lambda: Told(noise)}.get(
        kind, lambda: kind(train)
    )()
    one, again, other = (found_of(user, held, seed) for seed in (0, 0, 1))
    for found in (one, again, other):
        assert found.pop("cost")["seconds"] > 0
    assert json.loads(json.dumps(one, allow_nan=False)) == one == again != other
    assert ("positions" in one["choice"]) == (kind == "language")
    assert one["users"] == 60 and one["moments"] == len(held) == 300


def test_one_user_alone_is_refused(held):
    with pytest.raises(InvalidArgument) as problem:
        found_of(Told(knows), held.of_sessions(held.users[:1]))
    assert "1 user" in said(problem)


# -------------------------------------------------------------------------------- slow counts


def test_accuracy_and_acceptance_are_those_of_a_slow_count(held):
    user = Told(noise)
    scale = scale_of(user, held)
    user.asked.clear()
    found = measured(user, scale, held, held.popularity)
    histories, items = user.asked[0]
    assert (histories == held.histories).all() and (items[:, 0] == held.items).all()
    raw = Told(noise).rewards(histories, items)
    for column, name in ((1, "uniform"), (2, "popular")):
        right = [row[0] > row[column] for row in raw]
        assert found["hits"][name] == right
        assert found["accuracy"][name] == of_users(np.array(right), held.sessions)
    for user_number, item in zip(held.sessions, items[:, 1:3].T, strict=False):
        bits = np.unpackbits(held.taken[user_number])
        assert not bits[item[0]]
    for column, name in ((0, "true next"), (3, "random"), (4, "popular")):
        logits = scale.slope * (raw[:, column] - scale.mean) / scale.spread + scale.intercept
        wanted = np.mean([1 / (1 + np.exp(-logit)) for logit in logits])
        assert found["acceptance"][name]["mean"] == pytest.approx(wanted, rel=1e-4)


def test_popular_items_are_drawn_by_popularity(held):
    popularity = np.zeros(N_ITEMS)
    popularity[[2, 8]] = 0.5
    user = Told(noise)
    measured(user, PLAIN, held, popularity)
    items = user.asked[0][1]
    assert set(items[:, 4]) == {2, 8}
    assert set(items[:, 2]) == {2, 8}  # of a cycle, each user took one of the two: not both
    assert set(items[:, 1]) == set(items[:, 3]) == set(range(N_ITEMS))


def test_users_are_resampled_and_not_moments():
    values = np.array([1.0] * 50 + [0.0] * 50)
    alone = of_users(values, np.arange(100))
    together = of_users(values, np.repeat(np.arange(4), 25))
    assert alone["mean"] == together["mean"] == 0.5
    assert alone["high"] - alone["low"] < 0.25 < 0.9 < together["high"] - together["low"]


def test_calibration_is_that_of_a_slow_count():
    rng = np.random.default_rng(0)
    taken, untaken = rng.random(50).astype(np.float32), rng.random(80).astype(np.float32) / 2
    found = calibration(taken, untaken, 0.1)
    rows = sorted([(p, 1, 0.1 / 50) for p in taken] + [(p, 0, 0.9 / 80) for p in untaken])
    bins, before = [[] for _ in range(10)], 0.0
    for row in rows:
        bins[int((before + row[2] / 2) * 10)].append(np.array(row, float))
        before += row[2]
    points = []
    for some in bins:
        weight = sum(row[2] for row in some)
        points.append([sum(row[i] * row[2] for row in some) / weight for i in (0, 1)] + [weight])
    np.testing.assert_allclose(found["points"], points, rtol=1e-6)
    error = sum(weight * abs(mean - share) for mean, share, weight in points)
    assert found["error"] == pytest.approx(error, rel=1e-6)


def test_true_chances_are_calibrated_and_doubled_ones_are_not():
    rng = np.random.default_rng(0)
    chances = rng.beta(1, 9, 400_000)
    taken = rng.random(len(chances)) < chances
    base_rate = taken.mean()
    assert calibration(chances[taken], chances[~taken], base_rate)["error"] < 0.003
    doubled = np.minimum(2 * chances, 1)
    wrong = calibration(doubled[taken], doubled[~taken], base_rate)["error"]
    assert wrong == pytest.approx(base_rate, abs=0.005)


def test_equal_chances_stay_in_one_bin():
    same = np.float32([0.2] * 7)
    assert calibration(same, same, 0.2) == {
        "error": pytest.approx(0, abs=1e-7),
        "points": [pytest.approx([0.2, 0.2, 1])],
    }


def test_a_choice_is_counted_as_what_was_picked(held):
    """Of one who always takes the lowest number, whatever the place."""
    user = Told(lambda last, items: -items)
    found = found_of(user, held)
    (five,) = [items for histories, items in user.asked if items.shape[1] == 5][-1:]
    right = [min(row) == item for row, item in zip(five, held.items, strict=True)]
    assert found["hits"]["true next"] == right and found["choice"] == {}
    places = [row.tolist().index(item) for row, item in zip(five, held.items, strict=True)]
    assert np.bincount(places, minlength=5).min() > len(held) / 10


def test_rewards_by_popularity_are_those_of_a_slow_count():
    rng = np.random.default_rng(0)
    popularity = rng.permutation(40) / 780
    items, rewards = rng.integers(40, size=200), rng.normal(size=200).astype(np.float32)
    items[popularity[items] * 780 < 4] = 11  # so nobody is asked about the rarest, or nearly
    items = np.where(popularity[items] * 780 < 4, popularity.argmax(), items)
    order = sorted(range(40), key=lambda item: popularity[item])
    for tenth, found in enumerate(by_popularity(rewards, items, popularity)):
        some = [float(r) for r, item in zip(rewards, items, strict=True)
                if order.index(item) // 4 == tenth]  # fmt: skip
        assert found == (pytest.approx(np.mean(some), abs=1e-6) if some else None)


def test_a_tenth_of_which_nobody_is_asked_has_no_mean():
    found = by_popularity(np.float32([2, 4]), np.array([1, 1]), np.array([0.1, 0.2, 0.7]))
    assert found == [None, None, None, 3.0, None, None, None, None, None, None]


@pytest.mark.parametrize(
    ("rewarding", "whose"),
    [
        (lambda last, items: items + 0 * last, "item"),
        (lambda last, items: last + 0 * items, "user"),
        (lambda last, items: np.where((last + items) % 2, 1, -1), "both"),
    ],
)
def test_a_reward_is_known_to_be_the_items_the_users_or_of_both(rewarding, whose, held):
    found = consistency(Told(rewarding), held, np.random.default_rng(0))
    assert sum(found.values()) == pytest.approx(1)
    assert found[whose] == pytest.approx(1, abs=0.05)


def test_consistency_is_a_slow_analysis_of_variance(held):
    user = Told(noise)
    found = consistency(user, held, np.random.default_rng(0))
    ((histories, items),) = user.asked
    rewards = Told(noise).rewards(histories, items).astype(float)
    mean, sums = rewards.mean(), dict.fromkeys(("item", "user", "both"), 0.0)
    for user_, item in itertools.product(*map(range, rewards.shape)):
        of_item, of_user = rewards[:, item].mean() - mean, rewards[user_].mean() - mean
        rest = rewards[user_, item] - mean - of_item - of_user
        for name, part in zip(sums, (of_item, of_user, rest), strict=True):
            sums[name] += part**2
    whole = ((rewards - mean) ** 2).sum()
    assert found == pytest.approx({name: part / whole for name, part in sums.items()})


def test_the_best_item_of_each_is_found_among_all_of_a_small_catalogue(held):
    found, searched = adversarial(Told(knows), PLAIN, held, np.random.default_rng(0))
    assert searched == N_ITEMS
    assert found["mean"] == found["low"] == pytest.approx(1 / (1 + np.exp(-1)))


def test_the_search_for_the_best_item_is_bounded_in_a_large_catalogue():
    held = Moments.of(cyclic("large", 900, 60, 4))
    user = Told(noise, 900)
    _, searched = adversarial(user, PLAIN, held, np.random.default_rng(0))
    ((histories, items),) = user.asked
    assert searched == 200 and items.size == SEARCHED and len(set(items[0])) == searched
    assert len(np.unique(histories, axis=0)) == 20


# --------------------------------------------------------------------------- language models


class First(LanguageUser):
    """One that always says the first position."""

    def positions(self, histories, listed):
        return np.tile(np.float32([-0.1, -3, -3, -3, -3]), (len(listed), 1))


def language_user(tokenizer, kind=LanguageUser):
    from .conftest import made

    language = made("llama", tokenizer, positions=512)
    head = nn.Linear(language.width, 1, bias=False).requires_grad_(False)
    return kind(language, Prompts(language, DOMAINS["products"]), head)


def test_one_who_always_says_the_first_position_is_known(tokenizer, held):
    user = language_user(tokenizer, First)
    right, found = measures.chosen(user, held, np.random.default_rng(0), 0)
    assert found["positions"] == [1, 0, 0, 0, 0] and found["from uniform"] == pytest.approx(0.8)
    assert 0.1 < right.mean() < 0.3


def test_positions_are_those_that_a_language_model_says(tokenizer, held):
    class Heard(LanguageUser):
        heard = None

        def positions(self, histories, listed):
            self.heard = super().positions(histories, listed)
            return self.heard

    user = language_user(tokenizer, Heard)
    _, found = measures.chosen(user, held, np.random.default_rng(0), 3)
    wanted = np.bincount(user.heard.argmax(1), minlength=5) / len(held)
    np.testing.assert_allclose(found["positions"], wanted)


def test_the_cost_of_a_language_model_is_in_tokens_too(tokenizer, held):
    user = language_user(tokenizer)
    found = measures.cost(user, held, np.random.default_rng(0))
    assert found["tokens"] == pytest.approx(1000 * user.language.seen / 60)
    again = measures.cost(user, held, np.random.default_rng(0))
    assert again["tokens"] == found["tokens"]
    assert found["tokens"] > 10_000
    assert set(measures.cost(Told(noise), held, np.random.default_rng(0))) == {"seconds"}


# ----------------------------------------------------------------------------- two simulators


def test_one_agrees_with_itself_and_not_with_its_opposite(held):
    one, opposite = Told(noise), Told(lambda last, items: -noise(last, items))
    apart = Told(lambda last, items: noise(last + 99, items))

    def means(first, second):
        found = agreement(first, second, held, np.random.default_rng(0))
        return found["rank correlation"]["mean"], found["same preference"]["mean"]

    assert means(one, one) == pytest.approx((1, 1))
    correlation, same = means(one, opposite)
    assert correlation == pytest.approx(-1)
    assert same == pytest.approx(1 / N_ITEMS, abs=0.06)  # an item that is asked about twice
    assert means(one, apart) == pytest.approx((0, 0.5), abs=0.15)
    assert means(one, Told(nothing)) == pytest.approx((0, 0.5), abs=0.06)


def test_spearman_is_that_of_scipy_with_and_without_equal_ones():
    rng = np.random.default_rng(0)
    for one, other in (rng.normal(size=(2, 9, 7)), rng.integers(4, size=(2, 9, 7))):
        wanted = [spearmanr(*rows).statistic for rows in zip(one, other, strict=True)]
        np.testing.assert_allclose(spearman(one, other), wanted, atol=1e-12)
    assert spearman(np.ones((2, 4)), rng.normal(size=(2, 4))).tolist() == [0, 0]


# ------------------------------------------------------------------------------------- states


def test_a_picture_is_on_the_two_axes_of_most_variance():
    rng = np.random.default_rng(0)
    states = (rng.normal(size=(40, 6)) * [1, 9, 2, 5, 1, 1] + 3).astype(np.float32)
    found = flat(states)
    values, vectors = np.linalg.eigh(np.cov(states.T.astype(float)))
    wanted = (states - states.mean(0)) @ vectors[:, [-1, -2]]
    np.testing.assert_allclose(abs(found), abs(wanted), rtol=1e-3, atol=1e-3)
    assert found.var(0, ddof=1) == pytest.approx(values[[-1, -2]], rel=1e-4)
    np.testing.assert_allclose(flat(states[::-1]), found[::-1], rtol=1e-4, atol=1e-4)
    assert np.corrcoef(found[:, 0], states[:, 1])[0, 1] > 0.9  # the largest weight is above 0


@pytest.mark.parametrize("shape", [(5, 1), (1, 4), (3, 2)])
def test_states_of_few_dimensions_have_a_picture_too(shape):
    states = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = flat(states)
    assert found.shape == (shape[0], 2) and np.isfinite(found).all()
    distances = np.linalg.norm(states[:, None] - states, axis=2)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found, axis=2), distances, atol=1e-6)


@pytest.mark.parametrize("whole", [False, True])
def test_neighbours_are_those_of_a_slow_count(held, whole):
    """Of numbers, and of whole ones: of these, many are as near as each other."""
    rng = np.random.default_rng(0)
    some, labels = held[np.arange(80)], rng.choice(["", "a", "b", "c"], 80)
    states = rng.normal(size=(80, 2)) * 3
    states = (states.round() if whole else states).astype(np.float32)
    known, same, chance = np.flatnonzero(labels != ""), [], []
    for row in known:
        others = [one for one in known if some.sessions[one] != some.sessions[row]]
        far = [((states[one].astype(float) - states[row]) ** 2).sum() for one in others]
        votes = [labels[one] == labels[row] for one in others]
        chance.append(np.mean(votes))
        same.append(np.mean([vote for vote, one in zip(votes, far, strict=True)
                             if one == min(far)]))  # fmt: skip
    assert neighbours(states, labels, some) == {
        "same": pytest.approx(np.mean(same)), "chance": pytest.approx(np.mean(chance))
    }  # fmt: skip


def test_states_that_know_the_label_have_neighbours_of_the_same(held):
    labels = np.array(["odd", "even"])[held.items % 2]
    states = (held.items % 2)[:, None].astype(np.float32)
    found = neighbours(states, labels, held)
    assert found == {"same": 1.0, "chance": pytest.approx(0.5, abs=0.03)}
    assert neighbours(states, np.full(len(held), ""), held) == {"same": 0.0, "chance": 0.0}
