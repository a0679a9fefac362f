"""CRR-Transformer: baselines, weights, the critic's targets, stages, and a bandit's closed form."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2Model

from recgym.agent import load_agent, made
from recgym.agents.batches import Steps
from recgym.agents.crr import (
    CRITIC,
    POLICY,
    TARGET_CRITIC,
    TARGET_POLICY,
    CRRTransformer,
    CRRTransformerSmall,
)
from recgym.checks import check_agent
from recgym.errors import InvalidArgument, RecGymError
from recgym.runs import Run

from ..sentences import said
from .worlds import (
    CLICK,
    ITEMS,
    LATER,
    NOW,
    PURCHASE,
    SMALL,
    advanced,
    all_steps,
    assert_same_bits,
    cyclic,
    head_set,
    in_training,
    learning,
    logged,
    shop,
    two_steps,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"hidden": 8, "critic_size": 8}
REFINES = ("td", "policy", "cross-entropy", "weight", "weight spread", "effective share",
           "share at the cap")  # fmt: skip


def crr(data=None, **options):
    """A small form in training, its weights far from where they begin."""
    return learning(CRRTransformerSmall, data, **TINY | options)


def begun(data=None, validation=None, **options):
    """A small form in training, as it begins."""
    return in_training(CRRTransformerSmall(**SMALL | TINY | options), data or shop(), validation)


def q_head(training, which=CRITIC):
    return training.networks[which].head("q")


def chances_of(training, seen, which=POLICY):
    policy = training.networks[which]
    return policy.head("policy")(policy.state(seen)).detach().double().softmax(1)


def values_of(training, seen, which=CRITIC):
    critic = training.networks[which]
    return critic.head("q")(critic.state(seen)).detach().double()


def of_done(values, batch):
    return values.gather(1, batch.actions[:, None])[:, 0]


def gradients(loss, network):
    network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def assert_gradients(found, wanted, atol):
    assert found.keys() == wanted.keys() and len(found) > 5
    assert any(gradient.any() for gradient in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=atol, rtol=0)


def some_zero():
    """The shop, where some actions brought nothing."""
    sessions = [[0, 1, 2], [3, 4], [5, 6, 1, 2]]
    rewards = [[1, 0, 0.2], [0, 1], [0, 0, 1, 0.2]]
    return logged("some-zero", sessions, ITEMS, rewards=rewards)


# ------------------------------------------------------------------------------- the advantage


def repeated(training, row, times=10_000):
    return training.data.batch(np.full(times, row), training.on)


@pytest.mark.parametrize("actions", [1, 4, 8])
@pytest.mark.parametrize("row", [0, 5, 11])
def test_the_mean_of_sampled_baselines_is_the_expectation(actions, row):
    training = crr(actions=actions)
    batch = repeated(training, row)
    done = of_done(values_of(training, batch.seen), batch)
    baselines = done - training.advantages(batch).double()
    chances, values = chances_of(training, batch.seen)[0], values_of(training, batch.seen)[0]
    exact = (chances * values).sum()
    error = baselines.std() / math.sqrt(len(baselines))
    assert error > 0 and abs(baselines.mean() - exact) < 3 * error
    spread = ((chances * (values - exact) ** 2).sum() / actions).sqrt()
    torch.testing.assert_close(baselines.std(), spread, rtol=0.06, atol=0)


def test_the_best_of_sampled_actions_is_as_good_as_chance_says():
    training = crr(actions=4, advantage="max")
    batch = repeated(training, 5)
    values, order = values_of(training, batch.seen)[0].sort()
    below = chances_of(training, batch.seen)[0][order].cumsum(0) ** 4  # that no draw is better
    wanted = (values * below.diff(prepend=below.new_zeros(1))).sum()
    baselines = of_done(values_of(training, batch.seen), batch) - training.advantages(batch)
    assert abs(baselines.mean() - wanted) < 3 * baselines.std() / 100


def test_the_exact_advantage_is_that_over_the_softmax():
    training = crr(advantage="exact")
    batch = all_steps(training)
    values, chances = values_of(training, batch.seen), chances_of(training, batch.seen)
    wanted = of_done(values, batch) - (values * chances).sum(1)
    torch.testing.assert_close(training.advantages(batch).double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("advantage", ["mean", "max", "exact"])
def test_advantages_are_looked_at_without_dropout_gradients_or_torchs_draws(advantage):
    training = crr(advantage=advantage, dropout=0.5)
    batch, before = all_steps(training), torch.get_rng_state()
    found = training.advantages(batch)
    assert not found.requires_grad
    assert torch.equal(training.advantages(batch), found)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in training.networks[POLICY].modules())


def test_other_steps_and_seeds_draw_other_actions():
    training = crr()
    batch = all_steps(training)
    first = training.advantages(batch)
    training.at = 1
    assert not torch.equal(training.advantages(batch), first)
    other = crr(seed=1)
    assert not torch.equal(other.advantages(batch), first)


def test_the_advantage_is_that_of_the_online_critic_under_the_online_policy():
    training = crr(advantage="exact")
    batch = all_steps(training)
    before = training.advantages(batch)
    for which in (TARGET_POLICY, TARGET_CRITIC):
        head_set(training.networks[which].head("q" if which == TARGET_CRITIC else "policy"))
        assert torch.equal(training.advantages(batch), before)
    head_set(training.networks[POLICY].head("policy"))
    uniform = training.advantages(batch)
    assert not torch.allclose(uniform, before)
    values = values_of(training, batch.seen)
    torch.testing.assert_close(uniform.double(), of_done(values, batch) - values.mean(1))


# -------------------------------------------------------------------------------- constant values


@pytest.mark.parametrize("advantage", ["mean", "max", "exact"])
@pytest.mark.parametrize("beta", [0.05, 1.0])
def test_where_all_actions_are_worth_the_same_it_is_cloning(advantage, beta):
    training = crr(advantage=advantage, beta=beta)
    head_set(q_head(training), 0.0, 3.7)
    batch = all_steps(training)
    torch.testing.assert_close(training.weights(batch), torch.ones(len(batch)), atol=2e-5, rtol=0)
    policy = training.networks[POLICY]
    found = gradients(training.improvement(batch)["policy"], policy)
    atol = 1e-6 if beta == 1 else 2e-5  # a rounding of values is 20 times as much
    assert_gradients(found, gradients(training.cloning(batch)["policy"], policy), atol)


@pytest.mark.parametrize("advantage", ["mean", "max", "exact"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_where_all_values_are_zero_it_is_cloning_to_the_bit(advantage, dropout):
    training = crr(advantage=advantage, dropout=dropout)
    head_set(q_head(training))
    batch = all_steps(training)
    assert torch.equal(training.weights(batch), torch.ones(len(batch)))
    found = []
    for loss in (training.improvement, training.cloning):
        torch.manual_seed(0)  # what is left out is the same: actions are drawn elsewhere
        found.append(gradients(loss(batch)["policy"], training.networks[POLICY]))
    assert_gradients(*found, atol=0)


@pytest.mark.parametrize("advantage", ["mean", "exact"])
def test_a_large_beta_is_cloning(advantage):
    data, options = shop(), {"stages": "second", "dropout": 0.3, "advantage": advantage}
    patient = begun(data, beta=1e9, **options)
    cloning = begun(data, filter="constant", **options)
    found, wanted = advanced(patient, 20), advanced(cloning, 20)
    assert_same_bits(found, wanted)
    other = advanced(begun(data, beta=0.1, **options), 20)
    assert any(not torch.equal(other[name], wanted[name]) for name in wanted)


# -------------------------------------------------------------------------------- the weights


@pytest.mark.parametrize("cap", [20.0, 1.5])
@pytest.mark.parametrize("beta", [0.05, 0.5, 2.0])
def test_weights_are_exponentials_up_to_a_cap(beta, cap):
    training = crr(beta=beta, cap=cap, advantage="exact")
    batch = all_steps(training)
    found = training.weights(batch)
    wanted = [min(math.exp(a / beta), cap) for a in training.advantages(batch).tolist()]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert (found > 0).all() and (found <= cap).all() and not found.requires_grad
    assert (found == cap).any() or beta > 0.05


def test_the_cap_is_reached_by_big_advantages():
    training = crr(advantage="exact", discount=0.0)
    batch = all_steps(training)
    bias = torch.zeros(ITEMS)
    bias[batch.actions[0]] = 100
    head_set(q_head(training), 0.0, bias)
    head_set(training.networks[POLICY].head("policy"))  # which finds all items alike
    wanted = torch.where(batch.actions == batch.actions[0], 20.0, math.exp(-100 / ITEMS))
    torch.testing.assert_close(training.weights(batch), wanted)
    share = (batch.actions == batch.actions[0]).float().mean()
    assert training.improvement(batch)["share at the cap"] == share > 0


@pytest.mark.parametrize(
    "options",
    [{"beta": 0.2}, {"beta": 0.05}, {"advantage": "max"}, {"filter": "binary", "cap": 1.0},
     {"cap": 1.0}],
)  # fmt: skip
def test_what_is_said_of_the_weights_is_so(options):
    training = crr(**options)
    batch = all_steps(training)
    terms = training.improvement(batch)
    weights = training.weights(batch).double().numpy()
    assert terms["weight"].item() == pytest.approx(weights.mean(), rel=1e-5)
    assert terms["weight spread"].item() == pytest.approx(weights.std(), rel=1e-4, abs=1e-7)
    share = weights.sum() ** 2 / (len(weights) * (weights**2).sum())
    assert terms["effective share"].item() == pytest.approx(share, rel=1e-5)
    assert 1 / len(weights) <= share < 1
    capped = (weights >= training.cap).mean() * (training.filter == "exp")
    assert terms["share at the cap"].item() == pytest.approx(capped)
    assert capped > 0 or options not in ({"cap": 1.0}, {"beta": 0.05})
    each = -chances_of(training, batch.seen).gather(1, batch.actions[:, None])[:, 0].log().numpy()
    assert terms["policy"].item() == pytest.approx((weights * each).mean(), rel=1e-5)
    assert terms["cross-entropy"].item() == pytest.approx(each.mean(), rel=1e-5)
    assert {name for name, term in terms.items() if term.requires_grad} == {"policy"}


def test_the_effective_share_is_of_tiny_weights_too():
    training = crr()
    batch = all_steps(training)
    training.weights = lambda batch: torch.full((len(batch),), 1e-8)
    assert training.improvement(batch)["effective share"].item() == pytest.approx(1)


def test_constant_weights_are_one_whatever_is_worth_what():
    training = crr(filter="constant")
    batch = all_steps(training)
    terms = training.improvement(batch)
    assert torch.equal(training.weights(batch), torch.ones(len(batch)))
    assert terms["weight"] == terms["effective share"] == 1 and terms["weight spread"] == 0


@pytest.mark.parametrize("worse_by", [0.0, 1.0])
@pytest.mark.parametrize("advantage", ["mean", "max", "exact"])
def test_the_binary_filter_leaves_alone_what_is_no_better(advantage, worse_by):
    sessions = [[0, 1, 2], [3, 1], [2, 0, 3, 1]]
    training = crr(logged("below", sessions, ITEMS), filter="binary", advantage=advantage)
    head_set(q_head(training), 0.0, [-worse_by] * 4 + [0.0] * 3)
    with torch.no_grad():  # so that others are drawn
        training.networks[POLICY].head("policy").bias[4:] += 20 * worse_by
    batch = all_steps(training)
    advantages = training.advantages(batch)
    assert (advantages < 0).all() if worse_by else (advantages == 0).all()
    terms = training.improvement(batch)
    assert terms["policy"] == 0 == terms["weight"] == terms["effective share"]
    found = gradients(terms["policy"], training.networks[POLICY])
    assert found and not any(gradient.any() for gradient in found.values())


def test_the_binary_filter_clones_what_is_better():
    training = crr(filter="binary", advantage="exact")
    batch = all_steps(training)
    advantages = training.advantages(batch)
    assert advantages.min() < 0 < advantages.max()
    assert torch.equal(training.weights(batch), (advantages > 0).float())


def test_what_brought_nothing_is_weighed_unless_only_what_was_taken_is():
    for regressed in ("all", "taken"):
        training = crr(some_zero(), regressed=regressed)
        batch = all_steps(training)
        assert 0 < batch.taken.mean() < 1
        weights = training.weights(batch) * (batch.taken if regressed == "taken" else 1)
        policy = training.networks[POLICY]
        each = policy.head("policy").cross_entropy(policy.state(batch.seen), batch.actions, weights)
        found = gradients(training.improvement(batch)["policy"], policy)
        assert_gradients(found, gradients(each[0], policy), 1e-7)


# ---------------------------------------------------------------------------------- the critic


def slow_targets(training, batch):
    """r + discount E_{a' ~ pi'} Q'(s', a'), and no more than r after an end."""
    chances = chances_of(training, batch.next_seen, TARGET_POLICY)
    values = values_of(training, batch.next_seen, TARGET_CRITIC)
    following = (chances * values).sum(1)
    return batch.rewards.double() + training.discount * (1 - batch.over) * following


def found_targets(training, batch):
    """Of each row, from its loss, where all values of the critic are far below."""
    head_set(q_head(training), 0.0, -100.0)
    rows = range(len(training.data))
    losses = [training.evaluation(training.data.batch(np.array([row]), training.on))["td"]
              for row in rows]  # fmt: skip
    return torch.stack(losses).detach().double().mul(2).sqrt() - 100


@pytest.mark.parametrize("discount", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("ends", ["terminated", "both"])
def test_targets_bootstrap_unless_a_session_was_over(discount, cut, ends):
    training = crr(shop(cut=cut), discount=discount, ends=ends)
    batch = all_steps(training)
    found = found_targets(training, batch)
    torch.testing.assert_close(found, slow_targets(training, batch), atol=1e-4, rtol=1e-4)
    last = batch.last.bool()
    earned = (found - batch.rewards).abs() < 1e-4
    assert last.any() and not last.all()
    over = ends == "both" or not cut
    assert earned[last].all() if over or not discount else not earned[last].any()
    assert earned[~last].all() if not discount else not earned[~last].any()


def test_the_loss_of_the_critic_is_half_the_mean_square():
    training = crr()
    batch = all_steps(training)
    errors = slow_targets(training, batch) - of_done(values_of(training, batch.seen), batch)
    found = training.evaluation(batch)["td"].item()
    assert found == pytest.approx(0.5 * (errors**2).mean().item(), rel=1e-5)


def test_targets_follow_slowly_and_what_is_online_is_not_asked():
    training = crr()
    batch = all_steps(training)
    before = training.evaluation(batch)["td"].item()
    head_set(training.networks[POLICY].head("policy"))
    assert training.evaluation(batch)["td"].item() == before
    head_set(training.networks[TARGET_POLICY].head("policy"))
    assert training.evaluation(batch)["td"].item() != before


def test_each_loss_teaches_its_own_network_alone():
    training = crr()
    batch = all_steps(training)
    for loss, learns in ((training.evaluation, CRITIC), (training.improvement, POLICY)):
        training._all.zero_grad()
        sum(term for term in loss(batch).values() if term.requires_grad).backward()
        for which, network in enumerate(training.networks):
            learned = [weights.grad is not None for weights in network.parameters()]
            assert all(learned) if which == learns else not any(learned)
    shared = [{weights.data_ptr() for weights in network.parameters()}
              for network in training.networks]  # fmt: skip
    assert len(set.union(*shared)) == sum(map(len, shared))


def test_a_step_of_one_moves_no_weight_of_the_other():
    training = crr()
    batch = all_steps(training)
    for loss, which in ((training.evaluation, CRITIC), (training.improvement, POLICY)):
        before = [{n: w.clone() for n, w in one.state_dict().items()} for one in training.networks]
        training.descend(which, lambda loss=loss: loss(batch))
        for other, network in enumerate(training.networks):
            moved = any(not torch.equal(before[other][n], w)
                        for n, w in network.state_dict().items())  # fmt: skip
            assert moved == (other == which)


@pytest.mark.parametrize("soft", [0.005, 0.3, 1.0])
def test_targets_follow_by_a_share(soft):
    training = begun(soft=soft, stages="second")
    advanced(training, 3)
    before = [{n: w.clone() for n, w in one.state_dict().items()} for one in training.networks]
    advanced(training, 1)
    for target, online in ((TARGET_POLICY, POLICY), (TARGET_CRITIC, CRITIC)):
        now = training.networks[online].state_dict()
        for name, weights in training.networks[target].state_dict().items():
            wanted = (1 - soft) * before[target][name] + soft * now[name]
            torch.testing.assert_close(weights, wanted)
            assert soft < 1 or torch.equal(weights, now[name])
            assert not weights.requires_grad
        assert any(not torch.equal(before[target][name], now[name]) for name in now)


def test_targets_leave_nothing_out_and_are_never_descended():
    training = begun(stages="second", dropout=0.5)
    advanced(training, 2)
    for target in training.networks[TARGET_POLICY:]:
        assert not any(module.training for module in target.modules())
        assert all(not w.requires_grad and w.grad is None for w in target.parameters())
    for network in training.networks[:TARGET_POLICY]:
        assert all(module.training for module in network.modules())


def noisy(name="noisy"):
    """Pairs of three items, whose second reward depends on both, and on chance."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(3, size=(200, 2))
    means = np.array([[0.1, 0.9, 0.5], [0.7, 0.2, 0.0], [0.3, 0.4, 0.8]])
    rewards = np.stack([0.5 * pairs[:, 0], rng.random(200) < means[tuple(pairs.T)]], 1)
    return logged(name, pairs, 3, rewards=rewards, history=2)


def test_without_discount_the_critic_learns_the_mean_reward_of_each_action():
    training = begun(noisy(), discount=0.0, critic_size=16)
    batch, critic = all_steps(training), training.networks[CRITIC]
    trained(critic, lambda: training.evaluation(batch)["td"], 400, 0.03)
    values, firsts = values_of(training, batch.seen), batch.seen.items[:, 0]
    for first in (*range(3), 3):  # 3: a session that begins
        for action in range(3):
            rows = (firsts == first) & (batch.actions == action)
            wanted = batch.rewards[rows].mean().item()
            assert values[firsts == first, action][0].item() == pytest.approx(wanted, abs=2e-3)


def trained(network, loss, steps, rate):
    """Adam, ever slower."""
    optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


# ---------------------------------------------------------------------- a bandit's closed form


SHARE, REWARDS = 0.7, (0.3, 0.9)


def bandit(**options):
    """Two actions, of which the first was done in 7 of 10 cases; its reward is chance, at .3."""
    actions = [[0]] * 14 + [[1]] * 6
    firsts = [0.15, 0.45] * 7
    rewards = [[reward] for reward in firsts] + [[REWARDS[1]]] * 6
    data = logged("bandit", actions, 2, rewards=rewards, history=1)
    sizes = {"encoder": "gru4rec", "size": 2, "hidden": 2, "critic_size": 2}
    return begun(data, **{"discount": 0.0} | sizes | options)


def odds(training, batch):
    first, second = (
        training.networks[POLICY]
        .head("policy")(training.networks[POLICY].state(batch.seen))[0]
        .tolist()
    )
    return first - second


def wanted_odds(beta):
    return math.log(SHARE / (1 - SHARE)) + (REWARDS[0] - REWARDS[1]) / beta


@pytest.mark.parametrize("beta", [0.25, 1.0])  # .6 <= beta ln 20: the cap stays inactive
def test_the_policy_of_a_bandit_ends_at_its_closed_form(beta):
    training = bandit(advantage="exact", beta=beta)
    batch = all_steps(training)
    trained(training.networks[CRITIC], lambda: training.evaluation(batch)["td"], 300, 0.05)
    values = values_of(training, batch.seen)[0].tolist()
    assert values == pytest.approx(REWARDS, abs=5e-5)
    policy = training.networks[POLICY]
    trained(policy, lambda: training.improvement(batch)["policy"], 250, 0.1)
    assert training.improvement(batch)["share at the cap"] == 0
    assert odds(training, batch) == pytest.approx(wanted_odds(beta), abs=1e-4 / beta)


@pytest.mark.parametrize("advantage", ["mean", "max"])
def test_the_policy_of_a_bandit_ends_there_with_four_sampled_actions(advantage):
    training = bandit(advantage=advantage)
    head_set(q_head(training), 0.0, REWARDS)
    rows = np.tile(np.arange(len(training.data)), 150)
    batch, policy = training.data.batch(rows, training.on), training.networks[POLICY]
    found = []

    def loss():
        training.at += 1  # other actions are drawn
        found.append(odds(training, batch))
        return training.improvement(batch)["policy"]

    trained(policy, loss, 300, 0.05)
    assert training.improvement(batch)["share at the cap"] == 0
    assert np.mean(found[200:]) == pytest.approx(wanted_odds(1.0), abs=1e-3)


def test_the_whole_training_of_a_bandit_ends_near_its_closed_form():
    options = {"advantage": "exact", "beta": 0.5, "stages": "second", "batch_size": 20}
    training = bandit(**options, learning_rate=0.01, critic_learning_rate=0.02, soft=1.0)
    advanced(training, 300)
    assert odds(training, all_steps(training)) == pytest.approx(wanted_odds(0.5), abs=0.01)


# ------------------------------------------------------------------------------- the direction


@pytest.mark.parametrize("cell", [0, 4])
@pytest.mark.parametrize("step", [0, 1])
def test_a_higher_reward_of_an_action_does_not_make_it_rarer(cell, step):
    pairs = np.stack(np.divmod(np.arange(12) % 6, 3), 1)  # of two firsts and three seconds
    found = []
    for reward in (0.2, 0.6, 1.4):
        rewards = np.full(pairs.shape, 0.4)
        rewards[cell, step] = reward  # in one of two sessions that are else the same
        data = logged("raised", pairs, 3, rewards=rewards, history=2)
        options = {"stages": "second", "advantage": "exact", "beta": 0.5, "batch_size": 24}
        training = begun(data, **options, learning_rate=0.01, critic_learning_rate=0.02, soft=0.2)
        advanced(training, 80)
        batch = training.data.batch(np.array([2 * cell + step]), training.on)
        found.append(of_done(chances_of(training, batch.seen), batch).item())
    assert found == sorted(found) and found[2] > found[0] + 0.05


# ---------------------------------------------------------------------------------- the stages


STALLS = {"validate_every": 5, "patience": 2, "learning_rate": 0.05, "steps": 500}


def validation():
    return shop("validation", split="validation")


def test_a_second_stage_of_no_steps_is_the_first_alone():
    data, asked = shop(), validation()
    options = SMALL | TINY | {"steps": 20, "validate_every": 5, "patience": 0, "dropout": 0.3}
    found, scores = [], []
    for stages in ("first", "both"):
        training = begun(data, asked, **options, stages=stages, warmup_steps=20)
        lines = []
        training._run.record = lambda step, values, lines=lines: lines.append((step, values))
        found.append((advanced(training, 20), training._best, lines))
        assert not training.warm
        agent = CRRTransformerSmall(**options, stages=stages, warmup_steps=20).fit(data, asked)
        scores.append(agent.scores(data[0].observations, {}))
    for first, both in zip(*(pair[:2] for pair in found), strict=True):
        assert_same_bits(both, first)
    for (_, first), (_, both) in zip(found[0][2], found[1][2], strict=True):
        both["seconds"] = first["seconds"]
        assert both == first and "ndcg@10" in both
    assert np.array_equal(*scores)


def test_a_first_stage_of_more_steps_than_there_are_is_refused():
    with pytest.raises(InvalidArgument, match="^All of 20 steps are warm-up") as problem:
        begun(steps=20, warmup_steps=21)
    said(problem)
    for stages in ("first", "second", "joint"):  # have no other
        assert begun(steps=20, warmup_steps=21, stages=stages).planned in (0, 20)


@pytest.mark.parametrize("warmup_steps", [0, 38])
def test_the_second_stage_begins_with_the_best_of_the_first(warmup_steps):
    training = begun(shop(), validation(), **STALLS, warmup_steps=warmup_steps)
    advanced(training, warmup_steps)
    while not (warmup_steps or training.memory):
        advanced(training, 1)
    policy, best = training.networks[POLICY], dict(training._best)
    assert best and not training.warm
    if warmup_steps:
        assert any(not torch.equal(best[name], w) for name, w in policy.state_dict().items())
    assert training.renewed() == training.second_learning_rate
    assert_same_bits(policy.state_dict(), best)
    for target, network in ((TARGET_POLICY, POLICY), (TARGET_CRITIC, CRITIC)):
        wanted = training.networks[network].state_dict()
        assert_same_bits(training.networks[target].state_dict(), wanted)
    assert training.warm and training._best == {} and training._reached == -1
    assert training.renewed() is None


def test_the_first_stage_alone_ends_where_validation_stalls():
    training = begun(shop(), validation(), **STALLS, stages="first")
    while not training._over:
        advanced(training, 1)
        assert not training.warm
    assert training.at < 500


def test_the_best_of_the_second_stage_is_kept_whatever_the_first_reached():
    training = begun(shop(), validation(), **STALLS)
    while not training.memory:
        advanced(training, 1)
    first = dict(training._best)
    while not training._over:
        advanced(training, 1)
    assert training.memory["warm since"] < training.at < 500
    assert any(not torch.equal(weights, first[name]) for name, weights in training._best.items())


@pytest.mark.parametrize(
    ("stages", "warm_at"), [("first", None), ("both", 10), ("second", 0), ("joint", 0)]
)
def test_what_is_descended_when(stages, warm_at):
    training = begun(stages=stages, steps=20)
    for step in range(20):
        assert training.at == step
        before = {n: w.clone() for n, w in training.networks[CRITIC].state_dict().items()}
        training._sums.clear()
        training._advance()
        refines = warm_at is not None and step >= warm_at
        if step < 19:  # at the last one sums have become a line of metrics
            assert training._sums.keys() == set(REFINES if refines else ["policy"])
        now = training.networks[CRITIC].state_dict()
        assert refines == any(not torch.equal(before[name], now[name]) for name in now)
    assert training.memory.get("warm since") == warm_at


@pytest.mark.parametrize(
    ("stages", "first", "second"),
    [("both", 0.01, 0.002), ("first", 0.01, 0.01), ("second", 0.01, 0.01), ("joint", 0.01, 0.01)],
)
def test_policy_and_critic_have_their_learning_rates_in_each_stage(stages, first, second):
    rates = {"learning_rate": 0.01, "second_learning_rate": 0.002, "critic_learning_rate": 0.03}
    training = begun(stages=stages, steps=20, **rates)

    def found():
        return [group["lr"] for one in training._optimizers for group in one.param_groups][:2]

    advanced(training, 10)
    assert found() == [first, 0.03]
    before = training._optimizers
    advanced(training, 1)
    assert found() == [second, 0.03]
    assert (training._optimizers is not before) == (stages == "both")


def test_the_first_stage_imitates_what_was_taken_and_the_second_learns_from_all():
    training = begun(some_zero(), imitate="taken")
    assert training.imitated_rows.tolist() == np.flatnonzero(training.data.taken).tolist()
    assert training.rows.tolist() == list(range(9))
    assert begun(some_zero(), imitate="all").imitated_rows.tolist() == list(range(9))


@pytest.mark.parametrize("imitate", ["taken", "all"])
def test_the_joint_stage_descends_the_sum_of_both(imitate):
    training = crr(some_zero(), stages="joint", imitate=imitate)
    plain = crr(some_zero(), stages="second")
    batch, policy = all_steps(training), training.networks[POLICY]
    together = gradients(training.improvement(batch)["policy"], policy)
    alone = gradients(plain.improvement(batch)["policy"], plain.networks[POLICY])
    shares = batch.taken if imitate == "taken" else torch.ones(len(batch))
    supervised = policy.head("policy").cross_entropy(
        policy.state(batch.seen), batch.actions, shares
    )
    wanted = gradients(supervised[0], policy)
    assert_gradients(together, {n: alone[n] + one for n, one in wanted.items()}, 1e-6)


# -------------------------------------------------------------------------- shares of the data


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 1.0])
def test_a_share_of_the_sessions_is_learned_from_as_a_whole(share):
    data = cyclic("sessions", n_items=5, sessions=40, length=3)
    kept = begun(data, share=share).rows
    assert len(kept) == 3 * 40 * share
    sessions = kept.reshape(-1, 3)
    assert (sessions[:, 0] % 3 == 0).all() and (np.diff(sessions) == 1).all()
    assert np.array_equal(begun(data, share=share).rows, kept)
    if share < 1:
        assert not np.array_equal(begun(data, share=share, seed=1).rows, kept)
        assert set(begun(data, share=1.5 * share).rows) > set(kept)


def test_what_is_imitated_is_of_the_same_share():
    training = begun(some_zero(), share=0.34)
    assert len(set(training.data.episodes[training.rows])) == 1
    taken = training.rows[training.data.taken[training.rows]]
    assert np.array_equal(training.imitated_rows, taken)
    assert begun(some_zero(), share=0.01).rows.size  # at least one session


def many_rewards():
    rng = np.random.default_rng(0)
    sessions = rng.integers(ITEMS, size=(500, 6))
    return logged("many", sessions, ITEMS, rewards=rng.choice([0.2, 0.5, 1.0], sessions.shape))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("what", ["dropped", "flipped"])
def test_so_many_rewards_are_dropped_or_flipped(what, share):
    data = many_rewards()
    training = begun(data, **{what: share})
    given, seen = training.data.rewards, training.rewards
    changed = given != seen
    if what == "dropped":
        assert (seen[changed] == 0).all()
    else:  # those that are mirrored; .5 becomes .7
        np.testing.assert_allclose(seen[changed], 1.2 - given[changed], rtol=1e-6)
    deviation = math.sqrt(share * (1 - share) / len(given))
    assert abs(changed.mean() - share) < 4 * deviation
    assert seen.dtype == np.float32
    assert np.array_equal(given, Steps(data).rewards)
    assert np.array_equal(begun(data, **{what: share}).rewards, seen)
    assert not np.array_equal(begun(data, **{what: share}, seed=1).rewards, seen)


def test_dropped_and_flipped_rewards_are_others():
    training = begun(many_rewards(), dropped=0.3, flipped=0.3)
    given, seen = training.data.rewards, training.rewards
    dropped = seen == 0
    flipped = ~dropped & (given != seen)
    assert abs(dropped.mean() - 0.3) < 0.04 and abs(flipped.mean() - 0.3) < 0.04


def test_without_such_a_share_rewards_are_as_they_were():
    training = begun(many_rewards())
    assert np.array_equal(training.rewards, training.data.rewards)


def test_only_the_second_stage_sees_changed_rewards():
    data, changed = shop(), {"dropped": 0.4, "flipped": 0.5}
    plain, spoiled = begun(data, steps=20), begun(data, steps=20, **changed)
    assert_same_bits(advanced(spoiled, 10), advanced(plain, 10))
    seen = []

    def evaluation(batch):
        seen.append(batch.rewards)
        return type(spoiled).evaluation(spoiled, batch)

    spoiled.evaluation = evaluation
    advanced(spoiled, 3)
    rows = [spoiled.rows[order] for order in map(drawn_at(spoiled), (10, 11, 12))]
    for found, wanted in zip(seen, rows, strict=True):
        assert found.tolist() == spoiled.rewards[wanted].tolist()
        assert found.tolist() != spoiled.data.rewards[wanted].tolist()


def drawn_at(training):
    def drawn(step):
        training.at = step
        return training.drawn(len(training.rows))

    return drawn


# ----------------------------------------------------------------------------- what it looks like


def test_the_published_size_is_six_blocks_of_768():
    options = {"init": "random", "batch_size": 4, "steps": 1}
    training = in_training(CRRTransformer(**options), shop())
    policy, critic = training.networks[POLICY], training.networks[CRITIC]
    d, length = 768, 5
    body = length * d + 6 * (12 * d * d + 13 * d) + 2 * d
    found = {name: w.numel() for name, w in policy.encoder.named_parameters()}
    assert found.pop("items.weight") == (ITEMS + 1) * d
    assert sum(found.values()) == body and round(body / 1e6, 1) == 42.5
    assert len(policy.encoder.h) == 6 and policy.encoder.h[0].heads == 12
    layer = d * d + d
    assert sum(w.numel() for w in policy.layer.parameters()) == layer
    assert policy.head("policy").weight.shape == (ITEMS, d)
    q = 256
    lstm = (ITEMS + 1) * q + 8 * q * q + 8 * q + q * q + q + ITEMS * q + ITEMS
    assert sum(w.numel() for w in critic.parameters()) == lstm


def test_the_small_form_has_two_blocks_of_64():
    training = in_training(CRRTransformerSmall(), shop())
    policy, critic = training.networks[POLICY], training.networks[CRITIC]
    assert len(policy.encoder.h) == 2 and policy.encoder.width == policy.plan.hidden == 64
    assert critic.encoder.width == critic.plan.hidden == 64 and critic.plan.encoder == "lstm"
    assert isinstance(policy.layer[1], torch.nn.ReLU) and isinstance(critic.layer[1], torch.nn.ReLU)


def test_defaults_are_the_papers():
    agent = load_agent("crr-transformer")()
    assert type(agent) is CRRTransformer
    assert type(load_agent("crr-transformer-small")()) is CRRTransformerSmall
    assert (agent.init, agent.encoder, agent.size) == ("distilgpt2", "distilgpt2", 768)
    assert (agent.actions, agent.beta, agent.cap, agent.filter) == (4, 1.0, 20.0, "exp")
    assert (agent.discount, agent.advantage, agent.soft) == (0.6, "mean", 0.005)


def saved_gpt2(folder, size, layers):
    config = GPT2Config(
        vocab_size=5, n_positions=16, n_embd=size, n_layer=layers, n_head=size // 64,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2Model(config).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_published_weights_are_loaded_by_default_and_learn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = saved_gpt2(tmp_path / "distilgpt2", 64, 6)  # the name is a folder here
    options = SMALL | {"size": 64, "hidden": 8, "critic_size": 8}
    training = in_training(CRRTransformer(**options), shop())
    policy = training.networks[POLICY]
    wanted = weights["h.3.mlp.c_fc.weight"].T
    assert torch.equal(policy.encoder.h[3].mlp_fc.weight, wanted)
    advanced(training, 1)
    assert not torch.equal(policy.encoder.h[3].mlp_fc.weight, wanted)
    other = in_training(CRRTransformer(**options, init="random"), shop())
    assert not torch.equal(other.networks[POLICY].encoder.h[3].mlp_fc.weight, wanted)
    assert_same_bits(other.networks[CRITIC].state_dict(), begun_critic(options))


def begun_critic(options):
    return in_training(CRRTransformer(**options), shop()).networks[CRITIC].state_dict()


def test_published_weights_that_are_not_there_are_never_drawn_instead(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distilgpt2").mkdir()
    options = SMALL | {"size": 64, "hidden": 8, "critic_size": 8}
    for init in ("distilgpt2", str(tmp_path / "none")):
        with pytest.raises(InvalidArgument, match="cannot be loaded") as problem:
            CRRTransformer(**options, init=init).fit(shop())
        assert "or init='random'" in said(problem)


@pytest.mark.parametrize("encoder", ["sasrec", "lstm", "lstm-as-distilgpt2"])
def test_published_weights_of_no_gpt2_are_refused(encoder):
    with pytest.raises(InvalidArgument) as problem:
        CRRTransformer(**SMALL, encoder=encoder).fit(shop())
    assert said(problem) == (
        f"Published weights are GPT-2's, and the encoder is '{encoder}': take init='random'."
    )


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("beta", 0, "beta is a number above 0, and 0"),
        ("beta", float("inf"), "beta is a number above 0"),
        ("cap", -1.0, "cap is a number above 0"),
        ("soft", 0, "soft is a number above 0, up to 1, and 0"),
        ("soft", 1.1, "soft is a number above 0, up to 1"),
        ("share", 0.0, "share is a number above 0, up to 1"),
        ("share", 2, "share is a number above 0, up to 1"),
        ("dropped", 1, "dropped is a share from 0 on, below 1"),
        ("flipped", 1, "flipped is a share from 0 on, below 1, and 1"),
        ("flipped", -0.1, "flipped is a share from 0 on, below 1"),
        ("discount", 1.5, "discount is a number from 0 to 1"),
        ("critic_learning_rate", 0, "critic_learning_rate is a number above 0"),
        ("second_learning_rate", -1, "second_learning_rate is a number above 0"),
        ("actions", 0, "actions is a whole number from 1 on"),
        ("critic_size", 0, "critic_size is a whole number from 1 on"),
        ("hidden", 0, "hidden is a whole number from 1 on"),
        ("warmup_steps", -1, "warmup_steps is a whole number from 0 on"),
        ("stages", "third", "No stages is named 'third'"),
        ("filter", "softmax", "No filter is named 'softmax'"),
        ("advantage", "median", "No advantage is named 'median'"),
        ("regressed", "none", "No regressed is named 'none'"),
        ("encoder", "gpt3", "No encoder is named 'gpt3'"),
        ("gamma", 0.9, "No option of CRRTransformer is named 'gamma'"),
    ],
)
def test_an_option_that_means_nothing_is_refused(option, value, says):
    with pytest.raises(RecGymError, match=f"^{says}") as problem:
        made(load_agent("crr-transformer"), {option: value}, 0)
    said(problem)


@pytest.mark.parametrize("stages", ["both", "first", "joint"])
def test_nothing_to_imitate_is_refused(stages):
    unpaid = logged("unpaid", [[1, 2, 3]], ITEMS, rewards=[[0, 0, -1]])
    options = SMALL | TINY | {"steps": 4, "stages": stages}
    with pytest.raises(InvalidArgument, match="none is worth imitating") as problem:
        CRRTransformerSmall(**options).fit(unpaid)
    said(problem)
    for more in ({"imitate": "all"}, {"stages": "second"}):  # which imitates nothing
        assert CRRTransformerSmall(**options | more).fit(unpaid).parameters


def test_what_is_said_to_have_brought_no_reward_is_what_is_learned_from():
    half = logged("half", [[1, 2], [2, 1]] * 5, ITEMS, rewards=[[0, 0], [0, 1]] * 5)
    with pytest.raises(InvalidArgument, match="^No action that is learned from brought a reward"):
        for seed in range(9):  # of which one keeps a session that brought nothing
            begun(half, share=0.1, seed=seed)


# ----------------------------------------------------------------------------------- all of it


@pytest.mark.parametrize(
    "encoder", ["gru4rec", "sasrec", "caser", "nextitnet", "lstm-as-gpt2-small"]
)
def test_other_encoders_can_be_refined(encoder):
    options = SMALL | TINY | {"encoder": encoder, "steps": 6}
    agent = CRRTransformerSmall(**options).fit(shop())
    scores = agent.scores(shop()[0].observations, {})
    assert scores.shape[1] == ITEMS and np.isfinite(scores).all()


@pytest.mark.parametrize("advantage", ["mean", "exact"])
def test_half_precision_learns_about_the_same(advantage):
    data, found = shop(), []
    for precision in ("float32", "bf16"):
        options = SMALL | TINY | {"steps": 10, "precision": precision, "advantage": advantage}
        agent = CRRTransformerSmall(**options).fit(data)
        found.append(np.concatenate([agent.scores(one.observations, {}) for one in data]))
    assert np.isfinite(found[1]).all() and not np.array_equal(*found)
    assert np.corrcoef(*(scores.flatten() for scores in found))[0, 1] > 0.95


def test_in_half_precision_weights_are_as_precise():
    training = crr(advantage="exact")
    batch = all_steps(training)
    with torch.no_grad():
        q_head(training).bias += 50
        training.networks[CRITIC].head("q").weight.zero_()
    whole = training.weights(batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = training.weights(batch)
    torch.testing.assert_close(half, whole, rtol=0.05, atol=0)


@pytest.mark.parametrize(("discount", "first"), [(0.9, LATER), (0.0, NOW)])
def test_what_pays_later_is_chosen_where_values_look_ahead(discount, first):
    train = two_steps("steps", history=4)
    agent = CRRTransformerSmall(
        size=16, hidden=16, critic_size=16, batch_size=64, steps=160, dropout=0.0,
        learning_rate=0.01, critic_learning_rate=0.02, stages="second", advantage="exact",
        beta=0.1, soft=0.1, discount=discount,
    ).fit(train)  # fmt: skip
    assert agent.act(train[0].observations[:1], {}) == [first]


def test_the_second_stage_prefers_what_is_bought_over_what_is_clicked():
    """Two items follow the same history: one is clicked twice as often as the other is bought."""
    sessions = [[0, 1], [0, 1], [0, 2]] * 20
    rewards = [[CLICK, CLICK], [CLICK, CLICK], [CLICK, PURCHASE]] * 20
    data = logged("bought", sessions, 3, rewards=rewards)
    options = SMALL | TINY | {"batch_size": 30, "learning_rate": 0.01, "steps": 80, "beta": 0.2}
    chosen = {}
    for stages in ("first", "second"):
        agent = CRRTransformerSmall(
            **options, stages=stages, critic_learning_rate=0.02, advantage="exact"
        ).fit(data)
        chosen[stages] = int(agent.act(data[0].observations[1:2], {})[0])
    assert chosen == {"first": 1, "second": 2}


def test_it_keeps_the_contract_of_agents():
    assert check_agent("crr-transformer-small", **SMALL | TINY | {"steps": 20})


def test_what_recommends_is_the_policy_alone():
    agent = CRRTransformerSmall(**SMALL | TINY, steps=4).fit(shop())
    policy = in_training(CRRTransformerSmall(**SMALL | TINY), shop()).networks[POLICY]
    assert agent.parameters == sum(weights.numel() for weights in policy.parameters())


def test_weights_at_the_cap_are_said_once():
    told = []
    for cap, kind in ((0.5, "exp"), (20.0, "exp"), (0.5, "binary"), (0.5, "constant")):
        options = {"stages": "second", "cap": cap, "filter": kind, "steps": 5}
        CRRTransformerSmall(**SMALL | TINY | options).fit(shop(), run=Run(say=told.append))
    assert len(told) == 1 and told[0].startswith("More than half of the weights of step 0 are at")
