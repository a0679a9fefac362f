"""Users whose every answer is known: what an agent is truly worth can be computed here.

A user likes some topics, answers an item by how much of its topic they like and how good it is,
grows tired of what comes too often, and leaves when dissatisfied. Nothing of that is observed: only
what was shown, and how it was answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from recgym.envs.batch import (
    BATCHED,
    COMMON,
    Items,
    Observation,
    UserEnv,
    UserVectorEnv,
    checked_count,
    known_only,
)
from recgym.envs.catalogue import Catalogue
from recgym.envs.draws import uniforms
from recgym.errors import InvalidArgument, printable

RESPONSES = ("skip", "click", "buy", "organic")  # the last: consumed before, on their own accord
SKIP, CLICK, BUY, ORGANIC = range(len(RESPONSES))
_MOST = 1e300  # that a reward can be
_DRAWS = np.arange(2)[:, None]  # of a step: the answer, and whether the user leaves


@dataclass(frozen=True)
class Oracle:
    """Everything that decides how oracle users behave."""

    n_items: int = 1000  # of the catalogue
    n_topics: int = 10  # that they belong to
    n_liked: int = 3  # topics that a user likes
    liked: tuple[float, float] = (0.45, 0.85)  # appeal of a topic that is liked, evenly drawn
    other: tuple[float, float] = (0.0, 0.1)  # appeal of any other topic
    quality: tuple[float, float] = (0.4, 1.0)  # of items, evenly drawn
    buying: float = 0.15  # share of the accepted that is bought
    click_reward: float = 0.2  # of an item that is accepted
    buy_reward: float = 1.0  # of one that is bought
    fresh: int = 10  # an item among the last so many is skipped
    boring: int = 0  # accepted items of a topic that lock it; 0: none is ever locked
    within: int = 5  # steps in which they are counted
    locked: int = 20  # steps for which a topic is locked
    locked_appeal: float = 0.1  # a factor of the appeal of a locked topic
    drift: float = 0.0  # share of the way that an accepted item moves appeals
    hold: tuple[float, float] = (0.1, 0.95)  # where its topic's goes; others go to 0
    memory: float = 0.6  # of dissatisfaction: memory x before + (1 - memory) x skipped
    leaving: float = 0.01  # share of users who leave after a step, content as they are
    leaving_dissatisfied: float = 0.05  # what full dissatisfaction adds to that share
    steps: int = 50  # after which an episode is truncated
    organic: int = 5  # items that a user consumed before the first step
    history: int = 25  # items of an observation
    catalogue: int = 0  # the seed of the catalogue

    def __post_init__(self) -> None:
        """Refuse what describes no users."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or not least <= value < 2**31:
                raise InvalidArgument(
                    f"{name} is a whole number from {least} to 2^31, and "
                    f"{printable(repr(value))} was given."
                )
            object.__setattr__(self, name, int(value))
        for name in _SHARES:
            value, pair = getattr(self, name), isinstance(_DEFAULTS[name], tuple)
            bounds: Any = value if isinstance(value, tuple | list) else (value, value)
            if (
                len(bounds) != 2
                or isinstance(value, tuple | list) != pair
                or not all(isinstance(b, int | float | np.number) and 0 <= b <= 1 for b in bounds)
                or sorted(bounds) != [*bounds]
            ):
                form = "two shares, the lower one first," if pair else "a share"
                raise InvalidArgument(
                    f"{name} is {form} from 0 to 1, and {printable(repr(value))} was given."
                )
            shares = tuple(map(float, bounds))
            object.__setattr__(self, name, shares if pair else shares[0])
        for name in ("click_reward", "buy_reward"):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.floating) or not -_MOST < value < _MOST:
                raise InvalidArgument(
                    f"{name} is a finite number, and {printable(repr(value))} was given."
                )
            object.__setattr__(self, name, float(value))
        if self.leaving + self.leaving_dissatisfied > 1:
            raise InvalidArgument(
                f"leaving and leaving_dissatisfied add up to at most 1, and {self.leaving} and "
                f"{self.leaving_dissatisfied} were given."
            )
        if self.n_topics > self.n_items or self.n_liked > self.n_topics:
            raise InvalidArgument(
                f"There are at most as many topics as items and at most as many liked ones as "
                f"topics, and {self.n_items} items, {self.n_topics} topics and {self.n_liked} "
                "liked ones were given."
            )


_DEFAULTS = {field.name: field.default for field in fields(Oracle)}
_LEAST = {
    "n_items": 1, "n_topics": 1, "n_liked": 0, "fresh": 0, "boring": 0, "within": 1, "locked": 0,
    "steps": 1, "organic": 0, "history": 1, "catalogue": 0,
}  # fmt: skip
_SHARES = (
    "liked", "other", "quality", "buying", "locked_appeal", "drift", "hold",
    "memory", "leaving", "leaving_dissatisfied",
)  # fmt: skip


class OracleUsers:
    """The hidden state of a batch of users, and how they answer.

    `accepting`, `leaving` and `expected_rewards` are exact, for tests and estimators; no agent
    sees them.
    """

    def __init__(self, count: int, oracle: Oracle) -> None:
        """Make room for that many users."""
        o = oracle
        self.count, self.oracle, self.n_items = count, o, o.n_items
        self.actions = Items(o.n_items)
        self.catalogue = catalogue_of(o)
        self.layout = {"history": (0, o.history), "responses": (o.history, 2 * o.history)}
        high = np.repeat(np.array([o.n_items, len(RESPONSES)], np.int32), o.history)
        self.space = spaces.Box(np.zeros_like(high), high, dtype=np.int32)
        self.steps = np.zeros(count, np.int64)  # taken
        self.appeal = np.zeros((count, o.n_topics))
        self.unlocked = np.zeros((count, o.n_topics), np.int64)  # the step from which on
        self.dissatisfaction = np.zeros(count)
        self.keys = np.zeros(count, np.uint64)  # what the draws of each episode come from
        self._responses = np.zeros(count, np.int64)
        self.seen = np.zeros((o.fresh, count), np.int32)  # the last items, round and round
        self._accepted = np.zeros((o.within, count), np.int32)  # their topics, round and round
        # All that was shown, oldest first, and behind it how it was answered.
        width = max(o.organic + o.steps, o.history)
        self._blank = np.repeat(np.array([[o.n_items], [len(RESPONSES)]], np.int32), width, axis=1)
        self._blank[1, : o.organic] = ORGANIC
        self._tape = np.tile(self._blank, (count, 1, 1))
        self.rows = np.arange(count)
        self._rewards = np.array([0.0, o.click_reward, o.buy_reward])

    def begin(
        self, who: NDArray[np.int64], keys: NDArray[np.uint64], options: Mapping[str, Any]
    ) -> None:
        """Draw new users: what they like, and what they consumed by themselves."""
        known_only("reset() of an oracle", options, ())
        o = self.oracle
        drawn = uniforms(keys[:, None], 0, np.arange(2 * (o.n_topics + o.organic)))
        order, height, topic, item = np.split(drawn, np.cumsum([o.n_topics] * 2 + [o.organic]), 1)
        liked = order.argsort(1).argsort(1) < o.n_liked
        low, high = (np.where(liked, *pair) for pair in zip(o.liked, o.other, strict=True))
        self.appeal[who] = appeal = low + height * (high - low)
        sums = appeal.cumsum(1)
        topics = (sums[:, None] <= (topic * sums[:, -1:])[:, :, None]).sum(2)
        consumed = self.catalogue.organic(np.minimum(topics, o.n_topics - 1), item)
        tape = np.tile(self._blank, (len(who), 1, 1))
        tape[:, 0, : o.organic] = consumed
        self._tape[who] = tape
        recent = consumed[:, max(o.organic - o.fresh, 0) :].T
        self.seen[:, who] = o.n_items
        self.seen[o.fresh - len(recent) :, who] = recent
        self._accepted[:, who] = -1
        self.unlocked[who] = self.steps[who] = self.dissatisfaction[who] = 0
        self._responses[who] = len(RESPONSES)
        self.keys[who] = keys

    def answer(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Show an item to each user: they skip, click or buy it, and stay or leave."""
        o, rows = self.oracle, self.rows
        accepting = self.accepting(actions)
        drawn, leaving = uniforms(self.keys, self.steps + 1, _DRAWS)
        accepted = drawn < accepting
        self._responses = accepted.astype(np.int64) + (drawn < accepting * o.buying)
        places = np.minimum(self.steps + o.organic, self._tape.shape[2] - 1)
        self._tape[rows, 0, places] = actions
        self._tape[rows, 1, places] = self._responses
        if o.fresh:
            self.seen[self.steps % o.fresh, rows] = actions
        topics = self.catalogue.topics[actions]
        if o.boring:
            self._accepted[self.steps % o.within, rows] = np.where(accepted, topics, -1)
            tired = (self._accepted == topics).sum(0) >= o.boring
            bored = np.flatnonzero(tired & accepted)
            self.unlocked[bored, topics[bored]] = self.steps[bored] + 1 + o.locked
        if o.drift:
            moved = np.flatnonzero(accepted)
            self.appeal[moved] *= 1 - o.drift
            self.appeal[moved, topics[moved]] += o.drift * self.catalogue.hold[topics[moved]]
        left = leaving < self.leaving(accepted)
        self.dissatisfaction = o.memory * self.dissatisfaction + (1 - o.memory) * ~accepted
        self.steps += 1
        return self._rewards[self._responses], left, (self.steps >= o.steps) & ~left

    def observe(self) -> NDArray[np.int32]:
        """The last items shown and how they were answered."""
        length, tape = self.oracle.history, self._tape
        places = tape.shape[2] - length + 1
        # (users, 2, places, length): every window there is, as a view
        shape, strides = (self.count, 2, places, length), (*tape.strides, tape.strides[2])
        windows: NDArray[np.int32] = np.ndarray(shape, tape.dtype, tape, 0, strides)
        starts = np.clip(self.steps + self.oracle.organic - length, 0, places - 1)
        return windows[self.rows, :, starts].reshape(self.count, -1)

    def infos(self) -> dict[str, NDArray[Any]]:
        """The last response; before the first, their number."""
        return {"behaviour": self._responses.copy()}

    def told(self, user: int, action: int | None, reward: float) -> str:
        """What was shown, and how it was answered."""
        titles = self.titles
        if action is None:
            before = [titles[item] for item in self._tape[user, 0, : self.oracle.organic].tolist()]
            return f"before: {'; '.join(before) or 'nothing'}"
        response = RESPONSES[self._responses[user]]
        return f"{self.steps[user]:3}  {titles[action]:44} {response:6} {reward:+.2f}"

    @cached_property
    def titles(self) -> list[str]:
        """The title of each item, and its topic."""
        names = self.catalogue.topic_names
        topics = self.catalogue.topics.tolist()
        return [
            f"{title} ({names[topic]})"
            for title, topic in zip(self.catalogue.titles, topics, strict=True)
        ]

    def accepting(self, items: NDArray[Any]) -> NDArray[np.float64]:
        """The probability that each user accepts an item, or each of several, were it next."""
        rows = self.rows if items.ndim == 1 else self.rows[:, None]
        topics = self.catalogue.topics[items]
        accepting: NDArray[np.float64] = self.appeal[rows, topics] * self.catalogue.quality[items]
        if self.oracle.boring:
            locked = self.unlocked[rows, topics] > self.steps.reshape(rows.shape)
            accepting[locked] *= self.oracle.locked_appeal
        seen = self.seen if items.ndim == 1 else self.seen[:, :, None]
        accepting[(seen == items).any(0)] = 0
        return accepting

    def liking(self) -> NDArray[np.float64]:
        """(users, topics): how much of a perfect item's share each topic gets now."""
        locked = self.unlocked > self.steps[:, None]
        return np.where(locked, self.appeal * self.oracle.locked_appeal, self.appeal)

    def tired(self) -> NDArray[np.bool_]:
        """(users, topics): would one more accepted item of the topic lock it?"""
        o = self.oracle
        if not o.boring:
            return np.zeros(self.appeal.shape, bool)
        accepted = self._accepted.copy()
        accepted[self.steps % o.within, self.rows] = -1  # the next item takes its place
        same = accepted[:, :, None] == np.arange(o.n_topics)
        return np.asarray(same.sum(0) >= o.boring - 1)

    def expected_rewards(self, items: NDArray[Any]) -> NDArray[np.float64]:
        """The expected reward of an item for each user, or of each of several, were it next."""
        o = self.oracle
        accepted = o.click_reward + o.buying * (o.buy_reward - o.click_reward)
        return self.accepting(items) * accepted

    def leaving(self, accepted: NDArray[np.bool_] | bool) -> NDArray[np.float64]:
        """The probability that each user leaves after they accept the next item, or skip it."""
        o, skipped = self.oracle, np.logical_not(accepted)
        then = o.memory * self.dissatisfaction + (1 - o.memory) * skipped
        return o.leaving + o.leaving_dissatisfied * then


class OracleEnv(UserEnv):
    """One oracle user after another; keyword arguments are those of `Oracle`."""

    def __init__(
        self,
        *,
        render_mode: str | None = None,
        observation: Observation = "flat",
        **parameters: Any,
    ) -> None:
        """Make the world of the parameters."""
        super().__init__(OracleUsers(1, _oracle(parameters)), render_mode, observation)


class OracleVectorEnv(UserVectorEnv):
    """Many oracle users at once; keyword arguments are those of `Oracle`."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        observation: Observation = "flat",
        autoreset_mode: Any = "NextStep",
        **parameters: Any,
    ) -> None:
        """Make the world of the parameters, for that many users."""
        users = OracleUsers(checked_count(num_envs), _oracle(parameters, BATCHED))
        super().__init__(users, render_mode, observation, autoreset_mode)


def _oracle(parameters: Mapping[str, Any], *others: str) -> Oracle:
    known_only("An oracle", parameters, (*_DEFAULTS, *COMMON, *others))
    return Oracle(**parameters)


@lru_cache(maxsize=8)
def _catalogue(*arguments: Any) -> Catalogue:
    return Catalogue(*arguments)


def catalogue_of(o: Oracle) -> Catalogue:
    """The catalogue of a world, which all its users share."""
    return _catalogue(o.n_items, o.n_topics, tuple(o.quality), tuple(o.hold), o.catalogue)
