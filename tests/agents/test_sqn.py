"""Self-supervised Q-learning: its losses by closed forms, its targets, its two copies."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from recgym.agents.batches import Seen
from recgym.agents.loop import COIN
from recgym.agents.recommender import Scores
from recgym.agents.sqn import SQN, half_squares

from .worlds import (
    CLICK,
    ITEMS,
    PURCHASE,
    SMALL,
    advanced,
    all_steps,
    assert_same_bits,
    head_set,
    in_training,
    learning,
    logged,
    scattered,
    shop,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def items_beneath(loss):
    return {name: term.item() for name, term in loss.items()}


# ------------------------------------------------------------------------------------ the loss


def test_zero_heads_lose_half_the_squared_reward_and_the_log_of_the_items():
    training = learning(SQN)
    network, other = training.networks
    for one in training.networks:
        for head in one.heads.values():
            head_set(head)
    for reward, expected in ((CLICK, 0.02), (PURCHASE, 0.5)):
        rows = np.flatnonzero(np.isclose(training.data.rewards, reward))
        terms = training.loss(network, other, training.data.batch(rows, training.on))
        assert terms["td"].item() == pytest.approx(expected, abs=1e-6)
        for name in ("supervised", "cross-entropy"):
            assert terms[name].item() == pytest.approx(math.log(ITEMS), abs=1e-5)


@pytest.mark.parametrize("encoder", ["gru4rec", "sasrec", "caser", "nextitnet"])
def test_losses_are_those_of_dense_layers_and_a_loop(encoder):
    training = learning(SQN, encoder=encoder, discount=0.7)
    network, other = training.networks
    batch = all_steps(training)
    terms = training.loss(network, other, batch)
    with torch.no_grad():
        values, logits = (network.head(n)(network.state(batch.seen)) for n in ("q", "supervised"))
        liked = network.head("q")(network.state(batch.next_seen))
        judged = other.head("q")(other.state(batch.next_seen))
    errors = []
    for row, action in enumerate(batch.actions.tolist()):
        following = 0 if batch.over[row] else judged[row, int(liked[row].argmax())]
        errors.append((batch.rewards[row] + 0.7 * following - values[row, action]) ** 2 / 2)
    assert terms["td"].item() == pytest.approx(float(sum(errors) / len(errors)), rel=1e-5)
    expected = functional.cross_entropy(logits, batch.actions).item()
    assert terms["supervised"].item() == pytest.approx(expected, rel=1e-5)


def test_what_is_descended_is_the_sum_of_the_terms():
    training = learning(SQN)
    network, other = training.networks
    terms = training.loss(network, other, all_steps(training))
    assert set(terms) == {"td", "supervised", "cross-entropy"}
    assert [name for name, term in terms.items() if term.requires_grad] == ["td", "supervised"]


def test_only_the_other_copy_follows_a_discounted_target():
    network, other = (training := learning(SQN, discount=0.7)).networks
    batch = all_steps(training)
    before = training.loss(network, other, batch)["td"].item()
    head_set(other.head("q"), 0.0, 5.0)
    after = training.loss(network, other, batch)["td"].item()
    assert after != pytest.approx(before)
    values = network.head("q").of(network.state(batch.seen), batch.actions[:, None])[:, 0]
    target = batch.rewards + 0.7 * (1 - batch.over) * 5.0
    assert after == pytest.approx(half_squares(target - values).item(), rel=1e-5)


def test_without_a_discount_neither_the_end_nor_the_target_matters():
    network, other = (training := learning(SQN, discount=0.0)).networks
    batch = all_steps(training)
    td = training.loss(network, other, batch)["td"]
    values = network.head("q").of(network.state(batch.seen), batch.actions[:, None])[:, 0]
    assert td.item() == pytest.approx((0.5 * (batch.rewards - values) ** 2).mean().item())
    ended = replace(batch, over=torch.ones_like(batch.over))
    scattered(other, 9)
    assert torch.equal(training.loss(network, other, ended)["td"], td)


def test_at_the_end_the_target_is_the_reward():
    network, other = (training := learning(SQN, discount=0.9)).networks
    head_set(network.head("q"))
    head_set(other.head("q"), 0.0, 3.0)
    ended = replace(all_steps(training), over=torch.ones(len(training.data)))
    td = training.loss(network, other, ended)["td"].item()
    assert td == pytest.approx((0.5 * ended.rewards**2).mean().item(), rel=1e-6)


@pytest.mark.parametrize(("ends", "bootstraps"), [("terminated", True), ("both", False)])
def test_a_cut_session_goes_on_unless_it_is_told_to_end(ends, bootstraps):
    data = shop(cut=[True, False, True, False, True, False])
    training = learning(SQN, data=data, ends=ends, discount=0.5)
    network, other = training.networks
    head_set(network.head("q"))
    head_set(other.head("q"), 0.0, 4.0)
    last = np.flatnonzero(training.data.last)
    cut = np.array([True, False, True, False, True, False])
    for row, was_cut in zip(last, cut, strict=True):
        batch = training.data.batch(np.array([row]), training.on)
        target = batch.rewards.item() + (0.5 * 4.0 if was_cut and bootstraps else 0)
        td = training.loss(network, other, batch)["td"].item()
        assert td == pytest.approx(target**2 / 2, rel=1e-5)


# ----------------------------------------------------------------------------------- double Q


def test_equal_copies_make_double_q_the_highest_value():
    network, other = (training := learning(SQN)).networks
    other.load_state_dict(network.state_dict())
    seen = all_steps(training).next_seen
    (best,) = training.best_values(network, other, seen)
    torch.testing.assert_close(best, network.head("q")(network.state(seen)).amax(1))


def test_the_learning_copy_selects_and_the_other_judges():
    network, other = (training := learning(SQN)).networks
    head_set(network.head("q"), 0.0, torch.eye(ITEMS)[3])
    head_set(other.head("q"), 0.0, torch.arange(ITEMS))
    seen = all_steps(training).next_seen
    assert (training.best_values(network, other, seen)[0] == 3).all()
    assert (training.best_values(other, network, seen)[0] == 0).all()  # it selects the last item


def test_values_of_several_batches_are_those_of_each():
    network, other = (training := learning(SQN)).networks
    batch = all_steps(training)
    both = training.best_values(network, other, batch.next_seen, batch.seen)
    for found, seen in zip(both, (batch.next_seen, batch.seen), strict=True):
        torch.testing.assert_close(found, training.best_values(network, other, seen)[0])


def test_the_target_has_no_gradient():
    network, other = (training := learning(SQN)).networks
    terms = training.loss(network, other, all_steps(training))
    (terms["td"] + terms["supervised"]).backward()
    assert all(weights.grad is None for weights in other.parameters())
    assert all(weights.grad is not None for weights in network.parameters())


def test_the_selector_has_no_gradient():
    network, other = (training := learning(SQN)).networks
    batch = all_steps(training)
    training.loss(network, other, batch)["td"].backward()
    found = network.head("q").weight.grad.clone()
    network.zero_grad()
    (following,) = training.best_values(network, other, batch.next_seen)
    target = batch.rewards + training.discount * (1 - batch.over) * following
    values = network.head("q")(network.state(batch.seen))[torch.arange(len(batch)), batch.actions]
    half_squares(target - values).backward()
    torch.testing.assert_close(found, network.head("q").weight.grad)
    assert not found[np.setdiff1d(np.arange(ITEMS), batch.actions.numpy())].any()


@pytest.mark.parametrize("asked", [False, True])
def test_nothing_is_left_out_in_targets_unless_asked(asked):
    training = learning(SQN, dropout=0.5, target_dropout=asked)
    network, other = training.networks
    seen = all_steps(training).next_seen
    first, second = (training.best_values(network, other, seen)[0] for _ in range(2))
    assert torch.equal(first, second) != asked
    assert network.training and other.training


# --------------------------------------------------------------------------------- two copies


def test_the_coin_lets_each_copy_learn_about_half_of_the_time():
    training = learning(SQN)
    faces = []
    for training.at in range(2000):  # noqa: B020
        faces.append(int(training.draws(COIN).integers(2)))
    assert abs(np.mean(faces) - 0.5) < 4 * 0.5 / math.sqrt(2000)
    training.at = 0
    before = advanced(training, 0)
    for face in faces[:20]:
        after = advanced(training, 1)
        moved = {int(name[0]) for name in after if not torch.equal(after[name], before[name])}
        assert moved == {face}
        before = after


def test_the_copies_begin_with_other_weights():
    training = in_training(SQN(**SMALL), shop())
    first, second = (network.state_dict() for network in training.networks)
    assert not torch.equal(first["encoder.items.weight"], second["encoder.items.weight"])


@pytest.mark.parametrize("head", ["supervised", "q"])
def test_the_first_copy_recommends_by_its_head(head):
    data = shop()
    agent = SQN(**SMALL, steps=20, head=head).fit(data)
    training = in_training(agent, data)
    advanced(training, 20)
    observations = training.data.items[training.data.states]
    expected = Scores(training.networks[0].eval(), head)(torch.as_tensor(observations).float())
    np.testing.assert_array_equal(agent.scores(observations, {}), expected.detach().numpy())


def test_the_same_seed_makes_the_same_weights_and_another_does_not():
    data = shop()
    first, same, other = (
        advanced(in_training(SQN(**SMALL, seed=seed), data), 10) for seed in (3, 3, 4)
    )
    assert_same_bits(first, same)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# ------------------------------------------------------------------------------ what is imitated


@pytest.mark.parametrize("imitate", ["taken", "all"])
def test_what_brought_nothing_is_imitated_only_if_asked(imitate):
    rewards = [[0, 1], [1, 0, 0], [0]]
    data = logged("skips", [[0, 1], [2, 3, 4], [5]], ITEMS, rewards=rewards)
    network, other = (training := learning(SQN, data=data, imitate=imitate)).networks
    batch = all_steps(training)
    found = training.loss(network, other, batch)["supervised"].item()
    logits = network.head("supervised")(network.state(batch.seen))
    each = functional.cross_entropy(logits, batch.actions, reduction="none")
    taken = torch.tensor([0, 1, 1, 0, 0, 0]) if imitate == "taken" else torch.ones(6)
    assert found == pytest.approx((each * taken).mean().item(), rel=1e-5)


def test_values_are_learned_of_what_brought_nothing():
    data = logged("skips", [[0, 1]], ITEMS, rewards=[[0, 0]])
    network, other = (training := learning(SQN, data=data, discount=0.0)).networks
    batch = all_steps(training)
    values = network.head("q").of(network.state(batch.seen), batch.actions[:, None])
    expected = (values**2 / 2).mean().item()
    assert training.loss(network, other, batch)["td"].item() == pytest.approx(expected, rel=1e-5)


def test_new_numbers_of_items_change_no_loss():
    training = learning(SQN)
    order = torch.as_tensor(np.random.default_rng(0).permutation(ITEMS))
    renamed = torch.cat([torch.argsort(order), torch.tensor([ITEMS])])
    batch = all_steps(training)
    before = items_beneath(training.loss(*training.networks, batch))

    def moved(seen):
        return Seen(renamed[seen.items], seen.lengths, None)

    with torch.no_grad():
        for network in training.networks:
            table = network.encoder.items.weight
            table[:ITEMS] = table[order].clone()
            for head in network.heads.values():
                head.weight.copy_(head.weight[order].clone())
                head.bias.copy_(head.bias[order].clone())
    batch = replace(
        batch,
        seen=moved(batch.seen),
        next_seen=moved(batch.next_seen),
        actions=renamed[batch.actions],
    )
    after = items_beneath(training.loss(*training.networks, batch))
    assert after == pytest.approx(before, rel=1e-5)


# -------------------------------------------------------------------------------- the fixed point


def test_values_go_to_the_discounted_sum_of_rewards():
    data = logged("line", [[0, 1]] * 8, 2, rewards=[[CLICK, PURCHASE]] * 8, history=4)
    training = in_training(
        SQN(size=8, batch_size=16, dropout=0.0, learning_rate=0.01, discount=0.5), data
    )
    for network in training.networks:  # what never was done is worth nothing
        nn.init.zeros_(network.head("q").weight)
    advanced(training, 400)
    batch = training.data.batch(np.array([0, 1]), training.on)
    for network in training.networks:
        values = network.head("q").of(network.state(batch.seen), batch.actions[:, None])[:, 0]
        expected = torch.tensor([CLICK + 0.5 * PURCHASE, PURCHASE])
        torch.testing.assert_close(values, expected, atol=0.03, rtol=0)
