"""Imitation of shoppers: its loss by a slow loop, whom it imitates, and that it learns them."""

import numpy as np
import pytest
import torch

from recgym.agents.choices import Choice, Choices, query_of, read_as
from recgym.agents.imitation import Imitation
from recgym.errors import InvalidArgument

from ..sentences import said
from .shops import (
    asked,
    jittered,
    known_choices,
    known_sessions,
    shopper,
    shopper_in_training,
    softmax_logs,
)
from .worlds import assert_same_bits

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def training(shopping, small_bert):
    """About to learn, and not undecided."""
    training = shopper_in_training(Imitation, small_bert, shopping[0])
    jittered(training.networks[0])
    return training


# ------------------------------------------------------------------------------------- the loss


def test_the_loss_is_the_cross_entropy_of_what_was_done(training):
    choices, (network,) = training.choices.all[:12], training.networks
    terms = training.cloning(network, choices)
    logs = [softmax_logs(network, *read_as(choice.page, choice.actions))
            for choice in choices]  # fmt: skip
    own = [some[choice.done] for some, choice in zip(logs, choices, strict=True)]
    right = [max(some) == one for some, one in zip(logs, own, strict=True)]
    assert terms.keys() == {"imitation", "accuracy"}
    assert terms["imitation"].item() == pytest.approx(-np.mean(own), rel=1e-4)
    assert terms["accuracy"].item() == pytest.approx(np.mean(right))
    assert terms["imitation"].requires_grad and not terms["accuracy"].requires_grad
    assert np.std(own) > 0.05


def test_a_score_is_pulled_by_one_less_its_probability(training):
    """d loss / d S(a) = pi(a) - [a was done], over all pages of the batch."""
    kept = []

    class Watched(Imitation):
        def scored(self, network, choices):
            kept.extend(super().scored(network, choices))
            for scores in kept:
                scores.retain_grad()
            return kept

    training.__class__ = Watched
    choices = training.choices.all[:5]
    training.cloning(training.networks[0], choices)["imitation"].backward()
    for choice, scores in zip(choices, kept, strict=True):
        wanted = scores.detach().softmax(0)
        wanted[choice.done] -= 1
        torch.testing.assert_close(scores.grad, wanted / 5)


def test_all_but_the_value_of_a_page_is_learned(training):
    begun = {name: one.clone() for name, one in training.networks[0].state_dict().items()}
    training._advance()
    for name, weights in training.networks[0].state_dict().items():
        still = torch.equal(weights, begun[name])
        assert still == name.startswith("value."), name


def test_of_long_lists_parts_are_learned_where_it_is_as_the_original_has_it(shopping, small_bert):
    long = Choice("a page", tuple(f"click[thing {n}]" for n in range(30)), 25, (1, 2))
    for compat in (False, True):
        training = shopper_in_training(Imitation, small_bert, shopping[0], compat=compat)
        (network,) = training.networks
        jittered(network)
        found = training.cloning(network, [long])["imitation"].item()
        choice = long.part(training.draws(0)) if compat else long
        assert (len(choice.actions) < 18) == compat
        logs = softmax_logs(network, choice.page, choice.actions)
        assert found == pytest.approx(-logs[choice.done], rel=1e-4)


def test_every_choice_is_learned_from_once_in_an_epoch(shopping, small_bert):
    class Noting(Imitation):
        def cloning(self, network, choices):
            batches.append(choices)
            return super().cloning(network, choices)

    batches = []
    whole = known_choices(shopping[0])
    per_epoch = len(whole) // 12
    shopper(Noting, small_bert, batch_size=12, steps=2 * per_epoch).fit(shopping[0])
    assert {len(batch) for batch in batches} == {12}
    epochs = [sum(batches[:per_epoch], []), sum(batches[per_epoch:], [])]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) and set(epoch) <= set(whole)
    assert epochs[0] != epochs[1]


# ------------------------------------------------------------------------------ who is imitated


def test_all_sessions_are_imitated_unless_it_is_asked_otherwise(shopping, small_bert):
    training = shopper_in_training(Imitation, small_bert, shopping[0])
    assert training.choices.all == known_choices(shopping[0])


def test_sessions_that_earned_enough_are_imitated_and_so_many_of_them(shopping, small_bert):
    sessions = known_sessions(shopping[0])
    good = [session for session in sessions if session.reward >= 0.9]
    assert 3 < len(good) < len(sessions)
    training = shopper_in_training(Imitation, small_bert, shopping[0], imitated_reward=0.9)
    assert training.choices.all == Choices.of(good).all
    drawn = []
    for seed in (0, 0, 1, 2):
        options = {"imitated": 3, "imitated_reward": 0.9, "seed": seed}
        training = shopper_in_training(Imitation, small_bert, shopping[0], **options)
        goals = [one.goal for one in good
                 if set(one.choices) & set(training.choices.all)]  # fmt: skip
        chosen = [one for one in good if one.goal in goals]
        assert training.choices.all == Choices.of(chosen).all and len(chosen) == 3
        drawn.append(goals)
    assert drawn[0] == drawn[1] and len({*map(tuple, drawn)}) > 1


@pytest.mark.parametrize(
    ("options", "found"),
    [({"imitated": 21}, "20 sessions .* earned 0 or more, and 21"),
     ({"imitated_reward": 1.5}, "0 sessions .* earned 1.5 or more, and some"),
     ({"imitated": 15, "imitated_reward": 0.9}, "and 15 are asked for")],
)  # fmt: skip
def test_more_sessions_than_there_are_are_refused(shopping, small_bert, options, found):
    with pytest.raises(InvalidArgument, match=found) as problem:
        shopper(Imitation, small_bert, **options).fit(shopping[0])
    said(problem)


# ------------------------------------------------------------------------------ what is learned


def test_it_learns_what_a_few_shoppers_did(shopping, small_bert):
    options = {"imitated": 2, "learning_rate": 0.005, "page_tokens": 120, "steps": 60}
    agent = shopper(Imitation, small_bert, **options).fit(shopping[0])
    training = shopper_in_training(Imitation, small_bert, shopping[0], **options)
    choices = [*training.choices.all]
    before, after = (
        np.mean([int(scores.argmax()) == choice.done
                 for choice, scores in zip(choices, found, strict=True)])
        for found in (training.looked(choices), agent.scores(*asked(choices)))
    )  # fmt: skip
    assert before < 0.5 and after > 0.8
    assert query_of("a goal") == agent.act(*asked([Choice("", ("search[<query>]",), 0, ())],
                                                  ["a goal"]))[0]  # fmt: skip


def test_a_seed_decides_all(shopping, small_bert):
    one, same, other = (
        shopper(Imitation, small_bert, seed=seed, dropout=0.3, steps=4).fit(shopping[0])
        for seed in (1, 1, 2)
    )
    weights = [agent._network.state_dict() for agent in (one, same, other)]
    assert_same_bits(weights[0], weights[1])
    assert not torch.equal(weights[0]["layer.weight"], weights[2]["layer.weight"])


def test_validation_data_change_no_weight_unless_they_choose(shopping, small_bert):
    train, validation, _ = shopping
    alone, both = (
        shopper_in_training(Imitation, small_bert, train, data, dropout=0.3)
        for data in (None, validation)
    )
    for _ in range(6):
        alone._advance(), both._advance()
    assert_same_bits(both.networks[0].state_dict(), alone.networks[0].state_dict())
