"""Self-supervised Q-learning: Xin et al., SIGIR 2020.

A head that is trained by cross-entropy on the next item recommends; a head of values beside it, on
the same encoder, is trained by double Q-learning on what the log earned.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch

from recgym.agents.batches import Batch, Seen
from recgym.agents.learner import Learner
from recgym.agents.loop import Terms, only_looking
from recgym.agents.recommender import Recommender

HeadName = Literal["supervised", "q"]


class Look(NamedTuple):
    """A batch as the copy sees it that learns, and the copy that is its target."""

    network: Recommender
    other: Recommender
    batch: Batch
    state: torch.Tensor  # (batch, width)
    values: torch.Tensor  # (batch, 1 + negatives): Q of what was done, then of the others


@dataclass
class SQN(Learner):
    """Self-supervised Q-learning: cross-entropy, and double Q-learning to regularise it."""

    discount: float = 0.5  # of the next step's value; 0 is the twin that looks no step ahead
    head: HeadName = "supervised"  # that recommends, and whose best weights are kept
    target_dropout: bool = False  # leave out in targets, too, as the authors' code does

    heads: ClassVar[tuple[str, ...]] = ("supervised", "q")
    copies: ClassVar[int] = 2  # a coin says which one learns; the other is its target

    @property
    def recommending(self) -> str:
        return self.head

    def loss(self, network: Recommender, other: Recommender, batch: Batch) -> Terms:
        """L = mean(L_q + L_s)."""
        state = network.state(batch.seen)
        values = network.head("q").of(network.valued(state, batch.seen), self.compared(batch))
        look = Look(network, other, batch, state, values)
        supervised, each = network.head("supervised").cross_entropy(
            state, batch.actions, self.weights(look)
        )
        terms = self.auxiliary(look)
        return terms | {"supervised": supervised, "cross-entropy": each.mean()}

    def compared(self, batch: Batch) -> torch.Tensor:
        """(batch, 1 + negatives): the items whose values are learned, what was done first."""
        return batch.actions[:, None]

    def auxiliary(self, look: Look) -> Terms:
        """L_q = (r + discount Q'(s', argmax_a Q(s', a)) - Q(s, a))^2 / 2."""
        (following,) = self.best_values(look.network, look.other, look.batch.next_seen)
        return {"td": half_squares(self.earned(look.batch, following) - look.values[:, 0])}

    def earned(self, batch: Batch, following: torch.Tensor) -> torch.Tensor:
        """(batch,): r + discount * what follows, of which there is nothing after the end."""
        return batch.rewards + self.discount * (1 - batch.over) * following

    def weights(self, look: Look) -> torch.Tensor | None:
        """(batch,): of the cross-entropy of each action; they teach no values."""
        return self.imitated(look.batch)

    def best_values(
        self, network: Recommender, other: Recommender, *seen: Seen
    ) -> tuple[torch.Tensor, ...]:
        """Q'(s, argmax_a Q(s, a)) of batches of states: the target judges what the network likes.

        Only the values that are asked for are computed of the target.
        """
        sizes = [len(one.lengths) for one in seen]
        if not self.discount:
            return tuple(torch.zeros(size, device=self.on) for size in sizes)
        joined = joined_states(seen)
        with self.judging(network, other):
            best = network.head("q").best(network.valued(network.state(joined), joined))
            state = other.valued(other.state(joined), joined)
            values = other.head("q").of(state, best[:, None])[:, 0]
        return torch.split(values, sizes)

    def judging(self, *networks: Recommender) -> AbstractContextManager[None]:
        """Compute without gradients, and, unless it is asked for, without dropout."""
        return only_looking(*networks, dropout=self.target_dropout)


def joined_states(parts: tuple[Seen, ...]) -> Seen:
    """Several batches of states as one."""
    if len(parts) == 1:
        return parts[0]
    items, lengths, *others = zip(*parts, strict=True)
    rest = (None if other[0] is None else torch.cat(other) for other in others)
    return Seen(torch.cat(items), torch.cat(lengths), *rest)


def half_squares(errors: torch.Tensor) -> torch.Tensor:
    """Half the squared errors: summed over the items of a state, mean over the batch."""
    return 0.5 * errors.square().sum() / len(errors)
