"""Self-supervised actor-critic: Xin et al., SIGIR 2020. It is not soft actor-critic."""

from dataclasses import dataclass

import torch

from recgym.agents.recommender import Recommender
from recgym.agents.sqn import SQN, Look
from recgym.agents.warmup import WarmedUp


@dataclass
class SAC(WarmedUp[Recommender], SQN):
    """Self-supervised actor-critic: after a warm-up as SQN, imitates by what an action is worth.

    Without the warm-up it imitates by values that nobody has learned, and may collapse.
    """

    second_learning_rate: float = 0.005  # of Adam in the second phase

    def weights(self, look: Look) -> torch.Tensor | None:
        """Q(s, a) after the warm-up; where it is below zero, an item is un-learned."""
        imitated = super().weights(look)
        if not self.warm:
            return imitated
        critic = look.values[:, 0].detach()
        return critic if imitated is None else imitated * critic
