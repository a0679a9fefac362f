"""The steps of a Minari dataset as arrays, and batches of them as tensors."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import View
from recgym.errors import BadDataset, InvalidArgument, printable
from recgym.minari_format import runs_of
from recgym.repeats import ages_of, fresh

Ends = Literal["terminated", "both"]


class Seen(NamedTuple):
    """What a state is made of: what encoders are called with."""

    items: torch.Tensor  # (batch, length): oldest first, right-padded with the number of items
    lengths: torch.Tensor  # (batch,): how many count; one, if there is nothing but pads
    answers: torch.Tensor | None  # (batch, length): how the items were answered, where it is seen
    told: torch.Tensor | None = None  # (batch, width): what a simulator makes of them, where asked


@dataclass(frozen=True)
class Batch:
    """Some steps: what was seen, what was done, what came of it."""

    rows: NDArray[np.int64]  # (batch,): which steps
    seen: Seen
    actions: torch.Tensor  # (batch,)
    rewards: torch.Tensor  # (batch,)
    over: torch.Tensor  # (batch,): 1 where nothing follows, whose value would count
    next_seen: Seen
    next_actions: torch.Tensor  # (batch,): what was done next; 0 where nothing was
    last: torch.Tensor  # (batch,): 1 at the last step of a session, however it ended
    taken: torch.Tensor  # (batch,): 1 where a reward came: what is worth imitating
    behaviours: torch.Tensor  # (batch,): codes of what the user did
    next_behaviours: torch.Tensor  # (batch,): -1 after the last step
    before: torch.Tensor  # (batch,): steps of the session before this one
    after: torch.Tensor  # (batch,): and after

    def __len__(self) -> int:
        """How many steps."""
        return len(self.actions)


class Chunks(NamedTuple):
    """Windows, and what is to be said at their places: many targets of one pass."""

    seen: Seen
    windows: torch.Tensor  # (targets,): in which window
    places: torch.Tensor  # (targets,): after which item of it
    actions: torch.Tensor  # (targets,)


class Steps:
    """All steps of a dataset, its windows in the form in which observations show them."""

    def __init__(
        self, dataset: MinariDataset, ends: Ends = "terminated", infos: tuple[str, ...] = ()
    ) -> None:
        """Read them, and hold them against what the dataset says of itself."""
        self.view = view = _view(dataset)
        self.dataset = dataset
        observed, acted = dataset.observation_space, dataset.action_space
        parts = list(runs_of(dataset, dataset.episode_indices)) if len(dataset) else []
        lengths = np.concatenate([np.zeros(0, np.int64), *(part.lengths for part in parts)])
        if not lengths.sum():
            raise InvalidArgument(
                f"{dataset.id} has no step to learn from: check how it was filtered or exported."
            )
        windows = [part.observations(observed) for part in parts]
        self.items = _joined([view.items(part) for part in windows])  # (states, length)
        self.answers, self.kinds = None, 0  # how many answers are told apart
        self.actions = np.concatenate([part.actions(acted) for part in parts]).astype(np.int64)
        whole: list[tuple[str, NDArray[Any], int]] = [
            ("histories", self.items, self.n_items), ("actions", self.actions, self.n_items - 1)
        ]  # fmt: skip
        if "responses" in view.parts:
            answers = view.parts["responses"]
            self.answers = _joined([part[:, answers] for part in windows])
            self.kinds = int(observed.high[answers].max()) + 1
            whole.append(("responses", self.answers, self.kinds - 1))
        for what, found, most in whole:
            if found.min() < 0 or found.max() > most:
                wrong = found.max() if found.max() > most else found.min()
                raise BadDataset(
                    f"The {what} of {dataset.id} go from 0 to {most:,}, and {wrong:,} is among "
                    "them: make the dataset anew."
                )
        self.rewards = np.concatenate([part.at_steps("rewards") for part in parts])
        self.rewards = self.rewards.astype(np.float32)
        if not np.isfinite(self.rewards).all():
            raise BadDataset(f"{dataset.id} has rewards that are no numbers: make it anew.")
        stop = np.cumsum(lengths)
        self.episodes = np.repeat(np.arange(len(lengths)), lengths)
        self.states = np.arange(len(self.actions)) + self.episodes  # of each step: before it
        self.before = np.arange(len(self.actions)) - np.repeat(stop - lengths, lengths)
        self.after = np.repeat(stop, lengths) - np.arange(len(self.actions)) - 1
        self.last = self.after == 0
        terminated = np.concatenate([part.at_steps("terminations") for part in parts])
        self.over = self.last if ends == "both" else terminated
        self.behaviours = self._behaviours(parts)
        self.infos = {name: _info(dataset, parts, name) for name in infos}  # of each state
        self.told = self.infos.get("state")  # (states, width): what a simulator makes of them

    def __len__(self) -> int:
        """How many there are."""
        return len(self.actions)

    @property
    def n_items(self) -> int:
        """The number of items, and the pad."""
        return self.view.n_items

    @property
    def fresh(self) -> int:
        """How many of the newest items of a history are hardly ever taken again."""
        histories = self.items[self.states[self.taken]]
        return fresh(ages_of(histories, self.actions[self.taken], self.n_items))

    @cached_property
    def taken(self) -> NDArray[np.bool_]:
        """Which steps brought a reward."""
        return self.rewards > 0

    @cached_property
    def empty(self) -> NDArray[np.bool_]:
        """Before which steps nothing was seen."""
        return np.asarray(self.items[self.states, 0] == self.n_items)

    @cached_property
    def popularity(self) -> NDArray[np.float32]:
        """The share of each item among what was taken; one event for an item without any."""
        counts = np.bincount(self.actions[self.taken], minlength=self.n_items)
        return np.asarray(np.maximum(counts, 1) / max(counts.sum(), 1), np.float32)

    def batch(self, rows: NDArray[Any], device: torch.device) -> Batch:
        """Some of the steps."""
        following = np.where(self.last[rows], rows, rows + 1)

        def tensor(values: NDArray[Any], dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.as_tensor(values).to(device, dtype)

        whole, last = torch.long, self.last[rows]
        return Batch(
            rows,
            self.seen(self.states[rows], device),
            tensor(self.actions[rows], whole),
            tensor(self.rewards[rows]),
            tensor(self.over[rows]),
            self.seen(self.states[rows] + 1, device),
            tensor(np.where(last, 0, self.actions[following]), whole),
            tensor(last),
            tensor(self.taken[rows]),
            tensor(self.behaviours[rows], whole),
            tensor(np.where(last, -1, self.behaviours[following]), whole),
            tensor(self.before[rows]),
            tensor(self.after[rows]),
        )

    def seen(self, states: NDArray[Any], device: torch.device) -> Seen:
        """What some states are made of."""
        items = torch.as_tensor(self.items[states]).to(device, torch.long)
        answers = None
        if self.answers is not None:
            answers = torch.as_tensor(self.answers[states]).to(device, torch.long)
        seen = seen_of(items, answers, self.n_items)
        if self.told is None:
            return seen
        return seen._replace(told=torch.as_tensor(self.told[states]).to(device))

    @cached_property
    def moves(self) -> NDArray[np.int64]:
        """How often the window of a session has moved before each step."""
        moved = np.zeros(len(self), np.int64)
        within = np.flatnonzero(~self.last)
        states = self.states[within]
        for seen in (self.items, self.answers):
            if seen is not None:
                moved[within + 1] |= (seen[states] != seen[states + 1]).any(1)
        moves, first = np.cumsum(moved), self.before == 0
        return np.asarray(moves - np.repeat(moves[first], self.after[first] + 1))

    def chunked(self, rows: NDArray[np.int64], stride: int) -> "Chunked":
        """Steps, in order, that are seen in common windows: one for each `stride` moves of it."""
        if not len(rows):
            raise InvalidArgument(
                "Nothing that is imitated was done after a history, so no window tells of it: "
                "train on longer sessions, or with imitate='all'."
            )
        last = self.moves[np.flatnonzero(self.last)][self.episodes[rows]]
        group = (last - self.moves[rows]) // stride
        begins = np.flatnonzero(
            np.diff(group, prepend=-1) | np.diff(self.episodes[rows], prepend=-1)
        )
        ends = np.append(begins[1:], len(rows)) - 1  # of each window: its last step
        sizes = ends - begins + 1
        filled = (self.items[self.states[rows[ends]]] != self.n_items).sum(1)
        behind = np.repeat(self.moves[rows[ends]], sizes) - self.moves[rows]
        places = np.repeat(filled, sizes) - 1 - behind
        return Chunked(self, rows, np.append(begins, len(rows)), places)

    def _behaviours(self, parts: list[Any]) -> NDArray[np.int64]:
        """What the user did, where the infos say it; otherwise whether it brought a reward."""
        if not all("infos/behaviour" in part.states for part in parts):
            return self.taken.astype(np.int64)
        states = np.concatenate([part.at_states("infos/behaviour") for part in parts])
        behaviours: NDArray[np.int64] = states[self.states + 1].astype(np.int64)
        return behaviours


@dataclass(frozen=True)
class Chunked:
    """The windows in which some steps are seen."""

    steps: Steps
    rows: NDArray[np.int64]  # (targets,)
    offsets: NDArray[np.int64]  # where the targets of each window begin, and the last one's end
    places: NDArray[np.int64]  # (targets,): after which item of its window

    def __len__(self) -> int:
        """How many windows."""
        return len(self.offsets) - 1

    def batch(self, windows: NDArray[np.int64], device: torch.device) -> Chunks:
        """Some of the windows."""
        starts, sizes = self.offsets[windows], np.diff(self.offsets)[windows]
        targets = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        last = self.rows[starts + sizes - 1]
        return Chunks(
            self.steps.seen(self.steps.states[last], device),
            torch.as_tensor(np.repeat(np.arange(len(windows)), sizes)).to(device),
            torch.as_tensor(self.places[targets]).to(device),
            torch.as_tensor(self.steps.actions[self.rows[targets]]).to(device),
        )


def seen_of(items: torch.Tensor, answers: torch.Tensor | None, pad: int) -> Seen:
    """What encoders are called with."""
    return Seen(items, (items != pad).sum(1).clamp(min=1), answers)


def _info(dataset: MinariDataset, parts: list[Any], name: str) -> NDArray[Any]:
    """What the infos of a dataset say of each state."""
    if not all(f"infos/{name}" in part.states for part in parts):
        raise InvalidArgument(
            f"{dataset.id} has no '{name}' in its infos, which a simulator adds: train on what "
            "`recgym simulator export` writes."
        )
    return np.concatenate([part.at_states(f"infos/{name}") for part in parts])


def _joined(parts: list[NDArray[Any]]) -> NDArray[np.int32]:
    """Windows of all episodes as one array."""
    return np.concatenate(parts).astype(np.int32, copy=False)


def _view(dataset: MinariDataset) -> View:
    view, space = View.of(dataset), dataset.observation_space
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.integer):
        raise InvalidArgument(
            f"Networks see flat observations of whole numbers, and those of {dataset.id} are "
            f"{printable(repr(space))}: make the dataset without the option that shows "
            "dictionaries."
        )
    return view
