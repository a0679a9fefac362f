import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import trim_mean

from recgym.errors import InvalidArgument
from recgym.evaluation import intervals
from recgym.evaluation.intervals import (
    CLAIMED,
    LISTED,
    RESAMPLES,
    Difference,
    Interval,
    Outcomes,
    aggregate,
    holm,
    interquartile_mean,
    interval,
    may_be_listed,
    may_claim,
    normalised,
    outcomes,
    paired,
)

from ..sentences import said

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def width(interval):
    return interval.high - interval.low


def each_one_target(values):
    """Outcomes of users with a target each, from values (users,) or (seeds, users)."""
    values = np.atleast_2d(values)
    return Outcomes(values, np.ones(values.shape[1], np.int64))


def a_world(rng, n_users=100, n_seeds=1, of_seed=0.0):
    """Outcomes of true mean 0: users differ in their level and in how many targets they have."""
    counts = rng.geometric(0.4, n_users)
    levels = rng.normal(size=n_users) + of_seed * rng.normal(size=(n_seeds, 1))
    noise = rng.normal(size=(n_seeds, n_users)) * np.sqrt(counts)
    return Outcomes(levels * counts + noise, counts)


# ------------------------------------------------------------------------ outcomes


def test_outcomes_are_sums_and_counts_by_user():
    values = np.array([[1.0, 2.0, 4.0, 8.0], [0.0, 1.0, 0.0, 1.0]])
    found = outcomes(values, np.array([7, -3, 7, 9]))
    assert found.sums.tolist() == [[2, 5, 8], [1, 0, 1]]
    assert found.counts.tolist() == [1, 2, 1]
    assert found.mean == values.mean()


@given(
    arrays.arrays(np.float64, (2, 12), elements=st.integers(0, 5)),
    arrays.arrays(np.int64, 12, elements=st.integers(-(2**40), 2**40) | st.integers(0, 3)),
)
def test_outcomes_hold_every_target_once_in_any_order(values, users):
    found = outcomes(values, users)
    order = np.random.default_rng(0).permutation(12)
    shuffled = outcomes(values[:, order], users[order])
    assert found.counts.sum() == 12
    assert np.array_equal(found.sums.sum(axis=1), values.sum(axis=1))
    assert np.array_equal(found.sums, shuffled.sums)
    assert np.array_equal(found.counts, shuffled.counts)


def test_hits_may_be_booleans():
    assert outcomes(np.array([[True, False, True]]), np.array([1, 1, 2])).mean == pytest.approx(
        2 / 3
    )


# ------------------------------------------------------------------------ interval


def test_the_interval_of_a_plain_mean_is_its_standard_error(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 20_000)
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = interval(each_one_target(values))
    error = values.std() / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert width(found) == pytest.approx(2 * 1.96 * error, rel=0.03)
    assert found.mean - found.low == pytest.approx(1.96 * error, rel=0.04)


def test_the_interval_of_a_micro_average_is_that_of_a_ratio(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 20_000)
    world = a_world(np.random.default_rng(1), n_users=500)
    world = Outcomes(world.sums + 5 * world.counts, world.counts)  # far from zero: no plain sum
    residuals = world.sums[0] - world.mean * world.counts
    error = np.sqrt((residuals**2).sum()) / world.counts.sum()
    assert width(interval(world)) == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_the_interval_is_that_of_a_plain_loop():
    rng = np.random.default_rng(2)
    world, n = a_world(rng, n_users=40, n_seeds=4, of_seed=1.0), 40
    means = []
    for _ in range(RESAMPLES):
        users, seeds = rng.choice(n, n), rng.choice(4, 4)
        picked = [world.sums[seed, user] for seed in seeds for user in users]
        means.append(sum(picked) / (4 * sum(world.counts[user] for user in users)))
    low, high = np.percentile(means, [5, 95])
    found = interval(world, level=0.9)
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.1 * (high - low))


def test_equal_targets_of_a_user_add_no_certainty():
    values, users = np.random.default_rng(3).random((2, 50)), np.arange(50)
    once = interval(outcomes(values, users))
    often = interval(outcomes(np.repeat(values, 8, axis=1), np.repeat(users, 8)))
    apart = interval(each_one_target(np.repeat(values, 8, axis=1)))
    assert (once.low, once.high) == pytest.approx((often.low, often.high), rel=1e-12)
    assert width(apart) < width(once) / 2


@pytest.mark.parametrize(("n_seeds", "of_seed"), [(1, 0.0), (20, 0.1)])
def test_95_percent_hold_the_truth_95_times_of_100(monkeypatch, n_seeds, of_seed):
    monkeypatch.setattr(intervals, "RESAMPLES", 500)
    rng = np.random.default_rng(4)
    found = [interval(a_world(rng, 300, n_seeds, of_seed), seed=i) for i in range(800)]
    assert 0.92 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.98


def test_seeds_that_differ_widen_the_interval():
    sums = np.random.default_rng(5).random((1, 200))
    alike = each_one_target(np.repeat(sums, 5, axis=0))
    apart = each_one_target(sums + np.linspace(-1, 1, 5)[:, None])
    assert apart.mean == pytest.approx(alike.mean)
    assert width(interval(apart)) > 5 * width(interval(alike))


def test_seeds_that_agree_change_nothing():
    sums = np.random.default_rng(6).random((1, 100))
    one, five = (
        interval(each_one_target(sums)),
        interval(each_one_target(np.repeat(sums, 5, axis=0))),
    )
    assert (five.low, five.high) == pytest.approx((one.low, one.high), rel=1e-12)


def test_an_interval_follows_from_its_seed():
    world = a_world(np.random.default_rng(7), n_seeds=3)
    assert interval(world, seed=5) == interval(world, seed=5) != interval(world, seed=6)


def test_a_higher_level_is_wider():
    world = a_world(np.random.default_rng(8))
    widths = [width(interval(world, level=level)) for level in (0.5, 0.9, 0.95, 0.99)]
    assert widths == sorted(set(widths))


def test_the_names_of_users_and_the_order_of_targets_do_not_matter():
    rng = np.random.default_rng(9)
    users, hits = rng.integers(80, size=300), rng.integers(2, size=(2, 300))
    found = interval(outcomes(hits, users))
    order = rng.permutation(300)
    assert interval(outcomes(hits[:, order], 10**9 - 80 + users[order])) == found
    renamed = interval(outcomes(hits, rng.permutation(80)[users]))
    assert renamed.mean == found.mean
    near = 0.06 * width(found)
    assert (renamed.low, renamed.high) == pytest.approx((found.low, found.high), abs=near)


@pytest.mark.parametrize("cells", [1, 5000, 1 << 24])
def test_how_many_resamples_are_drawn_together_does_not_matter(monkeypatch, cells):
    first, second = (a_world(np.random.default_rng(10), 700, n) for n in (3, 1))
    second = Outcomes(second.sums, first.counts)
    whole = interval(first), paired(first, second)
    monkeypatch.setattr(intervals, "_CELLS", cells)
    assert (interval(first), paired(first, second)) == whole


def test_the_memory_is_a_few_numbers_a_user(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 3)
    n = 500_000
    world = Outcomes(np.ones((5, n)), np.ones(n, np.int64))
    tracemalloc.start()
    try:
        paired(world, world)
        assert tracemalloc.get_traced_memory()[1] < 40 * n
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------ paired


def test_agents_that_err_on_the_same_users_are_told_apart_by_pairs():
    rng = np.random.default_rng(10)
    user = rng.normal(size=300)
    first = each_one_target(user + 0.1 + 0.1 * rng.normal(size=300))
    second = each_one_target(user + 0.1 * rng.normal(size=300))
    found = paired(first, second)
    apart = math.hypot(width(interval(first)), width(interval(second)))
    assert width(found) < apart / 5
    assert found.low > 0 and found.p < 0.01
    assert interval(first).low < interval(second).high  # intervals that overlap decide nothing


def test_an_agent_does_not_differ_from_itself():
    values = np.random.default_rng(11).random(1000)
    found = paired(each_one_target(values), each_one_target(values.copy()))
    assert found == Difference(0.0, 0.0, 0.0, 1.0)
    agent = a_world(np.random.default_rng(11), n_seeds=3, of_seed=1.0)
    found = paired(agent, agent)
    assert found.mean == 0 and found.low < 0 < found.high and found.p > 0.5


@pytest.mark.parametrize("seeds", [(1, 1), (5, 1), (5, 5)])
def test_a_difference_turned_round_is_its_opposite(seeds):
    rng = np.random.default_rng(12)
    first, second = (each_one_target(rng.random((n, 50))) for n in seeds)
    one, other = paired(first, second), paired(second, first)
    assert one.mean == first.mean - second.mean
    assert (one.mean, one.low, one.high, one.p) == (-other.mean, -other.high, -other.low, other.p)


def test_a_difference_of_single_seeds_is_the_interval_of_differences():
    rng = np.random.default_rng(13)
    first, second = rng.random(50) + 1, rng.random(50)
    found, plain = (
        paired(each_one_target(first), each_one_target(second)),
        interval(each_one_target(first - second)),
    )
    assert (found.mean, found.low, found.high) == pytest.approx((plain.mean, plain.low, plain.high))


def test_seeds_that_are_paired_are_drawn_together():
    rng = np.random.default_rng(16)
    start = rng.normal(size=(5, 1)) + rng.normal(size=(5, 80))
    first = each_one_target(start + 0.5 + 0.1 * rng.normal(size=(5, 80)))
    second = each_one_target(start)
    found, apart = paired(first, second, same_seeds=True), paired(first, second)
    assert found.mean == apart.mean and width(found) < width(apart) / 5
    assert found.low > 0 and apart.low < 0
    plain = interval(each_one_target(first.sums - second.sums))
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))
    turned = paired(second, first, same_seeds=True)
    assert (-turned.high, -turned.low, turned.p) == (found.low, found.high, found.p)
    with pytest.raises(InvalidArgument, match="give the same ones of both"):
        paired(first, each_one_target(start[:3]), same_seeds=True)


def test_an_agent_without_chance_meets_one_with_five_seeds():
    rng = np.random.default_rng(14)
    users = rng.random(100)
    seeds = users + 1 + np.linspace(-0.5, 0.5, 5)[:, None]
    found = paired(each_one_target(seeds), each_one_target(users))
    drawn = rng.choice(np.linspace(0.5, 1.5, 5), (100_000, 5)).mean(axis=1)  # users cancel out
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(drawn, [0.025, 0.975])), rel=0.1
    )


def test_chance_differs_five_times_of_100(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    rng = np.random.default_rng(15)
    found = []
    for i in range(1500):
        user, (first, second) = rng.normal(size=100), rng.normal(size=(2, 100))
        found.append(paired(each_one_target(user + first), each_one_target(user + second), i).p)
    assert 0.035 <= np.mean(np.array(found) <= 0.05) <= 0.07
    assert 0.45 <= np.mean(np.array(found) <= 0.5) <= 0.55


def test_a_p_value_is_below_5_percent_where_the_interval_leaves_zero_out():
    rng = np.random.default_rng(16)
    values, sides = rng.normal(size=60), []
    for shift in np.linspace(0.15, 0.4, 26):
        first = each_one_target(values - values.mean() + shift)
        found = paired(first, each_one_target(np.zeros(60)))
        sides.append(found.low > 0)
        if not 0.045 < found.p < 0.055:
            assert sides[-1] == (found.p < 0.05)
    assert set(sides) == {False, True}  # both were met


def test_where_no_resample_reaches_zero_p_is_the_tail_of_a_normal_distribution():
    rng = np.random.default_rng(17)
    values, nothing = rng.normal(size=400), each_one_target(np.zeros(400))
    for z in (2.0, 3.0, 4.0, 6.0):
        found = paired(each_one_target(values - values.mean() + z * values.std() / 20), nothing)
        assert math.log10(found.p) == pytest.approx(
            math.log10(math.erfc(z / math.sqrt(2))), rel=0.2
        )


def test_agents_far_apart_are_told_apart_in_a_table_of_a_hundred():
    user, noise = np.random.default_rng(18).normal(size=(2, 200))
    p = paired(each_one_target(user + 0.5 + noise), each_one_target(user)).p
    adjusted = holm([p] * 100)
    assert 0 < p < max(adjusted) < 0.001


def test_a_difference_without_spread_is_as_sure_as_resamples_can_say():
    far = paired(each_one_target(np.ones(20)), each_one_target(np.zeros(20)))
    assert far == Difference(1.0, 1.0, 1.0, 2 / (RESAMPLES + 1))


# ------------------------------------------------------------------------ many comparisons


def test_holm_gives_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P_VALUES)
def test_holm_is_the_closure_of_bonferroni(p_values):
    """A hypothesis falls when every set that holds it falls to Bonferroni."""
    places = range(len(p_values))
    sets = [s for k in places for s in itertools.combinations(places, k + 1)]
    assert holm(p_values) == [
        min(1, max(len(s) * min(p_values[j] for j in s) for s in sets if i in s)) for i in places
    ]


@given(st.lists(st.floats(0, 1), max_size=40))
def test_holm_keeps_the_order_and_lowers_nothing(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    ranked = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_holm_keeps_names():
    assert holm({"sa2c": 0.04, "snqn": 0.01}) == {"sa2c": 0.04, "snqn": 0.02}
    assert holm({}) == {} and holm([]) == []


# ------------------------------------------------------------------------ many benchmarks


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-1e6, 1e6)
    )
)
def test_the_interquartile_mean_is_a_trimmed_mean(scores):
    expected = trim_mean(scores.ravel(), 0.25)
    assert interquartile_mean(scores) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_interquartile_mean_is_blind_to_its_ends():
    assert interquartile_mean(np.array([-1e9, 2.0, 4.0, 1e9])) == 3
    assert interquartile_mean(np.array([1.0, 2.0, 9.0])) == 4  # too few to cut


def test_runs_that_agree_leave_no_width_however_far_apart_benchmarks_are():
    found = aggregate([np.full(5, level) for level in (-3.0, 0.1, 20.0, 90.0)])
    assert found == Interval(found.mean, found.mean, found.mean)
    assert found.mean == pytest.approx(10.05)


def test_the_aggregate_is_that_of_a_plain_loop():
    rng = np.random.default_rng(17)
    scores = [rng.normal(level, 10, 5) for level in (0, 30, 60, 90)]
    means = [
        trim_mean(np.concatenate([rng.choice(runs, 5) for runs in scores]), 0.25)
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    found = aggregate(scores)
    assert found.mean == pytest.approx(trim_mean(np.concatenate(scores), 0.25))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert aggregate(scores, seed=3) == aggregate(scores, seed=3) != found


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0.01, 1e3))
def test_random_has_0_and_the_reference_100(score, random, above):
    reference = random + above
    assert normalised(random, random, reference) == 0
    assert normalised(reference, random, reference) == pytest.approx(100)
    assert normalised(score, random, reference) == pytest.approx(
        100 - normalised(score, reference, random), abs=1e-6
    )


def test_a_normalised_score_is_not_clipped():
    assert normalised(3.0, 1.0, 2.0) == 200 and normalised(0.0, 1.0, 2.0) == -100
    assert normalised(2.0, 4.0, 0.0) == 50  # less may be better


# ------------------------------------------------------------------------ the rules


def test_three_seeds_are_listed_and_five_claim():
    assert (LISTED, CLAIMED) == (3, 5)
    assert [may_be_listed(n, chance=True) for n in (2, 3)] == [False, True]
    assert [may_claim(n, chance=True) for n in (4, 5)] == [False, True]


def test_an_agent_without_chance_needs_one_seed():
    for rule in (may_be_listed, may_claim):
        assert [rule(n, chance=False) for n in (0, 1)] == [False, True]


# ------------------------------------------------------------------------ refusals


def of(sums, counts):
    return Outcomes(np.array(sums, np.float64), np.array(counts))


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (lambda: of([[1, 2]], [1]), "(1, 2) and (1,)"),
        (lambda: of([1, 2], [1, 1]), "(2,) and (2,)"),
        (lambda: of(np.zeros((0, 2)), [1, 1]), "(0, 2) and (2,)"),
        (lambda: of(np.zeros((2, 0)), []), "(2, 0) and (0,)"),
        (lambda: of([[1, np.nan, np.inf]], [1, 1, 1]), "2 of 3 sums are not finite"),
        (lambda: of([[1, 2]], [1, 0]), "a count of 0"),
        (lambda: of([[1, 2]], [1, -2]), "a count of -2"),
        (lambda: of([[1, 2]], [1, np.nan]), "a count of nan"),
        (lambda: outcomes(np.zeros((1, 3)), np.arange(2)), "(1, 3), and (2,) of int64"),
        (lambda: outcomes(np.zeros(3), np.arange(3)), "(3,), and (3,) of int64"),
        (lambda: outcomes(np.zeros((1, 3)), np.zeros(3)), "(3,) of float64"),
        (lambda: outcomes(np.zeros((2, 0)), np.arange(0)), "(2, 0) and (0,)"),
        (lambda: outcomes(np.zeros((0, 2)), np.arange(2)), "(0, 2) and (2,)"),
        (lambda: outcomes(np.array([[np.nan, 1]]), np.arange(2)), "1 of 2 sums"),
        (lambda: interval(of([[3]], [1])), "There is 1 user"),
        (lambda: interval(of([[3, 4]], [1, 1]), level=95), "found 95"),
        (lambda: interval(of([[3, 4]], [1, 1]), level=math.nan), "found nan"),
        (lambda: paired(of([[3]], [1]), of([[4]], [1])), "There is 1 user"),
        (
            lambda: paired(of([[3, 4]], [1, 1]), of([[3, 4, 5]], [1, 1, 1])),
            "2 users with 2, and 3 with 3",
        ),
        (lambda: paired(of([[3, 4]], [1, 2]), of([[3, 4]], [2, 1])), "different targets"),
        (lambda: holm([0.5, 1.5]), "0.5 to 1.5"),
        (lambda: holm({"sa2c": -0.1}), "-0.1"),
        (lambda: holm([0.1, math.nan]), "nan"),
        (lambda: aggregate([]), "no benchmark"),
        (lambda: aggregate([np.ones(3), np.ones(5)]), "(3,), (5,)"),
        (lambda: aggregate([np.ones((2, 2))]), "(2, 2)"),
        (lambda: aggregate([np.ones(0)]), "0 of 0"),
        (lambda: aggregate([np.array([1, np.nan])]), "1 of 2"),
        (lambda: interquartile_mean(np.array([])), "0 of 0"),
        (lambda: interquartile_mean(np.array([np.inf, 1])), "1 of 2"),
        (lambda: normalised(1.0, 2.0, 2.0), "random 2.0 and reference 2.0"),
        (lambda: normalised(math.nan, 0.0, 1.0), "nan"),
    ],
)
def test_what_has_no_answer_is_refused_in_a_sentence(build, found):
    with pytest.raises(InvalidArgument) as problem:
        build()
    assert found in said(problem)
