"""Proximal policy optimization: its equations, its roll-outs, and users whom it pleases."""

import json
import math
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from recgym import checkpoint
from recgym.agent import load_agent
from recgym.agents.ppo import PPO
from recgym.agents.proximal import (
    Chosen,
    Judged,
    Known,
    Proximal,
    Rollout,
    advantages_of,
    clipped,
    divergence,
    entropy,
    normalised,
    rolled,
)
from recgym.agents.warmup import POLICY, REFERENCE
from recgym.checks import check_agent
from recgym.errors import Diverged, InvalidArgument
from recgym.rollouts import collect
from recgym.runs import Run

from ..sentences import said
from .worlds import assert_same_bits, in_training, scattered

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:`eval_env` is set to None:UserWarning"),  # Minari's advice
]

STATIC, BOREDOM = "recgym/OracleStatic-v0", "recgym/OracleBoredom-v0"
WORLD = {
    "n_items": 20, "n_topics": 3, "n_liked": 1, "steps": 6, "history": 8, "organic": 2, "fresh": 2,
}  # fmt: skip
QUICK = {"steps": 4, "users": 6, "rollout": 9, "batch_size": 16, "epochs": 2, "size": 8}


def world(**changes):
    """A log, which tells of the items, and the environment that it is of."""
    options = WORLD | changes
    data = collect(STATIC, "mixed", sessions=30, name="n", **options)
    return data, gymnasium.make(STATIC, **options)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("data")))
        yield world()


def learning(known, **options):
    """PPO as its roll-outs begin."""
    agent = PPO(**QUICK | options)
    data, env = known
    return in_training(agent, data, env=env)


def some_rollout(steps=7, users=5, seed=0, ends=0.2):
    """Numbers as a roll-out may have them, and where their episodes end."""
    rng = np.random.default_rng(seed)

    def tensor(values):
        return torch.as_tensor(values, dtype=torch.double)

    terminated = rng.random((steps, users)) < ends
    truncated = ~terminated & (rng.random((steps, users)) < ends)
    over = terminated | truncated
    for step in range(1, steps):  # an episode that begins is not over at once
        over[step] &= ~over[step - 1]
        terminated[step] &= over[step]
    there = np.ones((steps, users), bool)
    there[1:] = ~over[:-1]
    return Rollout(
        [], [], [],
        -tensor(rng.random((steps, users))),
        tensor(rng.normal(size=(steps + 1, users))),
        tensor(rng.normal(size=(steps, users)) * there),
        tensor(terminated), tensor(over), torch.as_tensor(there),
    )  # fmt: skip


# ---------------------------------------------------------------------------------- advantages


def recounted(rollout, discount, trace):
    """The sum of discounted errors by its definition, of each action alone."""
    steps, users = rollout.rewards.shape
    found = torch.zeros(steps, users, dtype=torch.double)
    for user in range(users):
        for step in range(steps):
            for later in range(step, steps):
                value = rollout.values[later + 1, user] * (1 - rollout.terminated[later, user])
                error = rollout.rewards[later, user] + discount * value
                error = error - rollout.values[later, user]
                found[step, user] += (discount * trace) ** (later - step) * error
                if rollout.over[later, user]:
                    break
    return found


@pytest.mark.parametrize(("discount", "trace"), [(0.9, 0.95), (1.0, 1.0), (0.5, 0.0), (0.0, 0.7)])
def test_advantages_are_sums_of_discounted_errors(discount, trace):
    rollout = some_rollout()
    assert 0 < rollout.terminated.sum() < rollout.over.sum()
    found = advantages_of(rollout, discount, trace)
    wanted, there = recounted(rollout, discount, trace), rollout.there
    torch.testing.assert_close(found[there], wanted[there])


def test_with_trace_1_they_are_discounted_returns_less_values():
    rollout = some_rollout(ends=0.3)
    found = advantages_of(rollout, 0.9, 1.0)
    steps, users = found.shape
    for user in range(users):
        for step in range(steps):
            if not rollout.there[step, user]:
                continue
            total, weight, at = 0.0, 1.0, step
            while True:
                total += weight * rollout.rewards[at, user].item()
                weight *= 0.9
                if rollout.over[at, user] or at == steps - 1:
                    break
                at += 1
            if not rollout.terminated[at, user]:  # truncated, or cut: the last state counts
                total += weight * rollout.values[at + 1, user].item()
            wanted = total - rollout.values[step, user].item()
            assert found[step, user].item() == pytest.approx(wanted)


def test_with_trace_0_they_are_errors_of_one_step():
    rollout = some_rollout()
    following = (1 - rollout.terminated) * rollout.values[1:]
    wanted = rollout.rewards + 0.9 * following - rollout.values[:-1]
    torch.testing.assert_close(advantages_of(rollout, 0.9, 0.0), wanted)


def test_a_truncation_is_worth_what_was_come_to_and_a_termination_nothing():
    def one(terminated, over):
        numbers = [torch.tensor([[float(number)]]) for number in (2, terminated, over)]
        values = torch.tensor([[10.0], [100.0]])
        there = torch.ones(1, 1, dtype=torch.bool)
        return Rollout([], [], [], torch.zeros(1, 1), values, *numbers, there)

    def found(rollout):
        return advantages_of(rollout, 0.5, 0.95).item()

    assert found(one(1, 1)) == 2 - 10
    assert found(one(0, 1)) == found(one(0, 0)) == 2 + 0.5 * 100 - 10


def test_nothing_of_the_next_episode_reaches_the_one_before():
    rollout = some_rollout(ends=0.3)
    changed = rollout._replace(rewards=rollout.rewards.clone(), values=rollout.values.clone())
    user = int(rollout.over[:3].sum(0).argmax())
    end = int(rollout.over[:, user].argmax())
    changed.rewards[end + 1 :, user] += 100
    changed.values[end + 2 :, user] += 100  # the value at end + 1 is of the last state
    one, other = (advantages_of(some, 0.9, 0.95) for some in (rollout, changed))
    assert torch.equal(one[: end + 1, user], other[: end + 1, user])
    assert not torch.equal(one[end + 1 :, user], other[end + 1 :, user])


def test_normalised_advantages_have_mean_0_and_spread_1():
    numbers = torch.randn(1000, dtype=torch.double) * 7 + 3
    found = normalised(numbers)
    assert found.mean().item() == pytest.approx(0, abs=1e-9)
    assert found.std(correction=0).item() == pytest.approx(1)
    assert torch.equal(normalised(torch.full((5,), 2.0)), torch.zeros(5))  # all are as good
    assert torch.isfinite(normalised(torch.tensor([3.0]))).all()


# ------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "wanted", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.1, 2.0, 2.2, 2.0),
        (1.5, 2.0, 2.4, 0.0),  # enough was gained
        (0.5, 2.0, 1.0, 2.0),  # what got worse is mended
        (0.5, -2.0, -1.6, 0.0),
        (1.5, -2.0, -3.0, -2.0),
    ],
)
def test_the_clipped_objective_by_hand(ratio, advantage, wanted, slope):
    ratios = torch.tensor([ratio], requires_grad=True)
    found = clipped(ratios, torch.tensor([advantage]), 0.2)
    assert found.item() == pytest.approx(wanted)
    found.sum().backward()
    assert ratios.grad.item() == pytest.approx(slope)


def test_entropy_and_divergence_by_hand():
    p, q = [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]
    logs, reference = torch.tensor([p, p]).log(), torch.tensor([q, p]).log()
    assert entropy(logs).tolist() == pytest.approx(2 * [1.5 * math.log(2)])
    assert divergence(logs, reference).tolist() == pytest.approx([0.25 * math.log(2), 0.0])


def test_choices_that_are_none_change_nothing():
    scores = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    others = torch.randn(4, 3, dtype=torch.double)
    pads = torch.full((4, 2), -torch.inf, dtype=torch.double)

    def both(pads):
        logs = torch.cat([scores, pads], 1).log_softmax(1)
        known = torch.cat([others, pads], 1).log_softmax(1)
        found = entropy(logs), divergence(logs, known)
        slopes = torch.autograd.grad(found[0].sum() + 3 * found[1].sum(), scores)
        return [*found, *slopes]

    for found, wanted in zip(both(pads), both(pads[:, :0]), strict=True):
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found, wanted)


def test_the_whole_loss_by_hand():
    options = Proximal(clip=0.2, value_weight=0.5, entropy=0.1, kl=0.3)
    rows = torch.arange(2)
    then = Known(
        rows, torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, -1.0]), torch.tensor([3.0, 0.0])
    )
    now = Judged(
        torch.tensor([0.75, 0.45]).log(), torch.tensor([1.0, 1.0]),
        torch.tensor([0.6, 0.2]), torch.tensor([0.0, 1.0]),
    )  # fmt: skip
    found = options.losses(lambda asked: now if asked is rows else None, then)
    policy, value = -(1.2 - 0.9) / 2, (4 + 1) / 2
    wanted = {
        "loss": policy + 0.5 * value - 0.1 * 0.4 + 0.3 * 0.5,
        "policy": policy,
        "value": value,
        "entropy": 0.4,
        "divergence": 0.5,
        "moved": (1.5 - 1 - math.log(1.5) + 0.9 - 1 - math.log(0.9)) / 2,
        "share clipped": 0.5,
    }
    assert {name: term.item() for name, term in found.items()} == pytest.approx(wanted, rel=1e-5)
    alone = options.losses(lambda asked: now, then, values_only=True)
    assert alone["loss"].item() == pytest.approx(0.5 * value)


def first_minibatch(known, **options):
    """What the first minibatch of a roll-out descends: its terms, its gradient, and the rest."""
    training = learning(known, dropout=0.5, batch_size=10_000, **options)
    scattered(training.networks[POLICY])
    found = {}

    def descend(which, loss, longest):
        if not found:
            network = training.networks[which]
            network.zero_grad()
            found["terms"] = terms = loss()
            terms["loss"].backward()
            found["gradients"] = {
                name: weights.grad.clone()
                for name, weights in network.named_parameters()
                if weights.grad is not None
            }
        return found["terms"]

    training.descend = descend
    training.memory["warm since"] = 0
    rollouts = []
    improve = training.improve
    training.improve = lambda rollout, *rest: (rollouts.append(rollout), improve(rollout, *rest))[1]
    training.update()
    return training, rollouts[0], found


def test_the_first_step_is_a_step_of_advantage_actor_critic(known):
    """The same normalised advantages, no dropout: ratios are 1, nothing is clipped."""
    training, rollout, found = first_minibatch(known, entropy=0.0)
    assert found["terms"]["share clipped"] == 0
    assert found["terms"]["moved"].item() == pytest.approx(0, abs=1e-6)
    policy, there = training.networks[POLICY], rollout.there
    advantages = advantages_of(rollout, training.discount, training.trace)
    returns = (advantages + rollout.values[:-1])[there]
    good = normalised(advantages[there])
    places = there.flatten().numpy()
    state = policy.state(training.seen(np.concatenate(rollout.observations)[places]))
    actions = torch.as_tensor(np.concatenate(rollout.actions)[places])
    logs = policy.head("policy")(state).log_softmax(1).gather(1, actions[:, None])[:, 0]
    torch.testing.assert_close(logs.detach(), rollout.logs[there], atol=1e-5, rtol=0)  # ratio 1
    values = policy.head("value")(state)[:, 0]
    loss = -(good * logs).mean() + training.value_weight * (values - returns).square().mean()
    policy.zero_grad()
    loss.backward()
    named = {name: weights.grad for name, weights in policy.named_parameters()}
    wanted = {name: gradient for name, gradient in named.items() if gradient is not None}
    assert found["gradients"].keys() == wanted.keys() and len(wanted) > 5
    for name, gradient in wanted.items():
        assert gradient.any()
        torch.testing.assert_close(found["gradients"][name], gradient, atol=1e-5, rtol=1e-4)


def test_the_divergence_is_from_the_policy_that_it_began_with(known):
    training, rollout, found = first_minibatch(known, kl=0.7)
    networks, places = training.networks, rollout.there.flatten().numpy()
    seen = training.seen(np.concatenate(rollout.observations)[places])
    with torch.no_grad():
        logs, others = (one.head("policy")(one.state(seen)).log_softmax(1) for one in networks)
    wanted = divergence(logs, others).mean().item()
    assert found["terms"]["divergence"].item() == pytest.approx(wanted, rel=1e-4) and wanted > 0.01
    assert not any(weights.requires_grad for weights in networks[REFERENCE].parameters())


# ------------------------------------------------------------------------------------ roll-outs


class Counting:
    """Users whose state is how many steps they have taken; some leave, others are cut off."""

    num_envs, lengths, leaves = 3, np.array([2, 3, 100]), np.array([True, False, False])

    def reset(self, seed):
        self.at, self.over = np.zeros(3, int), np.zeros(3, bool)
        return self.at.copy(), {"seed": seed}

    def step(self, actions):
        self.at = np.where(self.over, 0, self.at + 1)
        done = (self.at == self.lengths) & ~self.over
        rewards = np.where(self.over, 0.0, 10.0 * actions)
        self.over = done
        return self.at.copy(), rewards, done & self.leaves, done & ~self.leaves, {}


def test_no_transition_joins_two_episodes():
    def choose(observations, infos):
        values = torch.as_tensor(observations, dtype=torch.float32)
        return Chosen(observations + 1, -values, values)

    rollout = rolled(Counting(), 7, 7, choose)
    assert rollout.infos[0] == {"seed": 7}
    assert np.stack(rollout.observations).T.tolist() == [
        [0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6],
    ]  # fmt: skip
    # where the last state of an episode is seen, another begins, and no action counts
    assert rollout.there.int().T.tolist() == [
        [1, 1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1],
    ]  # fmt: skip
    assert rollout.rewards.T[0].tolist() == [10, 20, 0, 10, 20, 0, 10]
    assert rollout.terminated.T.tolist() == [[0, 1, 0, 0, 1, 0, 0], [0] * 7, [0] * 7]
    assert rollout.over.T.tolist() == [[0, 1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 1], [0] * 7]
    assert rollout.values.T.tolist() == [
        [0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7],
    ]  # fmt: skip
    assert rollout.reward.item() == pytest.approx(np.mean([30, 60, 280]))
    advantages = advantages_of(rollout, 0.5, 1.0).T
    assert advantages[0, 1] == 20 - 1  # left
    assert advantages[1, 2] == 30 + 0.5 * 3 - 2  # cut off
    assert advantages[2, 6] == 70 + 0.5 * 7 - 6  # where the roll-out ends


def test_minibatches_are_of_what_was_done_each_action_once_in_an_epoch():
    rollout, asked = some_rollout(steps=12, users=4), []

    def judge(rows):
        asked.append(rows)
        zeros = torch.zeros(len(rows), dtype=torch.double)
        return Judged(rollout.logs.flatten()[rows], zeros, zeros, zeros)

    options = Proximal(epochs=3, batch_size=10)
    terms = options.improve(rollout, judge, lambda loss: loss(), np.random.default_rng(0))
    done = rollout.there.flatten().nonzero()[:, 0].tolist()
    assert len(done) < 48
    sizes = math.ceil(len(done) / 10)
    assert len(asked) == 3 * sizes and max(map(len, asked)) <= 10
    epochs = [torch.cat(asked[n * sizes : (n + 1) * sizes]).tolist() for n in range(3)]
    assert all(sorted(epoch) == done for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != done
    assert terms["share clipped"] == 0 and terms["moved"] == 0  # logs are those of the rows


def test_each_roll_out_meets_users_of_its_own(known):
    class Watched(PPO):
        def improve(self, rollout, *rest):
            self.kept.append([one.tolist() for one in rollout.observations])
            return super().improve(rollout, *rest)

    firsts = []
    for seed in (0, 0, 1):
        agent = Watched(**QUICK, seed=seed)
        agent.kept = []
        agent.fit(known[0], env=known[1])
        firsts.append([json.dumps(one[0]) for one in agent.kept])
    assert firsts[0] == firsts[1] and len(set(firsts[0] + firsts[2])) == 8


# ------------------------------------------------------------------------------------- training


class Noted(Run):
    """A run that keeps what is measured in memory."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def record(self, step, values):
        self.lines.append({"step": step} | values)


def weights_of(training, which=POLICY):
    state = training.networks[which].state_dict()
    return {name: numbers.clone() for name, numbers in state.items()}


def advance(training, steps=1):
    for _ in range(steps):
        training._advance()


def test_first_it_imitates_and_that_becomes_the_reference(known):
    policy, value = (f"heads.{name}._weight" for name in ("policy", "value"))
    training = learning(known, steps=20, warmup_steps=10, kl=0.1, dropout=0.3)
    begun = weights_of(training)
    advance(training, 10)
    assert not training.warm and training._sums.keys() == {"imitation"}
    imitated = weights_of(training)
    assert not torch.equal(imitated[policy], begun[policy])
    assert torch.equal(imitated[value], begun[value])
    advance(training, 3)
    assert training.memory == {"warm since": 10}
    assert_same_bits(weights_of(training, REFERENCE), imitated)
    assert not torch.equal(
        weights_of(training)["heads.value._weight"], begun["heads.value._weight"]
    )
    rates = {group["lr"] for group in training._optimizers[POLICY].param_groups}
    assert rates == {training.second_learning_rate}


def test_at_first_only_values_may_be_learned(known):
    training = learning(known, value_warmup=2)
    begun = weights_of(training)
    advance(training, 2)
    later = weights_of(training)
    changed = {name for name in begun if not torch.equal(begun[name], later[name])}
    assert changed == {"heads.value._weight", "heads.value.bias"}
    advance(training)
    assert not torch.equal(
        weights_of(training)["heads.policy._weight"], begun["heads.policy._weight"]
    )


def test_gradients_are_no_longer_than_asked(known):
    training = learning(known)
    network, norms = training.networks[POLICY], []
    for longest in (math.inf, 0.01):
        training.descend(
            POLICY, lambda: {"loss": sum(w.square().sum() for w in network.parameters())}, longest
        )
        slopes = [weights.grad.flatten() for weights in network.parameters()]
        norms.append(torch.cat(slopes).norm().item())
    assert norms[0] > 1 and norms[1] == pytest.approx(0.01, rel=1e-3)


def test_every_roll_out_is_measured(known):
    run = Noted()
    PPO(**QUICK).fit(known[0], env=known[1], run=run)
    assert [line["step"] for line in run.lines] == [1, 2, 3, 4]
    assert run.lines[0].keys() == {
        "step", "seconds", "return", "loss", "policy", "value", "entropy", "divergence",
        "moved", "share clipped",
    }  # fmt: skip
    assert all(0 <= line["return"] <= 6 for line in run.lines)
    assert run.lines[0]["entropy"] == pytest.approx(math.log(20), abs=0.05)  # all alike at first


class Killed(Exception):
    """A training ends here."""


class Stopping(Run):
    """A run that ends after its next checkpoints."""

    left = 2

    def kept(self):
        super().kept()
        self.left -= 1
        if not self.left:
            raise Killed


def outcome(folder):
    states, about = checkpoint.read(folder / "checkpoint.safetensors")
    about["standing"].pop("_seconds")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    tensors = {f"{s}/{name}": one for s, state in states.items() for name, one in state.items()}
    return tensors, about, [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("encoder", ["sasrec", "gru4rec"])
def test_killed_and_gone_on_from_every_step_it_ends_in_the_same_bits(known, encoder, tmp_path):
    (data, env), options = known, {"steps": 12, "warmup_steps": 5, "kl": 0.1, "value_warmup": 2}
    options |= {"encoder": encoder, "dropout": 0.2}
    for name in ("whole", "killed"):
        while True:
            kind = Run if name == "whole" else Stopping
            try:
                agent = PPO(**QUICK | options).fit(
                    data, env=env, run=kind(tmp_path / name, every=0)
                )
                break
            except Killed:
                env = gymnasium.make(STATIC, **WORLD)  # of another process
        agent.save(tmp_path / name / "agent")
    (whole, about, lines), (killed, other, others) = (
        outcome(tmp_path / name) for name in ("whole", "killed")
    )
    assert_same_bits(killed, whole)
    assert about == other and lines == others and len(lines) == 7
    saved = [(tmp_path / name / "agent" / "agent.safetensors").read_bytes()
             for name in ("whole", "killed")]  # fmt: skip
    assert saved[0] == saved[1]


def test_a_seed_decides_all(known):
    rows = np.concatenate([episode.observations for episode in known[0]])
    one, same, other = (
        PPO(**QUICK, seed=seed).fit(known[0], env=known[1]).scores(rows, {}) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_validation_data_change_nothing(known):
    rows = known[0][0].observations
    validation = collect(STATIC, "mixed", "validation", sessions=10, name="n", **WORLD)
    both = [PPO(**QUICK).fit(known[0], given, known[1]) for given in (None, validation)]
    assert np.array_equal(*(agent.scores(rows, {}) for agent in both))


def test_the_contract_of_agents_is_kept():
    assert load_agent("ppo") is PPO
    assert check_agent("ppo", **QUICK)


def test_an_agent_that_has_learned_holds_no_environment(known):
    agent = PPO(**QUICK).fit(known[0], env=known[1])
    assert vars(agent).keys() - agent.__dataclass_fields__ == {
        "_network", "_plan", "_space", "_n_items", "_history", "_fresh"
    }  # fmt: skip


# ------------------------------------------------------------------------------ what is refused


def refused(match, known, env, **options):
    with pytest.raises(InvalidArgument, match=match) as problem:
        PPO(**QUICK | options).fit(known[0], env=env)
    return said(problem)


def test_without_an_environment_it_learns_nothing(known):
    refused("was given none: call fit", known, None)


class Reading(gymnasium.Env):
    """An environment of texts."""

    observation_space = gymnasium.spaces.Text(5)
    action_space = gymnasium.spaces.Text(5)


@pytest.mark.parametrize("change", [{"n_items": 21}, {"history": 9}, {"observation": "dict"}])
def test_an_environment_of_another_catalogue_is_refused(known, change):
    refused("give both of one catalogue", known, gymnasium.make(STATIC, **WORLD | change))


def test_an_environment_of_texts_is_refused(known):
    text = refused("give both of one catalogue", known, Reading())
    assert "shows Text" in text


def test_an_environment_that_knows_no_batches_is_refused(known):
    env = gymnasium.make(STATIC, **WORLD).unwrapped
    env.spec = None
    refused("without a vector_entry_point", known, env)


def test_an_environment_that_hides_last_states_is_refused(known, monkeypatch):
    class Many:
        """As of a Gymnasium that knows more than one mode."""

        metadata = {"autoreset_mode": SimpleNamespace(name="SAME_STEP")}

    monkeypatch.setattr(gymnasium, "make_vec", lambda *arguments, **options: Many())
    refused("set its autoreset_mode to NextStep", known, known[1])


def test_a_training_that_only_imitates_is_refused(known):
    refused("none is left for what follows", known, known[1], warmup_steps=4)


@pytest.mark.parametrize(
    "options",
    [{"clip": 0.0}, {"trace": 1.1}, {"entropy": -1.0}, {"kl": -0.1}, {"longest": 0.0},
     {"value_weight": 0.0}, {"epochs": 0}, {"users": 0}, {"rollout": 0}, {"value_warmup": -1}],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(InvalidArgument, match=next(iter(options))) as problem:
        PPO(**options)
    said(problem)


def test_a_checkpoint_of_another_environment_is_refused(known, tmp_path):
    (data, env), other = known, gymnasium.make(STATIC, **WORLD | {"leaving": 0.2})
    PPO(**QUICK).fit(data, env=env, run=Run(tmp_path))
    with pytest.raises(InvalidArgument, match="is of another environment") as problem:
        PPO(**QUICK).fit(data, env=other, run=Run(tmp_path))
    said(problem)


def test_a_learning_rate_that_is_too_high_stops_training(known):
    with pytest.raises(Diverged, match="stopped at step") as problem:
        PPO(**QUICK | {"second_learning_rate": 1e9, "steps": 30}).fit(known[0], env=known[1])
    said(problem)


# ------------------------------------------------------------------------------ what is learned


def mean_return(act, options, users=500, seed=6 * 10**7):
    envs = gymnasium.make_vec(
        STATIC, num_envs=users, vectorization_mode="vector_entry_point", **options
    )
    observations, _ = envs.reset(seed=seed)
    totals, there = np.zeros(users), np.ones(users, bool)
    while there.any():
        observations, rewards, terminated, truncated, _ = envs.step(act(observations))
        totals += rewards * there
        there &= ~(terminated | truncated)
    return totals.mean()


BANDIT = {
    "n_items": 8, "n_topics": 1, "n_liked": 1, "liked": (1, 1), "quality": (0.1, 1), "fresh": 0,
    "steps": 10, "history": 4, "organic": 0, "leaving": 0.0, "leaving_dissatisfied": 0.0,
}  # fmt: skip
TASTES = BANDIT | {
    "n_topics": 2, "liked": (0.9, 0.9), "other": (0, 0), "quality": (0.9, 1), "history": 6,
    "organic": 2,
}  # fmt: skip
EAGER = {
    "users": 32, "rollout": 16, "batch_size": 128, "epochs": 4, "size": 16,
    "second_learning_rate": 0.005,
}  # fmt: skip


def by_chance(options):
    rng = np.random.default_rng(0)
    return mean_return(lambda seen: rng.integers(options["n_items"], size=len(seen)), options)


@pytest.mark.parametrize(("options", "steps"), [(BANDIT, 15), (TASTES, 25)], ids=["best", "tastes"])
def test_it_learns_what_users_like(options, steps):
    data, env = world(**options)
    returns = []
    for seed in range(2):
        agent = PPO(**EAGER, steps=steps, seed=seed).fit(data, env=env)
        returns.append(mean_return(lambda seen, agent=agent: agent.act(seen, {}), options))
    assert min(returns) > 1.5 * by_chance(options), returns


# ------------------------------------------------------------------------- Stable-Baselines3's


SHARED = {"n_items": 15, "n_topics": 3, "n_liked": 1, "fresh": 2, "history": 10, "steps": 20}


class Plain(nn.Module):
    """The network that Stable-Baselines3's agent has: a policy that is none of our recommenders."""

    def __init__(self, env):
        from recgym.networks import Histories

        super().__init__()
        self.read = Histories(env.observation_space, env.metadata["layout"], 64)
        self.policy, self.value = (
            nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, width))
            for width in (int(env.action_space.n), 1)
        )
        for head, last in ((self.policy, 0.01), (self.value, 1.0)):
            for layer, gain in ((head[0], 2**0.5), (head[2], last)):
                nn.init.orthogonal_(layer.weight, gain)
                nn.init.zeros_(layer.bias)

    def forward(self, observations):
        read = self.read(torch.as_tensor(observations))
        return self.policy(read).log_softmax(1), self.value(read)[:, 0]


def ours(env, seed, steps):
    """That network, taught by what is ours."""
    torch.manual_seed(seed)
    options = Proximal(users=64, rollout=32, epochs=8, discount=0.5)
    users = gymnasium.make_vec(
        STATIC, 64, vectorization_mode="vector_entry_point", **env.spec.kwargs
    )
    network = Plain(env)
    optimizer = torch.optim.Adam(network.parameters(), 0.004, eps=1e-5)

    @torch.no_grad()
    def choose(observations, infos):
        logs, values = network(observations)
        items = torch.multinomial(logs.exp(), 1)
        return Chosen(items[:, 0].numpy(), logs.gather(1, items)[:, 0], values)

    def descend(loss):
        terms = loss()
        optimizer.zero_grad()
        terms["loss"].backward()
        nn.utils.clip_grad_norm_(network.parameters(), options.longest)
        optimizer.step()
        return terms

    for step in range(steps // (options.users * options.rollout)):
        begins = 10**9 + seed * 10**6 + step * options.users
        rollout = rolled(users, begins, options.rollout, choose)
        seen, items = (
            torch.as_tensor(np.concatenate(one)) for one in (rollout.observations, rollout.actions)
        )

        def judge(rows, seen=seen, items=items):
            logs, values = network(seen[rows])
            done = logs.gather(1, items[rows][:, None])[:, 0]
            return Judged(done, values, entropy(logs), torch.zeros_like(done))

        options.improve(rollout, judge, descend, np.random.default_rng((seed, step)))
    with torch.no_grad():
        return mean_return(lambda seen: network(seen)[0].argmax(1).numpy(), SHARED)


@pytest.mark.sb3
def test_it_learns_about_as_much_as_stable_baselines3s_from_as_many_steps():
    pytest.importorskip("stable_baselines3")
    steps, seeds = 8 * 64 * 32, range(3)
    data, env = world(**SHARED)
    theirs = []
    for seed in seeds:
        agent = load_agent("sb3-ppo")(steps=steps, seed=seed).fit(data, env=env)
        theirs.append(mean_return(lambda seen, agent=agent: agent.act(seen, {}), SHARED))
    found, chance = [ours(env, seed, steps) for seed in seeds], by_chance(SHARED)
    assert np.mean(found) > 0.85 * np.mean(theirs), (found, theirs)
    assert np.mean(found) > 1.5 * chance
