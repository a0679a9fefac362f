"""Direct Preference Optimization: a policy learns next items, then what is preferred to what.

Rafailov et al. (2023); where several items are rejected, in the softmax form of Chen et al. (2024).
All items of a pair are judged in one state. There the normalisers of both softmaxes cancel, and
scores stand for log-probabilities; these are logged, as that of what is chosen can fall while it
gains on what is rejected.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import minari
import numpy as np
import torch
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray
from torch.nn.functional import logsigmoid

from recgym.agent import training_data
from recgym.agents.batches import Batch, Steps
from recgym.agents.choices import Choice, Choices, sessions_of
from recgym.agents.chooser import PREFERRED, picked, worthy
from recgym.agents.heads import drawn_from, log_total
from recgym.agents.imitation import Imitation
from recgym.agents.learner import Learner
from recgym.agents.loop import NEGATIVES, Terms, leave_nothing_out
from recgym.agents.reader import Reader
from recgym.agents.recommender import Plan, Recommender
from recgym.agents.warmup import POLICY, REFERENCE, Referred
from recgym.errors import InvalidArgument, UnknownName
from recgym.minari_format import content_hash
from recgym.networks import POSITIVE
from recgym.shop.pages import Shop


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


def preferred(chosen: torch.Tensor, others: torch.Tensor, beta: float, smoothing: float) -> Terms:
    """The loss of pairs, and how far they are apart: log pi - log ref, (batch,) and (batch, k)."""
    margins = beta * (chosen[:, None] - others).detach()
    return {
        "preference": preference_loss(preference(chosen, others, beta), smoothing).mean(),
        "margin": margins.mean(),
        "share preferred": (margins > 0).float().mean(),
    }


@dataclass
class DPO(Referred[Recommender], Learner):
    """A policy that learns next items, and then preferences, held against a frozen copy of itself.

    Several rejected items are drawn with replacement.
    """

    second_learning_rate: float = 0.0005  # of Adam in the second phase
    beta: float = 0.1  # the higher, the closer to the reference preferences are satisfied
    label_smoothing: float = 0.0  # share of pairs that may be the wrong way round
    pairs: Literal["sampled", "skipped"] = "sampled"  # what is rejected: drawn, or shown in vain
    sampled_by: Literal["uniform", "popularity", "reference"] = "uniform"
    negatives: int = 1  # items that are rejected for each that is chosen

    ranges = Referred.ranges | {
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
        return preferred(chosen, others, self.beta, self.label_smoothing) | {
            "log-probability of chosen": logs[:, 0].mean(),
            "log-probability of rejected": logs[:, 1:].mean(),
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
    the skipped items by then. Where all sessions are single impressions, those of equal
    observations count as one.
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
    common = common_to_pairs(data)
    order = np.lexsort(common.T)  # stable: of what is equal, as it happened
    common, taken, actions = common[order], data.taken[order], data.actions[order]
    rows, end = np.arange(len(data)), len(data) - 1
    next_taken = np.minimum.accumulate(np.where(taken, rows, end)[::-1])[::-1]
    pairs = np.flatnonzero(
        ~taken
        & taken[next_taken]
        & (common == common[next_taken]).all(1)
        & (actions != actions[next_taken])
    )
    if not len(pairs):
        raise InvalidArgument(
            "No session of the dataset shows an item in vain before one that brings a reward, nor "
            "do single impressions of equal observations, so there are no pairs: pairs='sampled' "
            "draws what is rejected."
        )
    accepted, first = np.unique(next_taken[pairs], return_index=True)
    return Skips(order[accepted], np.append(first, len(pairs)), actions[pairs])


def common_to_pairs(data: Steps) -> NDArray[np.int32 | np.int64]:
    """(steps, some): the session; where all are single impressions, what was seen before them."""
    if not data.last.all():
        return data.episodes[:, None]
    seen = [part for part in (data.items, data.answers) if part is not None]
    return np.hstack([part[data.states] for part in seen])


# ---------------------------------------------------------------------------------- in the shop


@dataclass
class ShopDPO(Referred[Reader], Imitation):
    """A shopper that imitates, and then prefers what was chosen to what else was on its page.

    Pairs are of one page only, each update is of one session, and the policy is held against a
    frozen copy of itself: Feng & Feng (2024), where more than their summaries say is a choice here.
    """

    learning_rate: float = 0.001  # of Adam in the first phase
    batch_size: int = 32  # pages that are imitated at once
    steps: int = 2500  # batches that are imitated, and sessions thereafter
    validate_every: int = 150  # batches, or sessions
    warmup_steps: int = 1000  # batches that are imitated
    second_learning_rate: float = 0.0001  # of Adam in the second phase
    beta: float = 0.1  # the higher, the closer to the reference preferences are satisfied
    label_smoothing: float = 0.0  # share of pairs that may be the wrong way round
    rejected: Literal["uniform", "reference", "all"] = "uniform"  # drawn, or each of the others
    preferred: int = 0  # sessions, drawn, whose choices are preferred; 0: all
    preferred_reward: float = 0.99  # that a session earned, at least, to be preferred
    preferred_of: str = ""  # the id of another dataset whose sessions they are
    longest: float = 10.0  # norm of a gradient, to which longer ones are shortened

    copies: ClassVar[int] = 2
    from_zero = Referred.from_zero | Imitation.from_zero | {"preferred"}
    ranges = Referred.ranges | DPO.ranges | {"longest": POSITIVE}

    def read(self, train: MinariDataset, validation: MinariDataset | None) -> None:
        self._other: MinariDataset | None = None
        if self.preferred_of:
            there = minari.list_local_datasets()
            if self.preferred_of not in there:
                raise UnknownName("dataset", self.preferred_of, there)
            self._other = minari.load_dataset(self.preferred_of)
            training_data(self._other)
        super().read(train, validation)

    @property
    def also_of(self) -> dict[str, Any]:
        return {} if self._other is None else {"preferred dataset": content_hash(self._other)}

    def prepare(self, shop: Shop) -> None:
        """Choose whose choices are preferred, too."""
        super().prepare(shop)
        sessions = self.sessions if self._other is None else sessions_of(self._other, shop)
        rng = np.random.default_rng((self.seed, PREFERRED))
        some = worthy(sessions, self.preferred_reward, self.preferred, rng)
        self.pairs = Choices.of([session.paired for session in some])
        if not len(self.pairs):
            raise InvalidArgument(
                "In the sessions that are preferred nothing else could have been done: give "
                "sessions that look at products."
            )

    def better(self, merit: float) -> bool:
        """In the second phase, to do as others did is no aim: the last weights are kept."""
        return self.warm or super().better(merit)

    def update(self) -> Terms:
        """Imitate; in the second phase, prefer the choices of a session."""
        if not self.warm:
            return super().update()
        leave_nothing_out(self.networks[POLICY])
        offsets = self.pairs.offsets
        (session,) = self.drawn(len(offsets) - 1, 1)
        choices = self.pairs.all[offsets[session] : offsets[session + 1]]
        return self.descend(POLICY, lambda: self.preferring(choices), self.longest)

    def preferring(self, choices: Sequence[Choice]) -> Terms:
        """-log sigmoid of how much more than the reference the policy prefers what was chosen."""
        policy, reference = self.networks
        scores = self.scored(policy, choices)
        with torch.no_grad():
            known = self.scored(reference, choices)
        ratios = [some - before for some, before in zip(scores, known, strict=True)]
        pairs = [*self.compared(choices, known)]

        def of(columns: Sequence[torch.Tensor], which: int) -> torch.Tensor:
            return torch.stack([columns[pair[0]][pair[which]] for pair in pairs])

        logs = [some.detach().log_softmax(0) for some in scores]
        chosen, others = of(ratios, 1), of(ratios, 2)[:, None]
        return preferred(chosen, others, self.beta, self.label_smoothing) | {
            "log-probability of chosen": of(logs, 1).mean(),
            "log-probability of rejected": of(logs, 2).mean(),
        }

    def compared(
        self, choices: Sequence[Choice], known: Sequence[torch.Tensor]
    ) -> Iterator[tuple[int, int, int]]:
        """Pairs: the page, what was chosen there, and what is rejected of all that leads elsewhere.

        It is drawn evenly, or as the reference would choose among it, or is each of it.
        """
        rng = self.draws(NEGATIVES)
        for row, choice in enumerate(choices):
            others = np.array(choice.others)
            if self.rejected == "uniform":
                others = rng.choice(others, 1)
            elif self.rejected == "reference":
                others = others[[picked(known[row].cpu().numpy()[others], rng.random())]]
            yield from ((row, choice.done, int(other)) for other in others)
