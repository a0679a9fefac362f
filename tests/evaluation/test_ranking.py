import math
import tracemalloc
from dataclasses import astuple, replace
from itertools import combinations, permutations
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recgym.errors import BadPredictions, CheckFailed, InvalidArgument
from recgym.evaluation import ranking
from recgym.evaluation.ranking import CUTS, TOP, Ranked, consistent, metrics, rank, sampled

from ..sentences import said

KINDS = ("float16", "float32", "float64", ">f4", "int8", "int32", "int64", "uint16", "longdouble")
GAINS = {
    "hr": lambda rank: 1.0,
    "ndcg": lambda rank: 1 / math.log2(rank + 1),
    "mrr": lambda rank: 1 / rank,
}


class World:
    """Scores of all items for some targets, a few of which are unseen; some items may be hidden."""

    def __init__(self, scores, targets, hidden=None):
        self.scores, self.targets, self.hidden = scores, np.asarray(targets), hidden
        self.n_items = scores.shape[1]

    def seen(self, rows):
        parts = self.hidden[rows]
        counts = [len(part) for part in parts]
        return np.append(0, np.cumsum(counts)), np.concatenate([*parts, []]).astype(np.int32)

    def rank(self, **options):
        seen = None if self.hidden is None else self.seen
        return rank(
            lambda rows: self.scores[rows], self.targets, self.n_items, seen=seen, **options
        )

    def consistent(self, ranked):
        seen = None if self.hidden is None else self.seen
        return consistent(ranked, self.targets, self.n_items, seen)

    def ranked_one_by_one(self, top):
        """The same by sorting Python numbers."""
        found = []
        for row, target in enumerate(self.targets):
            scores = self.scores[row].tolist()
            out = set() if self.hidden is None else set(self.hidden[row])
            left = [item for item in range(self.n_items) if item not in out]
            left.sort(key=lambda item: (-scores[item], item))
            greater, equal = self.n_items, 1
            if target in left:
                greater = sum(scores[item] > scores[target] for item in left)
                equal = sum(scores[item] == scores[target] for item in left)
            best = left[:top]
            missing = [-1] * (min(top, self.n_items) - len(best))
            listed = [scores[item] for item in best] + [math.nan] * len(missing)
            found.append((greater, equal, best + missing, listed))
        return Ranked(*map(np.array, zip(*found, strict=True)))


@st.composite
def worlds(draw, kinds=KINDS, distinct=False):
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    rows, n = draw(st.integers(1, 9)), draw(st.integers(1, 90))
    levels = draw(st.sampled_from([1, 2, 5, 100]))
    kind = np.dtype(draw(st.sampled_from(kinds)))
    scores = rng.integers(0, levels, (rows, n))
    if distinct:
        scores = rng.permuted(np.tile(np.arange(n), (rows, 1)), axis=1)
    elif kind == np.float64 and draw(st.booleans()):
        scores = 1 + scores * 1e-12
    hidden = None
    if draw(st.booleans()):
        share = draw(st.sampled_from([0.02, 0.5, 0.98]))
        some = rng.random((rows, n)) < share
        # in no order, one of them twice, and one that is unseen in training
        hidden = [np.append(rng.permutation(np.flatnonzero(row)), [n]).repeat(2) for row in some]
    return World(scores.astype(kind), rng.integers(0, n + 1 + n // 8, rows), hidden)


def in_small_parts(asked, ranked):
    return mock.patch.multiple(ranking, _ASKED=asked, _RANKED=ranked)


def assert_same(found, wanted):
    for one, other in zip(astuple(found), astuple(wanted), strict=True):
        np.testing.assert_array_equal(one, other.astype(one.dtype))


def ranked_among(scores, target, order):
    """The rank of a target when equal scores are ordered as given."""
    return sorted(range(len(scores)), key=lambda item: (-scores[item], order[item])).index(
        target
    ) + 1  # fmt: skip


# Ranks and lists


@given(worlds(), st.integers(1, 25), st.integers(1, 200), st.integers(1, 200))
def test_ranks_and_lists_are_those_of_a_stable_sort(world, top, asked, ranked):
    with in_small_parts(asked, ranked):
        found = world.rank(top=top)
    assert_same(found, world.ranked_one_by_one(top))


@given(worlds(), st.integers(1, 3))
def test_short_lists_come_from_few_blocks_and_are_the_same(world, top):
    assert_same(world.rank(top=top), world.ranked_one_by_one(top))


@pytest.mark.parametrize("n", [19, 20, 21, 60, 119, 120, 121, 2999, 3000, 3001, 30_011])
@pytest.mark.parametrize("levels", [1, 3, 50, 1 << 30])
def test_lists_are_those_of_a_lexsort_at_any_number_of_items(n, levels):
    rng = np.random.default_rng(n + levels)
    scores = rng.integers(0, levels, (6, n)).astype(np.float32)
    found = rank(lambda rows: scores[rows], np.arange(6), n)
    for row in range(6):
        best = np.lexsort((np.arange(n), -scores[row]))[:TOP]
        assert found.items[row].tolist() == best.tolist()
        assert found.scores[row].tolist() == scores[row, best].tolist()
    assert found.greater.tolist() == [(row > row[i]).sum() for i, row in enumerate(scores)]
    assert found.equal.tolist() == [(row == row[i]).sum() for i, row in enumerate(scores)]


def test_the_first_of_equal_scores_are_listed_wherever_they_stand():
    n = 5000
    scores = np.zeros((40, n), np.float32)
    scores[np.arange(40), np.arange(40) * 125 + 124] = 1
    scores[::2, 3000:] = 0.5
    world = World(scores, np.full(40, n - 1))
    assert_same(world.rank(), world.ranked_one_by_one(TOP))


def test_one_item_that_stands_out_heads_the_first_of_all_others():
    scores = np.zeros((1, 1000), np.float32)
    scores[0, 700] = 1
    found = rank(lambda rows: scores, np.array([999]), 1000)
    assert found.items[0].tolist() == [700, *range(19)]
    assert (found.greater[0], found.equal[0]) == (1, 999)


def test_a_constant_scorer_lists_the_first_items_and_hits_k_in_n():
    n = 1000
    found = rank(lambda rows: np.full((3, n), 0.25), np.array([0, 500, 999]), n)
    assert found.items.tolist() == [list(range(TOP))] * 3
    assert found.greater.tolist() == [0] * 3 and found.equal.tolist() == [n] * 3
    for cut in CUTS:
        assert metrics(found.greater, found.equal)[f"hr@{cut}"].tolist() == [cut / n] * 3


def test_differences_below_the_resolution_of_float32_count():
    scores = np.array([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]])
    found = rank(lambda rows: scores, np.array([0]), 3)
    assert (found.greater[0], found.equal[0]) == (1, 1)
    assert found.items.tolist() == [[1, 0, 2]]
    assert found.scores.dtype == np.float32 and found.scores.tolist() == [[1, 1, 1]]


def test_scores_beyond_float32_are_compared_as_they_are_and_listed_at_its_end():
    scores = np.array([[1e300, 1e301, -1e300, 0]])
    world = World(scores, [0])
    found = world.rank()
    assert found.items.tolist() == [[1, 0, 3, 2]] and found.greater[0] == 1
    assert np.isfinite(found.scores).all() and world.consistent(found).all()


def test_float32_scores_whose_sum_overflows_are_finite():
    scores = np.full((2, 50), 3e38, np.float32)
    scores[:, 7] = -3e38
    found = rank(lambda rows: scores, np.array([7, 0]), 50)
    assert found.greater.tolist() == [49, 0] and found.equal.tolist() == [1, 49]


def test_the_least_integer_is_a_score_like_others():
    scores = np.array([[-128, 127, -128]], np.int8)
    found = World(scores, [2], [np.array([0])]).rank()
    assert found.items.tolist() == [[1, 2, -1]]
    assert (found.greater[0], found.equal[0]) == (1, 1)


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_integers_are_told_apart_below_two_to_the_53(kind):
    scores = np.array([[2**53 - 2, 2**53 - 1]], kind)
    assert rank(lambda rows: scores, np.array([0]), 2).greater[0] == 1
    with pytest.raises(CheckFailed, match=r"2\*\*53") as problem:
        rank(lambda rows: scores + scores.dtype.type(1), np.array([0]), 2)
    said(problem)
    with pytest.raises(CheckFailed, match=r"2\*\*53"):
        rank(lambda rows: np.full((1, 2), np.iinfo(kind).max, kind), np.array([0]), 2)
    with pytest.raises(CheckFailed, match=r"2\*\*53"):
        rank(lambda rows: np.array([[-(2**53), 0]]), np.array([0]), 2)


@pytest.mark.parametrize("n", [1, 2, 19])
def test_lists_are_no_longer_than_there_are_items(n):
    scores = np.arange(n, dtype=np.float32)[None]
    found = rank(lambda rows: scores, np.array([0]), n)
    assert found.items.tolist() == [list(range(n))[::-1]]


def test_an_item_unseen_in_training_is_a_miss_and_its_list_is_ranked():
    scores = np.arange(30, dtype=np.float32)[None].repeat(2, 0)
    found = rank(lambda rows: scores, np.array([30, 1 << 40]), 30)
    assert found.greater.tolist() == [30, 30] and found.equal.tolist() == [1, 1]
    assert found.items[0].tolist() == list(range(29, 9, -1))
    assert all((value == 0).all() for value in metrics(found.greater, found.equal).values())


def test_when_all_items_but_one_are_seen_the_list_is_that_one():
    scores = np.zeros((2, 25), np.float32)
    world = World(scores, [4, 5], [np.delete(np.arange(25), 4)] * 2)
    found = world.rank()
    assert found.items.tolist() == [[4] + [-1] * 19] * 2
    assert found.scores[:, 0].tolist() == [0, 0] and np.isnan(found.scores[:, 1:]).all()
    assert found.greater.tolist() == [0, 25] and found.equal.tolist() == [1, 1]


def test_when_all_items_are_seen_the_list_is_empty():
    world = World(np.zeros((1, 5), np.float32), [4], [np.arange(5)])
    found = world.rank()
    assert found.items.tolist() == [[-1] * 5] and found.greater[0] == 5
    assert world.consistent(found).all()


@given(worlds(distinct=True), st.randoms(use_true_random=False))
def test_other_item_numbers_give_the_same_ranks_under_other_numbers(world, random):
    new = list(range(world.n_items))
    random.shuffle(new)
    new = np.array([*new, *range(world.n_items, world.n_items * 2 + 1)])  # unseen ones stay
    scores = np.empty_like(world.scores)
    scores[:, new[: world.n_items]] = world.scores
    hidden = world.hidden and [new[row] for row in world.hidden]
    found, other = world.rank(), World(scores, new[world.targets], hidden).rank()
    assert_same(replace(found, items=np.where(found.items < 0, -1, new[found.items])), other)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    "laid_out",
    [
        lambda scores: np.asfortranarray(scores),
        lambda scores: scores.repeat(2, axis=1)[:, ::2],
        lambda scores: scores[::-1][::-1],
        lambda scores: scores.copy()[:, ::-1][:, ::-1],
    ],
)
def test_how_scores_lie_in_memory_does_not_matter(laid_out, hidden):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((50, 300)).astype(np.float32)
    seen = [rng.integers(0, 300, 20) for _ in range(50)] if hidden else None
    targets = rng.integers(0, 300, 50)
    with in_small_parts(3000, 900):
        found = World(laid_out(scores), targets, seen).rank()
    assert_same(found, World(scores, targets, seen).ranked_one_by_one(TOP))


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int32"])
def test_the_scores_of_an_agent_are_never_written_to(kind):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, (10, 40)).astype(kind)
    before, seen = scores.copy(), [rng.integers(0, 40, 5) for _ in range(10)]
    first = World(scores, np.arange(10), seen).rank()
    assert (scores == before).all()
    scores.flags.writeable = False
    assert_same(World(scores, np.arange(10), seen).rank(), first)


def test_an_agent_may_give_the_same_array_again_and_again():
    held = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)
    seen = [np.array([target % 30, 3]) for target in range(12)]
    world = World(np.tile(held, (3, 1)), np.arange(12), seen)
    with in_small_parts(120, 60):
        found = rank(lambda rows: held, world.targets, 30, seen=world.seen)
    assert_same(found, world.ranked_one_by_one(TOP))


def test_agents_are_asked_for_bounded_parts_in_order_and_progress_is_told():
    asked, told = [], []

    def score(rows):
        asked.append(rows)
        return np.zeros((rows.stop - rows.start, 10), np.float32)

    with in_small_parts(35, 20):
        rank(score, np.zeros(7, int), 10, progress=told.append)
        rank(score, np.zeros(2, int), 10)
    assert asked == [slice(0, 3), slice(3, 6), slice(6, 7), slice(0, 2)]
    assert told == [3 / 7, 6 / 7, 1]
    with in_small_parts(1, 1):
        rank(score, np.zeros(2, int), 10)
    assert asked[4:] == [slice(0, 1), slice(1, 2)]


def test_no_targets_give_no_ranks():
    found = rank(lambda rows: pytest.fail("nothing to score"), np.empty(0, np.int32), 7)
    assert found.greater.shape == found.equal.shape == (0,)
    assert found.items.shape == found.scores.shape == (0, 7)
    assert consistent(found, np.empty(0, np.int32), 7).shape == (0,)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_memory_is_bounded(hidden, constant):
    n, rows = 50_000, 2000
    item, user = np.random.default_rng(0).standard_normal((2, n)).astype(np.float32)
    item *= not constant

    def seen(some):
        return np.arange(some.stop - some.start + 1), np.arange(some.start, some.stop)

    tracemalloc.start()
    rank(
        lambda some: np.add.outer(user[some], item),
        np.arange(rows),
        n,
        seen=seen if hidden else None,
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6


# What is refused


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("place", [(0, 0), (3, 299), (6, 150), (9, 299)])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_score_that_is_not_finite_is_refused_by_its_place(value, kind, place, hidden):
    scores = np.random.default_rng(0).standard_normal((10, 300)).astype(kind)
    scores[place] = value
    seen = [np.array([place[1]])] * 10 if hidden else None
    with in_small_parts(1200, 600), pytest.raises(CheckFailed) as problem:
        World(scores, np.arange(10), seen).rank()
    assert f"item {place[1]} of target {place[0]} has {value}" in said(problem)


@pytest.mark.parametrize(
    "scores",
    [
        np.zeros((2, 9)),
        np.zeros((1, 10)),
        np.zeros(20),
        np.zeros((2, 10), bool),
        np.zeros((2, 10), complex),
        np.zeros((2, 10), object),
        np.zeros((2, 10), "M8[s]"),
        [[0.0] * 10] * 2,
        [[0.0], [0.0, 1.0]],
        None,
    ],
)
def test_scores_of_another_kind_or_shape_are_refused(scores):
    with pytest.raises(CheckFailed, match=r"\(2, 10\)") as problem:
        rank(lambda rows: scores, np.arange(2), 10)
    said(problem)


@pytest.mark.parametrize(
    "targets", [np.array([[1]]), np.array([1.0]), np.array([0, -1]), np.array([True])]
)
def test_targets_are_item_numbers(targets):
    with pytest.raises(InvalidArgument, match="numbers") as problem:
        rank(lambda rows: np.zeros((len(targets), 3)), targets, 3)
    said(problem)


@pytest.mark.parametrize(("n_items", "top"), [(0, 20), (3, 0)])
def test_there_is_an_item_and_a_place_to_list_it(n_items, top):
    with pytest.raises(InvalidArgument) as problem:
        rank(lambda rows: np.zeros((1, n_items)), np.array([0]), n_items, top=top)
    said(problem)


@pytest.mark.parametrize(
    ("offsets", "items"),
    [
        ([], []),
        ([0, 1], [0]),
        ([0, 1, 3], [0]),
        ([0, 2, 1], [0]),
        ([1, 1, 1], [0]),
        ([0, 0, 1], [-1]),
    ],
)
def test_seen_items_must_fit_their_offsets(offsets, items):
    with pytest.raises(InvalidArgument) as problem:
        rank(
            lambda rows: np.zeros((2, 3)), np.arange(2), 3,
            seen=lambda rows: (np.array(offsets, int), np.array(items, int)),
        )  # fmt: skip
    said(problem)


# Metrics


def test_metrics_are_the_mean_over_all_orders_of_equal_scores():
    rng = np.random.default_rng(0)
    for _ in range(12):
        n = int(rng.integers(2, 7))
        scores, target = rng.integers(0, 3, n), int(rng.integers(n))
        ranks = [ranked_among(scores, target, order) for order in permutations(range(n))]
        found = rank(lambda rows, scores=scores: scores[None], np.array([target]), n)
        cuts = range(1, n + 1)
        for name, value in metrics(found.greater, found.equal, cuts).items():
            gain, cut = GAINS[name.split("@")[0]], int(name.split("@")[1])
            assert value[0] == pytest.approx(np.mean([gain(r) * (r <= cut) for r in ranks]))


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 300)), min_size=1, max_size=5))
def test_metrics_are_means_over_the_places_that_equal_scores_take(stands):
    greater, equal = np.array(stands, np.int32).T
    found = metrics(greater, equal, (1, 5, 10, 20, 250))
    for row, (above, tied) in enumerate(stands):
        places = range(above + 1, above + tied + 1)
        for name, value in found.items():
            gain, cut = GAINS[name.split("@")[0]], int(name.split("@")[1])
            wanted = math.fsum(gain(place) for place in places if place <= cut) / tied
            assert value[row] == pytest.approx(wanted, abs=1e-12)
    assert list(found)[:4] == ["hr@1", "ndcg@1", "mrr@1", "hr@5"]


@given(worlds())
def test_metrics_between_cuts_obey_the_arithmetic_of_one_target(world):
    ranked = world.rank()
    found = {name: value.mean() for name, value in metrics(ranked.greater, ranked.equal).items()}
    hr, ndcg = ([0] + [found[f"{name}@{cut}"] for cut in CUTS] for name in ("hr", "ndcg"))
    for low, high in combinations(range(len(CUTS) + 1), 2):
        first, last = (0, *CUTS)[low] + 1, (0, *CUTS)[high]
        hits, gain = hr[high] - hr[low], ndcg[high] - ndcg[low]
        assert hits / math.log2(last + 1) - 1e-12 <= gain <= hits / math.log2(first + 1) + 1e-12


# Sampled metrics


def test_sampled_metrics_are_refused_unless_allowed():
    with pytest.raises(InvalidArgument, match=r"Krichene & Rendle.*allow_sampled=True") as problem:
        sampled(lambda rows: np.zeros((1, 9)), np.array([0]), 9, negatives=3, seed=0)
    said(problem)


def sampled_of(scores, targets, negatives, seed=0):
    return sampled(
        lambda rows: scores[rows], targets, scores.shape[1],
        negatives=negatives, seed=seed, allow_sampled=True,
    )  # fmt: skip


def test_metrics_among_a_sample_of_all_others_are_those_of_the_full_ranking_by_another_name():
    rng = np.random.default_rng(0)
    scores, targets = rng.integers(0, 9, (40, 30)), rng.integers(0, 33, 40)
    ranked = rank(lambda rows: scores[rows], targets, 30)
    full, found = metrics(ranked.greater, ranked.equal), sampled_of(scores, targets, 29)
    assert list(found) == [f"sampled-{name}" for name in full]
    for name, value in full.items():
        np.testing.assert_array_equal(found[f"sampled-{name}"], value)


def test_what_is_drawn_depends_on_the_seed_and_the_target_not_on_the_agent_or_its_parts():
    rng = np.random.default_rng(0)
    scores, targets = rng.standard_normal((60, 200)), rng.integers(0, 200, 60)
    found = sampled_of(scores, targets, 10)
    with in_small_parts(700, 400):
        again = sampled_of(2 * scores + 1, targets, 10)
    fewer, other = sampled_of(scores, targets[:20], 10), sampled_of(scores, targets, 10, seed=1)
    for name, value in found.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_array_equal(value[:20], fewer[name])
    assert any((value != other[name]).any() for name, value in found.items())


def test_targets_unseen_in_training_miss_in_samples_too():
    found = sampled_of(np.zeros((1, 9)), np.array([9]), 2)
    assert all(value[0] == 0 for value in found.values())


@pytest.mark.parametrize("negatives", [0, 9])
def test_there_must_be_as_many_items_as_are_drawn(negatives):
    with pytest.raises(InvalidArgument) as problem:
        sampled_of(np.zeros((1, 9)), np.array([0]), negatives)
    said(problem)


def test_each_set_of_others_is_drawn_as_often():
    rows = 30_000
    drawn = ranking._drawn(np.random.default_rng(0).random((rows, 2)), 5)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    _, counts = np.unique(np.sort(drawn, axis=1) @ [10, 1], return_counts=True)
    assert len(counts) == 10
    assert ((counts - rows / 10) ** 2 / (rows / 10)).sum() < 27.9  # chi-square, 9 degrees, .999


# Do lists and ranks agree?


@given(worlds(), st.integers(1, 25), st.integers(1, 5))
def test_what_is_ranked_is_consistent(world, top, checked):
    with mock.patch.object(ranking, "_CHECKED", checked):
        assert world.consistent(world.rank(top=top)).all()


def edited(ranked, row, **changes):
    """A copy in which some numbers of one row are others; a list of them from the front."""
    copies = {
        name: getattr(ranked, name).copy() for name in ("greater", "equal", "items", "scores")
    }
    for name, value in changes.items():
        copies[name].reshape(len(copies[name]), -1)[row, : np.size(value)] = value
    return Ranked(**copies)


@pytest.fixture
def world():
    """Ten targets of which the i-th stands at place i, among 40 items; there are no ties."""
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(40, dtype=np.float32), (10, 1)), axis=1)
    return World(scores, np.argsort(-scores, axis=1)[np.arange(10), np.arange(10)])


EDITS = {
    "greater": lambda own: {"greater": own["greater"] + 1},
    "fewer greater": lambda own: {"greater": own["greater"] - 1},
    "equal": lambda own: {"equal": 2},
    "none equal": lambda own: {"equal": 0},
    "a miss": lambda own: {"greater": 40},
    "all miss": lambda own: {"greater": 40, "equal": 1},
    "behind the list": lambda own: {"greater": 20},
    "beyond all": lambda own: {"greater": 2**31 - 1, "equal": 2**31 - 1},
    "twice": lambda own: {"items": own["items"][[0, 0]]},
    "out of range": lambda own: {"items": [40]},
    "negative": lambda own: {"items": [-2]},
    "padded": lambda own: {
        "items": [*own["items"][:19], -1],
        "scores": [*own["scores"][:19], np.nan],
    },
    "empty": lambda own: {"items": [-1] * 20, "scores": [np.nan] * 20},
    "nan": lambda own: {"scores": [np.nan]},
    "infinite": lambda own: {"scores": [np.inf]},
    "rising": lambda own: {"scores": own["scores"][[1, 0]]},
    "swapped": lambda own: {"items": own["items"][[1, 0]], "scores": own["scores"][[1, 0]]},
    "all rising": lambda own: {"items": own["items"][::-1], "scores": own["scores"][::-1]},
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_one_edit_is_found_in_its_row(world, name):
    ranked = world.rank()
    for row in range(10):
        changes = EDITS[name]({key: getattr(ranked, key)[row] for key in vars(ranked)})
        agree = world.consistent(edited(ranked, row, **changes))
        assert agree.tolist() == [other != row for other in range(10)]


@given(worlds(distinct=True, kinds=["float32"]), st.data())
def test_another_place_for_a_listed_target_is_found(world, data):
    ranked = world.rank(top=20)
    row = data.draw(st.integers(0, len(world.targets) - 1))
    place = data.draw(st.integers(0, world.n_items))
    if place != ranked.greater[row] and world.targets[row] in ranked.items[row]:
        assert not world.consistent(edited(ranked, row, greater=place))[row]


def test_a_target_that_changes_places_with_another_item_is_found(world):
    ranked = world.rank()
    for row in range(10):
        items = ranked.items[row].copy()
        items[[row, 15]] = items[[15, row]]
        assert not world.consistent(edited(ranked, row, items=items))[row]


def test_a_target_that_is_not_listed_stands_behind_the_list():
    scores = np.arange(40, dtype=np.float32)[None]
    world = World(scores, [3])
    ranked = world.rank()
    assert ranked.greater[0] == 36
    for greater, sound in ((20, True), (39, True), (40, False), (19, False), (0, False)):
        assert world.consistent(edited(ranked, 0, greater=greater))[0] == sound
    for equal in (0, -1):
        assert not world.consistent(edited(ranked, 0, equal=equal))[0]
    short = world.rank(top=40)
    assert world.consistent(short)[0]
    assert not world.consistent(edited(short, 0, items=np.roll(short.items[0], 4)))[0]


def test_equal_scores_around_a_target_are_in_order_and_as_many_as_is_said():
    scores = np.zeros((1, 40), np.float32)
    scores[0, 30:] = 1  # 30 to 39, then 0 to 9
    world = World(scores, [35])
    ranked = world.rank()
    assert (ranked.greater[0], ranked.equal[0]) == (0, 10)
    swapped = ranked.items[0, [1, 0]]
    assert not world.consistent(edited(ranked, 0, items=swapped))[0]
    assert not world.consistent(edited(ranked, 0, equal=11))[0]
    assert not world.consistent(edited(ranked, 0, equal=5))[0]
    last = World(scores, [20])
    ranked = last.rank()
    assert (ranked.greater[0], ranked.equal[0]) == (10, 30) and last.consistent(ranked)[0]
    assert not last.consistent(edited(ranked, 0, equal=31))[0]
    assert not last.consistent(edited(ranked, 0, equal=10))[0]
    assert not last.consistent(edited(ranked, 0, greater=9))[0]
    assert not World(scores, [5]).consistent(edited(ranked, 0, greater=20, equal=20))[0]
    even = World(np.zeros((1, 40)), [0])
    ranked = even.rank()
    assert even.consistent(ranked)[0]
    assert not even.consistent(edited(ranked, 0, greater=-1, equal=41))[0]


def test_an_item_that_equals_the_end_of_a_list_without_being_on_it_has_a_greater_number():
    scores = np.zeros((1, 40), np.float32)
    scores[0, 30:] = 1
    last = World(scores, [20])
    ranked = last.rank()
    absent = ranked.items[0].copy()
    absent[10:] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 25]
    assert not last.consistent(edited(ranked, 0, items=absent))[0]


def test_scores_that_differ_only_before_they_are_listed_may_stand_in_any_order():
    world = World(np.array([[1.0, 1.0 + 1e-12, 1.0 + 2e-12]]), [1])
    ranked = world.rank()
    assert ranked.items.tolist() == [[2, 1, 0]] and ranked.scores.tolist() == [[1, 1, 1]]
    assert world.consistent(ranked)[0]
    for greater, equal in ((0, 1), (2, 1), (1, 2), (0, 3)):
        assert not world.consistent(edited(ranked, 0, greater=greater, equal=equal))[0]


def test_what_was_seen_is_neither_listed_nor_hit():
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(40, dtype=np.float32), (4, 1)), axis=1)
    best = np.argsort(-scores, axis=1)
    open_world = World(scores, best[:, 0])
    world = World(scores, best[:, 0], [best[0, :1], best[1, :1], best[2, 1:2], best[3, 1:25]])
    ranked, unmasked = world.rank(), open_world.rank()
    assert ranked.greater.tolist() == [40, 40, 0, 0]
    assert world.consistent(ranked).all()
    assert not world.consistent(unmasked).any()
    assert not open_world.consistent(ranked)[[0, 1, 3]].any()
    for changes in ({"greater": 39}, {"equal": 2}, {"equal": 0}):
        assert world.consistent(edited(ranked, 0, **changes)).tolist() == [False] + [True] * 3
    for name, values in (("items", ranked.items[3]), ("scores", ranked.scores[3])):
        changed = values.copy()
        changed[-1] = 0
        assert not world.consistent(edited(ranked, 3, **{name: changed}))[3]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("greater", lambda values: values.astype(np.int64)),
        ("equal", lambda values: values[:-1]),
        ("items", lambda values: values[:, :-1]),
        ("items", lambda values: values.astype(np.float32)),
        ("scores", lambda values: values.astype(np.float64)),
        ("scores", lambda values: values[0]),
        ("items", lambda values: values[0]),
        ("items", lambda values: values[0, 0]),
    ],
)
def test_arrays_of_another_kind_or_shape_are_refused(world, name, change):
    ranked = world.rank()
    with pytest.raises(BadPredictions, match=r"of shape") as problem:
        world.consistent(replace(ranked, **{name: change(getattr(ranked, name))}))
    said(problem)
