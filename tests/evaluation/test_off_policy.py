import itertools
from dataclasses import dataclass, replace

import minari
import numpy as np
import pytest
from scipy import stats

import recgym
from recgym.agent import View
from recgym.envs.oracle import Oracle
from recgym.envs.policies import greedy, observed, recommended
from recgym.errors import InvalidArgument
from recgym.evaluation import off_policy
from recgym.evaluation.off_policy import (
    Logged,
    Softened,
    estimates,
    logged,
    selection,
    true_value,
)
from tests.evaluation.conftest import USERS
from tests.sentences import said

VIEW = View(3, {"history": slice(0, 2)}, -1)  # three items, of which the last two are seen
LOGGING, OTHER = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
REWARD = np.array([[0.2, 0.5, 0.1], [0.9, 0.1, 0.4], [0.3, 0.3, 0.8]])  # after an item, of the next
STEPS = 3


@dataclass
class Fixed:
    """The same probabilities whatever is observed."""

    shares: np.ndarray

    def probabilities(self, observations):
        return np.tile(self.shares, (len(observations), 1))


def rolled(count, seed, shares=LOGGING, steps=STEPS):
    """Sessions of a policy that draws the same way always; rewards depend on the item before."""
    rng = np.random.default_rng(seed)
    actions = rng.choice(3, p=shares, size=(count, steps))
    before = np.concatenate([np.zeros((count, 1), int), actions[:, :-1]], axis=1)
    rewards = (rng.random(actions.shape) < REWARD[before, actions]).astype(float)
    history = np.stack([before, np.full(before.shape, 3)], axis=2)
    return Logged(
        np.full(count, steps),
        history.reshape(-1, 2),
        actions.ravel(),
        rewards.ravel(),
        shares[actions].ravel(),
        VIEW,
        np.zeros(3, np.int64),
        False,
    )


def value(shares, steps=STEPS):
    """The true return, over all sequences of actions."""
    total = 0.0
    for actions in itertools.product(range(3), repeat=steps):
        before = (0, *actions[:-1])
        total += np.prod(shares[list(actions)]) * REWARD[list(before), list(actions)].sum()
    return total


def test_on_its_own_log_a_policy_earns_what_was_logged():
    data = rolled(300, 0)
    found = estimates(data, Fixed(LOGGING))
    mean = data.rewards.reshape(300, -1).sum(1).mean()
    for name in ("snips", "pdis"):
        assert found[name].mean == pytest.approx(mean)
        assert found[name].effective == pytest.approx(300)
        assert found[name].low < mean < found[name].high


@pytest.mark.parametrize("name", ["pdis", "dr"])
def test_weighted_estimators_are_unbiased(name, monkeypatch):
    monkeypatch.setattr(off_policy, "RESAMPLES", 5)
    found = [estimates(rolled(150, seed), Fixed(OTHER))[name].mean for seed in range(150)]
    assert abs(stats.ttest_1samp(found, value(OTHER)).statistic) < 3.5


def test_snips_and_fqe_come_close_with_much_data():
    found = estimates(rolled(30_000, 1), Fixed(OTHER))
    assert found["snips"].mean == pytest.approx(value(OTHER), abs=0.03)
    assert found["pdis"].mean == pytest.approx(value(OTHER), abs=0.03)
    assert found["dr"].mean == pytest.approx(value(OTHER), abs=0.03)


def test_doubly_robust_varies_less_than_weights_alone(monkeypatch):
    monkeypatch.setattr(off_policy, "RESAMPLES", 5)
    found = [estimates(rolled(150, seed), Fixed(OTHER)) for seed in range(60)]
    spread = {name: np.std([one[name].mean for one in found]) for name in ("pdis", "dr")}
    assert spread["dr"] < 0.9 * spread["pdis"]


def test_doubly_robust_without_a_q_function_is_per_decision(monkeypatch):
    monkeypatch.setattr(
        off_policy, "_fixed_point", lambda features, *rest: np.zeros(len(features[0]))
    )
    found = estimates(rolled(200, 3), Fixed(OTHER))
    assert found["dr"].mean == pytest.approx(found["pdis"].mean)
    assert found["fqe"].mean == 0


def test_weights_are_products_of_ratios_up_to_a_step():
    ratios = np.array([2.0, 0.5, 3.0, 0.0, 4.0, 5.0])
    lengths = np.array([2, 3, 1])
    products = np.exp(off_policy._log_products(ratios, lengths, np.array([0, 2, 5])))
    assert products.tolist() == pytest.approx([2, 1, 3, 0, 0, 5])


def test_long_sessions_do_not_overflow():
    data = rolled(20, 0, steps=5000)
    always = replace(
        data, actions=np.full_like(data.actions, 2), propensities=np.full(100_000, 0.2)
    )
    for one, policy in ((data, OTHER), (always, OTHER), (always, LOGGING[::-1])):
        found = estimates(one, Fixed(policy))
        numbers = [(e.mean, e.effective) for e in found.values() if e.mean is not None]
        assert numbers and np.isfinite(numbers).all()
    assert estimates(always, Fixed(OTHER))["pdis"].mean is None  # 3 to the power of 5,000
    assert estimates(always, Fixed(OTHER))["snips"].effective == pytest.approx(20)


def test_effective_sessions_are_those_that_the_weights_leave():
    data = rolled(100, 5, steps=1)
    found = estimates(data, Fixed(OTHER))["snips"]
    weights = (OTHER / LOGGING)[data.actions]
    assert found.effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert found.mean == pytest.approx(weights @ data.rewards / weights.sum())


def test_a_policy_that_never_does_what_was_logged_is_undefined():
    data = rolled(50, 0)
    data = replace(data, actions=np.zeros_like(data.actions), propensities=np.full(150, 0.5))
    found = estimates(data, Fixed(np.array([0.0, 0.5, 0.5])))
    assert found["snips"].mean is None and found["snips"].effective == 0
    assert found["pdis"].mean == 0 and found["fqe"].mean is not None


def test_a_linear_q_is_that_of_dynamic_programming_where_it_can_be():
    """With a feature for each (step, item before, item), Q is exact on the sample."""
    data = rolled(4000, 2)
    step = np.tile(np.arange(STEPS), 4000)
    state = step * 3 + data.observations[:, 0]
    cells = np.eye(9 * 3)
    features = cells[state * 3 + data.actions]
    expected = sum(OTHER[item] * cells[state * 3 + item] for item in range(3))
    weights = off_policy._fixed_point(features, expected, data, np.ones(len(step), bool))
    q = np.zeros((STEPS + 1, 3, 3))
    for t in reversed(range(STEPS)):
        for before, item in itertools.product(range(3), repeat=2):
            here = (step == t) & (data.observations[:, 0] == before) & (data.actions == item)
            if here.any():
                after = q[t + 1, item] @ OTHER if t + 1 < STEPS else 0.0
                q[t, before, item] = data.rewards[here].mean() + after
    found = weights.reshape(STEPS, 3, 3)
    seen = np.bincount(state * 3 + data.actions, minlength=27).reshape(STEPS, 3, 3) > 0
    assert found[seen] == pytest.approx(q[:STEPS][seen], abs=1e-3)


def test_expected_features_are_sums_over_items(small):
    data = logged(USERS.of("test"))
    data = replace(data, lengths=data.lengths[:1], **{
        name: getattr(data, name)[: data.lengths[0]]
        for name in ("observations", "actions", "rewards", "propensities")
    })  # fmt: skip
    features = off_policy._Features(data)
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(data.n_items), size=len(data.actions))

    class Drawn:
        def probabilities(self, observations):
            return shares[: len(observations)]

    chosen, expected = features.under(Drawn())
    assert chosen == pytest.approx(shares[np.arange(len(shares)), data.actions])
    steps = slice(0, len(data.actions))
    wanted = np.zeros_like(expected)
    for item in range(data.n_items):
        object.__setattr__(data, "actions", np.full(len(shares), item))
        wanted += shares[:, item, None] * features._of(steps)
    assert expected == pytest.approx(wanted)


def test_softened_policies_sum_to_one():
    policy = Softened(lambda observations: observations[:, 0], 4, 0.2)
    found = policy.probabilities(np.array([[1], [3]]))
    assert found.sum(1) == pytest.approx(1) and found[0].tolist() == pytest.approx(
        [0.05, 0.85, 0.05, 0.05]
    )


def test_propensities_are_those_of_the_action_before_them(small):
    data = logged(USERS.dataset)
    first = minari.load_dataset(USERS.dataset)[0]
    count = len(first.actions)
    assert data.propensities[:count].tolist() == first.infos["propensity"][1:].tolist()
    assert data.actions[:count].tolist() == first.actions.tolist()
    assert (data.observations[:count] == first.observations[:-1]).all()
    assert data.lengths[0] == count and not data.confounded


def test_data_without_propensities_are_refused(small):
    with pytest.raises(InvalidArgument, match="no propensities") as problem:
        logged("recgym/demo/logged-v0")
    said(problem)


def test_probabilities_that_are_none_are_refused():
    for shares in (np.array([0.5, 0.2, 0.2]), np.array([0.5, 0.5]), np.array([1.5, -0.5, 0])):
        with pytest.raises(InvalidArgument, match="sums to 1") as problem:
            estimates(rolled(5, 0), Fixed(shares))
        said(problem)


def test_the_truth_is_that_of_the_policy_in_its_environment():
    oracle = Oracle(boring=3)

    def act(observations):
        return recommended(oracle, observed(oracle, observations), greedy)

    worth = true_value(USERS.env, Softened(act, 1000, 0.0), 400, 3 * 10**7)
    assert worth == pytest.approx(2.11, abs=0.2)  # of 10,000 held-out users
    assert true_value(USERS.env, Softened(act, 1000, 1.0), 400, 3 * 10**7) == pytest.approx(
        0.95, abs=0.15
    )


def test_estimates_order_policies_that_differ_much(small):
    recgym.collect("recgym/OracleStatic-v0", "mixed", sessions=800, name="static")
    data, oracle = logged("recgym/static/mixed-v0"), Oracle()

    def act(observations):
        return recommended(oracle, observed(oracle, observations), greedy)

    best, worst = (estimates(data, Softened(act, 1000, e)) for e in (0.05, 1.0))
    for name in ("fqe", "dr"):
        assert best[name].mean > worst[name].mean + 1


def test_selection_is_held_against_the_truth():
    found = selection([1.0, 3.0, 2.0, None], [2.0, 5.0, 6.0, 1.0])
    assert found.error == pytest.approx(np.sqrt((1 + 4 + 16) / 3))
    assert found.regret == 1.0 and found.normalised_regret == pytest.approx(0.2)
    wanted = stats.spearmanr([1, 3, 2, -9], [2, 5, 6, 1]).statistic
    assert found.correlation == pytest.approx(wanted)
    assert selection([None, None], [1.0, 2.0]).error is None
    assert selection([2.0, 2.0, 1.0], [1.0, 3.0, 2.0]).regret == 1.0  # one of the two
    ties = selection([1.0, 1.0, 2.0], [1.0, 3.0, 2.0])
    assert ties.correlation == pytest.approx(stats.spearmanr([1, 1, 2], [1, 3, 2]).statistic)
    with pytest.raises(InvalidArgument) as problem:
        selection([1.0], [1.0])
    said(problem)
