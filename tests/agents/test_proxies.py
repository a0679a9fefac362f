"""Proxies in the place of the TD loss, by closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from recgym.agents.proxies import Cat, Eval, Fut, Hist

from .worlds import ITEMS, all_steps, head_set, learning, logged, shop

pytestmark = pytest.mark.usefixtures("one_thread")


def values_of(training, network):
    batch = all_steps(training)
    every = network.head("q")(network.state(batch.seen))
    return every[torch.arange(len(batch)), batch.actions]


@pytest.mark.parametrize("kind", [Hist, Fut])
def test_values_are_to_say_the_share_of_steps_before_or_after(kind):
    training = learning(kind, logged("days", [[0, 1, 2, 3, 4], [5, 6, 0], [1]], ITEMS))
    network, other = training.networks
    told = {
        Hist: [0, 1, 2, 3, 4, 0, 1, 2, 0],
        Fut: [4, 3, 2, 1, 0, 2, 1, 0, 0],
    }[kind]
    errors = torch.tensor(told) / 4 - values_of(training, network)
    terms = training.loss(network, other, all_steps(training))
    assert terms["proxy"].item() == pytest.approx((errors**2 / 2).mean().item(), rel=1e-5)


@pytest.mark.parametrize("kind", [Hist, Fut])
def test_sessions_of_one_step_say_zero(kind):
    training = learning(kind, logged("days", [[0], [1]], ITEMS))
    network, other = training.networks
    terms = training.loss(network, other, all_steps(training))
    expected = (values_of(training, network) ** 2 / 2).mean().item()
    assert terms["proxy"].item() == pytest.approx(expected, rel=1e-5)


def test_pairs_of_two_behaviours_are_six_classes():
    behaviours = [[0, 1, 0], [1, 1], [0]]
    data = logged("kinds", [[0, 1, 2], [3, 4], [5]], ITEMS, behaviours=behaviours)
    training = learning(Cat, data)
    network, other = training.networks
    head = network.head("pairs")
    assert head.weight.shape[0] == 6
    none, classes = -1, {}
    for now in (0, 1):
        for following in (none, 0, 1):
            classes[now, following] = len(classes)
    pairs = [(0, 1), (1, 0), (0, none), (1, 1), (1, none), (0, none)]
    targets = torch.tensor([classes[pair] for pair in pairs])
    batch = all_steps(training)
    expected = functional.cross_entropy(head(network.state(batch.seen)), targets).item()
    terms = training.loss(network, other, batch)
    assert terms["proxy"].item() == pytest.approx(expected, rel=1e-5)


def test_behaviours_are_whether_a_reward_came_where_infos_do_not_say_them():
    data = logged("kinds", [[0, 1, 2]], ITEMS, rewards=[[0, 1, 0]])
    training = learning(Cat, data)
    batch = all_steps(training)
    assert batch.behaviours.tolist() == [0, 1, 0]
    assert batch.next_behaviours.tolist() == [1, 0, -1]


def test_the_class_of_a_pair_has_a_head_in_both_copies_which_does_not_recommend():
    training = learning(Cat)
    assert [set(network.heads) for network in training.networks] == [
        {"supervised", "q", "pairs"}
    ] * 2
    assert training.recommending == "supervised"


@pytest.mark.parametrize("cut", [False, True])
def test_the_target_is_what_the_log_did_next_and_nothing_after_its_last_step(cut):
    training = learning(Eval, shop(cut=cut), discount=0.7)
    network, other = training.networks
    batch = all_steps(training)
    with torch.no_grad():
        judged = other.head("q")(other.state(batch.next_seen))
    data, targets = training.data, []
    for row in range(len(data)):
        ends = row + 1 == len(data) or data.episodes[row + 1] != data.episodes[row]
        following = 0 if ends else judged[row, data.actions[row + 1]].item()
        targets.append(data.rewards[row] + 0.7 * following)
    errors = torch.tensor(np.array(targets)) - values_of(training, network)
    terms = training.loss(network, other, batch)
    assert terms["td"].item() == pytest.approx((errors**2 / 2).mean().item(), rel=1e-5)


def test_the_best_item_does_not_matter_to_what_the_log_did():
    training = learning(Eval, logged("few", [[0, 1, 2], [3, 4]], ITEMS))
    network, other = training.networks
    batch = all_steps(training)
    before = training.loss(network, other, batch)["td"].item()
    bias = other.head("q").bias.detach().clone()
    bias[[0, 3, 5, 6]] += 50  # nobody did these next
    with torch.no_grad():
        other.head("q").bias.copy_(bias)
    assert training.loss(network, other, batch)["td"].item() == pytest.approx(before)


@pytest.mark.parametrize("kind", [Hist, Fut, Cat])
def test_rewards_and_targets_do_not_matter_to_proxies(kind):
    training = learning(kind)
    network, other = training.networks
    batch = all_steps(training)
    before = training.loss(network, other, batch)["proxy"]
    head_set(other.head("q"), 0.0, 9.0)
    paid = replace(batch, rewards=batch.rewards + 5)
    assert torch.equal(training.loss(network, other, paid)["proxy"], before)


@pytest.mark.parametrize("kind", [Hist, Fut, Cat, Eval])
def test_a_proxy_teaches_the_encoder_and_leaves_the_target(kind):
    training = learning(kind)
    network, other = training.networks
    terms = training.loss(network, other, all_steps(training))
    (proxy,) = (terms[name] for name in terms if name in ("proxy", "td"))
    proxy.backward()
    assert network.encoder.items.weight.grad.any()
    assert all(weights.grad is None for weights in other.parameters())
