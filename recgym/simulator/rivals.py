"""Simulators that are no language models: does one earn its cost beside them?

They are fitted to the same users and judged by the same card.
"""

import hashlib
from typing import Any

import numpy as np
import torch
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray
from torch import nn

from recgym.networks import drawing_from
from recgym.simulator.feedback import Feedback, Histories, histories_of, shown_order
from recgym.simulator.fit import told_apart
from recgym.simulator.moments import Moments
from recgym.simulator.store import about, asked_for, users_of


class _Rival:
    """Picks the item with the highest reward."""

    sha256: str
    n_items: int
    width: int

    def rewards(self, histories: Histories, items: NDArray[Any]) -> NDArray[np.float32]:
        """(batch, k): what each of k items is worth to each user; its zero means nothing."""
        raise NotImplementedError

    def choices(self, histories: Histories, five: NDArray[Any], seed: int) -> NDArray[np.int64]:
        """(batch,): as its place among the five; the seed decides between equal ones."""
        shown = shown_order(histories, five, self.n_items, seed)
        best = self.rewards(histories, np.take_along_axis(five, shown, 1)).argmax(1)
        return np.asarray(shown[np.arange(len(five)), best])


class _Counted(_Rival):
    """What counting who took what tells."""

    def __init__(self, moments: Moments) -> None:
        """Count how many users took each item."""
        self.n_items, self.width = moments.n_items, 1
        sessions, places = np.nonzero(moments.taken)  # of bytes: most are 0
        ours = np.isin(sessions, moments.users)
        sessions, places = sessions[ours], places[ours]
        bits = np.unpackbits(moments.taken[sessions, places][:, None], axis=1)
        rows, bit = np.nonzero(bits)
        items, users = 8 * places[rows] + bit, np.searchsorted(moments.users, sessions[rows])
        self.users = users[items.argsort(kind="stable")]  # of the first item, of the second, ...
        self.counts = np.bincount(items, minlength=self.n_items)
        self.ends = np.cumsum(self.counts)
        self.n_users = len(moments.users)
        known = hashlib.sha256(f"{type(self).__name__} {self.n_users} ".encode())
        for part in (self.users, self.counts):
            known.update(part.data)
        self.sha256 = known.hexdigest()

    def states(self, histories: Histories) -> NDArray[np.float32]:
        """(batch, 1): how many items a user took, as there is nothing else."""
        return np.asarray((histories != self.n_items).sum(1, keepdims=True), np.float32)


class PopularityUser(_Counted):
    """Takes what others took."""

    def rewards(self, histories: Histories, items: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(np.log1p(self.counts[items]), np.float32)


class ItemKNNUser(_Counted):
    """Takes what was taken by those who took the same: cosines between items, summed."""

    def rewards(self, histories: Histories, items: NDArray[Any]) -> NDArray[np.float32]:
        found = np.zeros(items.shape, np.float32)
        scales = 1 / np.sqrt(np.maximum(self.counts, 1))
        for row, history in enumerate(histories_of(histories, self.n_items)):
            alike = np.zeros(self.n_users)  # how much of the history each user took
            for item in history:
                alike[self._took(item)] += scales[item]
            found[row] = [alike[self._took(item)].sum() * scales[item] for item in items[row]]
        return found

    def _took(self, item: int) -> NDArray[np.int64]:
        """Who took an item."""
        return self.users[self.ends[item] - self.counts[item] : self.ends[item]]


class GRUUser(_Rival):
    """A GRU over embeddings of items, with the losses of the language model."""

    def __init__(
        self, moments: Moments, size: int = 64, epochs: int = 20, batch_size: int = 64,
        learning_rate: float = 0.003, dropout: float = 0.5, seed: int = 0, shuffled: bool = False,
    ) -> None:  # fmt: skip
        """Learn from the moments of some users.

        Shuffled, as a control, pairs are swapped by a coin, and the loss of states, which knows
        what was taken and shares the embeddings, is left out.
        """
        self.n_items, self.width = moments.n_items, size
        rng = np.random.default_rng(seed)
        with drawing_from(seed):
            self.network = _GRU(moments.n_items, size, dropout)
            optimizer = torch.optim.Adam(self.network.parameters(), learning_rate)
            for _ in range(epochs):
                order = rng.permutation(len(moments))
                for begin in range(0, len(order), batch_size):
                    some = moments[order[begin : begin + batch_size]]
                    optimizer.zero_grad(set_to_none=True)
                    self._loss(some, rng, shuffled).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
        self.network.eval().requires_grad_(False)
        known = hashlib.sha256(type(self).__name__.encode())
        for values in self.network.state_dict().values():
            known.update(values.numpy().data)
        self.sha256 = known.hexdigest()

    def _loss(self, moments: Moments, rng: np.random.Generator, shuffled: bool) -> torch.Tensor:
        pairs = np.concatenate([moments.items[:, None], moments.untaken(rng, 1)], 1)
        states = self.network(torch.as_tensor(moments.histories))
        if shuffled:
            pairs = rng.permuted(pairs, axis=1)
        first, second = self.network.rewards(states, torch.as_tensor(pairs)).T
        loss = -nn.functional.logsigmoid(first - second).mean()
        if shuffled:
            return loss
        vectors = self.network.items(torch.as_tensor(moments.items))
        return loss + told_apart(states, vectors, moments.items)

    def rewards(self, histories: Histories, items: NDArray[Any]) -> NDArray[np.float32]:
        states = torch.as_tensor(self.states(histories))
        return np.asarray(self.network.rewards(states, torch.tensor(items)).numpy())

    def states(self, histories: Histories) -> NDArray[np.float32]:
        """(batch, width): of the GRU."""
        return np.asarray(self.network(torch.tensor(histories)).numpy())


class _GRU(nn.Module):
    """States of histories, and what items are worth in them."""

    def __init__(self, n_items: int, size: int, dropout: float) -> None:
        super().__init__()
        self.pad = n_items
        self.items = nn.Embedding(n_items + 1, size)
        self.worth = nn.Embedding(n_items + 1, 1)  # to anyone
        self.gru = nn.GRU(size, size, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.items.weight, std=0.1)  # from 1 on, it learns noise by heart
        nn.init.zeros_(self.worth.weight)

    def forward(self, histories: torch.Tensor) -> torch.Tensor:
        """(batch, size): after the last item; without any, after a pad."""
        last = (histories != self.pad).sum(1).clamp(min=1) - 1
        steps = self.gru(self.dropout(self.items(histories)))[0]
        states: torch.Tensor = self.dropout(steps[torch.arange(len(last)), last])
        return states

    def rewards(self, states: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """(batch, k)."""
        found: torch.Tensor = (self.items(items) @ states[:, :, None] + self.worth(items))[:, :, 0]
        return found


RIVALS: dict[str, type[PopularityUser] | type[ItemKNNUser] | type[GRUUser]] = {
    "popularity": PopularityUser,
    "itemknn": ItemKNNUser,
    "gru": GRUUser,
}


def rival_of(name: str, kind: str, dataset: MinariDataset) -> Feedback:
    """A simulator that is no language model, of the very users that one was fitted to."""
    learned, _ = users_of(Moments.of(dataset), asked_for(about(name)).fit)
    return RIVALS[kind](learned)
