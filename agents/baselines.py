"""Agents that count: what those that learn weights are held against."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import Infos, Source, View, training_data
from recgym.episodes import Episodes
from recgym.errors import InvalidArgument, UnknownName, printable
from recgym.evaluation.ranking import metrics, rank
from recgym.minari_format import runs_of
from recgym.repeats import ages_of, fresh, newest_first, put_last

Decay = Literal["same", "log", "linear", "div", "quadratic"]

_FILE = "agent.json"
_BLOCK = 4096  # episodes read at once
_CELLS = 1 << 19  # scores, or pairs of items or sessions, that are worked on at once
_TARGETS = 2000  # of the validation data on which options are tried
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class _Baseline:
    """What all of them share: options are fields, and what is learned begins with `_`."""

    learns_from: ClassVar[Source] = "data"

    def fit(
        self, train: MinariDataset, validation: MinariDataset | None = None, env: Any = None
    ) -> Self:
        """Learn from a dataset."""
        training_data(train, validation)
        self._view = View.of(train)
        self._learn(train, validation)
        return self

    def scores(self, observations: Any, infos: Infos) -> NDArray[np.float32]:
        """A score of each item for each user, whoever else is in the batch."""
        view = self._known_view()
        return self._scores(view.items(observations), view.consumed(observations))

    def act(self, observations: Any, infos: Infos) -> NDArray[np.int64]:
        """The item with the highest score for each user."""
        best: NDArray[np.int64] = self.scores(observations, infos).argmax(1)
        return best

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""
        return sum(array.size for array in self._learned()[0].values())

    def save(self, folder: Path) -> None:
        """Write the options and what was learned; the last file makes the folder an agent."""
        arrays, values = self._learned()
        view = self._view
        about = {
            "options": dataclasses.asdict(self),  # type: ignore[call-overload]
            "n_items": view.n_items,
            "parts": {name: [part.start, part.stop] for name, part in view.parts.items()},
            "skip": view.skip,
            "arrays": list(arrays),
            "values": values,
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).unlink(missing_ok=True)
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        draft = folder / f".{_FILE}.part"
        draft.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        draft.replace(folder / _FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """An agent as it was saved."""
        try:
            about = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            agent = cls(**about["options"])
            parts = {name: slice(*part) for name, part in about["parts"].items()}
            agent._view = View(about["n_items"], parts, about["skip"])
            for name, value in about["values"].items():
                setattr(agent, f"_{name}", value)
            for name in about["arrays"]:
                array = np.load(folder / f"{name}.npy", allow_pickle=False)
                setattr(agent, f"_{name}", array)
        except (OSError, AttributeError, LookupError, TypeError, ValueError) as why:
            raise InvalidArgument(
                f"{folder} holds no {cls.__name__} that can be read ({printable(str(why))}): give "
                "the folder into which one was saved by the same recgym."
            ) from None
        return agent

    def _learn(self, train: MinariDataset, validation: MinariDataset | None) -> None:
        """Learn what the scores are made of."""

    def _scores(self, items: NDArray[np.int32], taken: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score by histories, and by the same without what was skipped."""
        raise NotImplementedError

    def _learned(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays by name, and the rest."""
        self._known_view()
        own = {n[1:]: v for n, v in vars(self).items() if n.startswith("_") and n != "_view"}
        arrays = {name: value for name, value in own.items() if isinstance(value, np.ndarray)}
        return arrays, {name: value for name, value in own.items() if name not in arrays}

    def _known_view(self) -> View:
        if "_view" not in vars(self):
            raise InvalidArgument(
                f"{type(self).__name__} has not learned yet: call fit(train), or load(folder)."
            )
        return self._view


@dataclass
class Random(_Baseline):
    """Every item equally.

    Scores are drawn out of the seed and the history, so that equal histories are scored alike.
    What is recommended is drawn out of the place in the batch as well, so that users without a
    history do not all get the same item.
    """

    seed: int = 0  # decides all draws

    def act(self, observations: Any, infos: Infos) -> NDArray[np.int64]:
        """An item for each user, drawn out of the seed, the history and the place in the batch."""
        view = self._known_view()
        keys = self._keys(view.items(observations))
        places = _mixed(np.arange(1, len(keys) + 1, dtype=np.uint64) * _GOLDEN)
        return (_mixed(keys ^ places) % np.uint64(view.n_items)).astype(np.int64)

    def _scores(self, items: NDArray[np.int32], taken: NDArray[np.int32]) -> NDArray[np.float32]:
        n_items = self._view.n_items
        keys = self._keys(items)
        steps = np.arange(n_items, dtype=np.uint64) * _GOLDEN
        scores = np.empty((len(keys), n_items), np.float32)
        for some in _parts(np.full(len(keys), n_items)):
            scores[some] = (_mixed(keys[some, None] + steps) >> np.uint64(40)) * 2.0**-24
        return scores

    def _keys(self, items: NDArray[np.int32]) -> NDArray[np.uint64]:
        keys = np.full(len(items), self.seed % 2**64, np.uint64)
        for column in items.T:
            keys = _mixed(keys + _GOLDEN + column.astype(np.uint64))
        return keys


@dataclass
class Popular(_Baseline):
    """What was taken most.

    Where the data say what was shown and skipped, that is the share of showings that were taken
    (as if each item had been taken once more, at the mean share); elsewhere, how often an item was
    taken.

    Items among the newest of a history come last where the training data hardly ever repeat them,
    here and in the agents that extend this one.
    """

    def _learn(self, train: MinariDataset, validation: MinariDataset | None) -> None:
        self._count(_Takings.of(train, self._view))

    def _count(self, takings: "_Takings") -> None:
        self._popularity = takings.popularity().astype(np.float32)  # from 0 to 1
        self._fresh = fresh(takings.repeats)  # newest items that are hardly ever taken again

    def _scores(self, items: NDArray[np.int32], taken: NDArray[np.int32]) -> NDArray[np.float32]:
        n_items = self._view.n_items
        recent = newest_first(taken, n_items)
        scores = np.empty((len(items), n_items), np.float32)
        for some in _parts(n_items + self._work(recent)):
            found = self._found(recent[some])
            scores[some] = np.where(found > 0, found, self._popularity - 1)
        put_last(scores, items, self._fresh, -2)
        return scores

    def _found(self, recent: NDArray[np.int32]) -> NDArray[Any]:
        """(batch, n_items): above 0 for what goes before popular items."""
        return np.zeros((len(recent), 1))

    def _work(self, recent: NDArray[np.int32]) -> NDArray[np.int64]:
        """(batch,): how many numbers `_found` holds besides scores."""
        return np.zeros(len(recent), np.int64)


@dataclass
class RepeatLast(Popular):
    """The item that was taken last, then the one before, and so on; then what was taken most."""

    def _count(self, takings: "_Takings") -> None:
        super()._count(takings)
        self._fresh = 0

    def _found(self, recent: NDArray[np.int32]) -> NDArray[Any]:
        users, ages = np.nonzero(_newest_places(recent, self._view.n_items))
        scores = np.zeros((len(recent), self._view.n_items))
        scores[users, recent[users, ages]] = recent.shape[1] - ages
        return scores


@dataclass
class Markov(Popular):
    """What was taken most right after the last item: a Markov chain of first order.

    Each item is followed by one taking more than was seen, shared out by popularity.
    """

    def _count(self, takings: "_Takings") -> None:
        super()._count(takings)
        pairs, counts = np.unique(takings.successions(), return_counts=True)
        before, after = np.divmod(pairs, takings.n_items)
        totals = np.bincount(before, counts, takings.n_items + 1) + 1  # the last: after no item
        self._offsets = _offsets(np.bincount(before, minlength=takings.n_items + 1))
        self._items = after.astype(np.int32)
        self._shares = (counts / totals[before]).astype(np.float32)
        self._rests = (1 / totals).astype(np.float32)

    def _found(self, recent: NDArray[np.int32]) -> NDArray[Any]:
        last = recent[:, 0]
        popular = self._popularity / max(self._popularity.sum(), 1e-9)
        scores: NDArray[np.float32] = self._rests[last, None] * popular
        users, places = _gathered(self._offsets[last], self._offsets[last + 1])
        scores[users, self._items[places]] += self._shares[places]
        return scores


class _Tuned(Popular):
    """What tries changes of its options on the validation data, one after the other."""

    changes: ClassVar[Sequence[Mapping[str, Any]]]
    budget: int

    @property
    def chosen(self) -> Self:
        """An agent that was given the options that are in use."""
        self._known_view()
        return dataclasses.replace(self, **self._changed)

    def _learn(self, train: MinariDataset, validation: MinariDataset | None) -> None:
        takings = _Takings.of(train, self._view)
        self._count(takings)
        self._change(takings, {})
        if validation is None or not self.budget:
            return
        targets = _Targets.of(validation, self._view)
        best, quality = self._changed, targets.quality(self._scores)
        for change in self.changes[: self.budget]:
            self._change(takings, {**best, **change})
            found = targets.quality(self._scores)
            if found > quality:
                best, quality = self._changed, found
        self._change(takings, best)

    def _change(self, takings: "_Takings", options: dict[str, Any]) -> None:
        """Use these options in the place of those that were given."""
        self._changed = options
        self._prepare(takings, self.chosen)

    def _prepare(self, takings: "_Takings", chosen: Self) -> None:
        """Learn what depends on options."""
        raise NotImplementedError


@dataclass
class ItemKNN(_Tuned):
    """Items that are taken close to those of the history, by cosine similarity.

    Of items that were taken a and b times, and c times within a few places of each other in a
    session, it is c / sqrt((a + shrink) (b + shrink)).
    """

    changes = (
        {"shrink": 100.0}, {"shrink": 5.0}, {"window": 5}, {"window": 20}, {"decay": 0.5},
        {"decay": 1.0},
    )  # fmt: skip

    shrink: float = 20.0  # takings that are added to those of each item
    window: int = 10  # places between items that count as taken together, at most
    neighbours: int = 100  # similar items that are known of each
    decay: float = 0.8  # of the weight of an item of the history, with each newer one
    budget: int = 6  # changes of these options that are tried on the validation data

    def __post_init__(self) -> None:
        """Check the options."""
        _at_least(1, window=self.window, neighbours=self.neighbours)
        _at_least(0, shrink=self.shrink, decay=self.decay, budget=self.budget)

    def _prepare(self, takings: "_Takings", chosen: Self) -> None:
        n_items, items, sessions = takings.n_items, takings.items, takings.sessions()
        counts = np.bincount(items, minlength=n_items)
        norms = np.sqrt(counts + chosen.shrink)
        offsets, order = _offsets(counts), np.argsort(items, kind="stable")
        gaps = np.delete(np.arange(-chosen.window, chosen.window + 1), chosen.window)
        found = []
        for some in _parts(counts * len(gaps)):
            here = order[offsets[some.start] : offsets[some.stop], None]
            there = np.clip(here + gaps, 0, len(items) - 1)
            together = (there == here + gaps) & (sessions[there] == sessions[here])
            pairs = items[here].astype(np.int64) * n_items + items[there]
            pairs, times = np.unique(pairs[together], return_counts=True)
            one, other = np.divmod(pairs, n_items)
            similar = times / (norms[one] * norms[other])
            best = _best(one, similar, chosen.neighbours)
            found.append((one[best], other[best], similar[best]))
        one, other, similar = map(np.concatenate, zip(*found, strict=True))
        self._offsets = _offsets(np.bincount(one, minlength=n_items))
        self._items, self._similar = other.astype(np.int32), similar.astype(np.float32)

    def _found(self, recent: NDArray[np.int32]) -> NDArray[Any]:
        users, ages = np.nonzero(_newest_places(recent, self._view.n_items))
        items, weights = recent[users, ages], float(self.chosen.decay) ** ages
        which, places = _gathered(self._offsets[items], self._offsets[items + 1])
        scored = weights[which] * self._similar[places]
        shape = len(recent), self._view.n_items
        return _summed(users[which], self._items[places], scored, shape)

    def _work(self, recent: NDArray[np.int32]) -> NDArray[np.int64]:
        return np.full(len(recent), recent.shape[1] * self.neighbours)


@dataclass
class VSKNN(_Tuned):
    """Items of sessions that are like the history: V-SKNN of Ludewig & Jannach (2018).

    How alike a session is, is the sum of the weights of the items of the history that it shares;
    the most alike vote for their items, with that times a weight of the newest item that is
    shared. Datasets do not say when sessions were, so the last ones stand for recent ones. Added
    here: long sessions are cut into parts, and those of many items can count less.
    """

    changes = (
        {"match": "same"}, {"match": "quadratic"}, {"rarity": 0.0}, {"rarity": 5.0},
        {"sharing": 0.0}, {"sharing": 0.5}, {"longest": 10}, {"longest": 50},
        {"decay": "log"}, {"decay": "quadratic"}, {"sample": 5000}, {"neighbours": 100},
    )  # fmt: skip

    neighbours: int = 500  # sessions that vote
    sample: int = 1000  # last sessions with items of the history, among which these are found
    decay: Decay = "div"  # how items of the history count less with age
    match: Decay = "div"  # how votes count less with the age of the newest item that is shared
    rarity: float = 1.0  # weight of the inverse document frequency of what is voted for
    sharing: float = 0.25  # power of the number of a session's items that divides what it counts
    longest: int = 25  # takings of a session; a longer one is cut into parts
    budget: int = 12  # changes of these options that are tried on the validation data

    def __post_init__(self) -> None:
        """Check the options."""
        _at_least(1, neighbours=self.neighbours, sample=self.sample, longest=self.longest)
        _at_least(0, rarity=self.rarity, sharing=self.sharing, budget=self.budget)
        for decay in (self.decay, self.match):
            if decay not in get_args(Decay):
                raise UnknownName("decay", printable(str(decay)), get_args(Decay))

    def _prepare(self, takings: "_Takings", chosen: Self) -> None:
        n_items = takings.n_items
        pairs = np.unique(takings.sessions(chosen.longest) * n_items + takings.items)
        sessions, items = np.divmod(pairs, n_items)
        lengths, counts = np.bincount(sessions), np.bincount(items, minlength=n_items)
        self._session_offsets, self._items = _offsets(lengths), items.astype(np.int32)
        self._item_offsets = _offsets(np.append(counts, 0))  # the last: of no item
        self._sessions = sessions[np.argsort(items, kind="stable")].astype(np.int32)
        self._worths = 1 + chosen.rarity * np.log(max(len(lengths), 1) / np.maximum(counts, 1))
        self._shares = np.maximum(lengths, 1) ** -float(chosen.sharing)

    def _found(self, recent: NDArray[np.int32]) -> NDArray[Any]:
        users, sessions, votes = self._votes(recent, self.chosen)
        offsets = self._session_offsets
        which, places = _gathered(offsets[sessions], offsets[sessions + 1])
        shape = len(recent), self._view.n_items
        scores = _summed(users[which], self._items[places], votes[which], shape)
        return scores * self._worths

    def _votes(
        self, recent: NDArray[np.int32], chosen: "VSKNN"
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Who has a neighbour, which session it is, and what its votes count."""
        n_items, n_sessions = self._view.n_items, len(self._shares)
        users, ages = np.nonzero(_newest_places(recent, n_items))
        lengths = (recent < n_items).sum(1)[users]
        weights = _weights(chosen.decay, ages, 1 - ages / lengths)
        which, places = _gathered(*self._postings(recent[users, ages], chosen))
        pairs = users[which] * n_sessions + self._sessions[places]
        order = np.argsort(pairs, kind="stable")  # merges what is sorted for each item
        pairs, which = pairs[order], which[order]
        firsts = np.flatnonzero(np.diff(pairs, prepend=-1))  # of each session: its newest item
        users, sessions = np.divmod(pairs[firsts], n_sessions)
        alike = np.add.reduceat(weights[which], firsts) * self._shares[sessions]
        newest = ages[which[firsts]]
        votes = alike * _weights(chosen.match, newest, 1 / (1 + newest))
        ends = np.cumsum(np.bincount(users, minlength=len(recent)))
        last = np.flatnonzero(np.arange(len(users)) >= ends[users] - chosen.sample)
        best = last[_best(users[last], alike[last], chosen.neighbours)]
        return users[best], sessions[best], votes[best]

    def _postings(
        self, items: NDArray[np.int32], chosen: "VSKNN"
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in `_sessions` the last ones of items are: no other can be among the sample."""
        starts, stops = self._item_offsets[items], self._item_offsets[items + 1]
        return np.maximum(starts, stops - chosen.sample), stops

    def _work(self, recent: NDArray[np.int32]) -> NDArray[np.int64]:
        chosen = self.chosen
        starts, stops = self._postings(recent, chosen)
        voted: NDArray[np.int64] = (stops - starts).sum(1) + chosen.neighbours * chosen.longest
        return voted


# ------------------------------------------------------------------------- what they learn from


@dataclass(frozen=True)
class _Takings:
    """What users took in a dataset, and how often items were shown, taken and taken again."""

    n_items: int
    skips: bool  # do the data say what was shown and skipped?
    items: NDArray[np.int32]  # taken, session after session; before its first step as well
    offsets: NDArray[np.int64]  # where each session begins, and where the last one ends
    shown: NDArray[np.int64]  # (n_items,)
    taken: NDArray[np.int64]  # (n_items,)
    repeats: NDArray[np.int64]  # takings after a history: of its items by age; of others, last

    @classmethod
    def of(cls, data: MinariDataset, view: View) -> "_Takings":
        """Read a dataset."""
        n_items = view.n_items
        shown, taken = np.zeros((2, n_items), np.int64)
        ages, items, lengths = [], [], []
        for part in _read(data):
            observations = part.observations(data.observation_space, last=False)
            actions, took = part.actions(data.action_space), part.at_steps("rewards") > 0
            shown += np.bincount(actions, minlength=n_items)
            taken += np.bincount(actions[took], minlength=n_items)
            ages.append(ages_of(view.items(observations)[took], actions[took], n_items))
            before = view.consumed(observations)[part.offsets[:-1]]
            there = before < n_items
            whose = np.concatenate([
                np.repeat(np.arange(len(part)), there.sum(1)),
                np.repeat(np.arange(len(part)), part.lengths)[took],
            ])  # fmt: skip
            order = np.argsort(whose, kind="stable")
            items.append(np.concatenate([before[there], actions[took]])[order].astype(np.int32))
            lengths.append(np.bincount(whose))
        repeats: NDArray[np.int64] = np.sum(ages, axis=0)
        offsets = _offsets(np.concatenate(lengths))
        return cls(n_items, view.skip >= 0, np.concatenate(items), offsets, shown, taken, repeats)

    def popularity(self) -> NDArray[np.float64]:
        """(n_items,): from 0 to 1."""
        counts: NDArray[np.float64] = self.taken.astype(np.float64)
        if self.skips:
            mean = max(counts.sum(), 1) / self.shown.sum()
            counts = (counts + 1) / (self.shown + 1 / mean)
        counts /= max(counts.max(), 1e-9)
        return counts

    def sessions(self, longest: int | None = None) -> NDArray[np.int64]:
        """The session of each taking, or the part of one that holds at most so many."""
        lengths = np.diff(self.offsets)
        longest = longest or max(len(self.items), 1)
        places = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], lengths)
        firsts = _offsets(-(-lengths // longest))[:-1]
        parts: NDArray[np.int64] = np.repeat(firsts, lengths) + places // longest
        return parts

    def successions(self) -> NDArray[np.int64]:
        """Items and the next ones of their sessions, as one number: first * n_items + second."""
        sessions = self.sessions()
        within = sessions[1:] == sessions[:-1]
        first, second = self.items[:-1][within], self.items[1:][within]
        pairs: NDArray[np.int64] = first.astype(np.int64) * self.n_items + second
        return pairs


@dataclass(frozen=True)
class _Targets:
    """Takings of the validation data after a history, evenly spread."""

    n_items: int
    histories: NDArray[np.int32]
    taken: NDArray[np.int32]  # the same without what was skipped
    items: NDArray[np.int64]

    @classmethod
    def of(cls, data: MinariDataset, view: View) -> "_Targets":
        """Read a dataset."""
        own = View.of(data)
        if own.n_items != view.n_items:
            raise InvalidArgument(
                f"{data.id} is of {own.n_items:,} items, and the training data of "
                f"{view.n_items:,}: give the validation split of the same data."
            )
        found = []
        for part in _read(data):
            observations = part.observations(data.observation_space, last=False)
            taken = own.consumed(observations)
            some = (part.at_steps("rewards") > 0) & (taken < own.n_items).any(1)
            actions = part.actions(data.action_space)
            found.append((own.items(observations)[some], taken[some], actions[some]))
        histories, taken, items = map(np.concatenate, zip(*found, strict=True))
        count = min(len(items), _TARGETS)
        some = np.arange(count) * len(items) // max(count, 1)
        return cls(own.n_items, histories[some], taken[some], items[some])

    def quality(self, score: Callable[..., NDArray[np.float32]]) -> float:
        """The mean NDCG@10; 0 without a target."""
        ranked = rank(
            lambda some: score(self.histories[some], self.taken[some]), self.items, self.n_items
        )
        gains = metrics(ranked.greater, ranked.equal)["ndcg@10"]
        return float(gains.sum()) / max(len(gains), 1)


def _read(data: MinariDataset) -> Iterator[Episodes]:
    """All episodes, some at a time."""
    indices = list(data.episode_indices)
    if not indices:
        raise InvalidArgument(f"{data.id} has no episode left to learn from.")
    for first in range(0, len(indices), _BLOCK):
        yield from runs_of(data, indices[first : first + _BLOCK])


# -------------------------------------------------------------------------------- small parts


def _newest_places(recent: NDArray[np.int32], pad: int) -> NDArray[np.bool_]:
    """Where items stand for the first time."""
    newer = np.tri(recent.shape[1], k=-1, dtype=bool)
    again = ((recent[:, :, None] == recent[:, None, :]) & newer).any(2)
    found: NDArray[np.bool_] = (recent < pad) & ~again
    return found


def _weights(decay: Decay, ages: NDArray[np.int64], shares: NDArray[Any]) -> NDArray[Any]:
    """What counts less with age; "div" are the shares."""
    weights: dict[Decay, Callable[[], NDArray[Any]]] = {
        "same": lambda: np.ones(len(ages)),
        "log": lambda: 1 / np.log10(ages + 1.7),
        "linear": lambda: np.maximum(1 - ages / 10, 0),
        "div": lambda: shares,
        "quadratic": lambda: shares**2,
    }
    return weights[decay]()


def _best(groups: NDArray[np.int64], values: NDArray[Any], count: int) -> NDArray[np.int64]:
    """The rows of the highest values of each group, in order; of equal ones, the last rows."""
    back = np.arange(len(groups))[::-1]
    order = back[np.lexsort((-values[back], groups[back]))]
    sizes = np.bincount(groups)
    places = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[places < count])


def _gathered(
    starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every place of some stretches, one after the other, and whose it is."""
    sizes = stops - starts
    ends = np.cumsum(sizes)
    which = np.repeat(np.arange(len(sizes)), sizes)
    return which, np.arange(len(which)) - np.repeat(ends - sizes - starts, sizes)


def _summed(
    rows: NDArray[np.int64],
    columns: NDArray[np.int32],
    values: NDArray[Any],
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    """A table of sums."""
    sums = np.bincount(rows * shape[1] + columns, values, shape[0] * shape[1])
    return sums.astype(np.float64, copy=False).reshape(shape)


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _parts(work: NDArray[np.int64]) -> Iterator[slice]:
    """Rows that are worked on at once: as much work as there should be, or a single row."""
    groups = np.cumsum(work) // _CELLS
    edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(work)]
    return (slice(first, end) for first, end in pairwise(edges) if first < end)


def _at_least(least: int, **options: float) -> None:
    for name, value in options.items():
        if not value >= least:
            raise InvalidArgument(f"{name} is {least} or more, and {value!r} was given.")


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea & Flood 2014, variant 13 of Stafford)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
