"""Self-supervised negative Q-learning: what is drawn, what it is to be worth, SQN as a limit."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from recgym.agents.snqn import SNQN
from recgym.agents.sqn import SQN, half_squares
from recgym.rollouts import collect

from .worlds import (
    CLICK,
    CPU,
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
    looked,
    shop,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_zero_heads_lose_nothing_for_what_was_not_done():
    training = learning(SNQN)
    for network in training.networks:
        for head in network.heads.values():
            head_set(head)
    for reward, expected in ((CLICK, 0.02), (PURCHASE, 0.5)):
        rows = np.flatnonzero(np.isclose(training.data.rewards, reward))
        terms = training.loss(*training.networks, training.data.batch(rows, CPU))
        assert terms["td"].item() == pytest.approx(expected, abs=1e-6)
        assert terms["negatives"].item() == 0
        assert terms["supervised"].item() == pytest.approx(math.log(ITEMS), abs=1e-5)


def test_without_a_discount_each_value_goes_to_its_own_reward():
    training = learning(SNQN, discount=0.0, negatives=3, negative_reward=-0.3)
    network, other = training.networks
    batch = all_steps(training)
    terms = training.loss(network, other, batch)
    values = network.head("q")(network.state(batch.seen)).gather(1, training.compared(batch))
    done = (0.5 * (batch.rewards - values[:, 0]) ** 2).mean().item()
    not_done = (0.5 * (-0.3 - values[:, 1:]) ** 2).sum(1).mean().item()
    assert terms["td"].item() == pytest.approx(done, rel=1e-5)
    assert terms["negatives"].item() == pytest.approx(not_done, rel=1e-5)
    head_set(other.head("q"), 0.0, 9.0)
    ended = replace(batch, over=torch.ones_like(batch.over))
    again = training.loss(network, other, ended)
    assert all(torch.equal(again[name], terms[name]) for name in terms)


def test_losses_are_those_of_a_loop():
    training = learning(SNQN, discount=0.7, negatives=3, negative_reward=0.1, q_weight=2.0)
    network, other = training.networks
    batch = all_steps(training)
    terms, drawn = training.loss(network, other, batch), training.compared(batch)
    with torch.no_grad():
        values, liked_next = (network.head("q")(network.state(seen))
                              for seen in (batch.seen, batch.next_seen))  # fmt: skip
        judged, judged_next = (other.head("q")(other.state(seen))
                               for seen in (batch.seen, batch.next_seen))  # fmt: skip
    done, not_done = 0.0, 0.0
    for row in range(len(batch)):
        following = 0 if batch.over[row] else judged_next[row, int(liked_next[row].argmax())]
        target = batch.rewards[row] + 0.7 * following
        done += float(target - values[row, drawn[row, 0]]) ** 2 / 2
        target = 0.1 + 0.7 * judged[row, int(values[row].argmax())]
        for item in drawn[row, 1:]:
            not_done += float(target - values[row, item]) ** 2 / 2
    assert terms["td"].item() == pytest.approx(2 * done / len(batch), rel=1e-5)
    assert terms["negatives"].item() == pytest.approx(2 * not_done / len(batch), rel=1e-5)


def test_the_end_of_a_session_means_nothing_to_what_was_not_done():
    training = learning(SNQN, discount=0.9)
    batch = all_steps(training)
    ended, going = (
        training.loss(*training.networks, replace(batch, over=torch.full((len(batch),), over)))
        for over in (1.0, 0.0)
    )
    assert torch.equal(ended["negatives"], going["negatives"])
    assert ended["td"] != going["td"]


def test_the_terms_are_told_one_by_one():
    training = learning(SNQN)
    terms = training.loss(*training.networks, all_steps(training))
    assert set(terms) == {"td", "negatives", "supervised", "cross-entropy"}
    assert not terms["cross-entropy"].requires_grad


def test_twice_the_same_negatives_lose_twice():
    training = learning(SNQN, discount=0.7)
    network, other = training.networks
    batch = all_steps(training)
    state = network.state(batch.seen)
    values = network.head("q").of(state, training.compared(batch))
    once, twice = (
        training.auxiliary(looked(training, batch, torch.cat([values, *more], 1)))
        for more in ([], [values[:, 1:]])
    )
    assert twice["negatives"].item() == pytest.approx(2 * once["negatives"].item(), rel=1e-6)
    assert torch.equal(twice["td"], once["td"])


def test_losses_are_means_over_steps():
    training = learning(SNQN, discount=0.0)
    state = training.networks[0].state(all_steps(training).seen)
    values = training.networks[0].head("q")(state)
    expected = sum(half_squares(row[None]).item() for row in values) / len(values)
    assert half_squares(values).item() == pytest.approx(expected, rel=1e-5)


# -------------------------------------------------------------------------------- the negatives


def test_negatives_are_all_items_but_the_one_with_equal_chance():
    data = logged("one", [[2, 4]] * 500, ITEMS)
    training = learning(SNQN, data=data)
    batch = all_steps(training)
    drawn = training.compared(batch)
    assert drawn.shape == (1000, 11) and torch.equal(drawn[:, 0], batch.actions)
    assert not (drawn[:, 1:] == drawn[:, :1]).any()
    for action in (2, 4):
        rows = drawn[batch.actions == action, 1:]
        counts = torch.bincount(rows.flatten(), minlength=ITEMS).double()
        assert counts[action] == 0
        expected = rows.numel() / (ITEMS - 1)
        others = counts[torch.arange(ITEMS) != action]
        assert ((others - expected) ** 2 / expected).sum() < 20.5  # chi-square, 5 degrees: .999


def test_negatives_may_repeat_and_may_be_in_the_history():
    training = learning(SNQN)
    batch = all_steps(training)
    drawn = training.compared(batch)[:, 1:]
    assert any(len(set(row.tolist())) < 10 for row in drawn)
    assert (drawn[:, :, None] == batch.seen.items[:, None]).any()


def test_each_step_draws_negatives_of_its_own():
    training = learning(SNQN)
    batch = all_steps(training)
    first, again = training.compared(batch), training.compared(batch)
    training.at += 1
    assert torch.equal(first, again) and not torch.equal(first, training.compared(batch))


def test_answers_are_read_where_they_are_seen():
    world = {"n_items": 20, "n_topics": 3, "n_liked": 1, "steps": 6, "history": 8, "organic": 2,
             "fresh": 2}  # fmt: skip
    data = collect("recgym/OracleBoredom-v0", "mixed", sessions=20, name="n", **world)
    training = learning(SNQN, data, encoder="gru4rec")
    batch = all_steps(training)
    before = training.loss(*training.networks, batch)
    others = (batch.seen.answers + 1) % training.data.kinds
    after = training.loss(
        *training.networks, replace(batch, seen=batch.seen._replace(answers=others))
    )
    assert all(before[name].isfinite() and before[name] != after[name] for name in before)


# ------------------------------------------------------------------------------------ its limits


@pytest.mark.parametrize("encoder", ["gru4rec", "sasrec", "caser", "nextitnet"])
def test_without_negatives_it_is_sqn_step_by_step(encoder):
    data = shop()
    options = SMALL | {"encoder": encoder, "dropout": 0.3}
    alone = in_training(SQN(**options), data)
    without = in_training(SNQN(**options, negatives=0), data)
    for _ in range(4):
        assert_same_bits(advanced(without, 5), advanced(alone, 5))


def test_without_negatives_and_a_discount_values_go_to_the_reward():
    data = logged("bought", [[0, 1, 2], [3, 4]], ITEMS)
    training = learning(SNQN, data=data, negatives=0, discount=0.0)
    network, other = training.networks
    batch = all_steps(training)
    values = network.head("q").of(network.state(batch.seen), batch.actions[:, None])
    terms = training.loss(network, other, batch)
    assert terms["td"].item() == pytest.approx((0.5 * (1 - values) ** 2).mean().item(), rel=1e-5)
    assert terms["negatives"].item() == 0


@pytest.mark.parametrize("discount", [0.5, 0.8])
def test_what_is_never_done_goes_to_the_discounted_best_value(discount):
    data = logged("once", [[0]] * 16, 2, history=4)
    options = {"size": 8, "batch_size": 16, "negatives": 1, "learning_rate": 0.01}
    training = in_training(SNQN(**options, discount=discount), data)
    advanced(training, 500)
    seen = all_steps(training).seen
    for network in training.networks:
        values = network.head("q")(network.eval().state(seen))[0]
        torch.testing.assert_close(values, torch.tensor([1.0, discount]), atol=0.03, rtol=0)
