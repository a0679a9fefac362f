"""Moments: each counted again one by one, on a log and on an Oracle's; what nobody ever took."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from recgym.agent import View
from recgym.errors import InvalidArgument
from recgym.rollouts import collect
from recgym.simulator.moments import HISTORY, Moments, last_taken

from ..agents.worlds import logged
from ..sentences import said

SMALL = {
    "n_items": 20, "n_topics": 3, "n_liked": 1, "steps": 12, "history": 8, "organic": 2, "fresh": 2,
}  # fmt: skip
N_ITEMS = 30


@pytest.fixture
def log():
    """Sessions of which not every step has a reward."""
    rng = np.random.default_rng(0)
    sessions = [rng.integers(N_ITEMS, size=length) for length in (1, 2, 3, 14, 5, 1, 25)]
    rewards = [rng.choice([0.0, 0.2, 1.0], len(session)) for session in sessions]
    rewards[3][:] = 1.0
    return logged("some", sessions, N_ITEMS, rewards=rewards, history=20)


@pytest.fixture
def oracle():
    return collect("recgym/OracleBoredom-v0", "mixed", sessions=60, name="n", **SMALL)


@pytest.fixture(params=["log", "oracle"])
def dataset(request):
    return request.getfixturevalue(request.param)


def slow(dataset, length):
    """(session, history, item) of each moment, and all that was ever seen to be taken."""
    view = View.of(dataset)
    found, taken = [], []
    for session, episode in enumerate(dataset):
        windows = [
            [int(item) for item in view.consumed(np.asarray(row)[None])[0] if item != view.n_items]
            for row in episode.observations
        ]
        known = {item for window in windows for item in window}
        for window, action, reward in zip(windows, episode.actions, episode.rewards, strict=False):
            if reward > 0 and window:
                found.append((session, window[-length:], int(action)))
                known.add(int(action))
        taken.append(known)
    return found, taken


def told(moments):
    return [
        (int(session), [int(i) for i in history if i != moments.n_items], int(item))
        for session, history, item in zip(
            moments.sessions, moments.histories, moments.items, strict=True
        )
    ]


@pytest.mark.parametrize("length", [1, 3, HISTORY])
def test_moments_are_those_of_a_slow_count(dataset, length):
    moments = Moments.of(dataset, length)
    wanted, taken = slow(dataset, length)
    assert len(moments) == len(wanted) > 20 and told(moments) == wanted
    assert moments.histories.shape == (len(wanted), length)
    bits = np.unpackbits(moments.taken, axis=1, count=moments.n_items)
    assert [set(np.flatnonzero(row)) for row in bits] == taken
    pads = moments.histories == moments.n_items
    assert (np.diff(pads.astype(int), axis=1) >= 0).all() and not pads[:, 0].any()


def test_what_was_shown_and_refused_is_in_no_history(oracle):
    moments, view = Moments.of(oracle), View.of(oracle)
    refused = 0
    for session, episode in enumerate(oracle):
        responses = np.asarray(episode.observations)[:, view.parts["responses"]]
        shown = np.asarray(episode.observations)[:, view.parts["history"]]
        never = set(shown[responses == view.skip]) - set(shown[responses != view.skip])
        never -= {int(a) for a, r in zip(episode.actions, episode.rewards, strict=True) if r > 0}
        refused += len(never)
        mine = moments.of_sessions(np.array([session]))
        assert not never & set(mine.histories.ravel()) and not never & set(mine.items)
    assert refused > 50


def test_the_first_item_of_a_session_is_no_moment():
    moments = Moments.of(logged("two", [[4, 5], [6], [7, 8, 9]], N_ITEMS))
    assert told(moments) == [(0, [4], 5), (2, [7], 8), (2, [7, 8], 9)]
    assert moments.users.tolist() == [0, 2]


def test_a_dataset_without_a_second_item_is_refused():
    with pytest.raises(InvalidArgument) as problem:
        Moments.of(logged("ones", [[4], [6]], N_ITEMS))
    assert "No user of recgym/ones/logged-v0 took an item after another" in said(problem)


def test_parts_of_moments_are_theirs(log):
    moments = Moments.of(log)
    some = moments.of_sessions(np.array([3, 6]))
    assert set(some.sessions) == {3, 6} and 0 < len(some) < len(moments)
    assert told(some) == [one for one in told(moments) if one[0] in (3, 6)]
    assert told(moments[np.array([4, 2])]) == [told(moments)[4], told(moments)[2]]
    counts = np.zeros(N_ITEMS)
    for _, _, item in told(some):
        counts[item] += 1
    np.testing.assert_allclose(some.popularity, counts / counts.sum())
    assert not np.array_equal(some.popularity, moments.popularity)


# ----------------------------------------------------------------------------- what was not taken


@pytest.mark.parametrize("popular", [False, True])
def test_what_was_taken_is_never_drawn(dataset, popular):
    moments = Moments.of(dataset)
    drawn = moments.untaken(np.random.default_rng(0), 40, moments.popularity if popular else None)
    assert drawn.shape == (len(moments), 40) and drawn.dtype == np.int64
    assert ((drawn >= 0) & (drawn < moments.n_items)).all()
    _, taken = slow(dataset, HISTORY)
    assert not any(
        set(row) & taken[user] for user, row in zip(moments.sessions, drawn, strict=True)
    )


def fits(drawn, chances):
    """Whether counts are as probable as they should be."""
    counts, wanted = np.bincount(drawn, minlength=len(chances)), chances * len(drawn)
    there = wanted > 0
    assert not counts[~there].any()
    statistic = ((counts[there] - wanted[there]) ** 2 / wanted[there]).sum()
    return chi2.sf(statistic, there.sum() - 1) > 1e-4


@pytest.mark.parametrize("popular", [False, True])
def test_all_that_was_not_taken_is_drawn_as_often_as_it_should(log, popular):
    moments = Moments.of(log)
    by = moments.popularity if popular else None
    drawn = moments.untaken(np.random.default_rng(1), 4000, by)
    _, taken = slow(log, HISTORY)
    for row in (0, len(moments) - 1):
        chances = np.array(by) if popular else np.ones(N_ITEMS)
        chances[list(taken[moments.sessions[row]])] = 0
        assert fits(drawn[row], chances / chances.sum())
        assert fits(drawn[row], (chances > 0) / (chances > 0).sum()) != popular


def test_one_item_that_is_left_is_found():
    few = 400
    everything_but = [item for item in range(few) if item != 123]
    moments = Moments.of(logged("most", [everything_but, [1, 2]], few, history=few))
    mine = moments.of_sessions(np.array([0]))
    assert (mine.untaken(np.random.default_rng(0), 2) == 123).all()
    assert (mine.untaken(np.random.default_rng(0), 2, moments.popularity) == 123).all()


def test_a_seed_draws_the_same(log):
    moments = Moments.of(log)
    first, second, other = (moments.untaken(np.random.default_rng(s), 3) for s in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=7, max_size=7), min_size=1, max_size=8),
    st.integers(1, 9),
)
def test_the_last_items_are_those_that_are_no_pads(rows, length):
    found = last_taken(np.array(rows, np.int32), 5, length)
    for row, kept in zip(rows, found.tolist(), strict=True):
        wanted = [item for item in row if item != 5][-length:]
        assert kept == wanted + [5] * (length - len(wanted))
