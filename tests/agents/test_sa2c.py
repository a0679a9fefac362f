"""Supervised advantage actor-critic: advantages, importance weights, two phases."""

import numpy as np
import pytest
import torch

from recgym.agents.sa2c import HIGHEST, LOWEST, SA2C, advantage
from recgym.agents.sac import SAC
from recgym.agents.snqn import SNQN
from recgym.errors import InvalidArgument

from ..sentences import said
from .worlds import (
    ITEMS,
    SMALL,
    advanced,
    all_steps,
    assert_same_bits,
    head_set,
    in_training,
    learning,
    looked,
    shop,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def warm(**options):
    """SA2C in its second phase."""
    training = learning(SA2C, **options)
    training.memory["warm since"] = 0
    return training


def weighed(training):
    """The weights of all steps, and the values on which they rest."""
    look = looked(training, all_steps(training))
    weights = training.weights(look)
    assert not weights.requires_grad
    return weights, look.values.detach()


# -------------------------------------------------------------------------------- the advantage


@pytest.mark.parametrize("negatives", [1, 2, 10])
def test_the_advantage_is_a_share_of_the_distance_to_the_mean_of_negatives(negatives):
    values = torch.randn(50, 1 + negatives, generator=torch.Generator().manual_seed(0)).double()
    for row, found in zip(values, advantage(values), strict=True):
        mean = (row[0] + row[1:].sum()) / (1 + negatives)
        assert found.item() == pytest.approx((row[0] - mean).item(), abs=1e-12)
        share = negatives / (1 + negatives)
        assert found.item() == pytest.approx(share * (row[0] - row[1:].mean()).item(), abs=1e-12)


def test_with_one_negative_the_advantage_is_half_the_difference():
    """Eq. 12 of LEA (2024)."""
    values = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(advantage(values), (values[:, 0] - values[:, 1]) / 2)


def test_a_constant_in_all_values_leaves_the_advantage():
    training = warm(clip=-1.0)
    before, values = weighed(training)
    with torch.no_grad():
        training.networks[0].head("q").bias += 3
    after, higher = weighed(training)
    torch.testing.assert_close(higher, values + 3)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_an_advantage_over_nothing_is_refused():
    with pytest.raises(InvalidArgument) as problem:
        learning(SA2C, negatives=0)
    assert said(problem) == (
        "An advantage is over negatives, and negatives is 0, so that each would be 0: take more of "
        "them, or advantages=False."
    )
    assert learning(SA2C, negatives=0, advantages=False).networks


# ----------------------------------------------------------------------------------- the weights


@pytest.mark.parametrize("clip", [0.0, 0.2, -1.0])
def test_advantages_are_clipped_unless_that_is_below_zero(clip):
    found, values = weighed(warm(clip=clip))
    plain = values[:, 0] - values.mean(1)
    assert plain.min() < 0 < plain.max()
    expected = plain.clamp(clip, 10) if clip >= 0 else plain
    torch.testing.assert_close(found, expected)


def test_advantages_are_at_most_ten():
    training = warm()
    head_set(training.networks[0].head("q"))
    _, values = weighed(training)
    values[:, 0] = 100
    found = training.weights(looked(training, all_steps(training), values))
    assert (found == HIGHEST).all()


def test_what_is_worse_than_the_mean_is_not_imitated():
    training = warm(clip=0.0)
    network, other = training.networks
    actions = all_steps(training).actions.numpy()
    bias = np.zeros(ITEMS)
    bias[:4] = -1  # these are below what else can be drawn, or equal to it
    head_set(network.head("q"), 0.0, torch.as_tensor(bias))
    worse = training.data.batch(np.flatnonzero(actions < 4), training.on)
    terms = training.loss(network, other, worse)
    weights = [*network.encoder.parameters(), *network.head("supervised").parameters()]
    gradients = torch.autograd.grad(terms["supervised"], weights, allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients)
    assert terms["cross-entropy"] > 0
    better = training.data.batch(np.flatnonzero(actions >= 4), training.on)
    (gradient,) = torch.autograd.grad(
        training.loss(network, other, better)["supervised"], network.head("supervised").bias
    )
    assert gradient.any()


def test_the_weights_of_imitation_teach_no_values():
    training = warm(smoothing=1.0)
    network, other = training.networks
    found, _ = weighed(training)
    assert not found.requires_grad
    terms = training.loss(network, other, all_steps(training))
    gradients = torch.autograd.grad(
        terms["supervised"], [*network.head("q").parameters()], allow_unused=True
    )
    assert gradients == (None, None)


def test_the_loss_is_the_mean_of_weighted_cross_entropies():
    training = warm(smoothing=0.5)
    network, other = training.networks
    batch = all_steps(training)
    found = training.loss(network, other, batch)["supervised"].item()
    logits = network.head("supervised")(network.state(batch.seen)).detach().double()
    weights, _ = weighed(training)
    each = logits.logsumexp(1) - logits.gather(1, batch.actions[:, None])[:, 0]
    assert found == pytest.approx((weights * each).mean().item(), rel=1e-5)


# --------------------------------------------------------------------------- importance weights


def test_without_smoothing_importance_weights_are_one():
    training = warm(smoothing=0.0, clip=-1.0)
    batch = all_steps(training)
    importance = training.importance(looked(training, batch))
    assert torch.equal(importance, torch.ones(len(batch)))
    found, values = weighed(training)
    assert torch.equal(found, advantage(values))


@pytest.mark.parametrize("smoothing", [0.5, 1.0])
def test_importance_weights_are_clipped_before_they_are_smoothed(smoothing):
    training = warm(smoothing=smoothing, clip=-1.0)
    network, batch = training.networks[0], all_steps(training)
    with torch.no_grad():
        network.head("supervised").bias[0] = 30  # almost certain, so that others are unlikely
    state = network.state(batch.seen)
    importance = training.importance(looked(training, batch))
    counts = np.bincount(batch.actions.numpy(), minlength=ITEMS)
    chances = network.head("supervised")(state).softmax(1).detach()
    for row, action in enumerate(batch.actions.tolist()):
        ratio = chances[row, action].item() / (counts[action] / counts.sum())
        assert importance[row].item() == pytest.approx(min(max(ratio, 0.1), 10) ** smoothing)
    assert importance.min() == pytest.approx(LOWEST**smoothing)
    assert importance.max() <= HIGHEST**smoothing
    found, values = weighed(training)
    torch.testing.assert_close(found, advantage(values) * importance)


def test_popularity_is_a_share_with_one_event_for_an_item_without_any():
    training = learning(SA2C)
    actions = training.data.actions
    for item in range(ITEMS):
        expected = max(1, (actions == item).sum()) / len(actions)
        assert training.popularity[item].item() == pytest.approx(expected)


# ---------------------------------------------------------------------------------- two phases


class Renewed(SNQN):
    """SNQN whose Adam begins anew at the tenth step."""

    def renewed(self):
        return 0.001 if self.at == 10 else None


@pytest.mark.parametrize("encoder", ["gru4rec", "sasrec", "caser", "nextitnet"])
def test_the_first_phase_is_snqn(encoder):
    data, options = shop(), SMALL | {"encoder": encoder, "dropout": 0.3}
    plain = in_training(SNQN(**options), data)
    first = in_training(SA2C(**options, warmup_steps=20), data)
    assert_same_bits(advanced(first, 20), advanced(plain, 20))
    assert not first.warm


@pytest.mark.parametrize("second_learning_rate", [0.001, 0.005])
def test_without_advantages_it_is_snqn_with_a_second_adam(second_learning_rate):
    data = shop()
    renewed = in_training(Renewed(**SMALL), data)
    options = SMALL | {"second_learning_rate": second_learning_rate}
    second = in_training(SA2C(**options, warmup_steps=10, advantages=False), data)
    found, expected = advanced(second, 20), advanced(renewed, 20)
    assert second.memory == {"warm since": 10}
    if second_learning_rate == 0.001:
        assert_same_bits(found, expected)
    else:
        assert any(not torch.equal(found[name], expected[name]) for name in found)


def test_with_advantages_the_second_phase_learns_otherwise():
    data = shop()
    first, second = (
        in_training(SA2C(**SMALL, warmup_steps=10, advantages=advantages), data)
        for advantages in (False, True)
    )
    assert_same_bits(advanced(second, 10), advanced(first, 10))
    found, expected = advanced(second, 5), advanced(first, 5)
    assert any(not torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("kind", [SA2C, SAC])
@pytest.mark.parametrize("warmup_steps", [20, 21])
def test_a_warm_up_that_leaves_no_step_is_refused(kind, warmup_steps):
    with pytest.raises(InvalidArgument) as problem:
        learning(kind, steps=20, warmup_steps=warmup_steps)
    assert said(problem) == (
        f"All of 20 steps are warm-up, as warmup_steps is {warmup_steps}, and none is left for "
        "what follows: take more steps."
    )
    assert learning(kind, steps=20, warmup_steps=19).networks


def test_without_validation_the_first_phase_is_half_of_the_training():
    training = in_training(SA2C(**SMALL, steps=20), shop())
    advanced(training, 20)
    assert training.memory == {"warm since": 10}


def test_where_validation_never_stalls_the_first_phase_is_half_of_the_training():
    options = SMALL | {"validate_every": 5, "patience": 100, "steps": 20}
    training = in_training(SA2C(**options), shop(), shop("validation", split="validation"))
    advanced(training, 20)
    assert training.memory == {"warm since": 10}


def test_the_first_phase_ends_where_validation_stalls_and_goes_on_from_the_best():
    options = SMALL | {"validate_every": 5, "patience": 2, "learning_rate": 0.05, "steps": 500}
    training = in_training(SA2C(**options), shop(), shop("validation", split="validation"))
    while not training.memory:
        reached = advanced(training, 1)
    assert_same_bits(reached, training._best)
    stalled = training.at
    assert training._waited == 0 and not training._over and not training.warm
    advanced(training, 1)
    assert training.memory == {"stalled": True, "warm since": stalled}
    rates = {group["lr"] for one in training._optimizers for group in one.param_groups}
    assert rates == {training.second_learning_rate}
    moved = [one for one in training._optimizers if one.state]
    assert len(moved) == 1  # only the copy that has learned since has moments
    assert all(int(state["step"]) == 1 for state in moved[0].state.values())
