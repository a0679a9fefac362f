"""Oracle users against one slow user in plain Python, and their frequencies against their truth."""

import copy
import json
from bisect import bisect_right
from itertools import accumulate

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.envs import ORACLES
from recgym.envs.catalogue import Catalogue
from recgym.envs.draws import keys_of, origins_of
from recgym.envs.frozen import as_json, frozen
from recgym.envs.oracle import BUY, CLICK, ORGANIC, RESPONSES, SKIP, Oracle, OracleUsers
from recgym.envs.policies import reference_policies
from recgym.errors import InvalidArgument

from ..sentences import said
from .test_draws import key_of, surprise, uniform

IDS = [f"recgym/{name}-v0" for name in ORACLES]
WORLDS = {name: Oracle(**parameters) for name, (_, parameters) in ORACLES.items()}
NONE_YET = len(RESPONSES)  # the response before the first, and the pad of the window

SHARES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1)
BOUNDS = st.tuples(SHARES, SHARES).map(sorted).map(tuple)


@st.composite
def oracles(draw):
    """Worlds of all kinds, small enough for a slow user."""
    n_items = draw(st.integers(1, 30))
    n_topics = draw(st.integers(1, min(n_items, 5)))
    return Oracle(
        n_items=n_items,
        n_topics=n_topics,
        n_liked=draw(st.integers(0, n_topics)),
        liked=draw(BOUNDS),
        other=draw(BOUNDS),
        quality=draw(BOUNDS | st.just((1.0, 1.0))),
        buying=draw(SHARES),
        click_reward=draw(st.sampled_from([0.2, -1.0, 0.0])),
        buy_reward=draw(st.sampled_from([1.0, 5])),
        fresh=draw(st.integers(0, 6)),
        boring=draw(st.integers(0, 4)),
        within=draw(st.integers(1, 7)),
        locked=draw(st.integers(0, 8)),
        locked_appeal=draw(SHARES),
        drift=draw(st.just(0.0) | SHARES),
        hold=draw(BOUNDS),
        memory=draw(SHARES),
        leaving=draw(st.sampled_from([0.0, 0.02, 0.3])),
        leaving_dissatisfied=draw(st.sampled_from([0.0, 0.05, 0.7])),
        steps=draw(st.integers(1, 20)),
        organic=draw(st.integers(0, 8)),
        history=draw(st.integers(1, 30)),
        catalogue=draw(st.integers(0, 9)),
    )


class SlowUser:
    """One user as `Oracle` describes them, in plain loops and with one draw at a time."""

    def __init__(self, o, seed, episode=0):
        made = Catalogue(o.n_items, o.n_topics, o.quality, o.hold, o.catalogue)
        self.o, self.key = o, key_of(seed, episode)
        self.topics, self.quality = made.topics.tolist(), made.quality.tolist()
        self.hold = made.hold.tolist()
        count = o.n_topics
        draws = [uniform(self.key, 0, place) for place in range(2 * (count + o.organic))]
        liked = sorted(range(count), key=draws.__getitem__)[: o.n_liked]
        self.appeal = []
        for topic in range(count):
            low, high = o.liked if topic in liked else o.other
            self.appeal.append(low + draws[count + topic] * (high - low))
        # popularity adds up over all items, topic by topic, and a draw falls on one of them
        popularity = made.popularity.tolist()
        order = sorted(range(o.n_items), key=lambda item: (self.topics[item], item))
        heaps = list(accumulate((popularity[item] for item in order), initial=0.0))
        self.shown = []  # (item, response), oldest first
        for place in range(o.organic):
            topic = self.drawn_topic(draws[2 * count + place])
            first = [self.topics[item] for item in order].index(topic)
            end = first + self.topics.count(topic)
            wanted = heaps[first] + draws[2 * count + o.organic + place] * (
                heaps[end] - heaps[first]
            )
            at = min(max(bisect_right(heaps, wanted) - 1, first), end - 1)
            self.shown.append((order[at], ORGANIC))
        self.steps, self.dissatisfaction = 0, 0.0
        self.accepted = []  # of each step the topic that was accepted, or None
        self.locked_for = [0] * count  # steps to come

    def drawn_topic(self, draw):
        wanted, total = draw * list(accumulate(self.appeal))[-1], 0.0
        for topic, appeal in enumerate(self.appeal):
            total += appeal
            if total > wanted:
                return topic
        return len(self.appeal) - 1

    def liking(self):
        factors = [self.o.locked_appeal if left else 1.0 for left in self.locked_for]
        return [appeal * factor for appeal, factor in zip(self.appeal, factors, strict=True)]

    def accepting(self, item):
        recent = self.shown[-self.o.fresh :] if self.o.fresh else []
        if item in [seen for seen, _ in recent]:
            return 0.0
        topic = self.topics[item]
        probability = self.appeal[topic] * self.quality[item]
        return probability * self.o.locked_appeal if self.locked_for[topic] else probability

    def tired(self, topic):
        """Would one more lock it?"""
        if not self.o.boring:
            return False
        others = self.accepted[1 - self.o.within :] if self.o.within > 1 else []
        return others.count(topic) + 1 >= self.o.boring

    def leaving(self, accepted):
        after = self.o.memory * self.dissatisfaction + (1 - self.o.memory) * (not accepted)
        return self.o.leaving + self.o.leaving_dissatisfied * after

    def step(self, item):
        """The reward, and whether the user leaves or the episode is cut."""
        o, topic, probability = self.o, self.topics[item], self.accepting(item)
        answer, leave = (uniform(self.key, self.steps + 1, draw) for draw in range(2))
        accepts, buys = answer < probability, answer < probability * o.buying
        locks = accepts and self.tired(topic)
        leaves = leave < self.leaving(accepts)
        self.accepted.append(topic if accepts else None)
        self.locked_for = [max(left - 1, 0) for left in self.locked_for]
        if locks:
            self.locked_for[topic] = o.locked
        if accepts and o.drift:
            self.appeal = [appeal * (1 - o.drift) for appeal in self.appeal]
            self.appeal[topic] += o.drift * self.hold[topic]
        self.dissatisfaction = o.memory * self.dissatisfaction + (1 - o.memory) * (not accepts)
        self.shown.append((item, BUY if buys else CLICK if accepts else SKIP))
        self.steps += 1
        reward = o.buy_reward if buys else o.click_reward if accepts else 0.0
        return reward, leaves, self.steps == o.steps and not leaves

    def observation(self):
        last = self.shown[-self.o.history :]
        pads = self.o.history - len(last)
        return (
            [item for item, _ in last]
            + [self.o.n_items] * pads
            + [response for _, response in last]
            + [NONE_YET] * pads
        )

    def behaviour(self):
        return self.shown[-1][1] if self.steps else NONE_YET


def begun(oracle, count, first_seed=0):
    """A batch of users at the beginning of their first episode."""
    users = OracleUsers(count, oracle)
    seeds = np.arange(first_seed, first_seed + count, dtype=np.uint64)
    users.begin(users.rows, keys_of(origins_of(seeds), np.zeros(count, np.int64)), {})
    return users


def accepting_all(oracle, count, **parameters):
    """Users who accept whatever is not fresh in memory, as long as no topic is locked."""
    sure = {"liked": (1.0, 1.0), "other": (1.0, 1.0), "quality": (1.0, 1.0), "hold": (1.0, 1.0)}
    stay = {"leaving": 0.0, "leaving_dissatisfied": 0.0}
    return begun(Oracle(**vars(oracle) | sure | stay | parameters), count)


def items_of(users, topic):
    return np.flatnonzero(users.catalogue.topics == topic)


def within(share, wanted, count):
    """Is a share of so many what it should be, within 4.5 standard errors, or 5 where few are?"""
    return (
        abs(share - wanted)
        <= 4.5 * (wanted * (1 - wanted) / count) ** 0.5 + 5 * (0 < wanted < 1) / count
    )


# -------------------------------------------------------------------------- against a slow user


@given(oracle=oracles(), seed=st.integers(0, 2**32), chance=st.integers(0, 2**32))
def test_a_batch_is_as_many_slow_users(oracle, seed, chance):
    count, every = 3, np.arange(oracle.n_items)
    users, rng = begun(oracle, count, seed), np.random.default_rng(chance)
    slow = [SlowUser(oracle, seed + user) for user in range(count)]
    episodes = [0] * count
    worth = oracle.click_reward + oracle.buying * (oracle.buy_reward - oracle.click_reward)
    for _ in range(25):
        assert users.observe().tolist() == [user.observation() for user in slow]
        assert users.infos()["behaviour"].tolist() == [user.behaviour() for user in slow]
        assert users.appeal.tolist() == [user.appeal for user in slow]
        assert users.liking().tolist() == [user.liking() for user in slow]
        if oracle.boring:
            locked = np.maximum(users.unlocked - users.steps[:, None], 0)
            assert locked.tolist() == [user.locked_for for user in slow]
        assert users.dissatisfaction.tolist() == [user.dissatisfaction for user in slow]
        topics = range(oracle.n_topics)
        assert users.tired().tolist() == [[u.tired(topic) for topic in topics] for u in slow]
        accepting = users.accepting(np.tile(every, (count, 1)))
        assert accepting.tolist() == [[u.accepting(i) for i in every.tolist()] for u in slow]
        expected = users.expected_rewards(np.tile(every, (count, 1)))
        assert expected == pytest.approx(accepting * worth)
        for accepted in (True, False):
            assert users.leaving(accepted).tolist() == [u.leaving(accepted) for u in slow]
        best = np.array([int(np.argmax(user.appeal)) for user in slow])
        favourite = [rng.choice(items_of(users, topic)) for topic in best]
        actions = np.where(rng.random(count) < 0.6, favourite, rng.integers(oracle.n_items, size=3))
        rewards, left, cut = users.answer(actions)
        answers = [user.step(item) for user, item in zip(slow, actions.tolist(), strict=True)]
        assert list(zip(rewards, left, cut, strict=True)) == answers
        over = np.flatnonzero(left | cut)
        for user in over.tolist():
            assert users.observe()[user].tolist() == slow[user].observation()
            episodes[user] += 1
            slow[user] = SlowUser(oracle, seed + user, episodes[user])
        origins = origins_of(seed + over.astype(np.uint64))
        users.begin(over, keys_of(origins, np.array(episodes)[over]), {})


@settings(max_examples=settings().max_examples // 4)
@given(oracle=oracles(), seed=st.integers(0, 2**64 - 1), chance=st.integers(0, 2**32))
def test_an_environment_is_one_slow_user_after_another(oracle, seed, chance):
    rng = np.random.default_rng(chance)
    env = gymnasium.make("recgym/OracleStatic-v0", **vars(oracle))
    for episode in range(3):
        observation, info = env.reset(seed=seed if not episode else None)
        slow, over = SlowUser(oracle, seed, episode), False
        assert observation.tolist() == slow.observation() and info == {"behaviour": NONE_YET}
        while not over:
            action = int(rng.integers(oracle.n_items))
            observation, reward, terminated, truncated, info = env.step(action)
            assert (reward, terminated, truncated) == slow.step(action)
            assert observation.tolist() == slow.observation() and observation.dtype == np.int32
            assert info == {"behaviour": slow.behaviour()}
            over = terminated or truncated


# ---------------------------------------------------------------------------- what is frozen


def test_parameters_are_the_frozen_ones():
    assert list(frozen()) == IDS
    for env_id, (name, oracle) in zip(IDS, WORLDS.items(), strict=True):
        env = gymnasium.make(env_id)
        assert env.unwrapped.users.oracle == oracle, name
        assert (
            frozen()[env_id]["parameters"]
            == as_json(oracle)
            == json.loads(json.dumps(vars(oracle)))
        )
        assert env.action_space.n == 1000 and env.observation_space.shape == (50,)
        assert env.metadata["layout"] == {"history": (0, 25), "responses": (25, 50)}


# --------------------------------------------------------------------- what users are drawn to be


def test_a_user_likes_exactly_so_many_topics_and_appeals_are_even_in_their_bounds():
    oracle = Oracle(n_items=50, n_topics=7, n_liked=2, liked=(0.5, 0.9), other=(0.1, 0.4))
    appeal = begun(oracle, 20_000).appeal
    liked = appeal >= 0.5
    assert (liked.sum(1) == 2).all()
    assert abs(surprise(liked.sum(0), 20_000 * 2 / 7)) < 4.5  # each as often as another
    pairs = np.bincount(liked @ 2 ** np.arange(7), minlength=128)
    pairs = pairs[[mask.bit_count() == 2 for mask in range(128)]]
    assert abs(surprise(pairs, 20_000 / 21)) < 4.5
    for chosen, (low, high) in ((liked, (0.5, 0.9)), (~liked, (0.1, 0.4))):
        places = (appeal[chosen] - low) / (high - low)
        assert places.min() >= 0 and places.max() <= 1
        counts = np.bincount((places * 20).astype(int), minlength=20)
        assert abs(surprise(counts, chosen.sum() / 20)) < 4.5


def test_what_was_consumed_before_is_drawn_by_appeal_and_popularity():
    oracle = Oracle(n_items=30, n_topics=4, n_liked=2, other=(0.05, 0.1), organic=5)
    users = begun(oracle, 20_000)
    catalogue, consumed = users.catalogue, users.observe()[:, :5]
    assert (users.observe()[:, 25:] == [ORGANIC] * 5 + [NONE_YET] * 20).all()
    topics = users.appeal / users.appeal.sum(1, keepdims=True)
    popularity = catalogue.popularity / np.bincount(catalogue.topics, catalogue.popularity).take(
        catalogue.topics
    )
    assert sorted(catalogue.popularity) == [1 / (30 - k) for k in range(30)]  # Zipf's
    wanted = topics[:, catalogue.topics] * popularity
    assert wanted.sum(1) == pytest.approx(np.ones(20_000))
    for place in range(5):
        counts = np.bincount(consumed[:, place], minlength=30)
        assert abs(surprise(counts, wanted.sum(0))) < 4.5
    # liked topics are what is consumed, and one choice says nothing of the next
    liked = users.appeal >= 0.45
    share = np.take_along_axis(liked, catalogue.topics[consumed].astype(int), 1)
    expected = (topics * liked).sum(1)
    assert within(share.mean(), expected.mean(), share.size) and expected.mean() > 0.85
    off = share - expected[:, None]
    assert abs(np.mean(off[:, 0] * off[:, 1])) < 4.5 * np.var(off) / 20_000**0.5


def test_users_who_like_nothing_consume_something():
    users = begun(Oracle(n_items=9, n_topics=3, n_liked=0, other=(0.0, 0.0)), 50)
    assert (users.observe()[:, :5] < 9).all()
    assert not users.answer(np.zeros(50, int))[0].any()


# ----------------------------------------------------------------------- frequencies are the truth


def alike(users, user):
    """Give all users the state of one of them, but draws of their own."""
    for state in (users.appeal, users.unlocked, users.dissatisfaction, users.steps):
        state[:] = state[user]
    for ring in (users.seen, users._accepted):
        ring[:] = ring[:, user : user + 1]
    return users


@pytest.mark.parametrize("name", WORLDS)
def test_answers_and_rewards_are_as_frequent_as_users_say(name):
    users = begun(WORLDS[name], 64_000, first_seed=5 * 10**7)
    act = reference_policies()["greedy-seeing"]
    few = begun(WORLDS[name], 500, first_seed=6 * 10**7)
    for _ in range(9):  # into a state in which much has happened
        few.answer(act(few))
    fit = few.dissatisfaction > 0
    if name == "OracleBoredom":
        fit &= (few.liking() < few.appeal).any(1)
    user = int(np.argmax(np.where(fit, few.liking().max(1), -1)))  # who still likes something
    for state in ("appeal", "unlocked", "dissatisfaction", "steps"):
        getattr(users, state)[0] = getattr(few, state)[user]
    users.seen[:, 0], users._accepted[:, 0] = few.seen[:, user], few._accepted[:, user]
    alike(users, 0)
    best = [items_of(users, topic)[:2] for topic in range(6)]
    shown = np.unique(np.concatenate([*best, few.seen[:2, user]]))
    items = np.resize(shown, 64_000)
    accepting, expected = users.accepting(items), users.expected_rewards(items)
    leaves = {accepted: users.leaving(accepted)[0] for accepted in (True, False)}
    assert leaves[True] < leaves[False]
    rewards, left, _ = users.answer(items)
    responses = users.infos()["behaviour"]
    assert rewards.tolist() == np.array([0.0, 0.2, 1.0])[responses].tolist()
    for item in shown:
        here = items == item
        count, share = here.sum(), accepting[here][0]
        assert (accepting[here] == share).all()
        assert within((responses[here] != SKIP).mean(), share, count)
        assert within((responses[here] == BUY).mean(), share * 0.15, count)
        assert expected[here] == pytest.approx(share * (0.85 * 0.2 + 0.15 * 1.0))
        error = (share * (0.85 * 0.2**2 + 0.15) / count) ** 0.5
        assert abs(rewards[here].mean() - expected[here][0]) <= 4.5 * error + 5 / count
    for accepted in (True, False):
        some = (responses != SKIP) == accepted
        assert some.sum() > 2000 and within(left[some].mean(), leaves[accepted], some.sum())
    if name == "OracleBoredom":
        assert (users.liking() < users.appeal).any()


def test_answers_and_leaving_are_independent():
    users = alike(begun(Oracle(leaving=0.3, leaving_dissatisfied=0.0), 50_000), 0)
    item = int(items_of(users, int(users.appeal[0].argmax()))[0])
    _, left, _ = users.answer(np.full(50_000, item))
    accepted = users.infos()["behaviour"] != SKIP
    assert abs(np.corrcoef(accepted, left)[0, 1]) < 4.5 / 50_000**0.5
    again, _, _ = users.answer(np.full(50_000, (item + 1) % 1000))
    assert abs(np.corrcoef(accepted, again > 0)[0, 1]) < 4.5 / 50_000**0.5


@settings(max_examples=settings().max_examples // 8)
@given(oracle=oracles(), seed=st.integers(0, 2**32))
def test_several_items_at_once_are_one_at_a_time(oracle, seed):
    users, rng = begun(oracle, 4, seed), np.random.default_rng(seed)
    for _ in range(6):
        users.answer(rng.integers(oracle.n_items, size=4))
    items = rng.integers(oracle.n_items, size=(4, 7))
    for truth in (users.accepting, users.expected_rewards):
        columns = [truth(items[:, place]) for place in range(7)]
        assert truth(items).tolist() == np.stack(columns, 1).tolist()
    fresh = ~(users.seen[:, :, None] == items).any(0)
    topics = users.catalogue.topics[items]
    product = np.take_along_axis(users.liking(), topics, 1) * users.catalogue.quality[items]
    assert users.accepting(items)[fresh] == pytest.approx(product[fresh])
    assert not users.accepting(items)[~fresh].any()


# --------------------------------------------------------------- boredom, drift, and what is fresh


@settings(max_examples=settings().max_examples // 4)
@given(
    boring=st.integers(1, 4), within=st.integers(1, 7), locked=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_a_topic_of_which_one_is_tired_is_locked_by_one_more(boring, within, locked, seed):
    oracle = Oracle(
        n_items=6, n_topics=3, n_liked=3, quality=(1.0, 1.0), fresh=0, boring=boring,
        within=within, locked=locked, locked_appeal=1.0, steps=99,
    )  # fmt: skip
    users, rng = begun(oracle, 20, seed), np.random.default_rng(seed)
    for _ in range(12):
        tired = users.tired()
        for topic in range(3):
            probe = copy.deepcopy(users)
            probe.appeal[:] = 1  # who now accepts for sure
            probe.answer(np.full(20, items_of(users, topic)[0]))
            assert (probe.infos()["behaviour"] != SKIP).all()
            locks = probe.unlocked[:, topic] == probe.steps + locked
            assert locks.tolist() == tired[:, topic].tolist()
        users.answer(rng.integers(6, size=20))
    assert boring > 1 or tired.all()


@pytest.mark.parametrize(("boring", "within", "locked"), [(3, 5, 20), (2, 2, 1), (1, 1, 3)])
def test_a_topic_is_locked_for_exactly_so_many_steps(boring, within, locked):
    users = accepting_all(
        Oracle(), 2, boring=boring, within=within, locked=locked, fresh=0, n_items=4, n_topics=4,
        n_liked=4, locked_appeal=0.25, organic=0,
    )  # fmt: skip
    first, second = (np.full(2, items_of(users, topic)[0]) for topic in (0, 1))
    for _ in range(boring):
        assert (users.liking() == 1).all()
        users.answer(first)
    users.appeal[:, 1] = 0  # so that the other topic is skipped, and never locked itself
    seen = []
    for _ in range(locked + 3):
        seen.append(users.accepting(first).tolist())
        users.answer(second)
    assert seen == [[0.25] * 2] * locked + [[1.0] * 2] * 3


def test_accepted_items_that_lie_further_apart_lock_nothing():
    users = accepting_all(Oracle(), 1, boring=3, within=5, fresh=0, n_items=9, n_topics=9)
    for topic in [0, 1, 2, 0, 3, 4, 0, 5, 6] * 3:  # two in any five
        users.answer(items_of(users, topic))
        assert (users.liking() == 1).all()
    for topic in [0, 1, 0, 2, 0]:  # three
        assert (users.liking() == 1).all()
        users.answer(items_of(users, topic))
    assert users.liking().round(12).tolist() == [[0.1] + [1.0] * 8]


def test_skipped_items_lock_nothing():
    users = accepting_all(Oracle(), 1, boring=2, within=5, fresh=10, n_items=5, n_topics=1,
                          n_liked=1, organic=0)  # fmt: skip
    for _ in range(6):
        users.answer(np.array([3]))  # accepted once, then too fresh in memory
    assert users.liking().tolist() == [[1.0]]


@pytest.mark.parametrize("name", ["OracleStatic", "OracleDrift"])
def test_only_in_boredom_a_topic_is_locked(name):
    users, act = begun(WORLDS[name], 200), reference_policies()["greedy-seeing"]
    before = users.appeal.copy()
    for _ in range(30):
        users.answer(act(users))
        assert (users.liking() == users.appeal).all() and not users.tired().any()
        assert (name == "OracleDrift") or (users.appeal == before).all()
    assert (users.appeal != before).any() == (name == "OracleDrift")


@pytest.mark.parametrize("drift", [0.2, 1.0, 0.003])
def test_appeal_follows_what_is_consumed_in_closed_form(drift):
    oracle = Oracle(n_items=200, n_topics=4, drift=drift, fresh=0, steps=99, leaving=0.0)
    users = begun(oracle, 300)
    before, hold = users.appeal.copy(), users.catalogue.hold
    assert sorted(hold) == pytest.approx([0.1 + 0.85 * k / 3 for k in range(4)])
    taken = np.zeros(300, int)
    for _ in range(40):
        users.answer(np.full(300, items_of(users, 2)[0]))
        taken += users.infos()["behaviour"] != SKIP
        kept = (1 - drift) ** taken
        assert users.appeal[:, 2] == pytest.approx(hold[2] + (before[:, 2] - hold[2]) * kept)
        others = [0, 1, 3]
        assert users.appeal[:, others] == pytest.approx(before[:, others] * kept[:, None])
    assert (users.appeal >= 0).all() and (users.appeal <= 1).all() and taken.max() > 3


@pytest.mark.parametrize(("fresh", "organic"), [(0, 3), (1, 3), (3, 3), (5, 3), (4, 0), (2, 6)])
def test_what_is_fresh_in_memory_is_skipped_and_nothing_else(fresh, organic):
    users = accepting_all(Oracle(), 1, fresh=fresh, organic=organic, n_items=12, steps=200)
    past = users.observe()[0, :organic].tolist()
    rng = np.random.default_rng(fresh)
    for item in rng.integers(12, size=150).tolist():
        recent = past[max(len(past) - fresh, 0) :]
        assert users.accepting(np.array([item])) == (item not in recent)
        users.answer(np.array([item]))
        assert (users.infos()["behaviour"][0] == SKIP) == (item in recent)
        past.append(item)


# ---------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("name", WORLDS)
def test_episodes_end_by_leaving_or_by_their_length_and_never_by_both(name):
    users, rng = begun(WORLDS[name], 3000), np.random.default_rng(0)
    there, ends, cuts = np.ones(3000, bool), 0, 0
    for step in range(50):
        _, left, cut = users.answer(rng.integers(1000, size=3000))
        assert not (left & cut).any() and not (cut[there].any() and step < 49)
        ends, cuts = ends + (left & there).sum(), cuts + (cut & there).sum()
        there &= ~(left | cut)
    assert not there.any() and ends + cuts == 3000 and min(ends, cuts) > 100


@pytest.mark.parametrize(("leaving", "ends"), [(0.0, (False, True)), (1.0, (True, False))])
def test_who_leaves_in_the_last_step_has_left(leaving, ends):
    steps = 1 if leaving else 7
    users = begun(Oracle(leaving=leaving, leaving_dissatisfied=0.0, steps=steps), 100)
    for step in range(1, steps + 1):
        _, left, cut = users.answer(np.zeros(100, int))
        assert (left == (step == steps and ends[0])).all()
        assert (cut == (step == steps and ends[1])).all()


# ----------------------------------------------------------------------------- nothing leaks


@pytest.mark.parametrize("name", WORLDS)
def test_users_of_one_past_look_the_same_whatever_they_hide(name):
    pairs = 400
    users = OracleUsers(2 * pairs, WORLDS[name])
    origins = origins_of(np.arange(pairs, dtype=np.uint64)).repeat(2)
    users.begin(users.rows, keys_of(origins, np.zeros(2 * pairs, np.int64)), {})
    rng, hidden = np.random.default_rng(0), users.rows % 2 == 1
    users.appeal[hidden] = np.minimum(1, users.appeal[hidden] * 1.25)
    users.dissatisfaction[hidden] = 0.9
    users.unlocked[hidden, :4] = 3
    same, compared = np.ones(pairs, bool), 0
    for _ in range(12):
        seen, infos = users.observe().reshape(pairs, 2, -1), users.infos()
        assert set(infos) == {"behaviour"}
        behaviour = infos["behaviour"].reshape(pairs, 2)
        same &= behaviour[:, 0] == behaviour[:, 1]
        assert (seen[same, 0] == seen[same, 1]).all()
        told = [users.told(user, None, 0.0) for user in range(4)]
        assert told[::2] == told[1::2]
        compared += same.sum()
        users.answer(rng.integers(1000, size=pairs).repeat(2))
    assert compared > 2500 and (users.appeal[::2] != users.appeal[1::2]).any()


@pytest.mark.parametrize("env_id", IDS)
def test_infos_say_the_last_response_and_nothing_else(env_id):
    env = gymnasium.make(env_id)
    _, info = env.reset(seed=1)
    infos = [info] + [env.step(item)[-1] for item in (3, 4)]
    assert [list(info) for info in infos] == [["behaviour"]] * 3
    assert all(type(info["behaviour"]) is int for info in infos)
    envs = gymnasium.make_vec(env_id, num_envs=3, vectorization_mode="vector_entry_point")
    for info in (envs.reset(seed=1)[1], envs.step(np.array([3, 4, 5]))[-1]):
        assert list(info) == ["behaviour", "_behaviour"]


def test_a_session_is_told_in_words():
    env = gymnasium.make("recgym/OracleBoredom-v0", render_mode="ansi")
    observation, _ = env.reset(seed=3)
    titles = env.unwrapped.users.titles
    before, *lines = env.render().splitlines()
    assert before == "before: " + "; ".join(titles[item] for item in observation[:5]) and not lines
    observation, reward, *_, info = env.step(42)
    _, line = env.render().splitlines()
    assert titles[42] in line and RESPONSES[info["behaviour"]] in line and f"{reward:+.2f}" in line
    assert len(set(titles)) == 1000 and titles[42].startswith("The ")


# ---------------------------------------------------------------------------------- parameters


def played(env, seed=5, steps=20):
    """What is seen and earned in some steps."""
    envs = hasattr(env, "num_envs")
    told = [env.reset(seed=seed)[0].tolist()]
    for step in range(steps):
        item = 7 * step % 40
        observation, reward, terminated, *_ = env.step(np.full(2, item) if envs else item)
        told.append((observation.tolist(), np.asarray(reward).tolist()))
        if not envs and terminated:
            break
    return told


PARAMETERS = {
    "n_items": 40, "n_topics": 4, "liked": (0.6, 0.9), "quality": (0.7, 1.0), "hold": (0.2, 0.3),
    "other": (0.0, 0.2), "drift": 0.3, "boring": 2, "leaving": 0.0, "catalogue": 3, "history": 7,
}  # fmt: skip


@pytest.mark.parametrize("how", ["one", "several"])
def test_lists_are_as_good_as_tuples_for_json_knows_no_others(how):
    def made(parameters):
        if how == "one":
            return gymnasium.make("recgym/OracleDrift-v0", **parameters)
        mode = {"num_envs": 2, "vectorization_mode": "vector_entry_point"}
        return gymnasium.make_vec("recgym/OracleDrift-v0", **mode, **parameters)

    through_json = json.loads(json.dumps(PARAMETERS))
    assert through_json["liked"] == [0.6, 0.9]
    one, other = made(PARAMETERS), made(through_json)
    assert played(one) == played(other)
    assert one.observation_space == other.observation_space
    assert as_json(one.unwrapped.users.oracle) == as_json(other.unwrapped.users.oracle)
    known = as_json(one.unwrapped.users.oracle)
    assert known == as_json(Oracle()) | through_json
    assert one.unwrapped.users.space.shape == (14,) and one.unwrapped.users.n_items == 40


def test_an_id_has_its_parameters_and_others_are_added():
    env = gymnasium.make("recgym/OracleBoredom-v0", n_items=60, n_liked=1)
    assert env.unwrapped.users.oracle == Oracle(boring=3, n_items=60, n_liked=1)
    env = gymnasium.make("recgym/OracleBoredom-v0", boring=0)
    assert env.unwrapped.users.oracle == WORLDS["OracleStatic"]


def test_catalogues_of_other_seeds_are_other_worlds_of_the_same_users():
    users = [begun(Oracle(catalogue=seed), 50) for seed in (0, 1, 0)]
    first, other, again = (user.catalogue for user in users)
    assert (first.topics == again.topics).all() and (first.quality == again.quality).all()
    for name in ("topics", "quality", "ranks", "hold"):
        assert (getattr(first, name) != getattr(other, name)).any()
    assert (users[0].appeal == users[1].appeal).all()
    assert (users[0].observe()[:, :5] != users[1].observe()[:, :5]).any()


def test_a_hundred_thousand_items_are_possible():
    users = begun(Oracle(n_items=100_000, boring=3), 64)
    assert users.space.high[0] == 100_000 and len(users.catalogue.titles) == 100_000
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = rng.integers(100_000, size=64)
        users.answer(actions)
    observation = users.observe()
    assert all(row in users.space for row in observation) and (observation[:, :25] > 999).any()
    env = gymnasium.make("recgym/OracleBoredom-v0", n_items=100_000)
    env.reset(seed=0)
    assert env.step(99_999)[0][5] == 99_999


NUMBERS = ["5", 2.5, None, -1, [3], (3,), float("nan"), float("inf"), 3 + 0j]
A_SHARE = ["0.5", None, -0.1, 1.1, (0.1, 0.2), [0.1], float("nan"), float("-inf"), 0.5j]
TWO_SHARES = [
    0.5, "ab", None, (0.5,), (0.1, 0.2, 0.3), (), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), {0.1, 0.2},
    (float("nan"), 0.5), (0.1, float("nan")), ("0", "1"), ((0.1, 0.2), 0.3), [0.8, 0.2], [None, 1],
]  # fmt: skip
REWARDS = ["1", None, float("nan"), float("inf"), -float("inf"), (0.2, 1.0), [1.0], 1j]
WRONG = [
    *[(name, value) for name, value in zip(
        ["n_items", "n_topics", "n_liked", "fresh", "boring", "within", "locked", "steps",
         "organic", "history", "catalogue"] * 9, NUMBERS * 11, strict=True)],
    *[(name, 0) for name in ("n_items", "n_topics", "within", "steps", "history")],
    *[(name, value) for name in ("buying", "locked_appeal", "drift", "memory", "leaving",
                                 "leaving_dissatisfied") for value in A_SHARE],
    *[(name, value) for name in ("liked", "other", "quality", "hold") for value in TWO_SHARES],
    *[(name, value) for name in ("click_reward", "buy_reward") for value in REWARDS],
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_parameter_that_describes_no_users_is_refused(name, value):
    with pytest.raises(InvalidArgument, match=f"^{name} is ") as problem:
        Oracle(**{name: value})
    assert repr(value) in said(problem)


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_items": 5, "n_topics": 6, "n_liked": 1},
        {"n_items": 5},
        {"n_topics": 2},
        {"n_liked": 11},
        {"leaving": 0.6, "leaving_dissatisfied": 0.5},
    ],
)
def test_parameters_that_do_not_go_together_are_refused(parameters):
    for make in (Oracle, lambda **given: gymnasium.make("recgym/OracleDrift-v0", **given)):
        with pytest.raises(InvalidArgument, match="at most") as problem:
            make(**parameters)
        assert all(str(value) in said(problem) for value in parameters.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_items", np.arange(3000).reshape(60, 50)),
        ("liked", [0.1] * 500),
        ("drift", "much" * 500),
        ("click_reward", "a\nb" * 300),
        ("click_reward", 10**400),
        ("catalogue", 2**64),
    ],
    ids=["array", "list", "text", "lines", "endless", "seed"],
)
def test_what_is_long_or_large_is_refused_in_one_short_sentence(name, value):
    with pytest.raises(InvalidArgument, match=f"^{name} is ") as problem:
        gymnasium.make("recgym/OracleStatic-v0", **{name: value})
    assert said(problem)


@pytest.mark.parametrize("vector", [False, True])
def test_an_unknown_parameter_is_refused_and_a_close_one_named(vector):
    with pytest.raises(InvalidArgument, match="Did you mean boring") as problem:
        if vector:
            gymnasium.make_vec(
                "recgym/OracleStatic-v0", vectorization_mode="vector_entry_point", borring=3
            )
        else:
            gymnasium.make("recgym/OracleStatic-v0", borring=3)
    assert "borring" in said(problem)


def test_a_reset_takes_no_options_and_a_refused_one_changes_nothing():
    env, other = gymnasium.make(IDS[1]), gymnasium.make(IDS[1])
    env.reset(seed=4), other.reset(seed=4)
    with pytest.raises(InvalidArgument, match="takes no argument user") as problem:
        env.reset(options={"user": 3})
    assert said(problem)
    for item in (1, 2):
        one, two = env.step(item), other.step(item)
        assert one[0].tolist() == two[0].tolist() and one[1:] == two[1:]
    assert env.reset()[0].tolist() == other.reset()[0].tolist()
