"""Reference policies against the bars that their worlds promise, and logging policies against slow
ones that write out the probability of every item."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.envs import ORACLES
from recgym.envs.catalogue import Catalogue
from recgym.envs.draws import keys_of, origins_of
from recgym.envs.frozen import as_json, frozen, normalised, scores_of
from recgym.envs.oracle import RESPONSES, Oracle, OracleUsers, catalogue_of
from recgym.envs.policies import (
    HELD_OUT,
    MIXED,
    TIERS,
    LoggingPolicy,
    _best,
    _best_fresh,
    hidden,
    observed,
    recommended,
    reference_policies,
    reference_scores,
    returns_of,
)
from recgym.envs.policies import greedy as greedy_worth

from .test_draws import surprise
from .test_oracle import begun, oracles

WORLDS = {name: Oracle(**parameters) for name, (_, parameters) in ORACLES.items()}
SMALL = {"n_items": 24, "n_topics": 4, "n_liked": 2, "fresh": 3, "steps": 12, "history": 20}
SKIP, CLICK, BUY, ORGANIC, PAD = range(5)
USERS = 3000


@pytest.fixture(scope="module")
def returns():
    """The returns of every reference policy from the same users, whom nobody froze a score of."""
    seeds = np.arange(4 * 10**7, 4 * 10**7 + USERS, dtype=np.uint64)
    return {
        name: {
            policy: returns_of(oracle, act, seeds) for policy, act in reference_policies().items()
        }
        for name, oracle in WORLDS.items()
    }


# ------------------------------------------------------------------------ the bars of the worlds


def ratio(one, other):
    """The ratio of two means over the same users, and its standard error."""
    share = one.mean() / other.mean()
    return share, (one - share * other).std() / other.mean() / len(one) ** 0.5


def test_in_boredom_the_planner_earns_a_quarter_more_than_who_sees_as_much(returns):
    share, error = ratio(
        returns["OracleBoredom"]["planner"], returns["OracleBoredom"]["greedy-seeing"]
    )
    assert error < 0.02 and share - 4 * error >= 1.25


def test_in_static_planning_does_not_matter(returns):
    share, error = ratio(
        returns["OracleStatic"]["planner"], returns["OracleStatic"]["greedy-seeing"]
    )
    assert error < 0.005 and abs(share - 1) + 4 * error <= 0.02
    share, error = ratio(returns["OracleStatic"]["observer"], returns["OracleStatic"]["greedy"])
    assert abs(share - 1) + 4 * error <= 0.02


def better(one, other, errors=4):
    """Is it, over the same users, and beyond doubt?"""
    gain = one - other
    return gain.mean() > errors * gain.std() / len(gain) ** 0.5


@pytest.mark.parametrize("name", WORLDS)
def test_policies_that_know_more_or_look_further_earn_more(returns, name):
    earned = returns[name]
    assert better(earned["popular"], earned["random"])
    assert better(earned["greedy"], earned["popular"])
    assert better(earned["greedy-seeing"], earned["greedy"])
    assert better(earned["planner"], earned["observer"])
    for plain, planning in (("greedy", "observer"), ("greedy-seeing", "planner")):
        assert better(earned[planning], earned[plain]) == (name != "OracleStatic")
    for policy in ("random", "popular", "greedy"):
        assert not better(earned[policy], earned["observer"], errors=2)
    assert all(not better(other, earned["planner"], errors=2) for other in earned.values())


@pytest.mark.parametrize("name", WORLDS)
def test_frozen_scores_are_those_of_other_users_too(returns, name):
    scores = frozen()[f"recgym/{name}-v0"]["scores"]
    assert list(scores) == list(reference_policies())
    for policy, score in scores.items():
        earned = returns[name][policy]
        error = (score["error"] ** 2 + earned.var() / len(earned)) ** 0.5
        assert abs(earned.mean() - score["mean"]) <= 4 * error, policy
        assert score["error"] == pytest.approx(earned.std() / 10_000**0.5, rel=0.1)


@pytest.mark.long
@pytest.mark.parametrize("name", WORLDS)
def test_frozen_scores_are_measured_again(name):
    assert reference_scores(WORLDS[name], 10_000) == frozen()[f"recgym/{name}-v0"]["scores"]


def test_scores_are_looked_up_or_measured():
    oracle = Oracle(**SMALL)
    measured = scores_of("recgym/OracleStatic-v0", oracle)
    assert measured == reference_scores(oracle) == scores_of("another", oracle)
    known = Oracle(**as_json(WORLDS["OracleDrift"]))  # lists, as JSON gives them back
    assert scores_of("recgym/OracleDrift-v0", known) == frozen()["recgym/OracleDrift-v0"]["scores"]
    seeds = np.arange(HELD_OUT, HELD_OUT + 2000, dtype=np.uint64)
    for policy, act in reference_policies().items():
        earned = returns_of(oracle, act, seeds)
        assert measured[policy]["mean"] == round(earned.mean(), 4)
        assert measured[policy]["error"] == round(earned.std(ddof=1) / 2000**0.5, 4)


@pytest.mark.parametrize("policy", ["random", "observer", "planner"])
def test_returns_are_what_one_user_after_another_earns(policy):
    oracle, act = Oracle(boring=2, **SMALL), reference_policies()[policy]
    seeds = np.array([0, 7, 5 * 10**7, 2**63], np.uint64)
    wanted = []
    for seed in seeds:
        users, total, over = OracleUsers(1, oracle), 0.0, False
        users.begin(users.rows, keys_of(origins_of(np.array([seed])), np.zeros(1, np.int64)), {})
        while not over:
            (reward,), (left,), (cut,) = users.answer(act(users))
            total, over = total + reward, left or cut
        wanted.append(total)
    assert returns_of(oracle, act, seeds).tolist() == pytest.approx(wanted)


# ------------------------------------------------------------------- what they see, and what not


@pytest.mark.parametrize("policy", ["random", "popular", "greedy", "observer"])
@pytest.mark.parametrize("name", WORLDS)
def test_who_only_observes_does_the_same_whatever_is_hidden(policy, name):
    users, act, rng = (
        begun(WORLDS[name], 200),
        reference_policies()[policy],
        np.random.default_rng(0),
    )
    for _ in range(8):
        users.answer(rng.integers(1000, size=200))
    wanted = act(users)
    users.appeal[:] = users.appeal[::-1].copy()
    users.unlocked[:, ::2] = 99
    users.dissatisfaction[:] = 1 - users.dissatisfaction
    users._accepted[:] = 1
    assert (act(users) == wanted).all()


def told_and_true(oracle, count=40, steps=30, seed=0):
    """What is told of users and what is true, step after step, as long as they are there."""
    users, rng = begun(oracle, count, seed), np.random.default_rng(seed)
    act = reference_policies()["greedy-seeing"]
    there = np.ones(count, bool)
    for _ in range(min(steps, oracle.steps)):
        yield users, there, observed(oracle, users.observe()), hidden(users)
        wild = rng.integers(oracle.n_items, size=count)
        _, left, cut = users.answer(np.where(rng.random(count) < 0.5, wild, act(users)))
        there = there & ~(left | cut)


@settings(max_examples=settings().max_examples // 4)
@given(oracle=oracles(), seed=st.integers(0, 2**32))
def test_what_the_window_holds_is_told_rightly(oracle, seed):
    for users, there, told, true in told_and_true(oracle, 4, 20, seed):
        forgotten = oracle.memory**oracle.history
        off = np.abs(told.dissatisfaction - true.dissatisfaction)[there]
        assert (off <= forgotten + 1e-12).all()
        if oracle.history >= min(oracle.within - 1, users.steps[0]):
            assert told.tired[there].tolist() == true.tired[there].tolist()
        if oracle.history >= oracle.fresh:
            for user in np.flatnonzero(there):
                assert set(told.seen[:, user]) == set(true.seen[:, user])
        if users.steps[0] <= oracle.history:  # as long as none of what was shown has left it
            assert told.left[there].tolist() == true.left[there].tolist()
        else:
            assert (told.left[there] == oracle.steps - oracle.history).all()


@pytest.mark.parametrize("memory", [0.0, 0.6, 1.0])
def test_dissatisfaction_is_told_from_what_was_skipped(memory):
    oracle = Oracle(memory=memory, leaving=0.0, leaving_dissatisfied=0.0)
    seen = []
    for _, _, told, true in told_and_true(oracle):
        off = np.abs(told.dissatisfaction - true.dissatisfaction)
        assert off.max() <= memory**oracle.history * (memory < 1) + 1e-12
        seen.append(true.dissatisfaction)
    assert np.ptp(seen) > 0.5 or memory == 1


def test_what_was_consumed_before_tires_nobody():
    oracle = Oracle(n_topics=1, n_liked=1, boring=2, organic=10)
    told = observed(oracle, begun(oracle, 20).observe())
    assert not told.tired.any() and (told.left == 50).all() and not told.dissatisfaction.any()


@settings(max_examples=settings().max_examples // 8)
@given(oracle=oracles(), seed=st.integers(0, 2**32))
def test_liking_is_told_by_counting(oracle, seed):
    catalogue = catalogue_of(oracle)
    for users, _, told, _ in told_and_true(oracle, 3, 12, seed):
        for row, liking in zip(users.observe().tolist(), told.liking.tolist(), strict=True):
            wanted = []
            for topic in range(oracle.n_topics):
                taken = perfect = 0.0
                pairs = zip(row[: oracle.history], row[oracle.history :], strict=True)
                for item, response in pairs:
                    if response != PAD and catalogue.topics[item] == topic:
                        taken += response != SKIP
                        perfect += catalogue.quality[item]
                wanted.append((taken + 0.2 * 2) / (perfect + 2))
            assert liking == pytest.approx(wanted)


def test_liking_comes_close_to_appeal_as_more_is_shown():
    oracle = Oracle(
        n_items=12, n_topics=3, n_liked=2, fresh=0, organic=0, steps=3000, history=3000,
        leaving=0.0, leaving_dissatisfied=0.0,
    )  # fmt: skip
    users = begun(oracle, 200)
    offs = {}
    for step in range(3000):
        if step in (30, 300):
            told = observed(oracle, users.observe()).liking
            offs[step] = np.abs(told - users.appeal).mean()
        users.answer(np.full(200, step % 12))
    told = observed(oracle, users.observe()).liking
    quality = np.bincount(users.catalogue.topics, users.catalogue.quality) * 250
    # each topic was shown 1,000 times: a binomial share, by the quality of its items
    error = (users.appeal / quality) ** 0.5
    assert (np.abs(told - users.appeal) <= 5 * error + 2 / quality).all()
    assert np.abs(told - users.appeal).mean() < offs[300] < offs[30]


# ---------------------------------------------------------------------- the best that is not stale


def slow_best(oracle, seen):
    """(users, topics) by loops: the best item of a topic that is not stale; the best if all are."""
    catalogue, found = catalogue_of(oracle), []
    for user in range(seen.shape[1]):
        row = []
        for topic in range(oracle.n_topics):
            items = np.flatnonzero(catalogue.topics == topic).tolist()
            items.sort(key=lambda item: (-catalogue.quality[item], item))
            fresh = [item for item in items if item not in seen[:, user].tolist()]
            row.append((fresh or items)[0])
        found.append(row)
    return found


@settings(max_examples=settings().max_examples // 4)
@given(oracle=oracles(), chance=st.integers(0, 2**32))
def test_the_best_item_of_each_topic_that_is_not_stale(oracle, chance):
    seen = np.random.default_rng(chance).integers(oracle.n_items + 1, size=(oracle.fresh, 5))
    assert _best_fresh(oracle, seen).tolist() == slow_best(oracle, seen)
    known = begun(oracle, 5, chance)
    wanted = []
    for row, liking in zip(slow_best(oracle, known.seen), known.liking(), strict=True):
        worth = liking * known.catalogue.quality[row]
        wanted.append(row[int(worth.argmax())])
    assert recommended(oracle, hidden(known), greedy_worth).tolist() == wanted


def test_lists_of_the_best_repeat_the_last_where_a_topic_is_small():
    made = Catalogue(7, 3, (0.4, 1.0), (0.1, 0.9), 0)  # topics of three, two and two items
    ranked = _best(made, 4)
    for topic, row in enumerate(ranked.tolist()):
        items = np.flatnonzero(made.topics == topic)
        wanted = items[np.argsort(-made.quality[items])].tolist()
        assert row == (wanted + wanted[-1:] * 4)[:4]


@pytest.mark.parametrize("fresh", [0, 3, 30])
def test_the_most_popular_item_that_is_not_stale(fresh):
    oracle = Oracle(**SMALL | {"fresh": fresh, "steps": 50})
    users = begun(oracle, 30)
    ranked = np.argsort(users.catalogue.ranks).tolist()
    for _ in range(12):
        items = reference_policies()["popular"](users)
        for user, item in enumerate(items.tolist()):
            stale = set(users.seen[:, user].tolist())
            fitting = [other for other in ranked if other not in stale]
            assert item == (fitting or ranked)[0]
        users.answer(items)


# -------------------------------------------------------------- logging policies, and how probable


def slow_worth(oracle, name, liking, tired, dissatisfaction, left):
    """What keeping to each topic is worth: by its liking, or by its mean return."""
    if name != "expert":
        return list(liking)
    found = []
    for topic, hold in enumerate(catalogue_of(oracle).hold.tolist()):
        likes, unhappy, stays, worth = liking[topic], dissatisfaction, 1.0, 0.0
        for _ in range(left):
            accepts = likes  # of a perfect item
            worth += stays * accepts
            likes += oracle.drift * accepts * (hold - likes)
            unhappy = oracle.memory * unhappy + (1 - oracle.memory) * (1 - accepts)
            stays *= 1 - oracle.leaving - oracle.leaving_dissatisfied * unhappy
        found.append(worth * (1e-6 if tired[topic] else 1))
    return found


def slow_told(oracle, observation):
    """What one observation tells, by loops over what was shown."""
    length, catalogue = oracle.history, catalogue_of(oracle)
    shown = [
        (item, response)
        for item, response in zip(observation[:length], observation[length:], strict=True)
        if response != PAD
    ]
    liking, tired, unhappy = [], [], 0.0
    for topic in range(oracle.n_topics):
        own = [(item, response) for item, response in shown if catalogue.topics[item] == topic]
        taken = sum(response != SKIP for _, response in own)
        perfect = sum(catalogue.quality[item] for item, _ in own)
        liking.append((taken + 0.4) / (perfect + 2))
        last = shown[max(len(shown) - oracle.within + 1, 0) :]
        accepted = [
            catalogue.topics[item] == topic and response in (CLICK, BUY) for item, response in last
        ]
        tired.append(oracle.boring > 0 and sum(accepted) + 1 >= oracle.boring)
    for _, response in shown:
        unhappy = oracle.memory * unhappy + (1 - oracle.memory) * (response == SKIP)
    left = oracle.steps - sum(response != ORGANIC for _, response in shown)
    return liking, tired, unhappy, left


def slow_probabilities(oracle, name, observation, liking=None):
    """The probability of every item, as a tier's words say it; `liking` where it sees that."""
    catalogue, tier = catalogue_of(oracle), TIERS[name]
    n_items, topics = oracle.n_items, catalogue.topics.tolist()
    if name == "random":
        return np.full(n_items, 1 / n_items)
    told = slow_told(oracle, observation)
    worth = slow_worth(oracle, name, *(told if liking is None else (liking, *told[1:])))
    power = {"medium": 4, "expert": 32, "privileged": 8}[name]
    shares = [(value / max(worth)) ** power for value in worth]
    weights = catalogue.quality**8 if name == "expert" else 1 / (1.0 + catalogue.ranks)
    found = []
    for item in range(n_items):
        own = sum(weights[other] for other in range(n_items) if topics[other] == topics[item])
        chosen = shares[topics[item]] / sum(shares) * weights[item] / own
        found.append((1 - tier.floor) * chosen + tier.floor / n_items)
    return np.array(found)


@pytest.mark.parametrize("world", [{}, {"boring": 2}, {"drift": 0.2}], ids=list(ORACLES))
@pytest.mark.parametrize("name", TIERS)
def test_propensities_are_the_probabilities_that_a_slow_policy_writes_out(world, name):
    oracle, count = Oracle(**SMALL | world), 40
    users, policy = begun(oracle, count), LoggingPolicy(TIERS[name])
    policy.begin(users, np.arange(count, dtype=np.uint64))
    least = 1.0
    for _ in range(oracle.steps - 1):
        observations = users.observe()
        items, propensities = policy.act(observations)
        assert ((items >= 0) & (items < oracle.n_items)).all()
        for user in range(0, count, 4):
            liking = users.liking()[user].tolist() if name == "privileged" else None
            wanted = slow_probabilities(oracle, name, observations[user].tolist(), liking)
            assert wanted.sum() == pytest.approx(1)
            assert propensities[user] == pytest.approx(wanted[items[user]])
        assert propensities.max() <= 1
        least = min(least, propensities.min())
        users.answer(items)
    floor = TIERS[name].floor / oracle.n_items
    assert least >= floor * (1 - 1e-12) and (least < 1.5 * floor or name == "privileged")


def state_of(oracle, steps=7):
    """An observation in which something has happened, and the user whose it is."""
    users = begun(oracle, 60, 17)
    policy = LoggingPolicy(TIERS["medium"])
    policy.begin(users, np.arange(60, dtype=np.uint64))
    for _ in range(steps):
        users.answer(policy.act(users.observe())[0])
    observations = users.observe()
    accepted = (observations[:, oracle.history :] == CLICK).sum(1)
    user = int(np.argmax(accepted == 2))
    return observations[user], users.liking()[user]


def drawn(oracle, name, observation, liking, count, seed=0):
    """What a tier does from one observation, over many sessions."""
    users = OracleUsers(count, oracle)
    users.appeal[:] = liking
    policy = LoggingPolicy(TIERS[name])
    policy.begin(users, np.arange(seed, seed + count, dtype=np.uint64))
    for _ in range(2):  # the first and the second step draw anew
        items, propensities = policy.act(np.tile(observation, (count, 1)))
        yield items, propensities


@pytest.mark.parametrize("world", [{"boring": 2}, {"drift": 0.2}], ids=["boredom", "drift"])
@pytest.mark.parametrize("name", TIERS)
def test_actions_are_as_frequent_as_they_say(world, name):
    oracle = Oracle(**SMALL | world)
    observation, liking = state_of(oracle)
    sees = liking.tolist() if name == "privileged" else None
    wanted = slow_probabilities(oracle, name, observation.tolist(), sees)
    count = 60_000
    for items, propensities in drawn(oracle, name, observation, liking, count):
        assert propensities == pytest.approx(wanted[items])
        assert wanted.min() * count > 20  # enough for each cell
        assert abs(surprise(np.bincount(items, minlength=24), wanted * count)) < 4.5
        # an item is as frequent as it is probable: its inverse propensity has mean one
        weights = np.bincount(items, 1 / propensities, 24) / count
        errors = ((1 / wanted - 1) / count) ** 0.5
        assert (np.abs(weights - 1) <= 4.5 * errors).all()


@pytest.mark.parametrize("name", WORLDS)
def test_no_item_is_less_probable_than_the_floor(name):
    oracle = WORLDS[name]
    for tier in TIERS.values():
        users, policy = begun(oracle, 500), LoggingPolicy(tier)
        policy.begin(users, np.arange(500, dtype=np.uint64))
        for _ in range(20):
            items, propensities = policy.act(users.observe())
            assert propensities.min() >= tier.floor / 1000 * (1 - 1e-12)
            users.answer(items)


def test_every_session_of_the_mixed_log_is_one_tiers_a_third_each():
    oracle, count = Oracle(**SMALL), 90
    users, policy = begun(oracle, count), LoggingPolicy(*(TIERS[name] for name in MIXED))
    policy.begin(users, np.arange(count, dtype=np.uint64))
    fitting = np.ones((count, len(MIXED)), bool)
    for _ in range(oracle.steps - 1):
        observations = users.observe()
        items, propensities = policy.act(observations)
        for user in range(count):
            for place, name in enumerate(MIXED):
                if fitting[user, place]:
                    told = slow_probabilities(oracle, name, observations[user].tolist())
                    wanted = told[items[user]]
                    fitting[user, place] = propensities[user] == pytest.approx(wanted, rel=1e-9)
        users.answer(items)
    assert (fitting.sum(1) == 1).all()
    # what random does says which sessions are its own, of many more
    many = begun(oracle, 30_000)
    policy.begin(many, np.arange(30_000, dtype=np.uint64))
    ones = np.stack([policy.act(many.observe())[1] for _ in range(3)])
    own = (ones == 1 / 24).all(0)
    alone = LoggingPolicy(TIERS["expert"])
    alone.begin(many, np.arange(30_000, dtype=np.uint64))
    sure = np.stack([alone.act(many.observe())[1] for _ in range(3)])
    expert = (ones == sure).all(0)  # the same draws, hence the same items
    counts = [own.sum(), expert.sum(), 30_000 - (own | expert).sum()]
    assert not (own & expert).any() and abs(surprise(counts, 10_000)) < 4.5


def test_a_session_is_drawn_from_its_own_seed():
    oracle = Oracle(**SMALL)

    def actions(seeds):
        users, policy = begun(oracle, len(seeds)), LoggingPolicy(*TIERS.values())
        for rows in (users.appeal, users.seen.T):
            rows[:] = rows[0]
        observations = np.tile(users.observe()[:1], (len(seeds), 1))
        policy.begin(users, np.array(seeds, np.uint64))
        return np.stack([policy.act(observations)[0] for _ in range(6)], 1).tolist()

    several = actions([5, 2**64 - 1, 9, 0])
    assert [actions([seed])[0] for seed in (5, 2**64 - 1, 9, 0)] == several
    assert len({tuple(row) for row in several}) == 4


def test_the_draws_of_a_policy_are_not_those_of_other_users():
    """Seed 0's policy must not know how the user of another seed answers."""
    users, policy = begun(Oracle(**SMALL), 20_000), LoggingPolicy(TIERS["random"])
    for first in (0, 10**7, 2 * 10**7):
        seeds = np.arange(first, first + 20_000, dtype=np.uint64)
        users.begin(users.rows, keys_of(origins_of(seeds), np.zeros(20_000, np.int64)), {})
        policy.begin(users, seeds)
        policies = np.sort(policy._keys)
        assert not np.isin(policies, users.keys).any()


@pytest.mark.parametrize(
    "world",
    [
        {"n_topics": 1, "n_liked": 1, "boring": 1, "locked_appeal": 0.0, "liked": (0.9, 0.9)},
        {"n_liked": 0, "other": (0.0, 0.0)},
        {"quality": (0.0, 0.0)},
        {"drift": 1.0, "hold": (0.0, 0.0)},
        {"steps": 5, "history": 40},
    ],
    ids=["all locked", "nothing liked", "nothing good", "nothing lasts", "short"],
)
@pytest.mark.parametrize("name", TIERS)
def test_propensities_are_true_where_users_like_nothing(world, name):
    oracle = Oracle(**SMALL | world)
    users, policy = begun(oracle, 300), LoggingPolicy(TIERS[name])
    policy.begin(users, np.arange(300, dtype=np.uint64))
    floor = TIERS[name].floor / oracle.n_items
    for _ in range(oracle.steps):
        items, propensities = policy.act(users.observe())
        assert (propensities >= floor * (1 - 1e-12)).all() and (propensities <= 1).all()
        users.answer(items)


# -------------------------------------------------------------------------- importance sampling


@pytest.mark.parametrize(("logging", "target"), [("random", "medium"), ("medium", "expert")])
def test_weighted_rewards_of_the_first_step_are_what_the_target_earns(logging, target):
    oracle, count = Oracle(**SMALL), 6000
    users, policy = begun(oracle, count, 3 * 10**6), LoggingPolicy(TIERS[logging])
    policy.begin(users, np.arange(3 * 10**6, 3 * 10**6 + count, dtype=np.uint64))
    observations = users.observe()
    items, propensities = policy.act(observations)
    wanted = np.stack([slow_probabilities(oracle, target, row) for row in observations.tolist()])
    every = np.tile(np.arange(24), (count, 1))
    truth = (wanted * users.expected_rewards(every)).sum(1)
    rewards, *_ = users.answer(items)
    weights = wanted[users.rows, items] / propensities
    assert abs(weights.mean() - 1) <= 4.5 * weights.std() / count**0.5
    off = weights * rewards - truth
    assert abs(off.mean()) <= 4.5 * off.std() / count**0.5 and truth.mean() > 0.03


def test_weighted_returns_of_the_random_log_are_those_of_another_policy():
    oracle, count = Oracle(**SMALL | {"steps": 3, "n_items": 12, "n_topics": 3}), 3000
    played = {}
    for name in ("random", "medium"):
        users, policy = begun(oracle, count), LoggingPolicy(TIERS[name])
        policy.begin(users, np.arange(count, dtype=np.uint64))
        weights, there, total = np.ones(count), np.ones(count, bool), np.zeros(count)
        for _ in range(3):
            observations = users.observe()
            items, propensities = policy.act(observations)
            if name == "random":
                wanted = [
                    slow_probabilities(oracle, "medium", row)[item]
                    for row, item in zip(observations.tolist(), items.tolist(), strict=True)
                ]
                weights = np.where(there, weights * wanted / propensities, weights)
            rewards, left, cut = users.answer(items)
            total += weights * rewards * there  # per decision
            there &= ~(left | cut)
        played[name] = total
    off = played["random"].mean() - played["medium"].mean()
    error = (sum(total.var() for total in played.values()) / count) ** 0.5
    assert abs(off) <= 4.5 * error and error < played["medium"].mean() / 10


def test_tiers_are_what_their_words_say():
    assert list(TIERS) == ["random", "medium", "expert", "privileged"]
    assert [tier.sees for tier in TIERS.values()] == [False, False, False, True]
    assert all(0 < tier.floor <= 1 for tier in TIERS.values()) and tuple(TIERS)[:3] == MIXED
    assert RESPONSES == ("skip", "click", "buy", "organic")


@pytest.mark.parametrize("name", WORLDS)
def test_the_tiers_of_logs_earn_more_from_one_to_the_next(name):
    means = {}
    for tier in ("random", "medium", "expert"):
        policy = LoggingPolicy(TIERS[tier])
        users = begun(WORLDS[name], 1500, 7 * 10**7)
        policy.begin(users, np.arange(1500, dtype=np.uint64))
        total, there = np.zeros(1500), np.ones(1500, bool)
        while there.any():
            rewards, left, cut = users.answer(policy.act(users.observe())[0])
            total += rewards * there
            there &= ~(left | cut)
        means[tier] = total
    assert better(means["medium"], means["random"]) and better(means["expert"], means["medium"])
    assert not better(means["expert"], returns_of(
        WORLDS[name], reference_policies()["planner"],
        np.arange(7 * 10**7, 7 * 10**7 + 1500, dtype=np.uint64),
    ))  # fmt: skip


def test_scores_are_normalised_by_random_and_the_planner():
    for known in frozen().values():
        scores = known["scores"]
        assert normalised(scores, scores["random"]["mean"]) == 0
        assert normalised(scores, scores["planner"]["mean"]) == pytest.approx(100)
        assert 0 < normalised(scores, scores["observer"]["mean"]) < 100
