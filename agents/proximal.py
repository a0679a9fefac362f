"""Proximal policy optimization: act, see what came of it, do more of what was better than expected.

Schulman et al. (2017), with the generalised advantages of Schulman et al. (2016). All of it takes
log-probabilities, values and entropies, of whatever policy.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from recgym.agents.loop import Terms
from recgym.networks import POSITIVE, Range

_NOT_NEGATIVE: Range = (lambda value: value >= 0, "a number from 0 on")


class Chosen(NamedTuple):
    """What a policy does in some states."""

    actions: Any  # as the environment takes them
    logs: torch.Tensor  # (users,): log pi of them
    values: torch.Tensor  # (users,): V of the states


class Judged(NamedTuple):
    """What a policy that learns thinks by now of states and of what it did there."""

    logs: torch.Tensor  # (batch,)
    values: torch.Tensor  # (batch,)
    entropies: torch.Tensor  # (batch,)
    divergences: torch.Tensor  # (batch,): from a reference; 0 where there is none


class Rollout(NamedTuple):
    """What a policy did and what came of it: lists by step, and tensors (steps, users)."""

    observations: list[Any]
    infos: list[Any]
    actions: list[Any]
    logs: torch.Tensor
    values: torch.Tensor  # (steps + 1, users): also of the state in which it acts no more
    rewards: torch.Tensor
    terminated: torch.Tensor  # 1 where nothing follows, whose value would count
    over: torch.Tensor  # 1 where an episode ends, however it does
    there: torch.Tensor  # False where an episode began instead of an action

    @property
    def reward(self) -> torch.Tensor:
        """The mean return of the first episode of each user, as far as it was seen."""
        first = self.over.cumsum(0) - self.over == 0
        return (self.rewards * first).sum(0).mean()


class Known(NamedTuple):
    """What is known of actions after a roll-out: (actions,) each."""

    rows: torch.Tensor  # step * users + user
    logs: torch.Tensor  # log pi as they were chosen
    advantages: torch.Tensor  # normalised
    returns: torch.Tensor  # what values are to be


# --------------------------------------------------------------------------------- the equations


def advantages_of(rollout: Rollout, discount: float, trace: float) -> torch.Tensor:
    """(steps, users): A_t = d_t + discount trace A_t+1, d_t = r_t + discount V(s_t+1) - V(s_t).

    Nothing is worth anything after a termination. After a truncation, and where the roll-out is
    cut, the value of the state that was come to stands for what would have followed.
    """
    values, following = rollout.values[:-1], (1 - rollout.terminated) * rollout.values[1:]
    errors = rollout.rewards + discount * following - values
    advantages, after = torch.zeros_like(errors), torch.zeros_like(errors[0])
    for step in reversed(range(len(errors))):
        after = errors[step] + discount * trace * (1 - rollout.over[step]) * after
        advantages[step] = after
    return advantages


def normalised(numbers: torch.Tensor) -> torch.Tensor:
    """The same with mean 0 and standard deviation 1."""
    return (numbers - numbers.mean()) / (numbers.std(correction=0) + 1e-8)


def clipped(ratios: torch.Tensor, advantages: torch.Tensor, clip: float) -> torch.Tensor:
    """(batch,): min(r A, clip(r, 1 - clip, 1 + clip) A), Eq. 7: what is to be raised."""
    return torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)


def entropy(logs: torch.Tensor) -> torch.Tensor:
    """(batch,): -sum p log p; choices that are none have a log-probability of -inf."""
    return -(logs.exp() * logs.masked_fill(logs.isneginf(), 0)).sum(1)


def divergence(logs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """(batch,): KL(pi || reference) = sum p (log p - log q)."""
    return (logs.exp() * (logs - reference).masked_fill(logs.isneginf(), 0)).sum(1)


# ---------------------------------------------------------------------------------- the roll-out


def rolled(
    env: VectorEnv[Any, Any, Any], seed: int, steps: int, choose: Callable[[Any, Any], Chosen]
) -> Rollout:
    """Begin anew, and let a policy act so many times; `choose` is given observations and infos.

    An environment of which an episode is over shows its last state, and begins another instead of
    the next action: that is no transition.
    """
    observations, infos = env.reset(seed=seed)
    chosen, over = choose(observations, infos), np.zeros(env.num_envs, bool)
    before, after = [], []
    for _ in range(steps):
        before.append((observations, infos, chosen))
        there = ~over
        observations, rewards, terminated, truncated, infos = env.step(chosen.actions)
        chosen, over = choose(observations, infos), terminated | truncated
        after.append((rewards, terminated, over, there))
    shown, known, did = zip(*before, strict=True)
    values = torch.stack([one.values for one in (*did, chosen)])
    rewards, terminated, over, there = map(np.stack, zip(*after, strict=True))
    return Rollout(
        [*shown],
        [*known],
        [one.actions for one in did],
        torch.stack([one.logs for one in did]),
        values,
        torch.as_tensor(rewards).to(values),
        torch.as_tensor(terminated).to(values),
        torch.as_tensor(over).to(values),
        torch.as_tensor(there).to(values.device),
    )


# -------------------------------------------------------------------------------------- learning


@dataclass
class Proximal:
    """Options of proximal policy optimization, and what it learns from roll-outs of any policy."""

    users: int = 64  # at once
    rollout: int = 64  # actions of each of them between updates
    epochs: int = 4  # over what was rolled out
    batch_size: int = 512  # actions, or steps that are imitated, of a batch
    discount: float = 0.9  # of the next step's value
    trace: float = 0.95  # of advantages: 0 looks one step ahead, 1 until the end
    clip: float = 0.2  # how far from 1 a ratio of probabilities still teaches
    value_weight: float = 0.5  # of squared errors of values
    entropy: float = 0.01  # weight of the policy's entropy
    kl: float = 0.0  # weight of its divergence from the policy that it began with
    value_warmup: int = 0  # roll-outs, the first ones, from which only values are learned
    longest: float = 0.5  # norm of a gradient, to which longer ones are shortened

    ranges: ClassVar[dict[str, Range]] = {
        "trace": (lambda value: 0 <= value <= 1, "a number from 0 to 1"),
        "clip": POSITIVE,
        "value_weight": POSITIVE,
        "entropy": _NOT_NEGATIVE,
        "kl": _NOT_NEGATIVE,
        "longest": POSITIVE,
    }

    def improve(
        self,
        rollout: Rollout,
        judge: Callable[[torch.Tensor], Judged],
        descend: Callable[[Callable[[], Terms]], Terms],
        rng: np.random.Generator,
        values_only: bool = False,
    ) -> Terms:
        """Descend in minibatches of all actions, again and again; mean losses.

        `judge` is asked about rows of the roll-out, step * users + user; `descend` takes a step.
        """
        there, advantages = rollout.there, advantages_of(rollout, self.discount, self.trace)
        known = Known(
            there.flatten().nonzero()[:, 0],
            rollout.logs[there],
            normalised(advantages[there]),
            (advantages + rollout.values[:-1])[there],
        )
        count, found = len(known.rows), []
        for _ in range(self.epochs):
            order = rng.permutation(count)
            for places in np.array_split(order, math.ceil(count / self.batch_size)):
                some = Known(*(column[torch.as_tensor(places)] for column in known))
                found.append(descend(partial(self.losses, judge, some, values_only)))
        return {
            name: torch.stack([terms[name].detach() for terms in found]).mean() for name in found[0]
        }

    def losses(
        self, judge: Callable[[torch.Tensor], Judged], then: Known, values_only: bool = False
    ) -> Terms:
        """-E[min(r A, clip(r) A)] + weight E[(V - R)^2] - weight E[H] + weight E[KL], Eq. 9."""
        now = judge(then.rows)
        changes = now.logs - then.logs
        ratios = changes.exp()
        policy = -clipped(ratios, then.advantages, self.clip).mean()
        value = (now.values - then.returns).square().mean()
        spread, apart = now.entropies.mean(), now.divergences.mean()
        loss = self.value_weight * value
        if not values_only:
            loss = loss + policy - self.entropy * spread + self.kl * apart
        shown = {
            "policy": policy,
            "value": value,
            "entropy": spread,
            "divergence": apart,
            "moved": (ratios - 1 - changes).mean(),  # a KL divergence from the policy that acted
            "share clipped": ((ratios - 1).abs() > self.clip).float().mean(),
        }
        return {"loss": loss} | {name: term.detach() for name, term in shown.items()}
