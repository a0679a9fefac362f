"""Self-supervised negative Q-learning: Xin et al., WSDM 2022."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from recgym.agents.batches import Batch
from recgym.agents.loop import NEGATIVES, Terms
from recgym.agents.sqn import SQN, Look, half_squares


@dataclass
class SNQN(SQN):
    """Self-supervised negative Q-learning: SQN that also learns what was not done is worth less."""

    negatives: int = 10  # items, drawn for each action from all others
    negative_reward: float = 0.0  # of what was not done
    q_weight: float = 1.0  # of the losses of values beside the cross-entropy

    from_zero: ClassVar[frozenset[str]] = SQN.from_zero | {"negatives"}

    def compared(self, batch: Batch) -> torch.Tensor:
        """What was done, and as many others: of all items but that one, each as probable."""
        done = batch.actions[:, None]
        shape = len(batch), self.negatives
        n_items = self.networks[0].plan.n_items
        drawn = self.draws(NEGATIVES).integers(n_items - 1, size=shape)
        others = torch.as_tensor(drawn).to(done.device)
        return torch.cat([done, others + (others >= done)], 1)

    def auxiliary(self, look: Look) -> Terms:
        """L_p is L_q of SQN; L_n sums (r_n + discount Q'(s, argmax_a Q(s, a)) - Q(s, a_k))^2 / 2.

        What is not done leaves the user where they are, also at the end of a session.
        """
        network, other, batch, _, values = look
        following, staying = self.best_values(network, other, batch.next_seen, batch.seen)
        done = self.earned(batch, following)
        not_done = self.negative_reward + self.discount * staying
        return {
            "td": self.q_weight * half_squares(done - values[:, 0]),
            "negatives": self.q_weight * half_squares(not_done[:, None] - values[:, 1:]),
        }
