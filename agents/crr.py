"""CRR-Transformer: a transformer learns next items, then Critic Regularized Regression refines it.

Offline RL with transformers for sequential recommendation (2023, arXiv 2307.14450), on the
regression of Wang et al. (2020). The weights of what was done stay near 1 where rewards are small
beside beta, and the second stage is then close to cloning: what is logged of them says how close.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch

from recgym.agents.batches import Batch, Steps
from recgym.agents.encoders import GPT2, EncoderName
from recgym.agents.heads import drawn_from, expected
from recgym.agents.learner import Learner
from recgym.agents.loop import NEGATIVES, Terms, only_looking
from recgym.agents.recommender import Plan, Recommender
from recgym.agents.warmup import Refined
from recgym.errors import InvalidArgument
from recgym.networks import PART, POSITIVE, SHARE

POLICY, CRITIC, TARGET_POLICY, TARGET_CRITIC = range(4)
SESSIONS, NOISE = 10, 11  # what else is drawn


@dataclass
class CRRTransformer(Refined[Recommender], Learner):
    """A transformer that learns next items, and then which actions were better than its own."""

    encoder: EncoderName = "distilgpt2"  # of the policy
    size: int = 768  # of embeddings
    hidden: int = 768  # the width of the policy's last layer but one
    init: str = "distilgpt2"  # published weights: a name on the hub, or a folder; random: none
    critic_size: int = 256  # of the critic's own embeddings, LSTM and layer
    learning_rate: float = 0.0001  # of Adam
    second_learning_rate: float = 0.00005  # of Adam after a first stage; without: learning_rate
    critic_learning_rate: float = 0.001  # of Adam
    stages: Literal["both", "first", "second", "joint"] = "both"  # joint: as one, from the start
    discount: float = 0.6  # of the next step's value; the paper: .6 for MovieLens, .9 for Yoochoose
    filter: Literal["exp", "binary", "constant"] = "exp"  # makes advantages weights
    beta: float = 1.0  # what advantages are divided by
    cap: float = 20.0  # of weights
    advantage: Literal["mean", "max", "exact"] = "mean"  # over the mean, or best, of own actions
    actions: int = 4  # that the policy draws for each state; exact: it needs none
    soft: float = 0.005  # share by which targets follow in a step
    regressed: Literal["taken", "all"] = "all"  # what the second stage weighs; taken: as logged
    share: float = 1.0  # of the sessions that are learned from
    dropped: float = 0.0  # share of rewards that the critic alone sees as 0
    flipped: float = 0.0  # share it sees mirrored between least and most; none if all are equal

    heads: ClassVar[tuple[str, ...]] = ("policy",)
    ranges = Refined.ranges | {
        "critic_learning_rate": POSITIVE,
        "beta": POSITIVE,
        "cap": POSITIVE,
        "soft": PART,
        "share": PART,
        "dropped": SHARE,
        "flipped": SHARE,
    }

    def prepare(self, data: Steps) -> None:
        """Choose sessions; stage 1 learns from what brought a reward, stage 2 from everything."""
        order = self._once(SESSIONS).permutation(data.episodes[-1] + 1)
        kept = order[: max(1, round(self.share * len(order)))]
        self.rows = np.flatnonzero(np.isin(data.episodes, kept))
        if self.stages != "second":  # which imitates nothing
            self.imitated_rows = self.imitable(data, self.rows)
        drawn, rewards = self._once(NOISE).random(len(data)), data.rewards
        mirrored = np.where(drawn < self.flipped, rewards.min() + rewards.max() - rewards, rewards)
        self.rewards = np.where(drawn >= 1 - self.dropped, np.float32(0), mirrored)

    def _once(self, purpose: int) -> np.random.Generator:
        """A generator for what is drawn before the first step."""
        return np.random.default_rng((self.seed, purpose))

    def plans(self, data: Steps) -> list[Plan]:
        """Of policy and critic, and of the targets that follow them."""
        policy = replace(self.plan(data), hidden=self.hidden)
        width = self.critic_size
        critic = replace(policy, encoder="lstm", size=width, hidden=width, dropout=0.0,
                         heads={"q": data.n_items})  # fmt: skip
        return [policy, critic, policy, critic]

    def begun(self) -> None:
        """Take published weights; targets learn nothing, and leave nothing out."""
        if self.stages == "both" and self.warmup_steps != self.steps:  # equal: the first alone
            super().begun()
        if self.init != "random":
            encoder = self.networks[POLICY].encoder
            if not isinstance(encoder, GPT2):
                raise InvalidArgument(
                    f"Published weights are GPT-2's, and the encoder is '{self.encoder}': take "
                    "init='random'."
                )
            encoder.load_published(self.init)
        for target in self.networks[TARGET_POLICY:]:
            target.requires_grad_(False).eval()

    def rates(self, learning_rate: float) -> list[float]:
        return [learning_rate, self.critic_learning_rate, learning_rate, learning_rate]

    # --------------------------------------------------------------------------------- stages

    @property
    def planned(self) -> int:
        alone = {"first": self.steps, "second": 0, "joint": 0}
        return alone.get(self.stages, super().planned)

    def renewed(self) -> float | None:
        rate = super().renewed()
        alone = rate is not None and self.stages != "both"
        return self.learning_rate if alone else rate  # what was not learned before is not kept

    def second_begins(self) -> None:
        """Targets begin equal to what they follow."""
        self.follow(1.0)

    def stalled(self) -> bool:
        return super().stalled() or self.stages == "first"

    def update(self) -> Terms:
        """Imitate; in the second stage, learn values, then imitate by how much better they say."""
        rows = self.rows if self.warm else self.imitated_rows
        rows = rows[self.drawn(len(rows))]
        batch = self.data.batch(rows, self.on)
        if not self.warm:
            return self.descend(POLICY, lambda: self.cloning(batch))
        rewards = torch.as_tensor(self.rewards[rows]).to(batch.rewards)
        batch = replace(batch, rewards=rewards)
        terms = self.descend(CRITIC, lambda: self.evaluation(batch))
        terms |= self.descend(POLICY, lambda: self.improvement(batch))
        self.follow(self.soft)
        self._warn(float(terms["share at the cap"]))
        return terms

    def _warn(self, capped: float) -> None:
        """Say once that most weights are the greatest there is."""
        if capped > 0.5 and "capped since" not in self.memory:
            self.memory["capped since"] = self.at
            self.say(
                f"More than half of the weights of step {self.at:,} are at the cap of "
                f"{self.cap:g}, so that they tell few actions apart: try a higher beta (it is "
                f"{self.beta:g}), or smaller rewards."
            )

    # --------------------------------------------------------------------------------- losses

    def cloning(self, batch: Batch) -> Terms:
        """-log pi(a|s)."""
        policy = self.networks[POLICY]
        return {"policy": policy.head("policy").cross_entropy(policy.state(batch.seen),
                                                              batch.actions)[0]}  # fmt: skip

    def evaluation(self, batch: Batch) -> Terms:
        """(r + discount E_{a' ~ pi'(.|s')} Q'(s', a') - Q(s, a))^2 / 2; the expectation is exact.

        Nothing follows after the end of a session.
        """
        target = batch.rewards
        if self.discount:
            policy, critic = self.networks[TARGET_POLICY:]
            with torch.no_grad():
                state, other = critic.state(batch.next_seen), policy.state(batch.next_seen)
            following = expected(critic.head("q"), state, policy.head("policy"), other)
            target = target + self.discount * (1 - batch.over) * following
        critic = self.networks[CRITIC]
        values = critic.head("q").of(critic.state(batch.seen), batch.actions[:, None])[:, 0]
        return {"td": 0.5 * (target - values).square().mean()}

    def improvement(self, batch: Batch) -> Terms:
        """-f(A(s, a)) log pi(a|s)."""
        policy, weights = self.networks[POLICY], self.weights(batch)
        shares = weights if self.regressed == "all" else weights * batch.taken
        if self.stages == "joint":  # the cross-entropy of the first stage, too
            shares = shares + (1.0 if (taken := self.imitated(batch)) is None else taken)
        state = policy.state(batch.seen)
        loss, each = policy.head("policy").cross_entropy(state, batch.actions, shares)
        effective = weights.sum().square() / (len(weights) * weights.square().sum()).clamp(1e-37)
        return {
            "policy": loss,
            "cross-entropy": each.mean(),
            "weight": weights.mean(),
            "weight spread": weights.std(correction=0),
            "effective share": effective,
            "share at the cap": ((weights >= self.cap) & (self.filter == "exp")).float().mean(),
        }

    def weights(self, batch: Batch) -> torch.Tensor:
        """(batch,): f(A) = min(exp(A / beta), cap), or 1 where A > 0, or 1."""
        if self.filter == "constant":
            return torch.ones_like(batch.rewards)
        advantages = self.advantages(batch)
        if self.filter == "binary":
            return (advantages > 0).float()
        return (advantages / self.beta).exp().clamp(max=self.cap)

    @torch.no_grad()
    def advantages(self, batch: Batch) -> torch.Tensor:
        """(batch,): Q(s, a) over what the policy's own actions are worth, by the online critic."""
        critic, policy = self.networks[CRITIC], self.networks[POLICY]
        q, state = critic.head("q"), critic.state(batch.seen)
        done = q.of(state, batch.actions[:, None])[:, 0]
        with only_looking(policy):
            inner = policy.state(batch.seen)
        if self.advantage == "exact":
            return done - expected(q, state, policy.head("policy"), inner)
        chances = self.draws(NEGATIVES).random((len(batch), self.actions))
        drawn = drawn_from(policy.head("policy"), inner, torch.as_tensor(chances))
        own = q.of(state, drawn)
        return done - (own.mean(1) if self.advantage == "mean" else own.amax(1))

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Move the targets towards what they follow."""
        for target, network in zip(self.networks[TARGET_POLICY:], self.networks, strict=False):
            for slow, quick in zip(target.parameters(), network.parameters(), strict=True):
                slow.lerp_(quick, share)


@dataclass
class CRRTransformerSmall(CRRTransformer):
    """CRR-Transformer with two blocks of size 64, from random weights: a small form for CPUs."""

    encoder: EncoderName = "gpt2-small"  # of the policy
    size: int = 64  # of embeddings
    hidden: int = 64  # the width of the policy's last layer but one
    init: str = "random"  # or published weights: a name on the hub, or a folder
    learning_rate: float = 0.005  # of Adam
    second_learning_rate: float = 0.001  # of Adam after a first stage; without: learning_rate
    critic_size: int = 64  # of the critic's own embeddings, LSTM and layer
