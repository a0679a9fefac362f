"""Rivals: each against a slow count, what they learn, and what moves with the seed."""

import itertools
import random
import tracemalloc

import numpy as np
import pytest
import torch

from recgym.rollouts import collect
from recgym.simulator.moments import Moments
from recgym.simulator.rivals import GRUUser, ItemKNNUser, PopularityUser

from ..agents.worlds import cyclic, logged
from .shelves import N_ITEMS, sessions_of, shelved

pytestmark = pytest.mark.usefixtures("one_thread")
WORLD = "recgym/OracleBoredom-v0"
SMALL = {"n_items": 60, "n_topics": 4, "n_liked": 1, "history": 8, "organic": 2, "fresh": 2}
RIVALS = (PopularityUser, ItemKNNUser, GRUUser)


@pytest.fixture
def moments():
    return Moments.of(shelved("train", 60))


@pytest.fixture
def held():
    return Moments.of(shelved("held", 40, seed=9))


def quick(rival, moments):
    """A rival that was fitted in no time."""
    return rival(moments, size=8, epochs=1) if rival is GRUUser else rival(moments)


@pytest.mark.parametrize("rival", RIVALS)
def test_answers_have_the_form_of_any_simulators(rival, moments, held):
    user = quick(rival, moments)
    items = held.untaken(np.random.default_rng(0), 4)
    rewards, states = user.rewards(held.histories, items), user.states(held.histories)
    assert rewards.shape == items.shape and rewards.dtype == np.float32
    assert states.shape == (len(held), user.width) and states.dtype == np.float32
    assert user.n_items == N_ITEMS and len(user.sha256) == 64
    assert np.isfinite(rewards).all() and np.isfinite(states).all()
    some = np.array([5, 2])
    alone = user.rewards(held.histories[some], items[some])
    np.testing.assert_allclose(alone, rewards[some], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rival", RIVALS)
def test_users_without_a_history_are_answered(rival, moments):
    user = quick(rival, moments)
    nothing = np.full((2, 10), N_ITEMS, np.int32)
    rewards = user.rewards(nothing, np.tile(np.arange(N_ITEMS), (2, 1)))
    assert np.isfinite(rewards).all() and (rewards[0] == rewards[1]).all()
    assert np.isfinite(user.states(nothing)).all()


@pytest.mark.parametrize("rival", RIVALS)
def test_a_choice_is_of_the_best_item_wherever_it_stands(rival, moments, held):
    user = quick(rival, moments)
    five = np.array([[0, 3, 4, 9, 7]] * len(held))
    chosen = user.choices(held.histories, five, seed=1)
    best = np.take_along_axis(user.rewards(held.histories, five), chosen[:, None], 1)[:, 0]
    assert (best == user.rewards(held.histories, five).max(1)).all()
    turned = user.choices(held.histories, five[:, ::-1], seed=1)
    assert (five[0, ::-1][turned] == five[0][chosen]).all()


def test_the_seed_decides_between_items_that_are_equal(held):
    """A rival that knows nothing of five items takes each of them alike."""
    user = PopularityUser(Moments.of(logged("few", [[20, 21]] * 3, 30)))
    five = np.tile(np.arange(5), (2000, 1))
    histories = np.random.default_rng(0).integers(30, size=(2000, 4)).astype(np.int32)
    chosen = user.choices(histories, five, seed=0)
    assert np.bincount(chosen, minlength=5).min() > 300
    assert (chosen == user.choices(histories, five, seed=0)).all()
    assert (chosen != user.choices(histories, five, seed=1)).any()


@pytest.mark.parametrize("rival", RIVALS)
def test_hashes_are_equal_exactly_where_data_are(rival, moments):
    def hash_of(data):
        return quick(rival, data).sha256

    other = moments.of_sessions(moments.users[1:])
    same = Moments.of(shelved("again", 60))
    assert hash_of(moments) == hash_of(same) != hash_of(other)
    assert len({hash_of(moments), *(quick(one, moments).sha256 for one in RIVALS)}) == 3


# -------------------------------------------------------------------------------------- counts


@pytest.fixture
def counted():
    """Moments of some of the users of a log, and all that each of these took."""
    rng = np.random.default_rng(3)
    sessions = [rng.integers(30, size=rng.integers(2, 15)) for _ in range(50)]
    moments = Moments.of(logged("some", sessions, 30, history=20))
    ours = moments.users[::2]
    return moments.of_sessions(ours), [set(sessions[user].tolist()) for user in ours]


def test_popularity_is_that_of_a_slow_count(counted):
    moments, users = counted
    wanted = [sum(item in took for took in users) for item in range(30)]
    found = PopularityUser(moments).rewards(moments.histories[:1], np.arange(30)[None])[0]
    np.testing.assert_allclose(found, np.log1p(wanted), rtol=1e-6)


def test_item_knn_is_a_slow_count(counted):
    moments, users = counted
    took = np.array([[item in user for item in range(30)] for user in users], float)
    histories, items = moments.histories[:40], np.tile(np.arange(30), (40, 1))
    wanted = np.zeros((40, 30))
    for row, item in itertools.product(range(40), range(30)):
        for before in histories[row]:
            if before != 30:
                lengths = np.sqrt(took[:, before].sum() * took[:, item].sum())
                wanted[row, item] += took[:, before] @ took[:, item] / max(lengths, 1)
    found = ItemKNNUser(moments).rewards(histories, items)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_item_that_nobody_took_is_worth_nothing():
    user = ItemKNNUser(Moments.of(logged("few", [[20, 21]] * 3, 30)))
    rewards = user.rewards(np.array([[20, 5, 30]]), np.array([[21, 5, 7]]))
    np.testing.assert_allclose(rewards, [[1, 0, 0]], rtol=1e-6)


def test_the_memory_of_item_knn_grows_with_what_was_taken_alone():
    rng = np.random.default_rng(0)
    users, n_items, length = 5000, 20_000, 10
    items = rng.integers(n_items, size=(users, length))
    taken = np.zeros((users, n_items // 8), np.uint8)
    np.bitwise_or.at(taken, (np.arange(users)[:, None], items // 8), 128 >> items % 8)
    moments = Moments(
        n_items, items[:, :-1].astype(np.int32), items[:, -1], np.arange(users), taken
    )
    tracemalloc.start()
    user = ItemKNNUser(moments)
    found = user.rewards(moments.histories[:50], items[:50])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < taken.nbytes  # an eighth of a table of bytes
    assert (found > 0).all()


def test_item_knn_tells_two_shelves_apart(moments, held):
    assert told_apart_by(ItemKNNUser(moments), held) > 0.99


# ----------------------------------------------------------------------------------------- GRU


def told_apart_by(user, held):
    """How often an item of the user's shelf is worth more than the one of the other shelf."""
    raw = user.rewards(held.histories, np.stack([held.items, held.items ^ 1], 1))
    return (raw[:, 0] > raw[:, 1]).mean()


def test_a_gru_tells_two_shelves_apart_unless_pairs_are_shuffled(moments, held):
    assert told_apart_by(GRUUser(moments, epochs=5), held) > 0.95
    control = [
        told_apart_by(GRUUser(moments, epochs=5, seed=seed, shuffled=True), held)
        for seed in range(4)
    ]
    assert abs(np.mean(control) - 0.5) < 0.15


def test_a_gru_learns_what_follows_what():
    """The next item of a cycle, which counting alone cannot tell."""
    train, held = (Moments.of(cyclic(name, 12, 96, 5)) for name in ("train", "held"))
    user = GRUUser(train, epochs=10)
    every = user.rewards(held.histories, np.tile(np.arange(12), (len(held), 1)))
    assert (every.argmax(1) == held.items).mean() > 0.95
    likes = user.states(held.histories) @ user.network.items.weight.numpy()[:12].T
    assert (likes.argmax(1) == held.items).mean() > 0.9


def test_a_gru_is_no_straw_man():
    """Where items differ in quality, and users in taste, it is right more often than popularity."""
    train, held = (
        Moments.of(collect(WORLD, "mixed", split, sessions=100, name="n", **SMALL))
        for split in ("train", "test")
    )
    items = np.concatenate([held.items[:, None], held.untaken(np.random.default_rng(0), 9)], 1)
    right = []
    for user in (PopularityUser(train), GRUUser(train, epochs=10)):
        taken, others = np.split(user.rewards(held.histories, items), [1], 1)
        right.append((taken > others).mean() + (taken == others).mean() / 2)
    assert right[1] > right[0] + 0.05


def test_what_stands_after_the_history_is_not_read(moments):
    user = quick(GRUUser, moments)
    short = np.array([[3, 5]], np.int32)
    longer = np.array([[3, 5, N_ITEMS, N_ITEMS]], np.int32)
    np.testing.assert_allclose(user.states(short), user.states(longer), rtol=1e-5, atol=1e-6)
    turned = user.states(short[:, ::-1].copy())
    assert abs(user.states(short) - turned).max() > 0.01


def test_a_seed_gives_the_same_numbers_and_moves_nobody_elses_draws(moments):
    def state():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    torch.manual_seed(3)
    before = state()
    one = GRUUser(moments, size=8, epochs=1, seed=5)
    assert state() == before
    torch.manual_seed(4)
    again, other = (GRUUser(moments, size=8, epochs=1, seed=seed) for seed in (5, 6))
    assert one.sha256 == again.sha256 != other.sha256
    items = np.tile(np.arange(N_ITEMS), (len(moments), 1))
    rewards = [user.rewards(moments.histories, items) for user in (one, again, other)]
    assert (rewards[0] == rewards[1]).all() and (rewards[0] != rewards[2]).any()


def test_arrays_that_cannot_be_written_to_are_read(moments):
    user = quick(GRUUser, moments)
    histories = np.broadcast_to(np.int32([3, 5, N_ITEMS]), (4, 3))
    items = np.broadcast_to(np.arange(N_ITEMS), (4, N_ITEMS))
    assert user.rewards(histories, items).shape == (4, N_ITEMS)


def test_sessions_of_the_shelves_stay_at_one():
    """What the tests above rest on."""
    assert all(len(set(session % 2)) == 1 for session in sessions_of(20, 0))
