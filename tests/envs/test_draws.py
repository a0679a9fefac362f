"""Draws by counter: against SplitMix64 in plain Python, and as even and independent as claimed."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.envs.draws import keys_of, origins_of, uniforms

GOLDEN, MASK = 0x9E3779B97F4A7C15, 2**64 - 1
# what SplitMix64 gives from the state 1234567 on, as published
PUBLISHED = [
    6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
    16408922859458223821,
]  # fmt: skip
AXES = ("seeds", "episodes", "steps", "draws")
words = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1])


def mixed(z):
    """The output function of SplitMix64, in whole numbers without an end."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def unmixed(z):
    """What `mixed` makes this of: each of its parts can be undone."""
    z ^= (z >> 31) ^ (z >> 62)
    z = z * pow(0x94D049BB133111EB, -1, 2**64) & MASK
    z ^= (z >> 27) ^ (z >> 54)
    z = z * pow(0xBF58476D1CE4E5B9, -1, 2**64) & MASK
    return z ^ (z >> 30) ^ (z >> 60)


def key_of(seed, episode):
    """What the draws of an episode come from."""
    return mixed(mixed(seed + GOLDEN & MASK) + episode * GOLDEN & MASK)


def uniform(key, step, draw=0):
    """One draw."""
    return (mixed(key + (step * 2**32 + draw + 1) * GOLDEN & MASK) >> 11) / 2**53


def along(axis, count, rest=0):
    """Draws of which one thing differs, and the rest does not."""
    places = np.arange(count)
    seed, episode, step, draw = (places if axis == name else np.array([rest]) for name in AXES)
    return uniforms(keys_of(origins_of(seed.astype(np.uint64)), episode), step, draw)


def surprise(counts, expected):
    """How far counts are from what is expected, in standard deviations of chi-square."""
    counts, expected = np.asarray(counts, float), np.broadcast_to(expected, np.shape(counts))
    assert counts.sum() == pytest.approx(expected.sum())
    freedom = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5


# ---------------------------------------------------------------------------------- the numbers


def test_the_published_numbers_come_out():
    state = np.array([1234567], np.uint64)
    assert [mixed(1234567 + k * GOLDEN & MASK) for k in range(1, 6)] == PUBLISHED
    assert origins_of(state).tolist() == PUBLISHED[:1]
    assert keys_of(state, np.arange(1, 6)).tolist() == PUBLISHED
    numbers = [(number >> 11) / 2**53 for number in PUBLISHED]
    assert uniforms(state, 0, np.arange(5)).tolist() == numbers
    assert uniforms(state, np.array([0])).tolist() == numbers[:1]


@given(
    seed=words,
    episode=st.integers(0, 2**40),
    step=st.integers(0, 2**30),
    draw=st.integers(0, 2**32 - 2),
)
def test_draws_are_those_of_plain_python(seed, episode, step, draw):
    keys = keys_of(origins_of(np.array([seed], np.uint64)), np.array([episode]))
    assert keys.dtype == np.uint64 and keys.tolist() == [key_of(seed, episode)]
    wanted = [uniform(key_of(seed, episode), step, draw)]
    for given_step in (step, np.array([step])):
        for given_draw in (draw, np.array([draw])):
            numbers = uniforms(keys, given_step, given_draw)
            assert numbers.dtype == np.float64 and numbers.tolist() == wanted


@settings(max_examples=settings().max_examples // 4)
@given(data=st.data(), seeds=st.lists(words, min_size=1, max_size=6))
def test_a_batch_draws_what_each_draws_alone_in_any_order(data, seeds):
    count = len(seeds)
    few = st.lists(st.integers(0, 9), min_size=count, max_size=count)
    episodes, steps = data.draw(few), data.draw(few)
    order = data.draw(st.permutations(range(count)))
    origins = origins_of(np.array(seeds, np.uint64))
    keys = keys_of(origins, np.array(episodes))
    numbers = uniforms(keys[:, None], np.array(steps)[:, None], np.arange(3))
    assert numbers.shape == (count, 3)
    for user, (seed, episode, step) in enumerate(zip(seeds, episodes, steps, strict=True)):
        key = key_of(seed, episode)
        assert numbers[user].tolist() == [uniform(key, step, draw) for draw in range(3)]
    some = np.array(order)
    assert (uniforms(keys[some], np.array(steps)[some], 1) == numbers[some, 1]).all()
    assert (uniforms(keys, np.array(steps), np.arange(3)[:, None]) == numbers.T).all()


def test_what_is_given_is_not_changed():
    given_seeds, episodes = np.array([3, 2**64 - 1], np.uint64), np.array([5, 6])
    keys = keys_of(given_seeds, episodes)
    before = keys.copy()
    origins_of(given_seeds), uniforms(keys, episodes)
    assert given_seeds.tolist() == [3, 2**64 - 1] and episodes.tolist() == [5, 6]
    assert (keys == before).all()


def test_numbers_reach_from_zero_to_just_below_one():
    ends = [0, 2**11 - 1, 2**64 - 2**11, 2**64 - 1]
    keys = np.array([unmixed(end) - GOLDEN & MASK for end in ends], np.uint64)
    assert uniforms(keys, 0).tolist() == [0, 0, 1 - 2**-53, 1 - 2**-53]


# ----------------------------------------------------------------------- even and independent


@pytest.mark.parametrize("rest", [0, 12345])
@pytest.mark.parametrize("axis", AXES)
def test_neighbours_are_even_and_independent(axis, rest):
    numbers = along(axis, 2**17, rest)
    assert numbers.min() >= 0 and numbers.max() < 1
    high, low = (numbers * 256).astype(int), (numbers * 2**53).astype(int) % 256
    for part in (high, low):
        assert abs(surprise(np.bincount(part, minlength=256), len(part) / 256)) < 4.5
    assert np.mean(numbers) == pytest.approx(1 / 2, abs=4.5 / (12 * len(numbers)) ** 0.5)
    for apart in (1, 2, 7, 64):
        first, second = numbers[:-apart], numbers[apart:]
        assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / len(first) ** 0.5
        pairs = np.bincount((first * 16).astype(int) * 16 + (second * 16).astype(int))
        assert abs(surprise(pairs, len(first) / 256)) < 5  # pairs overlap, hence a little more


@pytest.mark.parametrize(("first", "second"), list(combinations(AXES, 2)))
def test_a_step_in_one_direction_says_nothing_of_a_step_in_another(first, second):
    at = dict.fromkeys(AXES, np.zeros((1, 1), int))
    at[first], at[second] = np.arange(300)[:, None], np.arange(300)[None]
    keys = keys_of(origins_of(at["seeds"].astype(np.uint64)), at["episodes"])
    numbers = np.broadcast_to(uniforms(keys, at["steps"], at["draws"]), (300, 300))
    here, there = slice(None, -1), slice(1, None)
    for a, b in (((here, here), (there, there)), ((here, there), (there, here))):
        correlation = np.corrcoef(numbers[a].ravel(), numbers[b].ravel())[0, 1]
        assert abs(correlation) < 4.5 / 299


def test_no_two_draws_are_one():
    places = np.arange(20)
    keys = keys_of(origins_of(places.astype(np.uint64))[:, None], places)
    numbers = uniforms(keys[..., None, None], places[:, None], places)
    assert numbers.shape == (20,) * 4 and len(np.unique(numbers)) == 20**4
