"""PPO in a shop: roll-outs of real pages, its first step, its values, and what never moves."""

import json
from collections import Counter

import gymnasium
import numpy as np
import pytest
import torch

from recgym.agents.choices import is_search, offered, query_of, read_as
from recgym.agents.imitation import Imitation
from recgym.agents.ppo import ShopPPO
from recgym.agents.proximal import advantages_of, normalised, rolled
from recgym.agents.warmup import POLICY, REFERENCE
from recgym.errors import InvalidArgument

from ..sentences import said
from .shops import ENV, Noted, asked, jittered, shopper, shopper_in_training, softmax_logs
from .worlds import assert_same_bits

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = {
    "users": 4, "rollout": 7, "epochs": 2, "warmup_steps": 0, "value_warmup": 0, "steps": 4,
    "page_tokens": 30,
}  # fmt: skip


def acting(shopping, reader, env=None, **options):
    """As roll-outs begin: a policy that is not undecided, and another reference."""
    data, _, known = shopping
    training = shopper_in_training(ShopPPO, reader, data, env=env or known, **FEW | options)
    training.memory["warm since"] = 0
    for number, network in enumerate(training.networks):
        jittered(network, number)
    return training


def met(rollout):
    """Each action of a roll-out: its step, user, page, what could be done, and what was."""
    for step, (texts, infos, actions) in enumerate(
        zip(rollout.observations, rollout.infos, rollout.actions, strict=True)
    ):
        for user, known in enumerate(offered(infos)):
            if rollout.there[step, user]:
                yield step, user, texts[user], known, actions[user]


def read(page, known):
    return read_as(page, known or ("",))


def first_step(training):
    """The roll-out of an update, and the terms and gradients of its first minibatch."""
    found, improve = {}, training.improve

    def descend(which, loss, longest):
        if not found:
            network = training.networks[which]
            network.zero_grad()
            found["terms"] = terms = loss()
            terms["loss"].backward()
            found["gradients"] = gradients_of(network)
        return found["terms"]

    def watched(rollout, *rest):
        found_rollouts.append(rollout)
        return improve(rollout, *rest)

    found_rollouts = []
    training.descend, training.improve = descend, watched
    training.update()
    return found_rollouts[0], found["terms"], found["gradients"]


def gradients_of(network):
    return {name: weights.grad.clone() for name, weights in network.named_parameters()
            if weights.grad is not None}  # fmt: skip


def bits(network):
    return {name: weights.clone() for name, weights in network.state_dict().items()}


# ------------------------------------------------------------------------------------ roll-outs


def test_what_is_done_can_be_done_and_is_as_probable_as_is_said(shopping, small_bert):
    training = acting(shopping, small_bert, gymnasium.make(ENV, steps=5))
    rollout = rolled(training._world, 3, 12, training.choose)
    policy, kinds = training.networks[POLICY], Counter()
    for step, user, page, known, action in met(rollout):
        log = rollout.logs[step, user].item()
        goal = rollout.infos[step]["goal"][user]
        assert goal in page
        if is_search(known):
            assert action == query_of(goal) and log == 0
            kinds["searches"] += 1
        else:
            logs = softmax_logs(policy, *read(page, known))
            assert log == pytest.approx(logs[known.index(action)], abs=1e-4)
            kinds["choices"] += 1
        with torch.no_grad():
            value = policy.values([read(page, known)[0]]).item()
        assert rollout.values[step, user].item() == pytest.approx(value, abs=1e-4)
    assert kinds["searches"] > 4 and kinds["choices"] > 20


def test_actions_are_drawn_from_the_softmax(shopping, small_bert):
    training, times = acting(shopping, small_bert), 1500
    choice = next(one for one in training.choices.all if len(one.actions) > 10)
    torch.manual_seed(0)
    chosen = training.choose(*asked([choice] * times))
    found = Counter(chosen.actions.tolist())
    logs = softmax_logs(training.networks[POLICY], *read(choice.page, choice.actions))
    wanted = {action: times * np.exp(log)
              for action, log in zip(choice.actions, logs, strict=True)}  # fmt: skip
    assert found.keys() <= wanted.keys() and max(wanted.values()) > 1.5 * min(wanted.values())
    often = [action for action, count in wanted.items() if count >= 5]
    square = sum((found[one] - wanted[one]) ** 2 / wanted[one] for one in often)
    assert square < 35  # of at most 11 degrees


def test_a_truncation_counts_what_would_follow_and_a_purchase_nothing(shopping, small_bert):
    """In a real shop that is left after four steps, or with a purchase."""
    training = acting(shopping, small_bert, gymnasium.make(ENV, steps=4), users=8)
    with torch.no_grad():
        training.networks[POLICY].value[2].bias.fill_(5.0)  # no page is worth nothing
    rollout = rolled(training._world, 4, 21, training.choose)
    advantages = advantages_of(rollout, 0.9, 0.95)
    ends, policy = Counter(), training.networks[POLICY]
    began = np.zeros(8, int)
    for step in range(20):
        for user in range(8):
            if not rollout.there[step, user]:
                began[user] = step + 1
                assert rollout.rewards[step, user] == 0 and not rollout.over[step, user]
                continue
            later = rollout.infos[step + 1]
            bought = later["page"][user] == "done"
            late = step - began[user] + 1 == 4
            assert rollout.terminated[step, user] == bought
            assert rollout.over[step, user] == (bought or late)
            assert (rollout.rewards[step, user] > 0) <= bought
            if not rollout.over[step, user]:
                continue
            ends["bought" if bought else "late"] += 1
            assert later["goal"][user] == rollout.infos[step]["goal"][user]  # no other has begun
            with torch.no_grad():
                text, _ = read(rollout.observations[step + 1][user], offered(later)[user])
                last = policy.values([text]).item()
            wanted = rollout.rewards[step, user] - rollout.values[step, user]
            wanted += 0.0 if bought else 0.9 * last
            assert advantages[step, user].item() == pytest.approx(wanted.item(), abs=1e-3)
            assert not rollout.there[step + 1, user]
    assert ends["bought"] and ends["late"] > 10


# ------------------------------------------------------------------------------------- the loss


def test_the_first_step_is_a_step_of_policy_gradient(shopping, small_bert):
    """The same normalised advantages, nothing left out: ratios are 1, nothing is clipped."""
    training = acting(shopping, small_bert, entropy=0.0, batch_size=10_000, dropout=0.5)
    rollout, terms, found = first_step(training)
    assert terms["share clipped"] == 0 and terms["divergence"] == 0
    assert terms["moved"].item() == pytest.approx(0, abs=1e-6)
    policy, there = training.networks[POLICY], rollout.there
    advantages = advantages_of(rollout, training.discount, training.trace)
    returns = (advantages + rollout.values[:-1])[there]
    good = normalised(advantages[there])
    logs, values = [], []
    for _, _, page, known, action in met(rollout):
        text, actions = read(page, known)
        scores, value = policy([text], [actions])
        place = 0 if is_search(known) else known.index(action)
        logs.append(scores[0].log_softmax(0)[place])
        values.append(value[0])
    loss = -(good * torch.stack(logs)).mean()
    loss = loss + training.value_weight * (torch.stack(values) - returns).square().mean()
    policy.zero_grad()
    loss.backward()
    wanted = gradients_of(policy)
    assert found.keys() == wanted.keys() and len(wanted) > 20
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-5, rtol=1e-3)
    assert max(float(gradient.abs().max()) for gradient in wanted.values()) > 0.01


def test_what_is_logged_is_what_a_slow_count_says(shopping, small_bert):
    """The entropy, and the divergence from the policy that it began with."""
    training = acting(shopping, small_bert, kl=0.7, entropy=0.2, batch_size=10_000)
    rollout, terms, _ = first_step(training)
    entropies, divergences = [], []
    for _, _, page, known, _ in met(rollout):
        logs, others = (softmax_logs(network, *read(page, known))
                        for network in training.networks)  # fmt: skip
        entropies.append(-sum(np.exp(log) * log for log in logs))
        divergences.append(sum(np.exp(log) * (log - other)
                               for log, other in zip(logs, others, strict=True)))  # fmt: skip
    assert terms["entropy"].item() == pytest.approx(np.mean(entropies), rel=1e-3)
    assert terms["divergence"].item() == pytest.approx(np.mean(divergences), rel=1e-3)
    assert np.mean(divergences) > 0.01 and min(entropies) == pytest.approx(0, abs=1e-9)
    whole = terms["policy"] + 0.5 * terms["value"] - 0.2 * terms["entropy"]
    whole = whole + 0.7 * terms["divergence"]
    assert terms["loss"].item() == pytest.approx(whole.item(), rel=1e-4)


def test_minibatches_are_of_what_was_done_each_action_once_in_an_epoch(shopping, small_bert):
    class Noting(ShopPPO):
        def judged(self, pages, values_only, rows):
            batches.append([pages[row] for row in rows.tolist()])
            return super().judged(pages, values_only, rows)

        def improve(self, rollout, *rest):
            rollouts.append(rollout)
            return super().improve(rollout, *rest)

    batches, rollouts = [], []
    options = FEW | {"steps": 1, "batch_size": 6, "rollout": 12}
    env = gymnasium.make(ENV, steps=4)
    shopper(Noting, small_bert, **options).fit(shopping[0], env=env)
    wanted = sorted((*read(page, known), 0 if is_search(known) else known.index(action))
                    for _, _, page, known, action in met(rollouts[0]))  # fmt: skip
    assert len(wanted) < 48 and max(map(len, batches)) <= 6
    epochs = [batches[: len(batches) // 2], batches[len(batches) // 2 :]]
    for epoch in epochs:
        assert sorted(tuple(page) for batch in epoch for page in batch) == wanted
    assert epochs[0] != epochs[1]


# ------------------------------------------------------------------------------------ the phases


def test_at_first_only_values_are_learned(shopping, small_bert):
    training = acting(shopping, small_bert, value_warmup=2, entropy=0.1)
    begun, reference = (bits(network) for network in training.networks)
    for _ in range(2):
        training._advance()
    later = bits(training.networks[POLICY])
    changed = {name for name in begun if not torch.equal(begun[name], later[name])}
    assert changed == {name for name in begun if name.startswith("value.")} and len(changed) == 4
    training._advance()
    last = bits(training.networks[POLICY])
    assert not torch.equal(last["layer.weight"], begun["layer.weight"])
    assert_same_bits(bits(training.networks[REFERENCE]), reference)


def test_first_it_imitates_and_that_becomes_the_reference(shopping, small_bert):
    train, _, env = shopping
    options = FEW | {"steps": 8, "warmup_steps": 4, "dropout": 0.3, "kl": 0.1, "batch_size": 8}
    alone = shopper_in_training(Imitation, small_bert, train, dropout=0.3, page_tokens=30)
    training = shopper_in_training(ShopPPO, small_bert, train, env=env, **options)
    for _ in range(4):
        alone._advance(), training._advance()
    imitated = bits(training.networks[POLICY])
    assert_same_bits(imitated, bits(alone.networks[0]))
    assert not training.warm and {"imitation", "accuracy"} < training._run.last.keys()
    for _ in range(3):
        training._advance()
        policy, reference = training.networks
        assert_same_bits(bits(reference), imitated)
        assert not reference.training
        assert not any(weights.requires_grad for weights in reference.parameters())
    assert training.memory == {"warm since": 4}
    assert not torch.equal(policy.state_dict()["layer.weight"], imitated["layer.weight"])
    rates = {group["lr"] for group in training._optimizers[POLICY].param_groups}
    assert rates == {training.second_learning_rate}


def test_the_last_weights_are_kept(shopping, small_bert):
    options = FEW | {"steps": 5, "warmup_steps": 2, "validate_every": 1, "patience": 1}
    training = shopper_in_training(ShopPPO, small_bert, *shopping, **options)
    for _ in range(5):
        training._advance()
        assert not training._over
    agent = shopper(ShopPPO, small_bert, **options).fit(*shopping)
    assert_same_bits(bits(agent._network), bits(training.networks[POLICY]))


def test_every_roll_out_is_measured_and_meets_shoppers_of_its_own(shopping, small_bert):
    class Noting(ShopPPO):
        def improve(self, rollout, *rest):
            goals.append(rollout.infos[0]["goal"].tolist())
            return super().improve(rollout, *rest)

    train, validation, env = shopping
    goals, run = [], Noted()
    shopper(Noting, small_bert, **FEW | {"users": 8, "rollout": 3}).fit(train, env=env, run=run)
    assert [line["step"] for line in run.lines] == [1, 2, 3, 4]
    assert run.lines[0].keys() == {
        "step", "seconds", "return", "loss", "policy", "value", "entropy", "divergence",
        "moved", "share clipped",
    }  # fmt: skip
    assert all(0 <= line["return"] <= 1 for line in run.lines)
    assert len({json.dumps(some) for some in goals}) == 4
    known = {goal.text for goal in env.unwrapped.shoppers.shopping.goals}
    assert {goal for some in goals for goal in some} <= known
    assert not {episode.infos["goal"][0] for episode in validation} & known


def test_it_learns_to_buy_before_it_has_to_go(shopping, small_bert):
    """Who clicks at random for four steps buys next to nothing."""
    options = {
        "steps": 8, "warmup_steps": 0, "value_warmup": 0, "users": 16, "rollout": 8, "epochs": 3,
        "batch_size": 64, "page_tokens": 24, "action_tokens": 8, "second_learning_rate": 0.003,
    }  # fmt: skip
    run, env = Noted(), gymnasium.make(ENV, steps=4)
    shopper(ShopPPO, small_bert, **options, seed=1).fit(shopping[0], env=env, run=run)
    returns = [line["return"] for line in run.lines]
    assert returns[0] < 0.2 and np.mean(returns[-2:]) > 0.3, returns


def test_an_agent_that_has_learned_holds_no_environment(shopping, small_bert):
    agent = shopper(ShopPPO, small_bert, **FEW | {"steps": 1}).fit(shopping[0], env=shopping[2])
    assert vars(agent).keys() - agent.__dataclass_fields__ == {
        "_network", "_queries", "_asked", "_seen",
    }  # fmt: skip


# ------------------------------------------------------------------------------ what is refused


def refused(match, shopping, reader, env, **options):
    with pytest.raises(InvalidArgument, match=match) as problem:
        shopper(ShopPPO, reader, **FEW | options).fit(shopping[0], env=env)
    return said(problem)


def test_environments_that_teach_nothing_are_refused(shopping, small_bert):
    refused("was given none: call fit", shopping, small_bert, None)
    for split in ("test", "validation"):
        env = gymnasium.make(ENV, split=split)
        refused(f"those of the split '{split}'", shopping, small_bert, env)
    refused("give both of one catalogue", shopping, small_bert, gymnasium.make(ENV, numbered=True))
    refused("give both of one catalogue", shopping, small_bert,
            gymnasium.make("recgym/OracleStatic-v0"))  # fmt: skip
    alone = gymnasium.make(ENV).unwrapped
    alone.spec = None
    refused("without a vector_entry_point", shopping, small_bert, alone)
    refused("none is left for what follows", shopping, small_bert, shopping[2], warmup_steps=4)


def test_another_shop_is_refused_also_where_its_pages_are_as_long(shopping, small_bert):
    other = gymnasium.make("recgym/MiniShopB-v0")
    refused("give both of one catalogue", shopping, small_bert, other)
    other.unwrapped.observation_space = shopping[0].observation_space
    refused("another catalogue", shopping, small_bert, other.unwrapped)


@pytest.mark.parametrize(
    "options",
    [{"clip": 0.0}, {"trace": 1.1}, {"entropy": -1.0}, {"kl": -0.1}, {"longest": 0.0},
     {"value_weight": 0.0}, {"epochs": 0}, {"users": 0}, {"rollout": 0}, {"value_warmup": -1},
     {"discount": 1.5}],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(InvalidArgument, match=next(iter(options))) as problem:
        ShopPPO(**options)
    said(problem)
