"""Logged users, replayed: what they did is known; what else they would have done is not.

What an action off the log does is named. With `advance`, the logged user goes on as the log says:
a contextual bandit, as no action changes any later state. With `stop`, the episode is truncated.
With `stay`, the user waits for another try, some times: a policy can find out the log's answers by
trying, so this is never ranked.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from inspect import signature
from math import nan
from typing import Any, Literal, get_args
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from recgym.envs.batch import (
    BATCHED,
    COMMON,
    Items,
    Observation,
    SingleEnv,
    UserVectorEnv,
    checked_count,
    item_of,
    known_only,
    not_reset,
)
from recgym.envs.draws import keys_of, shares_of
from recgym.episodes import history_space
from recgym.errors import BadLog, InvalidArgument, NothingLeft, printable
from recgym.home import load_log
from recgym.log import InteractionLog, Split

OffLog = Literal["advance", "stop", "stay"]
_NO_SLOT = np.iinfo(np.uint8).max
_AHEAD = 64  # episodes that a single environment draws at once


class Replay:
    """The sessions of a log's split as episodes, and the rules of their replay."""

    def __init__(
        self,
        log: str | os.PathLike[str] = "",
        split: Split = "test",
        history: int = 10,
        off_log: OffLog = "advance",
        attempts: int = 10,
        digest: str | None = None,
        build: str = "recgym data build",
    ) -> None:
        """Open a log by its name or folder; a digest says that it must be that very log.

        `attempts` are those that `stay` allows at each event; `build` is the command that an error
        names where the log is missing.
        """
        if not isinstance(log, str | os.PathLike) or not str(log):
            raise InvalidArgument("A replay needs a log: give its name or its folder as log=….")
        self.log = known = load_log(log, build)
        if digest not in (None, known.manifest.digest):
            raise BadLog(
                f"The log '{log}' has digest {known.manifest.digest[:12]}…, and "
                f"{printable(str(digest)[:12])}… "
                "is asked for: it was built anew from other data or under another protocol."
            )
        if off_log not in get_args(OffLog):
            raise InvalidArgument(
                f"off_log is {', '.join(get_args(OffLog))}, not {printable(repr(off_log))}."
            )
        if not isinstance(attempts, int | np.integer) or attempts < 1:
            raise InvalidArgument(
                f"attempts is a whole number from 1 on, and {printable(repr(attempts))} was given."
            )
        self.off_log, self.attempts, self.history = off_log, int(attempts), history
        self.space = history_space(known.n_items, history)
        self.layout = {"history": (0, int(history))}
        self.n_items, self.actions = known.n_items, Items(known.n_items)
        self.sessions = _sessions(known, split)
        self.no_behaviour = len(known.manifest.behaviours)

    @property
    def n_episodes(self) -> int:
        """How many episodes the split has."""
        return len(self.sessions.terminated)

    def chosen(self, keys: NDArray[np.uint64], asked: Any = None) -> NDArray[np.int64]:
        """The episodes that are asked for, or drawn."""
        if asked is None:
            return (shares_of(keys) * self.n_episodes).astype(np.int64)
        try:
            episodes = np.asarray(asked)
        except ValueError:  # ragged
            episodes = np.asarray(None)
        known = episodes.dtype.kind in "iu" and episodes.shape in ((), keys.shape)
        if not known or episodes.min() < 0 or episodes.max() >= self.n_episodes:
            raise InvalidArgument(
                f"Episodes are 0 to {self.n_episodes - 1}, one for all users or one for each of "
                f"{len(keys)}, and {printable(repr(asked))} was asked for."
            )
        return np.broadcast_to(episodes.astype(np.int64), keys.shape)

    def told_before(self, history: NDArray[np.int32]) -> str:
        """What was consumed before the first step."""
        known = [self.titles[item] for item in history.tolist() if item != self.n_items]
        return f"before: {'; '.join(known) or 'nothing'}"

    def told(self, step: int, action: int, place: int | None, reward: float) -> str:
        """What was recommended, what was consumed, and what it brought."""
        consumed = "the log knows no answer"
        if place is not None:
            behaviour = self.log.manifest.behaviours[self.sessions.behaviours[place]]
            consumed = f"{self.titles[self.sessions.items[place]]} ({behaviour})"
        return f"{step:3}  recommended {self.titles[action]:40}  consumed {consumed}  {reward:+.2f}"

    @cached_property
    def titles(self) -> list[str]:
        """A name for each item."""
        names = self.log.catalogue.column("raw_id").to_pylist()
        if "title" not in self.log.catalogue.schema.names:
            return list(map(str, names))
        titles = self.log.catalogue.column("title").to_pylist()
        return [title or str(name) for title, name in zip(titles, names, strict=True)]


class Sessions:
    """What a split has of each session, one after the other; opened once for all environments."""

    def __init__(self, log: InteractionLog, split: Split) -> None:
        """Take the columns as they are on disk where the split is the whole log."""
        rows, lengths, self.terminated = log.episodes(split)
        if not len(lengths):
            raise NothingLeft(f"{log!r} has no {split} row with an item that it indexes.")
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        self.firsts = rows[self.offsets[:-1]]  # where the first history ends
        self.has_context = bool(log.depths[self.firsts].any())  # is any of those not empty?

        def split_of(column: NDArray[Any]) -> NDArray[Any]:
            return column if len(rows) == len(log) else column[rows]

        self.items, self.rewards = split_of(log.items), split_of(log.rewards)
        self.behaviours, in_state = split_of(log.behaviours), split_of(log.in_state)
        self.in_state = None if in_state.all() else in_state
        self.propensities = None if log.propensities is None else split_of(log.propensities)
        self.slots = None if log.slots is None else split_of(log.slots)


_OPENED: WeakValueDictionary[tuple[str, str, str], Sessions] = WeakValueDictionary()


def _sessions(log: InteractionLog, split: Split) -> Sessions:
    log.split_code(split)  # refuses what is none
    key = str(log.path.absolute()), log.manifest.digest, split
    found = _OPENED.get(key)
    if found is None:
        found = _OPENED[key] = Sessions(log, split)
    return found


class ReplayUsers:
    """A batch of logged users."""

    def __init__(self, count: int, replay: Replay) -> None:
        """Make room for that many users."""
        self.count, self.replay, self.n_items = count, replay, replay.n_items
        self.space, self.layout, self.actions = replay.space, replay.layout, replay.actions
        # In two arrays, so that an episode begins by two assignments: the next event and the end
        # of the session, items in the window, tries at the event, steps, steps off the log;
        self._counts = np.zeros((6, count), np.int64)
        # does the end of the session terminate, was the log hit, did the user go on?
        self._flags = np.zeros((3, count), bool)
        self._place = np.zeros(count, np.int64)  # the event that was answered last
        self._users = np.arange(count)
        # (history + 1, count): what each consumed before, and a pad that makes room for the next
        self._window = np.full((replay.history + 1, count), replay.n_items, np.int32)

    @property
    def titles(self) -> list[str]:
        """A name for each item."""
        return self.replay.titles

    def begin(
        self, who: NDArray[np.int64], keys: NDArray[np.uint64], options: Mapping[str, Any]
    ) -> None:
        """Begin an episode of some users."""
        known_only("reset() of a replay", options, ["episode"])
        replay, sessions = self.replay, self.replay.sessions
        episodes = replay.chosen(keys, options.get("episode"))
        counts = np.zeros((len(self._counts), len(who)), np.int64)
        counts[0] = sessions.offsets.take(episodes)
        counts[1] = sessions.offsets.take(episodes + 1)
        flags = np.zeros((len(self._flags), len(who)), bool)
        flags[0] = sessions.terminated.take(episodes)
        self._counts[:, who], self._flags[:, who] = counts, flags
        self._window[:, who] = self.n_items
        if sessions.has_context:
            before = replay.log.histories(sessions.firsts.take(episodes), replay.history)
            self._window[:-1, who] = before.T
            self._counts[2, who] = (before != self.n_items).sum(1)

    def answer(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Recommend an item to each user."""
        replay, sessions = self.replay, self.replay.sessions
        following, end, depth, tried, steps, misses = self._counts
        terminal, hit, moved = self._flags
        self._place = place = np.minimum(following, end - 1)
        items = sessions.items.take(place)
        np.equal(items, actions, out=hit)
        moved[:] = hit if replay.off_log != "advance" else True
        if replay.off_log == "stay":
            tried += 1
            moved |= tried >= replay.attempts
            tried[moved] = 0
        joins = None if replay.off_log == "advance" else moved
        if sessions.in_state is not None:
            joins = moved & sessions.in_state.take(place)
        self._consume(items, joins, depth)
        following += moved
        steps += 1
        misses += ~hit
        over = following >= end
        rewards = np.where(hit, sessions.rewards.take(place), 0.0).astype(np.float64, copy=False)
        truncated = over & ~terminal
        if replay.off_log == "stop":
            truncated |= ~hit
        return rewards, over & terminal, truncated

    def _consume(
        self, items: NDArray[np.int32], joins: NDArray[np.bool_] | None, depth: NDArray[np.int64]
    ) -> None:
        """Let items join the windows, all unless it is said which; full ones lose their oldest."""
        window, full = self._window, depth == self.replay.history
        if joins is None:
            window[depth, self._users] = items
            depth += ~full
        else:
            window[depth, self._users] = np.where(joins, items, self.n_items)
            full &= joins
            depth += joins & ~full
        window[:-1] = np.where(full, window[1:], window[:-1])
        window[-1] = self.n_items

    def observe(self) -> NDArray[np.int32]:
        """What each consumed before."""
        return self._window[:-1].T.copy()

    def infos(self) -> dict[str, NDArray[Any]]:
        """The event that was replayed; before the first, and where none was, nothing of it."""
        sessions, place = self.replay.sessions, self._place
        *_, steps, misses = self._counts
        _, hit, moved = self._flags
        behaviours = sessions.behaviours.take(place).astype(np.int64)
        infos: dict[str, NDArray[Any]] = {
            "hit": hit.copy(),
            "off_log": misses / np.maximum(steps, 1),
            "behaviour": np.where(moved, behaviours, self.replay.no_behaviour),
        }
        if sessions.propensities is not None:
            propensities = sessions.propensities.take(place).astype(np.float64)
            infos["propensity"] = np.where(moved, propensities, nan)
        if sessions.slots is not None:
            slots = sessions.slots.take(place).astype(np.int64)
            infos["slot"] = np.where(moved, slots, _NO_SLOT)
        return infos

    def told(self, user: int, action: int | None, reward: float) -> str:
        """What was recommended, what was consumed, and what it brought."""
        if action is None:
            return self.replay.told_before(self._window[:-1, user])
        place = int(self._place[user]) if self._flags[2, user] else None
        return self.replay.told(int(self._counts[4, user]), action, place, reward)


class ReplayEnv(SingleEnv):
    """The sessions of a log's split, one after another; keyword arguments are those of `Replay`.

    Does what a batch of one does, with next to no NumPy on the way of a step.
    """

    _first: int  # where the columns of the session begin
    _items: list[int]
    _rewards: list[float]
    _behaviours: list[int]
    _propensities: list[float] | None
    _slots: list[int] | None
    _tape: NDArray[np.int32]  # what was consumed before, and what is consumed in this episode
    _ends: list[int]  # where on the tape the history of each state ends

    def __init__(
        self,
        *,
        render_mode: str | None = None,
        observation: Observation = "flat",
        **options: Any,
    ) -> None:
        """Open the log."""
        self.replay = replay = _replay(options)
        super().__init__(replay, render_mode, observation)
        self.log = replay.log
        self._advances, self._stops = (replay.off_log == mode for mode in ("advance", "stop"))
        self._ahead: tuple[Any, int, list[int]] = (None, 0, [])  # origin, episode, what is drawn
        self._place = self._tried = self._steps = self._misses = 0
        self._propensities = self._slots = None
        self._empty = np.full(replay.history, replay.n_items, np.int32)

    @property
    def n_episodes(self) -> int:
        """How many episodes the split has."""
        return self.replay.n_episodes

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Recommend an item."""
        if self._over:
            raise not_reset(self._episode < 0)
        item = item_of(action, self.replay.n_items)
        place = self._place
        hit = self._items[place] == item
        moved = hit or self._advances
        stopped = False
        if not moved:
            stopped = self._stops
            self._tried += 1
            moved = not stopped and self._tried >= self.replay.attempts
        self._steps += 1
        self._misses += not hit
        if moved:
            self._place += 1
            self._tried = 0
        ended = self._place == self._length
        self._over = ended or stopped
        reward = self._rewards[place] if hit else 0.0
        if self.render_mode:
            event = self._first + place if moved else None
            self._lines.append(self.replay.told(self._steps, item, event, reward))
        info = {
            "hit": hit,
            "off_log": self._misses / self._steps,
            "behaviour": self._behaviours[place] if moved else self.replay.no_behaviour,
        }
        if self._propensities is not None:
            info["propensity"] = self._propensities[place] if moved else nan
        if self._slots is not None:
            info["slot"] = self._slots[place] if moved else _NO_SLOT
        terminated = ended and self._terminal
        truncated = stopped or (ended and not self._terminal)
        return self._observation(), reward, terminated, truncated, info

    def _begin(self, options: Mapping[str, Any]) -> None:
        known_only("reset() of a replay", options, ["episode"])
        replay, sessions, asked = self.replay, self.replay.sessions, options.get("episode")
        if asked is None:
            chosen = self._drawn(self._episode + 1)
        else:
            chosen = int(replay.chosen(np.zeros(1, np.uint64), asked)[0])
        self._first, end = sessions.offsets[chosen : chosen + 2].tolist()
        events = slice(self._first, end)
        self._length, self._terminal = end - self._first, bool(sessions.terminated[chosen])
        self._place = self._tried = self._steps = self._misses = 0
        items = consumed = sessions.items[events]
        ends = np.arange(self._length + 1)
        if sessions.in_state is not None:
            joins = sessions.in_state[events]
            consumed, ends = items[joins], np.concatenate([[0], np.cumsum(joins)])
        self._items, self._rewards = items.tolist(), sessions.rewards[events].tolist()
        self._behaviours = sessions.behaviours[events].tolist()
        if sessions.propensities is not None:
            self._propensities = sessions.propensities[events].tolist()
        if sessions.slots is not None:
            self._slots = sessions.slots[events].tolist()
        (stop,), (depth,) = self.log.ends_of_histories(sessions.firsts[chosen : chosen + 1])
        before = self.log.state_items[stop - min(depth, replay.history) : stop]
        self._tape = np.concatenate([before, consumed])
        self._ends = (len(before) + ends).tolist()

    def _drawn(self, episode: int) -> int:
        """The session that an episode replays; those of the next ones are drawn with it."""
        origin, first, drawn = self._ahead
        if origin is not self._origin or not first <= episode < first + len(drawn):
            first = episode
            keys = keys_of(self._origin, np.arange(first, first + _AHEAD))
            drawn = self.replay.chosen(keys).tolist()
            self._ahead = self._origin, first, drawn
        return drawn[episode - first]

    def _observation(self) -> Any:
        stop, length = self._ends[self._place], self.replay.history
        if stop >= length:
            return self._formed(self._tape[stop - length : stop].copy())
        window = self._empty.copy()
        window[:stop] = self._tape[:stop]
        return self._formed(window)

    def _info(self) -> dict[str, Any]:
        """What is known before the first step."""
        info = {"hit": False, "off_log": 0.0, "behaviour": self.replay.no_behaviour}
        if self._propensities is not None:
            info["propensity"] = nan
        if self._slots is not None:
            info["slot"] = _NO_SLOT
        return info

    def _told(self, action: int | None, reward: float) -> str:
        return self.replay.told_before(self._tape[: self._ends[0]])


class ReplayVectorEnv(UserVectorEnv):
    """Many logged users at once; keyword arguments are those of `Replay`."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        observation: Observation = "flat",
        autoreset_mode: Any = "NextStep",
        **options: Any,
    ) -> None:
        """Open the log."""
        users = ReplayUsers(checked_count(num_envs), _replay(options, BATCHED))
        super().__init__(users, render_mode, observation, autoreset_mode)


def _replay(options: Mapping[str, Any], *others: str) -> Replay:
    known_only("A replay", options, (*signature(Replay).parameters, *COMMON, *others))
    return Replay(**options)
