"""Preferences in a shop: the loss of pairs of a page, which pairs, and what never moves."""

import math
from collections import Counter

import minari
import numpy as np
import pytest
import torch

from recgym.agents.choices import Choice, Choices, read_as
from recgym.agents.dpo import ShopDPO
from recgym.agents.imitation import Imitation
from recgym.agents.warmup import POLICY, REFERENCE
from recgym.demonstrations import demonstrate
from recgym.errors import InvalidArgument, UnknownName
from recgym.runs import Run
from recgym.shop.pages import Place
from recgym.shop.shoppers import SHOPPERS, Known

from ..sentences import said
from .shops import (
    ENV,
    Noted,
    jittered,
    known_sessions,
    shopper,
    shopper_in_training,
    softmax_logs,
)
from .worlds import assert_same_bits

pytestmark = pytest.mark.usefixtures("one_thread")
LN2 = math.log(2)
PHASES = {"steps": 12, "warmup_steps": 4}


class Watched(ShopDPO):
    """One whose scores of the last pages are told, by network; all of a page may be raised."""

    raised = (0.0, 0.0)  # of the policy and of the reference

    def scored(self, network, choices):
        which = self.networks.index(network)
        found = [scores + self.raised[which] * (row + 1)
                 for row, scores in enumerate(super().scored(network, choices))]  # fmt: skip
        for scores in found:
            if scores.requires_grad:
                scores.retain_grad()
        self.told = vars(self).get("told", {}) | {which: found}
        return found


def preferring(data, reader, alike=False, **options):
    """In the second phase, policy and reference far from where they begin and from each other."""
    training = shopper_in_training(Watched, reader, data, **PHASES | options)
    training.memory["warm since"] = 0
    jittered(training.networks[POLICY], 1)
    if alike:
        training.second_begins()
    else:
        jittered(training.networks[REFERENCE], 2)
    return training


@pytest.fixture
def training(shopping, small_bert):
    return preferring(shopping[0], small_bert)


def ratios(training, choice):
    """log pi - log ref of all actions of a page, by slow loops; and log pi."""
    read = read_as(choice.page, choice.actions)
    logs, known = (softmax_logs(network, *read) for network in training.networks)
    return [one - other for one, other in zip(logs, known, strict=True)], logs


def slopes(training):
    return [scores.grad for scores in training.told[POLICY]]


# ------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("beta", [0.1, 2.0])
@pytest.mark.parametrize("rejected", ["uniform", "reference"])
def test_at_the_reference_the_loss_is_ln_2_and_its_slopes_are_half_of_beta(
    shopping, small_bert, beta, rejected
):
    training = preferring(shopping[0], small_bert, True, beta=beta, rejected=rejected)
    choices = training.pairs.all[:6]
    terms = training.preferring(choices)
    assert terms["preference"].item() == pytest.approx(LN2, abs=1e-7)
    assert terms["margin"] == 0 and terms["share preferred"] == 0
    terms["preference"].backward()
    pairs = [*training.compared(choices, training.told[REFERENCE])]
    assert len(pairs) == 6
    for (row, chosen, other), slope in zip(pairs, slopes(training), strict=True):
        assert slope[chosen].item() == pytest.approx(-beta / 2 / 6)
        assert slope[other].item() == pytest.approx(beta / 2 / 6)
        rest = [value for place, value in enumerate(slope) if place not in (chosen, other)]
        assert not any(rest) and chosen == choices[row].done


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_second_phase_begins_at_ln_2_also_where_the_first_leaves_things_out(
    shopping, small_bert, dropout
):
    run, options = Noted(), PHASES | {"dropout": dropout, "validate_every": 1, "patience": 0}
    agent = shopper(ShopDPO, small_bert, **options, second_learning_rate=0.003)
    agent.fit(*shopping[:2], run=run)
    assert ["preference" in line for line in run.lines] == 4 * [False] + 8 * [True]
    first, *later = run.lines[4:]
    assert first["preference"] == pytest.approx(LN2, abs=1e-6)
    assert first["margin"] == pytest.approx(0, abs=1e-6)
    assert all(abs(line["preference"] - LN2) > 1e-5 for line in later)


@pytest.mark.parametrize("raised", [(3.0, 0.0), (0.0, -5.0), (2.0, 7.0)])
def test_what_all_actions_of_a_page_have_in_common_changes_nothing(training, raised):
    choices = training.pairs.all[:8]
    wanted = training.preferring(choices)
    training.raised = raised
    found = training.preferring(choices)
    for name, term in wanted.items():
        assert found[name].item() == pytest.approx(term.item(), abs=1e-5), name


def pair_of(choice, chosen, other):
    return [choice._replace(done=chosen, others=(other,))]


def test_a_swapped_pair_has_the_loss_of_the_opposite_preference(training):
    training.beta = 0.7
    for choice in training.pairs.all[:5]:
        other = choice.others[-1]
        ratio = ratios(training, choice)[0]
        x = 0.7 * (ratio[choice.done] - ratio[other])
        right = training.preferring(pair_of(choice, choice.done, other))
        swapped = training.preferring(pair_of(choice, other, choice.done))
        assert right["margin"].item() == pytest.approx(x, abs=1e-4) and abs(x) > 1e-3
        assert swapped["margin"].item() == pytest.approx(-x, abs=1e-4)
        assert right["preference"].item() == pytest.approx(math.log1p(math.exp(-x)), abs=1e-4)
        assert swapped["preference"].item() == pytest.approx(math.log1p(math.exp(x)), abs=1e-4)


def test_towards_beta_0_the_loss_goes_to_ln_2_and_its_gradient_to_0(training):
    choices, far = training.pairs.all[:6], []
    for beta in (1.0, 1e-2, 1e-4):
        training.beta = beta
        network = training.networks[POLICY]
        network.zero_grad()
        loss = training.preferring(choices)["preference"]
        loss.backward()
        steepest = max(float(one.grad.abs().max()) for one in network.parameters()
                       if one.grad is not None)  # fmt: skip
        far.append([abs(loss.item() - LN2), steepest])
    far = np.array(far)
    assert (far[2] < 0.02 * far[1]).all() and (far[2] < 1e-4).all()
    assert far[1, 1] < 0.02 * far[0, 1] and far[0, 1] > 0.01


def test_two_actions_and_a_uniform_reference_make_it_logistic_regression(training):
    """At beta 1, on the difference of the scores of both."""
    training.beta = 1.0
    policy, reference = training.networks
    with torch.no_grad():
        reference.score.weight.zero_()  # all actions are as good
    two = [Choice(choice.page, choice.actions[:2], number % 2, (1 - number % 2,))
           for number, choice in enumerate(training.pairs.all[:8])]  # fmt: skip
    terms = training.preferring(two)
    read = [read_as(choice.page, choice.actions) for choice in two]
    scores = policy.scores(*zip(*read, strict=True))
    differences = torch.stack([some[0] - some[1] for some in scores])
    first = torch.tensor([float(choice.done == 0) for choice in two])
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(differences, first)
    torch.testing.assert_close(terms["preference"], wanted)
    chosen = training.told[POLICY]
    terms["preference"].backward()
    chances = differences.detach().sigmoid()
    for row, scores in enumerate(chosen):
        slope = ((chances - first) / 8)[row].item()
        assert scores.grad.tolist() == pytest.approx([slope, -slope], abs=1e-6)


@pytest.mark.parametrize("rejected", ["uniform", "reference", "all"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_what_is_logged_is_what_a_slow_count_says(shopping, small_bert, rejected, smoothing):
    options = {"beta": 0.3, "label_smoothing": smoothing, "rejected": rejected}
    training = preferring(shopping[0], small_bert, **options)
    choices = training.pairs.all[3:9]
    terms = training.preferring(choices)
    pairs = [*training.compared(choices, training.told[REFERENCE])]
    losses, margins, chosen, others = [], [], [], []
    for row, done, other in pairs:
        ratio, logs = ratios(training, choices[row])
        x = 0.3 * (ratio[done] - ratio[other])
        losses.append((1 - smoothing) * math.log1p(math.exp(-x))
                      + smoothing * math.log1p(math.exp(x)))  # fmt: skip
        margins.append(x)
        chosen.append(logs[done])
        others.append(logs[other])
    wanted = {
        "preference": np.mean(losses),
        "margin": np.mean(margins),
        "share preferred": np.mean([margin > 0 for margin in margins]),
        "log-probability of chosen": np.mean(chosen),
        "log-probability of rejected": np.mean(others),
    }
    assert terms.keys() == wanted.keys()
    for name, number in wanted.items():
        assert terms[name].item() == pytest.approx(number, abs=2e-4), name
        assert terms[name].requires_grad == (name == "preference")
    assert np.std(margins) > 0.01


# ------------------------------------------------------------------------------------ the pairs


def test_pairs_are_of_sessions_that_earned_enough(shopping, small_bert):
    sessions = known_sessions(shopping[0])
    for least in (0.99, 0.8):
        training = preferring(shopping[0], small_bert, preferred_reward=least)
        good = [session for session in sessions if session.reward >= least]
        assert 0 < len(good) < len(sessions)
        assert training.pairs.all == Choices.of([one.paired for one in good]).all
        assert len(training.pairs.offsets) == len(good) + 1
        assert training.choices.all == Choices.of(sessions).all  # all are imitated


def test_so_many_sessions_are_preferred_as_asked(shopping, small_bert):
    good = [session for session in known_sessions(shopping[0]) if session.reward >= 0.99]
    drawn = []
    for seed in (0, 0, 1, 2):
        pairs = preferring(shopping[0], small_bert, preferred=4, seed=seed).pairs
        chosen = [one for one in good if set(one.paired.choices) & set(pairs.all)]
        assert len(chosen) == 4 and pairs.all == Choices.of([one.paired for one in chosen]).all
        drawn.append(tuple(one.goal for one in chosen))
    assert drawn[0] == drawn[1] and len(set(drawn)) > 1


def test_sessions_of_another_dataset_may_be_preferred(shopping, small_bert, tmp_path):
    other = demonstrate(ENV, "oracle", sessions=5, name="other")
    options = PHASES | {"preferred_of": other.id, "preferred": 3}
    training = preferring(shopping[0], small_bert, **options)
    known = {choice for session in known_sessions(other) for choice in session.choices}
    assert len(training.pairs.offsets) == 4 and set(training.pairs.all) <= known
    assert training.choices.all == Choices.of(known_sessions(shopping[0])).all
    shopper(ShopDPO, small_bert, **options).fit(shopping[0], run=Run(tmp_path))
    with pytest.raises(InvalidArgument, match="of another preferred .3, and now it is 2") as why:
        shopper(ShopDPO, small_bert, **options | {"preferred": 2}).fit(
            shopping[0], run=Run(tmp_path)
        )
    said(why)
    demonstrate(ENV, "oracle", sessions=4, name="other", replace=True)
    with pytest.raises(InvalidArgument, match="of another preferred dataset") as why:
        shopper(ShopDPO, small_bert, **options).fit(shopping[0], run=Run(tmp_path))
    said(why)


def compared_often(training, choice, times):
    """How often each action is rejected on a page."""
    known = training.looked([choice])
    found = Counter()
    for training.at in range(times):
        for row, chosen, other in training.compared([choice], known):
            assert (row, chosen) == (0, choice.done) and other in choice.others
            found[other] += 1
    return found


@pytest.mark.parametrize("rejected", ["uniform", "reference"])
def test_what_is_rejected_is_drawn_as_asked(shopping, small_bert, rejected):
    training, times = preferring(shopping[0], small_bert, True, rejected=rejected), 1500
    choice = training.pairs.all[0]
    choice = choice._replace(others=choice.others[1:-1])  # some lead to the same place, say
    found = compared_often(training, choice, times)
    read = read_as(choice.page, choice.actions)
    logs = softmax_logs(training.networks[REFERENCE], *read)
    weights = [math.exp(logs[other]) if rejected == "reference" else 1 for other in choice.others]
    wanted = times * np.array(weights) / sum(weights)
    counts = np.array([found[other] for other in choice.others])
    assert counts.sum() == times
    few = wanted < 5
    square = ((counts - wanted) ** 2 / wanted)[~few].sum()
    square += (counts[few].sum() - wanted[few].sum()) ** 2 / max(wanted[few].sum(), 5)
    assert square < 33  # of at most 9 degrees
    if rejected == "reference":
        assert wanted.max() > 1.5 * wanted.min()


def test_all_that_leads_elsewhere_may_be_rejected(shopping, small_bert):
    training = preferring(shopping[0], small_bert, rejected="all")
    for choice in training.pairs.all[:5]:
        assert compared_often(training, choice, 2) == dict.fromkeys(choice.others, 2)


def test_each_page_of_a_session_makes_a_pair(training):
    choices = training.pairs.all[:7]
    pairs = [*training.compared(choices, training.looked(choices))]
    assert [row for row, *_ in pairs] == [*range(7)]


def test_nothing_that_leads_to_the_same_place_is_ever_rejected(shopping, small_bert, odd):
    """A walk through the shop beside the pairs of sessions of odd shoppers."""
    training = preferring(odd, small_bert, rejected="all", preferred_reward=0.0)
    shop, found = shopping[2].unwrapped.shoppers.shopping.shop, 0
    pairs = iter(training.pairs.all)
    for episode in odd:
        place = Place()
        for action in episode.actions:
            after, meant = shop.step(place, action)
            if meant and place.page != "search" and len(shop.actions(place)) > 1:
                choice = next(pairs)
                for _, chosen, other in training.compared([choice], [None]):
                    assert shop.step(place, choice.actions[chosen])[0] == after
                    assert shop.step(place, choice.actions[other])[0] != after
                    found += 1
            place = after
    assert next(pairs, None) is None and found > 50


def test_an_update_is_of_one_session_and_each_comes_once_in_an_epoch(shopping, small_bert):
    class Noting(ShopDPO):
        def preferring(self, choices):
            asked.append(choices)
            return super().preferring(choices)

    asked = []
    good = [one for one in known_sessions(shopping[0]) if one.reward >= 0.99]
    count = len(good)
    options = {"steps": 3 * count, "warmup_steps": count, "batch_size": 1}
    shopper(Noting, small_bert, **options).fit(shopping[0])
    wanted = sorted(session.paired.choices for session in good)
    assert sorted(asked[:count]) == sorted(asked[count:]) == wanted
    assert asked[:count] != asked[count:]


# ------------------------------------------------------------------------------------ the phases


def test_the_first_phase_is_imitation(shopping, small_bert):
    options = {"dropout": 0.3, "seed": 2}
    alone = shopper_in_training(Imitation, small_bert, shopping[0], **options)
    first = shopper_in_training(ShopDPO, small_bert, shopping[0], **PHASES | options)
    for _ in range(4):
        alone._advance(), first._advance()
    assert not first.warm
    assert_same_bits(first.networks[POLICY].state_dict(), alone.networks[0].state_dict())


def bits(network):
    return {name: weights.clone() for name, weights in network.state_dict().items()}


def test_the_reference_is_the_best_of_the_first_phase_and_never_moves(shopping, small_bert):
    options = {"dropout": 0.4, "validate_every": 1, "patience": 0, "learning_rate": 0.01}
    training = shopper_in_training(
        ShopDPO, small_bert, *shopping[:2], **options, steps=16, warmup_steps=8
    )
    reached = []
    for _ in range(8):
        before = training._reached
        training._advance()
        reached.append((training._reached, before))
    best = {name: weights.clone() for name, weights in training._best.items()}
    assert sum(now > before for now, before in reached) < 8  # not always the last
    policy, reference = training.networks
    training._advance()
    assert training.memory == {"warm since": 8}
    assert_same_bits(bits(reference), best)
    choices = training.pairs.all[:4]
    with torch.no_grad():
        known = training.scored(reference, choices)
        for _ in range(7):
            with torch.enable_grad():
                training._advance()
            assert not reference.training
            assert all(map(torch.equal, training.scored(reference, choices), known))
    assert_same_bits(bits(reference), best)
    assert not any(weights.requires_grad for weights in reference.parameters())
    assert not training._optimizers[REFERENCE].state
    moved = policy.state_dict()
    assert any(not torch.equal(moved[name], weights) for name, weights in best.items())
    rates = {group["lr"] for group in training._optimizers[POLICY].param_groups}
    assert rates == {training.second_learning_rate}


def test_the_last_weights_are_kept(shopping, small_bert):
    data = shopping[:2]
    options = PHASES | {"validate_every": 2, "patience": 1, "second_learning_rate": 0.01}
    training = shopper_in_training(ShopDPO, small_bert, *data, **options)
    for _ in range(12):
        training._advance()
        assert not training._over  # no validation ends the second phase
    agent = shopper(ShopDPO, small_bert, **options).fit(*data)
    assert_same_bits(bits(agent._network), bits(training.networks[POLICY]))


def test_gradients_are_no_longer_than_asked(shopping, small_bert):
    norms = []
    for longest in (1e6, 1e-3):
        training = preferring(shopping[0], small_bert, True, longest=longest)
        training._advance()
        slopes = [one.grad.flatten() for one in training.networks[POLICY].parameters()
                  if one.grad is not None]  # fmt: skip
        norms.append(torch.cat(slopes).norm().item())
    assert norms[0] > 2e-3 and norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_what_was_chosen_is_preferred_in_the_end(shopping, small_bert):
    options = {"preferred": 2, "second_learning_rate": 0.003, "beta": 1.0, "rejected": "all"}
    run = Noted()
    shopper(ShopDPO, small_bert, **options, steps=32, warmup_steps=2, validate_every=1).fit(
        *shopping[:2], run=run
    )
    assert run.lines[2]["preference"] == pytest.approx(LN2, abs=1e-6)
    last = run.lines[-2:]
    assert all(line["share preferred"] > 0.8 and line["preference"] < 0.6 for line in last)


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("options", "error"),
    [({"beta": 0.0}, InvalidArgument), ({"label_smoothing": 0.5}, InvalidArgument),
     ({"label_smoothing": -0.1}, InvalidArgument), ({"rejected": "worst"}, UnknownName),
     ({"preferred": -1}, InvalidArgument), ({"longest": 0.0}, InvalidArgument),
     ({"second_learning_rate": 0.0}, InvalidArgument), ({"warmup_steps": -1}, InvalidArgument)],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(options, error):
    with pytest.raises(error, match=next(iter(options))) as problem:
        ShopDPO(**options)
    said(problem)


def refused(error, match, data, reader, **options):
    with pytest.raises(error, match=match) as problem:
        shopper(ShopDPO, reader, **PHASES | options).fit(data)
    said(problem)


def test_sessions_that_cannot_be_preferred_are_refused(shopping, small_bert, monkeypatch):
    def lost(shop, goal, rng):
        yield "search[xyzzy]"
        yield "click[back to search]"

    train = shopping[0]
    refused(InvalidArgument, "and 99 are asked for", train, small_bert, preferred=99)
    refused(InvalidArgument, "earned 1.5 or more", train, small_bert, preferred_reward=1.5)
    refused(UnknownName, "recgym/unknown/one-v0", train, small_bert,
            preferred_of="recgym/unknown/one-v0")  # fmt: skip
    other = demonstrate("recgym/MiniShopB-v0", "rule", sessions=2)
    refused(InvalidArgument, "another catalogue", train, small_bert, preferred_of=other.id)
    other = demonstrate(ENV, "oracle", sessions=2, name="other")
    other.storage.update_metadata({"split": "test"})
    assert other.id in minari.list_local_datasets()
    refused(InvalidArgument, "is a test dataset", train, small_bert, preferred_of=other.id)
    monkeypatch.setitem(SHOPPERS, "lost", Known(lost, "finds nothing"))
    nothing = demonstrate(ENV, "lost", sessions=2, name="lost")
    assert all(
        len(choice.actions) == 1 for one in known_sessions(nothing) for choice in one.choices
    )
    refused(InvalidArgument, "nothing else could have been done", train, small_bert,
            preferred_of=nothing.id, preferred_reward=0.0)  # fmt: skip
