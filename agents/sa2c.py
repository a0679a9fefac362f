"""Supervised advantage actor-critic: Xin et al., WSDM 2022."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from recgym.agents.batches import Steps
from recgym.agents.recommender import Recommender
from recgym.agents.snqn import SNQN
from recgym.agents.sqn import Look
from recgym.agents.warmup import WarmedUp
from recgym.errors import InvalidArgument

HIGHEST = 10.0  # of advantages and of importance weights
LOWEST = 0.1  # of importance weights


@dataclass
class SA2C(WarmedUp[Recommender], SNQN):
    """Supervised advantage actor-critic: SNQN, then imitation by how much better an action is."""

    advantages: bool = True  # weigh by them; False: SNQN with a second learning rate
    clip: float = 0.0  # the least advantage; below 0: each is taken as it is
    smoothing: float = 0.0  # the exponent of importance weights; 0: there are none

    from_zero: ClassVar[frozenset[str]] = WarmedUp.from_zero | SNQN.from_zero

    def prepare(self, data: Steps) -> None:
        if self.advantages and not self.negatives:
            raise InvalidArgument(
                "An advantage is over negatives, and negatives is 0, so that each would be 0: take "
                "more of them, or advantages=False."
            )
        super().prepare(data)
        self.popularity = torch.as_tensor(data.popularity).to(self.on)

    def weights(self, look: Look) -> torch.Tensor | None:
        """After the warm-up, the advantage of an action, times its importance weight."""
        imitated = super().weights(look)
        if not self.warm or not self.advantages:
            return imitated
        weights = advantage(look.values.detach())
        if self.clip >= 0:
            weights = weights.clamp(self.clip, HIGHEST)
        if self.smoothing:
            weights = weights * self.importance(look)
        return weights if imitated is None else imitated * weights

    def importance(self, look: Look) -> torch.Tensor:
        """clip(pi(a|s) / p(a), .1, 10) ^ smoothing: p is how popular an item is in training."""
        with torch.no_grad():
            _, each = look.network.head("supervised").cross_entropy(look.state, look.batch.actions)
        ratio = (-each).exp() / self.popularity[look.batch.actions]
        return ratio.clamp(LOWEST, HIGHEST) ** self.smoothing


def advantage(values: torch.Tensor) -> torch.Tensor:
    """A(s, a) = Q(s, a) - the mean of Q over the action and its negatives: (batch, 1 + k)."""
    return values[:, 0] - values.mean(1)
