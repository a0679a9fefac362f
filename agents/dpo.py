"""Direct Preference Optimization: a policy learns next items, then what is preferred to what.

Rafailov et al. (2023); where several items are rejected, in the softmax form of Chen et al. (2024).
All items of a pair are judged in one state. There the normalisers of both softmaxes cancel, and
scores stand for log-probabilities; these are logged, as that of what is chosen can fall while it
gains on what is rejected.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import logsigmoid

from recgym.agents.batches import Batch, Steps
from recgym.agents.heads import drawn_from, log_total
from recgym.agents.learner import NEGATIVES, Terms, leave_nothing_out
from recgym.agents.recommender import Plan, Recommender
from recgym.agents.warmup import Refined
from recgym.errors import InvalidArgument
from recgym.networks import POSITIVE

POLICY, REFERENCE = range(2)


def preference(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """(batch,): beta (chosen - rejected), by log pi - log ref of an item; (batch, k) are rejected.

    Of several it is -log sum exp beta (rejected - chosen). What all items of a state have in common
    changes nothing.
    """
    return -torch.logsumexp(beta * (rejected - chosen[:, None]), 1)


def preference_loss(preferences: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """(batch,): -log sigmoid(preference), a share of the pairs being the wrong way round."""
    right, wrong = -logsigmoid(preferences), -logsigmoid(-preferences)
    return (1 - smoothing) * right + smoothing * wrong


@dataclass
class DPO(Refined):
    """A policy that learns next items, and then preferences, held against a frozen copy of itself.

    Several rejected items are drawn with replacement.
    """

    second_learning_rate: float = 0.0005  # of Adam in the second phase
    beta: float = 0.1  # the higher, the closer to the reference preferences are satisfied
    label_smoothing: float = 0.0  # share of pairs that may be the wrong way round
    pairs: Literal["sampled", "skipped"] = "sampled"  # what is rejected: drawn, or shown in vain
    sampled_by: Literal["uniform", "popularity", "reference"] = "uniform"
    negatives: int = 1  # items that are rejected for each that is chosen

    ranges = Refined.ranges | {
        "beta": POSITIVE,
        "label_smoothing": (lambda value: 0 <= value < 0.5, "a share from 0 on, below .5"),
    }

    def prepare(self, data: Steps) -> None:
        """Choose which steps make pairs; count for how many events each item is drawn."""
        self.rows = self.paired = self.imitable(data, np.arange(len(data)))
        if self.pairs == "skipped":
            self.skips = skips_of(data)
            self.paired = self.skips.accepted
        counted = data.actions[data.taken & (self.sampled_by == "popularity")]
        self.events = np.maximum(np.bincount(counted, minlength=data.n_items), 1)
        self.edges = np.append(0, np.cumsum(self.events))

    def plans(self, data: Steps) -> list[Plan]:
        """Of the policy and its reference."""
        return 2 * super().plans(data)

    def begun(self) -> None:
        """The reference learns nothing, and leaves nothing out."""
        self.networks[REFERENCE].requires_grad_(False).eval()

    # --------------------------------------------------------------------------------- phases

    def second_begins(self) -> None:
        """The best of the first phase becomes the reference."""
        self.networks[REFERENCE].load_state_dict(self.networks[POLICY].state_dict())

    def update(self) -> Terms:
        """Imitate; in the second phase, prefer."""
        if not self.warm:
            return super().update()
        leave_nothing_out(self.networks[POLICY])
        which = self.drawn(len(self.paired))
        batch = self.data.batch(self.paired[which], self.on)
        return self.descend(POLICY, lambda: self.preferring(batch, which))

    # --------------------------------------------------------------------------------- losses

    def loss(self, network: Recommender, other: Recommender, batch: Batch) -> Terms:
        """-log pi(a|s), in the first phase."""
        state = network.state(batch.seen)
        return {"supervised": network.head("supervised").cross_entropy(state, batch.actions)[0]}

    def preferring(self, batch: Batch, which: NDArray[np.int64]) -> Terms:
        """-log sigmoid of how much more than the reference the policy prefers what was chosen."""
        policy, reference = (network.head("supervised") for network in self.networks)
        state = self.networks[POLICY].state(batch.seen)
        with torch.no_grad():
            before = self.networks[REFERENCE].state(batch.seen)
            rejected = self.rejected(batch, which, before)
            items = torch.cat([batch.actions[:, None], rejected], 1)
            known = reference.of(before, items)
        scores = policy.of(state, items)  # (batch, 1 + negatives)
        ratios = scores - known  # log pi - log ref, and what the items of a state have in common
        chosen, others = ratios[:, 0], ratios[:, 1:]
        logs = scores.detach() - log_total(policy, state)[:, None]
        margins = self.beta * (chosen[:, None] - others).detach()
        return {
            "preference": preference_loss(
                preference(chosen, others, self.beta), self.label_smoothing
            ).mean(),
            "log-probability of chosen": logs[:, 0].mean(),
            "log-probability of rejected": logs[:, 1:].mean(),
            "margin": margins.mean(),
            "share preferred": (margins > 0).float().mean(),
        }

    def rejected(
        self, batch: Batch, which: NDArray[np.int64], reference: torch.Tensor
    ) -> torch.Tensor:
        """(batch, negatives): never what was chosen, and of all others as probable as asked."""
        rng, shape = self.draws(NEGATIVES), (len(batch), self.negatives)
        if self.pairs == "skipped":
            drawn = self.skips.drawn(which, rng, shape)
        elif self.sampled_by == "reference":
            chances = torch.as_tensor(rng.random(shape)).to(reference.device, torch.float32)
            head = self.networks[REFERENCE].head("supervised")
            return drawn_from(head, reference, chances, batch.actions)
        else:
            done = batch.actions.cpu().numpy()[:, None]
            own = self.events[done]
            drawn = rng.integers(self.edges[-1] - own, size=shape)
            drawn += np.where(drawn >= self.edges[done], own, 0)
            drawn = np.searchsorted(self.edges, drawn, "right") - 1
        return torch.as_tensor(drawn).to(batch.actions)


class Skips(NamedTuple):
    """Accepted steps, and what their users were shown and skipped since they last accepted.

    Both are judged in the state of the acceptance. Where skips do not enter histories, that is the
    very state in which they were shown; where they do, it is that of the same user, who has seen
    the skipped items by then.
    """

    accepted: NDArray[np.int64]  # (pairs,)
    offsets: NDArray[np.int64]  # (pairs + 1,): where what was skipped before each begins
    items: NDArray[np.int64]

    def drawn(
        self, which: NDArray[np.int64], rng: np.random.Generator, shape: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Items that were skipped before some of the acceptances, each as probable."""
        counts = np.diff(self.offsets)[which, None]
        places = self.offsets[which, None] + rng.integers(counts, size=shape)
        return self.items.take(places)


def skips_of(data: Steps) -> Skips:
    """Of all acceptances that have any; an item that is accepted in the end was not rejected."""
    rows, end = np.arange(len(data)), len(data) - 1
    next_taken = np.minimum.accumulate(np.where(data.taken, rows, end)[::-1])[::-1]
    pairs = np.flatnonzero(
        ~data.taken
        & data.taken[next_taken]
        & (data.episodes == data.episodes[next_taken])
        & (data.actions != data.actions[next_taken])
    )
    if not len(pairs):
        raise InvalidArgument(
            "No session of the dataset shows an item in vain before one that brings a reward, so "
            "there are no pairs: pairs='sampled' draws what is rejected."
        )
    accepted, first = np.unique(next_taken[pairs], return_index=True)
    return Skips(accepted, np.append(first, len(pairs)), data.actions[pairs])
