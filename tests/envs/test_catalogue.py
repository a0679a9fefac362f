"""The invented catalogue: items in topics, titles of their own, and draws of what is popular."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recgym.envs.catalogue import Catalogue, Drawing
from recgym.envs.draws import keys_of, uniforms

from .test_draws import GOLDEN, MASK, mixed, surprise, uniform

TOPICS = [1, 7, 12, 30]
QUALITY, HOLD = (0.4, 1.0), (0.1, 0.95)
sizes = st.tuples(st.integers(1, 80), st.integers(1, 30)).map(lambda pair: (max(pair), min(pair)))
seeds = st.integers(0, 2**64 - 1)


def catalogue(n_items=1000, n_topics=10, quality=QUALITY, hold=HOLD, seed=0):
    return Catalogue(n_items, n_topics, quality, hold, seed)


def numbers(count):
    """Even numbers in [0, 1)."""
    return uniforms(keys_of(np.array([7], np.uint64), np.array([99])), np.arange(count))


def values_of(made):
    """All that a catalogue holds."""
    return [
        made.topics.tolist(), made.hold.tolist(), made.quality.tolist(), made.ranks.tolist(),
        made.titles, made.topic_names,
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ its items


@given(sizes=sizes, seed=seeds)
@settings(max_examples=settings().max_examples // 2)
def test_topics_share_the_items_and_popularity_is_zipfs(sizes, seed):
    n_items, n_topics = sizes
    made = catalogue(n_items, n_topics, seed=seed)
    counts = np.bincount(made.topics)
    assert len(counts) == n_topics and counts.max() - counts.min() <= 1
    assert sorted(made.ranks.tolist()) == list(range(n_items))
    assert made.popularity.tolist() == [1 / (1 + rank) for rank in made.ranks.tolist()]
    for topic in range(n_topics):
        stretch = made.by_topic[made.bounds[topic] : made.bounds[topic + 1]]
        assert stretch.tolist() == np.flatnonzero(made.topics == topic).tolist()
    assert len(made.bounds) == n_topics + 1 and made.bounds[-1] == n_items


@given(
    sizes=sizes, seed=seeds, bounds=st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted)
)
@settings(max_examples=settings().max_examples // 4)
def test_its_numbers_are_those_of_plain_python(sizes, seed, bounds):
    n_items, n_topics = sizes
    low, high = bounds
    made = catalogue(n_items, n_topics, (low, high), seed=seed)

    def drawn(what, count):  # an item stands in place of a step
        key = mixed(seed + what * GOLDEN & MASK)
        return [uniform(key, place) for place in range(count)]

    def sorted_by(values):
        return sorted(range(len(values)), key=values.__getitem__)

    order, hold, quality, fame = map(drawn, (1, 2, 3, 4), (n_items, n_topics, n_items, n_items))
    assert made.topics.tolist() == [place % n_topics for place in sorted_by(order)]
    assert made.quality.tolist() == [low + (high - low) * number for number in quality]
    known = sorted_by([-a - b for a, b in zip(quality, fame, strict=True)])
    assert [made.ranks[item] for item in known] == list(range(n_items))
    steps = np.linspace(*HOLD, n_topics)
    assert made.hold.tolist() == pytest.approx([steps[place] for place in sorted_by(hold)])


@pytest.mark.parametrize("seed", range(3))
def test_quality_is_even_and_goes_with_popularity(seed):
    made = catalogue(20_000, seed=seed)
    low, high = QUALITY
    assert low <= made.quality.min() and made.quality.max() <= high
    shares = (np.sort(made.quality) - low) / (high - low)
    assert np.abs(shares - np.arange(20_000) / 20_000).max() < 1.95 / 20_000**0.5  # Kolmogorov
    ranks = made.quality.argsort().argsort()
    # Spearman's, of q and q + f that are both even: 12 E[q F(q + f)] - 3, worked out
    assert np.corrcoef(ranks, -made.ranks)[0, 1] == pytest.approx(0.7, abs=0.02)
    for topic in range(10):  # and in no topic more than in another
        here = made.topics == topic
        assert made.quality[here].mean() == pytest.approx((low + high) / 2, abs=0.02)


@pytest.mark.parametrize("n_topics", TOPICS)
def test_topics_hold_from_little_to_much_in_no_order(n_topics):
    orders = set()
    for seed in range(20):
        hold = catalogue(40, n_topics, seed=seed).hold
        assert sorted(hold) == pytest.approx(np.linspace(*HOLD, n_topics))
        orders.add(tuple(hold.argsort().tolist()))
    assert len(orders) > 15 or n_topics == 1


def test_a_seed_decides_all_of_it():
    assert values_of(catalogue(200, seed=5)) == values_of(catalogue(200, seed=5))
    others = [values_of(catalogue(200, seed=seed)) for seed in (5, 6, 2**63, 2**64 - 1)]
    for kind in zip(*(values[:4] for values in others), strict=True):
        assert len(set(map(str, kind))) == len(others)


# ------------------------------------------------------------------------------------ in words


@pytest.mark.parametrize("n_topics", TOPICS)
@pytest.mark.parametrize("n_items", [1000, 100_000])
def test_no_two_items_have_one_title(n_items, n_topics):
    made = catalogue(n_items, n_topics)
    assert len(set(made.titles)) == len(made.titles) == n_items
    assert all(title.isprintable() and title.isascii() for title in made.titles)
    topics = defaultdict(set)  # of each noun
    for title, topic in zip(made.titles, made.topics.tolist(), strict=True):
        topics[title.split(",")[0].split()[-1]].add(made.topic_names[topic].split()[0])
    assert {len(names) for names in topics.values()} == {1}


@pytest.mark.parametrize("n_topics", TOPICS)
def test_no_two_topics_have_one_name(n_topics):
    names = catalogue(100, n_topics).topic_names
    assert len(set(names)) == len(names) == n_topics


# ----------------------------------------------------------------------------------- its draws


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighted", [False, True], ids=["popularity", "any weights"])
def test_items_are_drawn_by_their_shares(weighted, seed):
    made = catalogue(60, 4, seed=seed)
    weights = np.random.default_rng(seed).random(60) ** 3 if weighted else made.popularity
    drawing = Drawing(made, weights) if weighted else made.organic
    for topic in range(4):
        items = np.flatnonzero(made.topics == topic)
        shares = weights[items] / sum(weights[items].tolist())
        assert drawing.shares[items] == pytest.approx(shares)
        # an even grid of numbers: no count is further than one from its share
        grid = (np.arange(10_000) + 0.5) / 10_000
        counts = Counter(drawing(np.full(10_000, topic), grid).tolist())
        assert counts.keys() <= set(items.tolist())
        found = np.array([counts[item] for item in items.tolist()])
        assert np.abs(found - 10_000 * shares).max() <= 1
        counts = Counter(drawing(np.full(50_000, topic), numbers(50_000)).tolist())
        found = np.array([counts[item] for item in items.tolist()])
        assert abs(surprise(found, 50_000 * shares)) < 4
    assert np.bincount(made.topics, drawing.shares).tolist() == pytest.approx([1] * 4)


@given(sizes=sizes, seed=seeds, data=st.data())
@settings(max_examples=settings().max_examples // 2)
def test_no_draw_leaves_its_topic_or_takes_what_weighs_nothing(sizes, seed, data):
    n_items, n_topics = sizes
    made = catalogue(n_items, n_topics, seed=seed)
    weight = st.sampled_from([0.0, 0.001, 1.0, 3.5, 100.0])
    weights = np.array(data.draw(st.lists(weight, min_size=n_items, max_size=n_items)))
    for topic in range(n_topics):  # something in each
        weights[made.by_topic[made.bounds[topic]]] += not weights[made.topics == topic].any()
    drawing = Drawing(made, weights)
    edges = np.array([0.0, 2**-53, 0.5, 1 - 2**-30, 1 - 2**-53])
    topics = np.arange(n_topics)[:, None]
    items = drawing(topics, edges)
    assert items.dtype == np.int32 and (made.topics[items] == topics).all()
    assert (weights[items[:, :-1]] > 0).all()  # the last number may be rounded to a topic's end
