"""Self-supervised actor-critic: imitation by values, and what happens without a warm-up."""

import pytest
import torch

from recgym.agents.sac import SAC
from recgym.agents.sqn import SQN

from .worlds import (
    SMALL,
    advanced,
    all_steps,
    assert_same_bits,
    head_set,
    hit_rate,
    in_training,
    learning,
    looked,
    mostly_refused,
    shop,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def warm(**options):
    """SAC in its second phase."""
    training = learning(SAC, **options)
    training.memory["warm since"] = 0
    return training


def test_the_weight_of_an_action_is_its_value_after_the_warm_up():
    training = warm()
    network, other = training.networks
    batch = all_steps(training)
    state = network.state(batch.seen)
    values = network.head("q")(state)[torch.arange(len(batch)), batch.actions].detach()
    found = training.weights(looked(training, batch))
    torch.testing.assert_close(found, values)
    logits = network.head("supervised")(state).detach()
    each = logits.logsumexp(1) - logits.gather(1, batch.actions[:, None])[:, 0]
    terms = training.loss(network, other, batch)
    assert terms["supervised"].item() == pytest.approx((values * each).mean().item(), rel=1e-5)
    assert terms["cross-entropy"].item() == pytest.approx(each.mean().item(), rel=1e-5)


def test_a_constant_in_all_values_is_a_constant_in_all_weights():
    training = warm()
    network, batch = training.networks[0], all_steps(training)
    found = []
    for _ in range(2):
        found.append(training.weights(looked(training, batch)))
        with torch.no_grad():
            network.head("q").bias += 3
    torch.testing.assert_close(found[1], found[0] + 3)


def test_the_first_phase_is_sqn():
    data = shop()
    first = in_training(SAC(**SMALL, warmup_steps=15), data)
    assert_same_bits(advanced(first, 15), advanced(in_training(SQN(**SMALL), data), 15))
    assert not first.warm
    advanced(first, 1)
    assert first.memory == {"warm since": 15}


def test_the_weights_of_imitation_teach_no_values():
    training = warm()
    network, other = training.networks
    terms = training.loss(network, other, all_steps(training))
    of_values = [*network.head("q").parameters()]
    found = torch.autograd.grad(terms["supervised"], of_values, allow_unused=True)
    assert found == (None, None)


def test_what_is_worth_less_than_nothing_is_unlearned():
    training = warm()
    network, other = training.networks
    batch = all_steps(training)
    gradients = {}
    for value in (1.0, -2.0):
        head_set(network.head("q"), 0.0, value)
        term = training.loss(network, other, batch)["supervised"]
        (gradients[value],) = torch.autograd.grad(term, network.head("supervised").bias)
    torch.testing.assert_close(gradients[-2.0], -2 * gradients[1.0])
    with torch.no_grad():
        before = training.loss(network, other, batch)["cross-entropy"]
        network.head("supervised").bias -= 0.1 * gradients[-2.0]
        assert training.loss(network, other, batch)["cross-entropy"] > before


def test_imitation_by_values_that_nobody_has_learned_collapses():
    """Most of what is done costs something, so that all values are below zero at first."""
    train = mostly_refused("refused", 0)
    options = {
        "encoder": "caser", "size": 16, "batch_size": 64, "steps": 300, "learning_rate": 0.01,
        "second_learning_rate": 0.01,
    }  # fmt: skip

    def solved(warmup_steps):
        agents = [SAC(**options, warmup_steps=warmup_steps, seed=seed) for seed in range(3)]
        return [hit_rate(agent.fit(train), train, where=lambda steps: steps.taken)
                for agent in agents]  # fmt: skip

    assert max(solved(warmup_steps=1)) < 0.5
    assert min(solved(warmup_steps=150)) > 0.8
