"""Calibration: known slopes are found again, and as many items are accepted as was declared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from recgym.errors import Diverged, InvalidArgument
from recgym.simulator.calibration import Scale, calibrated

from ..sentences import said


def drawn(count=20_000, shift=1.466, seed=0):
    """Rewards of what was taken, of what was not, and of any: normal, with an AUC of .85."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(shift, 1, count).astype(np.float32),
        rng.normal(0, 1, count).astype(np.float32),
        rng.normal(0, 1, (count, 2)).astype(np.float32),
    )


def test_the_slope_of_logistic_data_is_found_again():
    """Between two normal distributions of spread 1, log-odds rise by their distance."""
    taken, untaken, random = drawn(shift=1.5)
    scale = calibrated(taken, untaken, random, 0.01)
    assert scale.slope / scale.spread == pytest.approx(1.5, abs=0.03)


@pytest.mark.parametrize("base_rate", [1e-4, 0.01, 0.3, 0.99])
def test_random_items_are_accepted_at_the_base_rate(base_rate):
    *pairs, random = drawn()
    chances = calibrated(*pairs, random, base_rate).probability(random)
    assert chances.dtype == np.float32 and chances.shape == random.shape
    assert chances.mean(dtype=np.float64) == pytest.approx(base_rate, abs=1e-6, rel=1e-5)


def test_a_calibrator_of_pairs_alone_accepts_a_third_of_random_items_and_ours_does_not():
    """The figures of the specification, of an AUC of .85: 32%, and 97% of the best of 1,000."""
    taken, untaken, random = drawn()
    assert (taken > untaken).mean() == pytest.approx(0.85, abs=0.01)
    ours = calibrated(taken, untaken, random, 0.01)
    slope = ours.slope / ours.spread
    naive = 1 / (1 + np.exp(-slope * (random - 1.466 / 2)))  # halfway: each is as probable
    assert naive.mean() == pytest.approx(0.32, abs=0.01)
    best = norm.ppf(0.5 ** (1 / 1000))  # the median of the highest of 1,000
    assert 1 / (1 + np.exp(-slope * (best - 1.466 / 2))) > 0.96
    assert ours.probability(random).mean() == pytest.approx(0.01, abs=1e-6)
    assert ours.probability(np.float32([best]))[0] < 0.5


def test_pairs_that_are_all_right_have_a_finite_slope():
    taken, untaken = np.ones(500, np.float32), np.zeros(500, np.float32)
    random = np.repeat(np.float32([0, 1]), [990, 10])
    scale = calibrated(taken, untaken, random, 0.01)
    assert 2 < scale.slope < 20
    chances = scale.probability(random)
    assert np.isfinite(chances).all() and chances[-1] > 0.3 > 0.02 > chances[0]


def test_one_pair_that_lies_far_out_does_not_break_the_fit():
    taken, untaken, random = drawn(50)
    taken[0], untaken[1] = 1e6, 1e6
    scale = calibrated(taken, untaken, random, 0.01)
    assert np.isfinite([scale.slope, scale.intercept]).all() and scale.slope >= 0
    assert scale.probability(random).mean() == pytest.approx(0.01, abs=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3e5])
def test_constant_rewards_give_everything_the_base_rate(constant):
    same = np.full(77, constant, np.float32)
    scale = calibrated(same, same, same[:, None], 0.02)
    np.testing.assert_allclose(scale.probability(same), 0.02, rtol=1e-6)
    assert scale.slope == 0 and abs(scale.standardised(same)).max() < 1e-5


def test_rewards_that_order_pairs_the_wrong_way_give_everything_the_base_rate():
    taken, untaken, random = drawn(500)
    scale = calibrated(untaken, taken, random, 0.01)
    assert scale.slope == 0
    np.testing.assert_allclose(scale.probability(random), 0.01, rtol=1e-6)


@given(st.integers(0, 2**32), st.floats(-2, 2), st.floats(0.001, 0.9))
@settings(max_examples=30)
def test_a_higher_reward_is_never_less_probable(seed, shift, base_rate):
    *pairs, random = drawn(40, shift, seed)
    chances = calibrated(*pairs, random, base_rate).probability(np.linspace(-60, 60, 999))
    assert (np.diff(chances) >= 0).all() and chances.min() >= 0 and chances.max() <= 1


def test_standardised_rewards_have_mean_nought_and_spread_one():
    taken, untaken, random = drawn(500)
    scale = calibrated(5 * taken + 7, 5 * untaken + 7, random, 0.01)
    values = scale.standardised(5 * np.concatenate([taken, untaken]) + 7)
    assert values.dtype == np.float32
    assert (values.mean(), values.std()) == pytest.approx((0, 1), abs=1e-4)


def test_the_unit_of_rewards_does_not_matter():
    *pairs, random = drawn(500)
    one = calibrated(*pairs, random, 0.01).probability(random)
    other = calibrated(*(1000 * part - 3 for part in pairs), 1000 * random - 3, 0.01)
    np.testing.assert_allclose(other.probability(1000 * random - 3), one, rtol=1e-3)


def test_small_chances_keep_their_digits():
    scale = Scale(0.0, 1.0, 1.0, -30.0, 0.01)
    assert scale.probability(np.float32([0]))[0] == pytest.approx(np.exp(-30), rel=1e-5, abs=0)


@pytest.mark.parametrize("base_rate", [0, 1, -0.1, np.nan])
def test_a_base_rate_that_is_none_is_refused(base_rate):
    with pytest.raises(InvalidArgument) as problem:
        calibrated(*drawn(5), base_rate)
    assert "between 0 and 1" in said(problem)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rewards_that_are_no_numbers_are_refused(part, bad):
    parts = drawn(5)
    parts[part].flat[0] = bad
    with pytest.raises(Diverged) as problem:
        calibrated(*parts, 0.01)
    assert "1 of 20 rewards" in said(problem)
