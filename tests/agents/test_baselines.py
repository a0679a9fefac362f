"""Agents that count, recounted slowly from sessions that are made by hand or drawn."""

import json
import math
import tracemalloc
from collections import Counter

import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector.episode_buffer import EpisodeBuffer

import recgym
from recgym.agent import has_chance, load_agent, options_of
from recgym.agents import baselines
from recgym.agents.baselines import VSKNN, ItemKNN, Markov, Popular, Random, RepeatLast
from recgym.errors import InvalidArgument, UnknownName

from ..sentences import said

pytestmark = [
    pytest.mark.filterwarnings("ignore:`eval_env` is set to None:UserWarning"),  # Minari's advice
    pytest.mark.filterwarnings("ignore:env_spec is None:UserWarning"),
]

AGENTS = (Random, Popular, RepeatLast, Markov, ItemKNN, VSKNN)
SKIP, CLICK = 0, 1


def dataset(
    sessions, n_items, *, history=4, skips=False, form="flat", split="train", data_format="recgym"
):
    """Sessions of (item, reward) as a dataset; a session may begin with a list of items: what
    was taken before its first step. With skips, all that is shown is observed with its response.
    """
    parts = {"history": (n_items, history), "responses": (2, history)}
    if not skips:
        del parts["responses"]
    bounds = np.concatenate([np.full(length, high) for high, length in parts.values()])
    space = spaces.Box(0, bounds.astype(np.int32), dtype=np.int32)
    ends = np.cumsum([length for _, length in parts.values()]).tolist()
    layout = {name: [end - history, end] for name, end in zip(parts, ends, strict=True)}
    if form == "dict":
        space = spaces.Dict({
            name: spaces.Box(0, high, (length,), np.int32)
            for name, (high, length) in parts.items()
        })  # fmt: skip
    buffers = []
    for session in sessions:
        before, *steps = session if isinstance(session[0], list) else [[], *session]
        shown, answers, rows = list(before), [CLICK] * len(before), []
        for item, reward in [*steps, (None, None)]:
            row = {}
            for name, seen in (("history", shown), ("responses", answers)):
                if name in parts:
                    high, last = parts[name][0], seen[-history:]
                    row[name] = np.array(last + [high] * (history - len(last)), np.int32)
            rows.append(row)
            shown.append(item)
            answers.append(CLICK if reward else SKIP)
        flat = [np.concatenate(list(row.values())) for row in rows]
        buffers.append(EpisodeBuffer(
            observations={name: np.stack([row[name] for row in rows]) for name in parts}
            if form == "dict" else np.stack(flat),
            actions=np.array([item for item, _ in steps], np.int64),
            rewards=np.array([reward for _, reward in steps], np.float64),
            terminations=np.zeros(len(steps), bool),
            truncations=np.arange(len(steps)) == len(steps) - 1,
        ))  # fmt: skip
    known = f"made/{split}{np.random.default_rng().integers(2**60)}-v0"
    data = minari.create_dataset_from_buffers(
        known, buffers, observation_space=space, action_space=spaces.Discrete(n_items),
        algorithm_name="by hand", author="recgym", author_email="none", code_permalink="none",
        description="by hand", data_format=data_format,
    )  # fmt: skip
    behaviours = ["skip", "click"] if skips else ["click"]
    data.storage.update_metadata({"layout": layout, "behaviours": behaviours, "split": split})
    return minari.load_dataset(known)


def taken(*sessions):
    """Sessions all of whose items were taken."""
    return [[(item, 1.0) for item in session] for session in sessions]


def windows(histories, n_items, length=4):
    """Observations without responses."""
    rows = [list(h)[-length:] for h in histories]
    return np.array([row + [n_items] * (length - len(row)) for row in rows], np.int32)


def ranked(agent, observations):
    """Items of each user, the best first, and of equal ones the first."""
    return np.argsort(-agent.scores(observations, {}), axis=1, kind="stable").tolist()


def drawn_sessions(rng, sessions=40, n_items=12, most=9):
    lengths = rng.integers(1, most + 1, sessions)
    return [rng.integers(0, n_items, length).tolist() for length in lengths]


@st.composite
def worlds(draw):
    """Sessions of a few items, and histories."""
    n_items = draw(st.integers(2, 7))
    some = st.lists(st.integers(0, n_items - 1), min_size=1, max_size=8)
    sessions = draw(st.lists(some, min_size=1, max_size=8))
    histories = draw(
        st.lists(st.lists(st.integers(0, n_items - 1), max_size=4), min_size=1, max_size=4)
    )
    return n_items, sessions, histories


few = settings(max_examples=settings().max_examples // 4)


# ------------------------------------------------------------------------------------- random


def test_random_scores_depend_on_the_seed_and_the_history_alone():
    train = dataset(taken([0, 1], [2]), 50)
    rows = windows([[3, 1], [1, 3], [], [3, 1]], 50)
    scores = Random(seed=4).fit(train).scores(rows, {})
    assert np.array_equal(scores[0], scores[3])
    assert len(np.unique(scores[:3])) > 140
    assert np.array_equal(scores[1:2], Random(seed=4).fit(train).scores(rows[1:2], {}))
    assert not np.array_equal(scores, Random(seed=5).fit(train).scores(rows, {}))
    assert has_chance(Random) and not any(has_chance(agent) for agent in AGENTS[1:])


def test_random_scores_and_actions_are_uniform_over_items():
    n_items, users = 20, 4000
    agent = Random().fit(dataset(taken([0]), n_items))
    rows = np.random.default_rng(0).integers(0, n_items, (users, 4)).astype(np.int32)
    best = agent.scores(rows, {}).argmax(1)
    for items in (best, agent.act(rows, {}), agent.act(np.full_like(rows, n_items), {})):
        counts = np.bincount(items, minlength=n_items)
        assert ((counts - users / n_items) ** 2).sum() / (users / n_items) < 44  # chi square, .1%
    scores = agent.scores(rows, {})
    assert abs(scores.mean() - 0.5) < 0.01 and scores.min() >= 0 and scores.max() < 1


def test_random_recommends_the_same_when_it_is_asked_again():
    agent, rows = Random(seed=1).fit(dataset(taken([0]), 9)), windows([[]] * 30, 9)
    assert np.array_equal(agent.act(rows, {}), agent.act(rows, {}))
    assert len(set(agent.act(rows, {}).tolist())) > 3
    assert agent.parameters == 0


# --------------------------------------------------------------------------- popular, repeat last


def test_popularity_is_how_often_an_item_was_taken():
    train = dataset([[(2, 1.0), (2, 0.2), (0, 1.0)], [(1, 0.0), (1, 0.0), (1, 0.0), (3, -1.0)]], 5)
    scores = Popular().fit(train).scores(windows([[], [4]], 5), {})
    assert scores.tolist() == [[-0.5, -1, 0, -1, -1]] * 2


def test_popularity_is_the_share_of_showings_where_skips_are_known():
    shown = [[(0, 1.0), (0, 0.0), (0, 0.0), (0, 0.0), (0, 1.0), (0, 0.0)], [(1, 1.0)], [(2, 0.0)]]
    agent = Popular().fit(dataset(shown, 4, skips=True))
    mean = 3 / 8
    shares = np.array([3 / (6 + 1 / mean), 2 / (1 + 1 / mean), 1 / (1 + 1 / mean), mean])
    found = agent.scores(np.array([[4] * 4 + [2] * 4]), {})
    assert np.allclose(found[0] + 1, shares / shares.max())
    assert agent.act(np.array([[4] * 4 + [2] * 4]), {}).tolist() == [1]


def test_a_little_evidence_does_not_beat_much():
    """One showing that was taken against ninety of a hundred, where few are."""
    shown = [[(0, 1.0)]] + [[(1, float(k < 90))] for k in range(100)] + [[(2, 0.0)]] * 400
    assert Popular().fit(dataset(shown, 3, skips=True)).act(np.full((1, 8), 3), {}) == [1]


def test_what_was_taken_before_the_first_step_counts_for_sessions_but_not_for_popularity():
    train = dataset([[[2, 3], (0, 1.0), (1, 0.0)], [(4, 1.0)]], 5, skips=True)
    rows = np.array([[3, 1, 0, 5, 1, 0, 1, 2], [2, 3, 5, 5, 1, 1, 2, 2]])
    for agent, wanted in ((ItemKNN, [0, 2, 3]), (VSKNN, [0, 2, 3])):
        scores = agent(budget=0).fit(train).scores(rows[:1], {})
        assert np.flatnonzero(scores[0] > 0).tolist() == wanted
    assert Markov().fit(train).act(rows[1:], {}) == [0]
    assert Popular().fit(train).act(rows, {}).tolist() == [0, 0]


def test_what_was_skipped_before_the_first_step_was_not_taken():
    """An episode that begins in the middle of a session shows what was skipped before."""
    rows = np.array([[0, 1, 3, 3, 1, 0, 2, 2], [0, 1, 2, 3, 1, 0, 1, 2]], np.int32)
    buffer = EpisodeBuffer(
        observations=rows, actions=[2], rewards=[1.0], terminations=[False], truncations=[True]
    )
    train = dataset([[(0, 1.0)]], 3, skips=True)
    train.update_dataset_from_buffer([buffer])
    agent = Markov().fit(minari.load_dataset(train.id))
    assert agent.act(np.array([[0, 3, 3, 3, 1, 2, 2, 2]]), {}) == [2]
    assert agent.scores(np.array([[0, 3, 3, 3, 1, 2, 2, 2]]), {})[0, 1] < 0.2


def test_what_was_taken_last_comes_first_and_then_what_is_popular():
    agent = RepeatLast().fit(dataset(taken([5, 5, 5, 3, 3], [4]), 7))
    assert ranked(agent, windows([[0, 1, 2, 0], [], [6]], 7)) == [
        [0, 2, 1, 5, 3, 4, 6], [5, 3, 4, 0, 1, 2, 6], [6, 5, 3, 4, 0, 1, 2],
    ]  # fmt: skip


def test_pads_may_stand_anywhere_in_a_history():
    agent = RepeatLast().fit(dataset(taken([0]), 3))
    rows = np.array([[2, 3, 3, 1], [3, 2, 3, 1], [2, 1, 3, 3]], np.int32)
    assert len(np.unique(agent.scores(rows, {}), axis=0)) == 1


# ------------------------------------------------------------------------------------- Markov


def test_markov_counts_what_was_taken_right_after():
    train = dataset(
        [*taken([0, 1, 0, 1, 2]), [(0, 1.0), (3, 0.0), (2, 1.0)], [[3, 0], (1, 1.0)]], 5
    )
    scores = Markov().fit(train).scores(windows([[2, 0], [1], [4], []], 5), {})
    popular = np.array([3, 3, 2, 0, 0]) / 8
    after = np.array([[0, 3, 1, 0, 0], [1, 0, 1, 0, 0], [0] * 5, [0] * 5])
    shares = (after + popular) / (after.sum(1, keepdims=True) + 1)
    assert np.allclose(scores, np.where(shares > 0, shares, -1))


@few
@given(worlds())
def test_rows_of_markov_sum_to_one(world):
    n_items, sessions, _ = world
    every = windows([[item] for item in range(n_items)] + [[]], n_items)
    scores = Markov().fit(dataset(taken(*sessions), n_items)).scores(every, {})
    assert np.allclose(np.maximum(scores, 0).sum(1), 1)


# ------------------------------------------------------------------------------------ ItemKNN


def slow_similarity(sessions, n_items, shrink, window):
    """A dense table of how similar items are."""
    counts, times = np.zeros(n_items), np.zeros((n_items, n_items))
    for session in sessions:
        for place, item in enumerate(session):
            counts[item] += 1
            for other, near in enumerate(session):
                times[item, near] += 0 < abs(place - other) <= window
    norms = np.sqrt(counts + shrink)
    return np.divide(times, np.outer(norms, norms), where=times > 0, out=times)


@few
@given(worlds(), st.sampled_from([0.0, 3.0]), st.integers(1, 4), st.sampled_from([0.5, 1.0]))
def test_similarity_is_that_of_a_dense_recount(world, shrink, window, decay):
    n_items, sessions, histories = world
    agent = ItemKNN(shrink, window, decay=decay).fit(dataset(taken(*sessions), n_items))
    similar = slow_similarity(sessions, n_items, shrink, window)
    scores = agent.scores(windows(histories, n_items), {})
    for row, history in zip(scores, histories, strict=True):
        ages = {item: age for age, item in reversed(list(enumerate(reversed(history))))}
        wanted = sum((decay**age * similar[item] for item, age in ages.items()), np.zeros(n_items))
        assert np.allclose(np.maximum(row, 0), wanted)


def test_only_the_most_similar_items_are_kept():
    sessions = [[0, 1]] * 3 + [[0, 2]] * 2 + [[0, 3]]
    agent = ItemKNN(neighbours=2, window=1).fit(dataset(taken(*sessions), 4))
    scores = agent.scores(windows([[0], [3]], 4), {})
    assert (scores > 0).tolist() == [[False, True, True, False], [True, False, False, False]]


def test_items_of_different_sessions_and_far_apart_are_not_similar():
    agent = ItemKNN(window=2).fit(dataset(taken([0, 1, 2, 3], [4]), 5))
    assert (agent.scores(windows([[0], [3], [4]], 5), {}) > 0).tolist() == [
        [False, True, True, False, False], [False, True, True, False, False], [False] * 5,
    ]  # fmt: skip


# -------------------------------------------------------------------------------------- VSKNN


def fading(decay, age, share):
    """A weight by age, as it is written in the paper."""
    return {
        "same": 1.0, "log": 1 / math.log10(age + 1.7), "linear": max(1 - age / 10, 0),
        "div": share, "quadratic": share**2,
    }[decay]  # fmt: skip


def slow_vsknn(agent, sessions, n_items, history):
    """One user, one session, one item at a time."""
    parts = [
        set(session[first : first + agent.longest])
        for session in sessions
        for first in range(0, len(session), agent.longest)
    ]
    ages = {}
    for age, item in enumerate(reversed(history)):
        ages.setdefault(item, age)
    found = []
    for number, part in enumerate(parts):
        shared = sorted(age for item, age in ages.items() if item in part)
        if shared:
            alike = 0.0
            for age in shared:
                alike += fading(agent.decay, age, 1 - age / len(history))
            found.append((alike * len(part) ** -agent.sharing, number, part, shared[0]))
    votes = np.zeros(n_items)
    for alike, _, part, age in sorted(found[-agent.sample :])[-agent.neighbours :]:
        for item in part:
            rarity = math.log(len(parts) / sum(item in other for other in parts))
            vote = alike * fading(agent.match, age, 1 / (1 + age))
            votes[item] += vote * (1 + agent.rarity * rarity)
    return votes


def assert_as_slow(agent, sessions, n_items, histories):
    scores = agent.fit(dataset(taken(*sessions), n_items)).scores(windows(histories, n_items), {})
    for row, history in zip(scores, histories, strict=True):
        wanted = slow_vsknn(agent, sessions, n_items, history)
        assert np.allclose(np.maximum(row, 0), wanted, rtol=1e-6), (agent, history)


DECAYS = st.sampled_from(["same", "log", "linear", "div", "quadratic"])


@few
@given(
    worlds(),
    st.builds(
        VSKNN, longest=st.integers(1, 9), decay=DECAYS, match=DECAYS,
        rarity=st.sampled_from([0.0, 1.0, 7.0]), sharing=st.sampled_from([0.0, 0.25, 1.0]),
    ),
)  # fmt: skip
def test_scores_are_those_of_a_slow_vsknn(world, agent):
    n_items, sessions, histories = world
    assert_as_slow(agent, sessions, n_items, histories)


@pytest.mark.parametrize("seed", range(20))
def test_the_sample_and_the_neighbours_are_those_of_a_slow_vsknn(seed):
    rng = np.random.default_rng(seed)
    sessions = drawn_sessions(rng)
    histories = [rng.integers(0, 12, rng.integers(0, 5)).tolist() for _ in range(9)]
    options = {"neighbours": int(rng.integers(1, 6)), "sample": int(rng.integers(1, 12))}
    for decay in ("same", "div"):  # equal ones are many, and few
        agent = VSKNN(**options, decay=decay, longest=int(rng.integers(2, 9)))
        assert_as_slow(agent, sessions, 12, histories)


def test_a_closed_form_of_vsknn():
    agent = VSKNN(rarity=0, sharing=0).fit(dataset(taken([0, 1, 2], [1, 3], [4]), 5))
    scores = agent.scores(windows([[0, 1], [0, 3], [2]], 5), {})
    found = [[1.5, 2.5, 1.5, 1.0], [0.25, 0.25 + 1, 0.25, 1.0], [1.0, 1.0, 1.0, 0.0]]
    assert np.allclose(np.maximum(scores, 0), [[*row, 0] for row in found])


# --------------------------------------------------------------------------------- repetitions


def without_repeats(rng, sessions, n_items, length):
    return [rng.permutation(n_items)[:length].tolist() for _ in range(sessions)]


@pytest.mark.parametrize("agent", [Popular, Markov, ItemKNN, VSKNN])
def test_items_that_are_never_repeated_come_last(agent):
    sessions = without_repeats(np.random.default_rng(0), 80, 20, 6)
    learned = agent().fit(dataset(taken(*sessions), 20))
    rows = windows(sessions, 20)
    lists = ranked(learned, rows)
    for row, items in zip(rows, lists, strict=True):
        assert set(items[-4:]) == set(row.tolist())
    assert (learned.scores(rows, {}).max(1) > -2).all()


@pytest.mark.parametrize("agent", [Markov, ItemKNN, VSKNN])
def test_items_that_are_repeated_may_come_first(agent):
    sessions = [[k % 7] * 3 + [(k + 1) % 7] for k in range(300)]
    learned = agent().fit(dataset(taken(*sessions), 7))
    assert learned.act(windows([[k] for k in range(7)], 7), {}).tolist() == list(range(7))


def test_only_the_places_of_which_nothing_is_repeated_come_last():
    """What was shown in one of the last two steps is skipped, and then taken again."""
    sessions = [[((k + j) % 3, 1.0) for j in range(30)] for k in range(20)]
    agent = Popular().fit(dataset(sessions, 5, skips=True))
    scores = agent.scores(np.array([[3, 0, 1, 2, 1, 1, 1, 0]]), {})
    assert (scores[0] == -2).tolist() == [False, True, True, False, False]


def test_skipped_items_are_not_shown_again_but_teach_nothing_of_the_user():
    sessions = [
        [(int(item), float(k % 2)) for k, item in enumerate(session)]
        for session in without_repeats(np.random.default_rng(1), 200, 12, 9)
    ]
    train = dataset(sessions, 12, skips=True)
    taken_only, with_skips = np.array([[3, 5, 12, 12, 1, 1, 2, 2], [3, 7, 5, 12, 1, 0, 1, 2]])
    for agent in (Popular, Markov, ItemKNN, VSKNN):
        one, other = agent().fit(train).scores(np.stack([taken_only, with_skips]), {})
        assert other[7] == -2
        # "div" counts items of the history: neither skips nor pads
        assert np.array_equal(np.delete(one, 7), np.delete(other, 7))
    rows = np.stack([taken_only, with_skips])
    one, other = RepeatLast().fit(train).scores(rows, {})
    assert np.array_equal(one, other) and other.argmax() == 5


def test_a_few_takings_do_not_show_that_nothing_is_repeated():
    """A hundred takings after something, and many after nothing."""
    agent = Popular().fit(dataset(taken(*[[0, 1, 2]] * 50, *[[3]] * 300), 4))
    assert agent.act(windows([[3]], 4), {}) == [3]


# ------------------------------------------------------------------------- what all have in common


def world(rng, form="flat", **options):
    """Sessions with skips, as a dataset, and rows that such users show."""
    sessions = [
        [(item, float(rng.random() < 0.6)) for item in session]
        for session in drawn_sessions(rng, 60, 15)
    ]
    sessions = [[rng.integers(0, 15, 2).tolist(), *session] for session in sessions]
    return dataset(sessions, 15, skips=True, form=form, **options)


def observed(rng, users):
    """Flat observations of the world, with histories of every length."""
    sizes = rng.integers(0, 5, users)[:, None]
    there = np.arange(4) < sizes
    items, answers = rng.integers(0, 15, (users, 4)), rng.integers(0, 2, (users, 4))
    parts = [np.where(there, items, 15), np.where(there, answers, 2)]
    return np.concatenate(parts, axis=1).astype(np.int32)


@pytest.mark.parametrize("agent", AGENTS)
def test_scores_do_not_depend_on_who_else_is_in_the_batch(agent, monkeypatch):
    rng = np.random.default_rng(2)
    learned, rows = agent().fit(world(rng)), observed(rng, 50)
    scores = learned.scores(rows, {})
    assert scores.shape == (50, 15) and scores.dtype == np.float32 and np.isfinite(scores).all()
    for size in (1, 7):
        parts = [learned.scores(rows[k : k + size], {}) for k in range(0, 50, size)]
        assert np.array_equal(np.concatenate(parts), scores)
    monkeypatch.setattr(baselines, "_CELLS", 64)
    assert np.array_equal(learned.scores(rows, {}), scores)
    assert np.array_equal(agent().fit(world(np.random.default_rng(2))).scores(rows, {}), scores)


@pytest.mark.parametrize("agent", AGENTS)
def test_actions_are_the_best_items(agent):
    rng = np.random.default_rng(3)
    learned, rows = agent().fit(world(rng)), observed(rng, 30)
    actions = learned.act(rows, {})
    assert actions.dtype == np.int64 and actions.shape == (30,)
    if agent is not Random:
        assert np.array_equal(actions, learned.scores(rows, {}).argmax(1))


@pytest.mark.parametrize("agent", AGENTS)
def test_without_a_history_what_is_popular_is_recommended(agent):
    sessions = drawn_sessions(np.random.default_rng(4), 60, 15)
    (row,) = ranked(agent().fit(dataset(taken(*sessions), 15)), windows([[]], 15))
    counts = Counter(item for session in sessions for item in session)
    assert (row == sorted(range(15), key=lambda item: (-counts[item], item))) == (agent != Random)


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_that_was_saved_scores_alike_and_nothing_is_pickled(agent, tmp_path):
    rng = np.random.default_rng(5)
    train, validation = world(rng), world(rng, split="validation")
    learned, rows = agent().fit(train, validation), observed(rng, 30)
    for _ in range(2):  # there may be one already
        learned.save(tmp_path / "agents" / "one")
    loaded = agent.load(tmp_path / "agents" / "one")
    assert np.array_equal(loaded.scores(rows, {}), learned.scores(rows, {}))
    assert np.array_equal(loaded.act(rows, {}), learned.act(rows, {}))
    assert loaded == learned and loaded.parameters == learned.parameters
    numbers = 0
    for file in (tmp_path / "agents" / "one").iterdir():
        assert file.suffix in (".json", ".npy")
        if file.suffix == ".npy":
            numbers += np.load(file, allow_pickle=False).size
    assert numbers == learned.parameters
    loaded.save(tmp_path / "two")
    for file in (tmp_path / "agents" / "one").iterdir():
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()


def test_half_an_agent_is_not_loaded(tmp_path):
    agent = ItemKNN().fit(dataset(taken([0, 1]), 3))
    agent.save(tmp_path)
    (tmp_path / "similar.npy").unlink()
    with pytest.raises(InvalidArgument) as problem:
        ItemKNN.load(tmp_path)
    assert "holds no ItemKNN that can be read" in said(problem)
    for text in ("", "[]", "{}", json.dumps({"options": {"nothing": 1}})):
        (tmp_path / "agent.json").write_text(text)
        with pytest.raises(InvalidArgument, match="by the same recgym"):
            ItemKNN.load(tmp_path)


def test_a_save_that_fails_leaves_no_agent(tmp_path, monkeypatch):
    agent = ItemKNN().fit(dataset(taken([0, 1]), 3))
    agent.save(tmp_path)
    monkeypatch.setattr(np, "save", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        agent.save(tmp_path)
    with pytest.raises(InvalidArgument, match="holds no ItemKNN"):
        ItemKNN.load(tmp_path)


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_that_has_not_learned_says_so(agent, tmp_path):
    rows = np.zeros((1, 4), np.int32)
    for ask in (
        lambda: agent().scores(rows, {}),
        lambda: agent().act(rows, {}),
        lambda: agent().save(tmp_path),
        lambda: agent().parameters,
    ):
        with pytest.raises(InvalidArgument) as problem:
            ask()
        assert said(problem).startswith(f"{agent.__name__} has not learned yet: call fit(train)")


@pytest.mark.parametrize("agent", AGENTS)
def test_test_data_are_refused(agent):
    train, test = (dataset(taken([0, 1]), 3, split=split) for split in ("train", "test"))
    for data in ((test, None), (train, test)):
        with pytest.raises(InvalidArgument, match="is a test dataset"):
            agent().fit(*data)


@pytest.mark.parametrize("agent", AGENTS)
def test_storage_and_form_make_no_difference(agent):
    rows = observed(np.random.default_rng(6), 20)
    forms = {"history": rows[:, :4], "responses": rows[:, 4:]}
    wanted = agent().fit(world(np.random.default_rng(7))).scores(rows, {})
    for form, data_format in (("flat", "hdf5"), ("dict", "recgym"), ("dict", "hdf5")):
        train = world(np.random.default_rng(7), form, data_format=data_format)
        scores = agent().fit(train).scores(rows if form == "flat" else forms, {})
        assert np.array_equal(scores, wanted), (form, data_format)


@pytest.mark.parametrize("agent", AGENTS)
def test_data_of_which_nothing_was_taken_teach_something_finite(agent):
    nothing = dataset([[(0, 0.0), (1, 0.0)]], 3)
    learned = agent().fit(nothing, dataset([[(0, 0.0)]], 3, split="validation"))
    assert np.isfinite(learned.scores(windows([[], [0, 1]], 3), {})).all()
    if agent is not Random:
        with pytest.raises(InvalidArgument, match="no episode left"):
            agent().fit(nothing.filter_episodes(lambda episode: False))


@pytest.mark.parametrize("agent", AGENTS)
def test_episodes_read_in_parts_teach_the_same(agent, monkeypatch):
    rows = observed(np.random.default_rng(8), 20)
    wanted = agent().fit(world(np.random.default_rng(9))).scores(rows, {})
    monkeypatch.setattr(baselines, "_BLOCK", 7)
    monkeypatch.setattr(baselines, "_CELLS", 50)
    assert np.array_equal(agent().fit(world(np.random.default_rng(9))).scores(rows, {}), wanted)


@pytest.mark.parametrize("agent", [ItemKNN, VSKNN])
def test_long_histories_do_not_fill_the_memory(agent):
    """Forty users of 2,500 items: all pairs within sessions would be 250 million."""
    rng = np.random.default_rng(10)
    sessions = rng.integers(0, 3000, (40, 2500)).tolist()
    train = dataset(taken(*sessions), 3000, history=10)
    rows = rng.integers(0, 3000, (2000, 10)).astype(np.int32)
    tracemalloc.start()
    learned = agent().fit(train)
    scores = learned.scores(rows, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes + 100e6


# ------------------------------------------------------------------------- tuned on validation


@pytest.mark.parametrize(("decay", "follows"), [(0.01, "newest"), (5.0, "oldest")])
def test_the_change_that_is_best_on_the_validation_data_is_kept(decay, follows):
    """After [a, b], what goes with b is taken in some data, and what goes with a in others."""
    pairs = [[a, 20 + a] for a in range(20)] * 9
    train = dataset(taken(*pairs), 40)
    shown = [[a, (a + 3) % 10 + 10] for a in range(10)]
    wanted = [20 + row[follows == "newest"] for row in shown]
    sessions = [[*row, item] for row, item in zip(shown, wanted, strict=True)]
    validation = dataset([[row[:2], (row[2], 1.0)] for row in sessions], 40, split="validation")

    class Tried(ItemKNN):
        changes = ({"decay": 0.01}, {"decay": 5.0}, {"neighbours": 1}, {"shrink": 1e9})

    agent = Tried(decay=1.0, budget=4).fit(train, validation)
    assert agent.chosen == Tried(decay=decay, budget=4) and agent.decay == 1.0
    rows = windows(shown, 40)
    assert agent.act(rows, {}).tolist() == wanted
    plain = Tried(decay=decay, budget=0).fit(train)
    assert np.array_equal(agent.scores(rows, {}), plain.scores(rows, {}))
    assert Tried(decay=1.0).fit(train).chosen.decay == 1.0


def test_changes_are_made_to_the_best_options_so_far(monkeypatch):
    data = [dataset(taken([0, 1, 2]), 3, split=split) for split in ("train", "validation")]
    found = iter([0.2, 0.1, 0.3, 0.3, 0.4])
    monkeypatch.setattr(baselines._Targets, "quality", lambda *_: next(found))

    class Tried(VSKNN):
        changes = ({"match": "same"}, {"decay": "log"}, {"longest": 3}, {"rarity": 2.0})

    assert Tried().fit(*data).chosen == Tried(decay="log", rarity=2.0)


@pytest.mark.parametrize("agent", [ItemKNN, VSKNN])
def test_no_more_changes_are_tried_than_the_budget_allows(agent, monkeypatch):
    rng = np.random.default_rng(12)
    train, validation = world(rng), world(rng, split="validation")
    rows, tried = observed(rng, 20), []
    measured = baselines._Targets.quality
    monkeypatch.setattr(
        baselines._Targets, "quality", lambda *given: tried.append(1) or measured(*given)
    )
    given = agent(budget=0).fit(train).scores(rows, {})
    assert np.array_equal(agent().fit(train).scores(rows, {}), given)
    assert np.array_equal(agent(budget=0).fit(train, validation).scores(rows, {}), given)
    assert not tried
    for budget in (1, 3, 100):
        tried.clear()
        agent(budget=budget).fit(train, validation)
        assert len(tried) == 1 + min(budget, len(agent.changes))
    assert options_of(agent)["budget"] == len(agent.changes)


@pytest.mark.parametrize("agent", [ItemKNN, VSKNN])
def test_learning_again_begins_with_what_was_given(agent):
    rng = np.random.default_rng(13)
    train, validation = world(rng), world(rng, split="validation")
    learned, rows = agent().fit(train, validation), observed(rng, 20)
    scores, options = learned.scores(rows, {}), learned.chosen
    assert learned == agent()
    assert np.array_equal(learned.fit(train, validation).scores(rows, {}), scores)
    assert learned.chosen == options
    assert learned.fit(train).chosen == agent()


def test_a_change_is_measured_on_takings_after_a_history_and_not_on_too_many(monkeypatch):
    monkeypatch.setattr(baselines, "_TARGETS", 5)
    sessions = [[(k, 1.0), (k + 1, 0.0), (k + 2, 1.0)] for k in range(20)]
    data = dataset(sessions, 25)
    targets = baselines._Targets.of(data, baselines.View.of(data))
    assert targets.items.tolist() == [2, 6, 10, 14, 18]
    assert targets.histories[:, :3].tolist() == [[k, k + 1, 25] for k in (0, 4, 8, 12, 16)]


def test_validation_data_of_other_items_are_refused():
    train, validation = (
        dataset(taken([0, 1]), n_items, split=split)
        for n_items, split in ((3, "train"), (4, "validation"))
    )
    with pytest.raises(InvalidArgument) as problem:
        VSKNN().fit(train, validation)
    assert "is of 4 items, and the training data of 3" in said(problem)


def test_options_that_make_no_sense_are_refused():
    for make, words in (
        (lambda: VSKNN(neighbours=0), "neighbours is 1 or more, and 0 was given"),
        (lambda: VSKNN(budget=-1), "budget is 0 or more"),
        (lambda: ItemKNN(window=0), "window is 1 or more"),
        (lambda: ItemKNN(shrink=float("nan")), "shrink is 0 or more, and nan was given"),
    ):
        with pytest.raises(InvalidArgument) as problem:
            make()
        assert words in said(problem)
    with pytest.raises(UnknownName) as problem:
        VSKNN(match="quadratc")
    assert "Did you mean 'quadratic'?" in said(problem)


# ----------------------------------------------------------------------------------- real data


def hits(agent, log, split="test"):
    """HR@10 on takings after a history, where equal scores count by chance."""
    rows = log.rows(split)
    rows = rows[(log.rewards[rows] > 0) & (log.items[rows] < log.n_items) & (log.depths[rows] > 0)]
    scores = agent.scores(log.histories(rows, 10), {})
    own = scores[np.arange(len(rows)), log.items[rows]][:, None]
    above, equal = (scores > own).sum(1), (scores == own).sum(1)
    return np.clip((10 - above) / equal, 0, 1).mean()


def test_neighbours_find_what_is_clicked_next(samples):
    log = recgym.prepare("yoochoose", raw=samples / "yoochoose-sample", name="clicks")
    train, validation = recgym.to_minari(log), recgym.to_minari(log, "validation")
    names = ("random", "popular", "repeat-last", "markov", "itemknn", "vsknn")
    found = {name: hits(load_agent(name)().fit(train, validation), log) for name in names}
    assert found["random"] < 0.01 < 0.05 < found["popular"] < 0.1
    assert found["popular"] + 0.2 < found["repeat-last"] < found["markov"]
    assert found["markov"] + 0.05 < found["itemknn"] < found["vsknn"] < 0.7
