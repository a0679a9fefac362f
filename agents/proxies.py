"""Proxies in the place of the TD loss: Labarca Silva et al., ICML 2024.

They ask whether reinforcement learning helps, or any second task on the same encoder would: an
agent that does not beat them has shown no effect of it.
"""

from dataclasses import dataclass, replace

import torch

from recgym.agents.batches import Batch, Steps
from recgym.agents.loop import Terms
from recgym.agents.recommender import Plan
from recgym.agents.sqn import SQN, Look, half_squares


@dataclass
class Hist(SQN):
    """SQN whose values are to say how much a user has done so far, in place of what it earns."""

    def prepare(self, data: Steps) -> None:
        super().prepare(data)
        self.most = max(1, int(data.before.max()))

    def auxiliary(self, look: Look) -> Terms:
        """(steps before / most of them - Q(s, a))^2 / 2."""
        return {"proxy": half_squares(self.told(look.batch) / self.most - look.values[:, 0])}

    def told(self, batch: Batch) -> torch.Tensor:
        """(batch,): what values are to say, up to the most."""
        return batch.before


@dataclass
class Fut(Hist):
    """SQN whose values are to say how much a user will still do, in place of what it earns."""

    def told(self, batch: Batch) -> torch.Tensor:
        return batch.after


@dataclass
class Cat(SQN):
    """SQN that tells what a user does now and next, of all pairs, in place of what it earns."""

    def prepare(self, data: Steps) -> None:
        super().prepare(data)
        self.kinds = int(data.behaviours.max()) + 1

    def plan(self, data: Steps) -> Plan:
        plan = super().plan(data)
        return replace(plan, heads={**plan.heads, "pairs": self.kinds * (self.kinds + 1)})

    def auxiliary(self, look: Look) -> Terms:
        """-log softmax of the pair; nothing comes after the last step, which is a kind, too."""
        batch = look.batch
        pairs = batch.behaviours * (self.kinds + 1) + batch.next_behaviours + 1
        return {"proxy": look.network.head("pairs").cross_entropy(look.state, pairs)[0]}


@dataclass
class Eval(SQN):
    """SQN that learns what the log's own next action is worth, not what the best would be."""

    def auxiliary(self, look: Look) -> Terms:
        """(r + discount Q'(s', a') - Q(s, a))^2 / 2, without a' where the log has none."""
        batch, other = look.batch, look.other
        with self.judging(other):
            state_after = other.state(batch.next_seen)
            following = other.head("q").of(state_after, batch.next_actions[:, None])[:, 0]
        target = self.earned(batch, (1 - batch.last) * following)
        return {"td": half_squares(target - look.values[:, 0])}
