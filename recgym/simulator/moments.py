"""What users took, and after which history: what a simulator is fitted to and judged by."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import View
from recgym.errors import InvalidArgument
from recgym.minari_format import runs_of

HISTORY = 10  # items that a language model is told, as in the paper
_TRIES = 20  # draws of an item that a user never took, before such are looked for


@dataclass(frozen=True)
class Moments:
    """Items that brought a reward after a history of one item or more."""

    n_items: int  # the pad of histories, too
    histories: NDArray[np.int32]  # (moments, length): what was taken, oldest first, right-padded
    items: NDArray[np.int64]  # (moments,): what was taken next
    sessions: NDArray[np.int64]  # (moments,): whose it was
    taken: NDArray[np.uint8]  # (sessions, items / 8), as bits: all that each user took

    @classmethod
    def of(cls, dataset: MinariDataset, length: int = HISTORY) -> "Moments":
        """All moments of a dataset."""
        view = View.of(dataset)
        histories, items, sessions = [], [], []
        users, known = [], []  # all that is seen in anybody's history
        first = 0
        for part in runs_of(dataset, dataset.episode_indices):
            steps = np.arange(part.lengths.sum())
            episodes = np.repeat(np.arange(len(part.lengths)), part.lengths)
            seen = view.consumed(part.observations(dataset.observation_space))
            rows, columns = np.nonzero(seen != view.n_items)
            users.append(first + np.repeat(np.arange(len(part.lengths)), part.lengths + 1)[rows])
            known.append(seen[rows, columns].astype(np.int64))
            rewarded = part.at_steps("rewards") > 0
            windows = last_taken(seen[steps + episodes], view.n_items, length)
            kept = rewarded & (windows[:, 0] != view.n_items)
            histories.append(windows[kept])
            items.append(part.actions(dataset.action_space)[kept].astype(np.int64))
            sessions.append(first + episodes[kept])
            first += len(part.lengths)
        if not sum(map(len, items)):
            raise InvalidArgument(
                f"No user of {dataset.id} took an item after another, so a simulator has nothing "
                "to learn from: take a dataset with longer sessions."
            )
        users, known = [*users, *sessions], [*known, *items]
        taken = np.zeros((first, -(-view.n_items // 8)), np.uint8)
        user, item = np.concatenate(users), np.concatenate(known)
        np.bitwise_or.at(taken, (user, item // 8), _bit(item))
        return cls(
            view.n_items,
            np.concatenate(histories),
            np.concatenate(items),
            np.concatenate(sessions),
            taken,
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(self.items)

    def of_sessions(self, sessions: NDArray[np.int64]) -> "Moments":
        """Those of some users only."""
        return self[np.flatnonzero(np.isin(self.sessions, sessions))]

    def __getitem__(self, rows: NDArray[np.int64]) -> "Moments":
        """Some of them."""
        return replace(self, histories=self.histories[rows], items=self.items[rows],
                       sessions=self.sessions[rows])  # fmt: skip

    @cached_property
    def users(self) -> NDArray[np.int64]:
        """The sessions that have any."""
        return np.unique(self.sessions)

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """(items,): the share of each among what was taken."""
        counts = np.bincount(self.items, minlength=self.n_items)
        return np.asarray(counts / counts.sum())

    def untaken(
        self, rng: np.random.Generator, count: int, by: NDArray[np.float64] | None = None
    ) -> NDArray[np.int64]:
        """(moments, count): items that the user never took, each as probable, or as `by` says."""
        found = rng.choice(self.n_items, (len(self), count), p=by)
        for _ in range(_TRIES):
            wrong = self._took(found)
            if not wrong.any():
                return found
            found[wrong] = rng.choice(self.n_items, int(wrong.sum()), p=by)
        for row in np.flatnonzero(self._took(found).any(1)):  # of users who took nearly all
            bits = np.unpackbits(self.taken[self.sessions[row]], count=self.n_items)
            left = np.flatnonzero(bits == 0)
            weights = None if by is None or not by[left].any() else by[left] / by[left].sum()
            if len(left):
                found[row] = rng.choice(left, count, p=weights)
        return found

    def _took(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (self.taken[self.sessions[:, None], items // 8] & _bit(items)) > 0


def takings(dataset: MinariDataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What each user took, one after the other, and where those of each begin; some took nothing.

    What stands in the first history comes first; sessions without any item are left out.
    """
    view = View.of(dataset)
    items, lengths = [], []
    for part in runs_of(dataset, dataset.episode_indices):
        episodes = np.repeat(np.arange(len(part.lengths)), part.lengths)
        firsts = np.cumsum(part.lengths + 1) - (part.lengths + 1)
        before = view.consumed(part.observations(dataset.observation_space)[firsts])
        rows, columns = np.nonzero(before != view.n_items)
        rewarded = part.at_steps("rewards") > 0
        who = np.concatenate([rows, episodes[rewarded]])
        took = np.concatenate(
            [before[rows, columns], part.actions(dataset.action_space)[rewarded]]
        )  # fmt: skip
        items.append(took[who.argsort(kind="stable")].astype(np.int64))
        lengths.append(np.bincount(who, minlength=len(part.lengths)))
    counts = np.concatenate(lengths)
    return np.concatenate(items), np.concatenate([[0], np.cumsum(counts[counts > 0])])


def _bit(items: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Where an item stands in its byte."""
    return (128 >> (items % 8)).astype(np.uint8)


def last_taken(windows: NDArray[np.int32], pad: int, length: int) -> NDArray[np.int32]:
    """(rows, length): the last items of windows that are none of the pads, right-padded."""
    there = windows != pad
    counts = there.sum(1)
    place = np.cumsum(there, 1) - 1 - np.maximum(counts - length, 0)[:, None]
    kept = there & (place >= 0)
    found = np.full((len(windows), length), pad, np.int32)
    rows, columns = np.nonzero(kept)
    found[rows, place[kept]] = windows[rows, columns]
    return found
