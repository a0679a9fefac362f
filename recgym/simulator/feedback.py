"""What a language model, fitted to users, says of any user: rewards, states, choices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recgym.envs.draws import keys_of, origins_of, uniforms
from recgym.errors import Diverged
from recgym.simulator.language import Language, Prompt
from recgym.simulator.prompts import Prompts

Histories = NDArray[Any]  # (batch, length): items, oldest first, right-padded with their number


class Feedback(Protocol):
    """Whatever says how users answer."""

    @property
    def sha256(self) -> str:
        """A hash of all that its answers depend on."""

    @property
    def n_items(self) -> int:
        """Of the catalogue."""

    @property
    def width(self) -> int:
        """Of a state."""

    def rewards(self, histories: Histories, items: NDArray[Any]) -> NDArray[np.float32]:
        """(batch, k): what each of k items is worth to each user; its zero means nothing."""

    def states(self, histories: Histories) -> NDArray[np.float32]:
        """(batch, width): what each user is like."""

    def choices(self, histories: Histories, five: NDArray[Any], seed: int) -> NDArray[np.int64]:
        """(batch,): which of five items each user is most likely to take next, as its place."""


@dataclass
class LanguageUser:
    """A language model with item tokens, an adapter in its blocks, and a head for rewards."""

    language: Language
    prompts: Prompts
    head: nn.Linear  # from the state after a prompt to a reward
    sha256: str = ""
    say: Callable[[str], None] = lambda sentence: None

    @property
    def n_items(self) -> int:
        """Of the catalogue."""
        return len(self.language.items)

    @property
    def width(self) -> int:
        """Of a state: the model's own."""
        return self.language.width

    def rewards(self, histories: Histories, items: NDArray[Any]) -> NDArray[np.float32]:
        users, of = self._users(histories)
        pairs = of[:, None] * self.n_items + items
        asked, places = np.unique(pairs, return_inverse=True)  # none is asked twice
        which, item = np.divmod(asked, self.n_items)
        states = self._after(
            [self.prompts.likelihood(user) for user in users],
            [self.prompts.of(one) for one in item.tolist()],
            which,
        )
        with torch.no_grad():
            found = self.head(states.to(self.head.weight.device)).squeeze(1).cpu().numpy()
        if not np.isfinite(found).all():
            raise Diverged(
                f"A reward of {self.language.name} is no number: fit the simulator at a lower "
                "learning rate."
            )
        return np.asarray(found[places].reshape(items.shape), np.float32)

    def states(self, histories: Histories) -> NDArray[np.float32]:
        users, of = self._users(histories)
        told = [self.prompts.state(user) for user in users]
        states = self._after([user[:-1] for user in told], [user[-1:] for user in told],
                             np.arange(len(users)))  # fmt: skip
        return np.asarray(states.numpy()[of])

    def choices(self, histories: Histories, five: NDArray[Any], seed: int) -> NDArray[np.int64]:
        """(batch,): as its place among the five, whichever order these come in."""
        shown = shown_order(histories, five, self.n_items, seed)
        best = self.positions(histories, np.take_along_axis(five, shown, 1)).argmax(1)
        return np.asarray(shown[np.arange(len(five)), best])

    def positions(self, histories: Histories, listed: NDArray[Any]) -> NDArray[np.float32]:
        """(batch, 5): log p of "first" to "fifth" after the question, whole words."""
        known, row = np.unique(np.column_stack([histories, listed]), axis=0, return_inverse=True)
        histories, listed = np.split(known, [histories.shape[1]], 1)
        labels = [tuple(label) for label in self.prompts.labels]
        firsts = [label[:1] for label in labels]
        if len(set(firsts)) == len(labels):  # what sets them apart is their first token
            labels = firsts
        said = sorted({label[:end] for label in labels for end in range(len(label))})
        users = histories_of(histories, self.n_items)
        asked = [self.prompts.choice(user, list(map(int, items)))
                 for user, items in zip(users, listed, strict=True)]  # fmt: skip
        endings = [[prompt[-1], *part] for prompt in asked for part in said]
        of = np.repeat(np.arange(len(asked)), len(said))
        states = self._after([prompt[:-1] for prompt in asked], endings, of)
        found = np.zeros((len(asked), len(labels)), np.float32)
        with torch.no_grad():
            for place, part in enumerate(said):
                after = states[place :: len(said)].to(self.language.table)
                chances = self.language.next_words(after).float().log_softmax(1).cpu().numpy()
                for number, label in enumerate(labels):
                    if label[: len(part)] == part and len(label) > len(part):
                        found[:, number] += chances[:, label[len(part)]]
        return np.asarray(found[row.reshape(-1)])

    def _users(self, histories: Histories) -> tuple[list[list[int]], NDArray[np.int64]]:
        """The histories that differ, and which of them each row has."""
        known, of = np.unique(histories, axis=0, return_inverse=True)
        return histories_of(known, self.n_items), of.reshape(-1)

    def _after(
        self, beginnings: Sequence[Prompt], endings: Sequence[Prompt], of: NDArray[np.int64]
    ) -> torch.Tensor:
        return self.language.after(beginnings, endings, of, self.say)


def shown_order(histories: Histories, five: NDArray[Any], pad: int, seed: int) -> NDArray[np.int64]:
    """(batch, 5): the places of five items in the order in which they are shown.

    It follows from the seed, a history and which items they are: from nothing else in the batch.
    """
    ordered = np.argsort(five, 1, kind="stable")
    keys = origins_of(np.full(len(five), seed, np.uint64))
    for items in np.column_stack([histories, np.take_along_axis(five, ordered, 1)]).T:
        keys = np.where(items == pad, keys, keys_of(keys, items.astype(np.int64)))
    drawn = uniforms(keys[:, None], 0, np.arange(five.shape[1]))
    return np.asarray(np.take_along_axis(ordered, drawn.argsort(1), 1))


def histories_of(histories: Histories, pad: int) -> list[list[int]]:
    """Without their pads."""
    return [[item for item in history if item != pad] for history in histories.tolist()]
