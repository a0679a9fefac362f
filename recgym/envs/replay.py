"""Logged users, replayed: what they did is known; what else they would have done is not.

What an action off the log does is named. With `advance`, the logged user goes on as the log says:
a contextual bandit, as no action changes any later state. With `stop`, the episode is truncated.
With `stay`, the user waits for another try, some times: a policy can find out the log's answers by
trying, so this is never ranked.
"""

from collections.abc import Mapping
from functools import cached_property
from inspect import signature
from math import nan
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recgym.envs.batch import (
    Observation,
    SingleEnv,
    UserVectorEnv,
    checked_count,
    item_of,
    known_only,
    not_reset,
)
from recgym.envs.draws import keys_of, uniforms
from recgym.episodes import history_space
from recgym.errors import BadLog, InvalidArgument, NothingLeft, printable
from recgym.home import load_log
from recgym.log import Split

OffLog = Literal["advance", "stop", "stay"]
_NO_SLOT = np.iinfo(np.uint8).max
_AHEAD = 64  # episodes that a single environment draws at once


class Replay:
    """The sessions of a log's split as episodes, and the rules of their replay."""

    def __init__(
        self,
        log: str = "",
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
        if not isinstance(log, str) or not log:
            raise InvalidArgument("A replay needs a log: give its name or its folder as log=….")
        self.log = load_log(log, build)
        if digest not in (None, self.log.manifest.digest):
            raise BadLog(
                f"The log '{log}' has digest {self.log.manifest.digest[:12]}…, and {digest[:12]}… "
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
        self.space = history_space(self.log.n_items, history)
        self.layout = {"history": (0, int(history))}
        self.n_items = self.log.n_items
        self.rows, lengths, self.terminated = self.log.episodes(split)
        if not len(lengths):
            raise NothingLeft(f"The log '{log}' has no {split} row with an item that it indexes.")
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        self.no_behaviour = len(self.log.manifest.behaviours)

    @property
    def n_episodes(self) -> int:
        """How many episodes the split has."""
        return len(self.terminated)

    def chosen(self, keys: NDArray[np.uint64], asked: Any = None) -> NDArray[np.int64]:
        """The episodes that are asked for, or drawn."""
        if asked is None:
            return (uniforms(keys, 0) * self.n_episodes).astype(np.int64)
        episodes = np.asarray(asked)
        known = episodes.dtype.kind in "iu" and episodes.shape in ((), keys.shape)
        if not known or episodes.min() < 0 or episodes.max() >= self.n_episodes:
            raise InvalidArgument(
                f"Episodes are 0 to {self.n_episodes - 1}, one for all users or one for each of "
                f"{len(keys)}, and {printable(repr(asked))} was asked for."
            )
        return np.broadcast_to(episodes.astype(np.int64), keys.shape)

    def told(self, step: int, action: int | None, row: int | None, reward: float) -> str:
        """What was recommended, what was consumed, and what it brought."""
        if action is None:
            before = self.log.histories(np.array([row]), self.history)[0]
            known = [self.titles[item] for item in before.tolist() if item != self.n_items]
            return f"before: {'; '.join(known) or 'nothing'}"
        consumed = "the log knows no answer"
        if row is not None:
            behaviour = self.log.manifest.behaviours[self.log.behaviours[row]]
            consumed = f"{self.titles[self.log.items[row]]} ({behaviour})"
        return f"{step:3}  recommended {self.titles[action]:40}  consumed {consumed}  {reward:+.2f}"

    @cached_property
    def titles(self) -> list[str]:
        """A name for each item."""
        names = self.log.catalogue.column("raw_id").to_pylist()
        if "title" not in self.log.catalogue.schema.names:
            return list(map(str, names))
        titles = self.log.catalogue.column("title").to_pylist()
        return [title or str(name) for title, name in zip(titles, names, strict=True)]


class ReplayUsers:
    """A batch of logged users."""

    def __init__(self, count: int, replay: Replay) -> None:
        """Make room for that many users."""
        self.count, self.replay, self.n_items = count, replay, replay.n_items
        self.space, self.layout = replay.space, replay.layout
        self._place, self._end = np.zeros((2, count), np.int64)
        self._tried, self._steps, self._misses = np.zeros((3, count), np.int64)
        self._ends, self._hit, self._moved = np.zeros((3, count), bool)
        self._row = np.zeros(count, np.int64)
        self._users = np.arange(count)
        self._depth = np.zeros(count, np.int64)  # items in the window, at most all of it
        # (history + 1, count): what each consumed before, and a pad that makes room for the next
        self._window = np.full((replay.history + 1, count), replay.n_items, np.int32)

    def begin(
        self, who: NDArray[np.int64], keys: NDArray[np.uint64], options: Mapping[str, Any]
    ) -> None:
        """Begin an episode of some users."""
        known_only("reset() of a replay", options, ["episode"])
        episodes = self.replay.chosen(keys, options.get("episode"))
        self._place[who] = self.replay.offsets[episodes]
        self._end[who] = self.replay.offsets[episodes + 1]
        self._ends[who] = self.replay.terminated[episodes]
        self._tried[who] = self._steps[who] = self._misses[who] = 0
        self._hit[who] = self._moved[who] = False
        windows = self.replay.log.histories(self.replay.rows[self._place[who]], self.replay.history)
        self._window[:-1, who] = windows.T
        self._depth[who] = (windows != self.n_items).sum(1)

    def answer(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Recommend an item to each user."""
        replay, log = self.replay, self.replay.log
        self._row = replay.rows.take(np.minimum(self._place, self._end - 1))
        items = log.items.take(self._row)
        self._hit = hit = items == actions
        stopped = np.zeros(self.count, bool)
        self._moved = np.ones(self.count, bool)
        if replay.off_log != "advance":
            self._moved = hit.copy()
        if replay.off_log == "stop":
            stopped = ~hit
        elif replay.off_log == "stay":
            self._tried += 1
            self._moved |= self._tried >= replay.attempts
            self._tried[self._moved] = 0
        self._consume(items, self._moved & log.in_state.take(self._row))
        self._place += self._moved
        self._steps += 1
        self._misses += ~hit
        over = self._place >= self._end
        rewards = np.multiply(log.rewards.take(self._row), hit, dtype=np.float64)
        return rewards, over & self._ends, over & ~self._ends | stopped

    def _consume(self, items: NDArray[np.int32], joins: NDArray[np.bool_]) -> None:
        """Let items join the windows; full ones lose their oldest."""
        length, window = self.replay.history, self._window
        window[self._depth, self._users] = np.where(joins, items, self.n_items)
        full = joins & (self._depth == length)
        window[:-1] = np.where(full, window[1:], window[:-1])
        window[-1] = self.n_items
        self._depth = np.minimum(self._depth + joins, length)

    def observe(self) -> NDArray[np.int32]:
        """What each consumed before."""
        return self._window[:-1].T.copy()

    def infos(self) -> dict[str, NDArray[Any]]:
        """The event that was replayed; before the first, and where none was, nothing of it."""
        log, row, moved = self.replay.log, self._row, self._moved
        behaviours = log.behaviours.take(row).astype(np.int64)
        infos: dict[str, NDArray[Any]] = {
            "hit": self._hit.copy(),
            "off_log": self._misses / np.maximum(self._steps, 1),
            "behaviour": np.where(moved, behaviours, self.replay.no_behaviour),
        }
        if log.propensities is not None:
            propensities = log.propensities.take(row).astype(np.float64)
            infos["propensity"] = np.where(moved, propensities, nan)
        if log.slots is not None:
            infos["slot"] = np.where(moved, log.slots.take(row), _NO_SLOT).astype(np.int64)
        return infos

    def told(self, user: int, action: int | None, reward: float) -> str:
        """What was recommended, what was consumed, and what it brought."""
        row = self._row[user] if self._moved[user] else None
        if action is None:
            row = self.replay.rows[self._place[user]]
        return self.replay.told(int(self._steps[user]), action, row, reward)


class ReplayEnv(SingleEnv):
    """The sessions of a log's split, one after another; keyword arguments are those of `Replay`.

    Does what a batch of one does, without NumPy on the way of a step.
    """

    _rows: NDArray[Any]
    _items: list[int]
    _rewards: list[float]
    _behaviours: list[int]
    _propensities: list[float] | None
    _slots: list[int] | None
    _windows: list[tuple[int, int]]  # where the history of each state ends, and its length

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
            row = int(self._rows[place]) if moved else None
            self._lines.append(self.replay.told(self._steps, item, row, reward))
        info = {
            "hit": hit,
            "off_log": self._misses / self._steps,
            "behaviour": self._behaviours[place] if moved else self.replay.no_behaviour,
        }
        if self._propensities is not None:
            info["propensity"] = self._propensities[place] if moved else nan
        if self._slots is not None:
            info["slot"] = self._slots[place] if moved else _NO_SLOT
        terminated = ended and self._ends
        truncated = stopped or (ended and not self._ends)
        return self._observation(), reward, terminated, truncated, info

    def _begin(self, options: Mapping[str, Any]) -> None:
        known_only("reset() of a replay", options, ["episode"])
        replay, log, asked = self.replay, self.log, options.get("episode")
        if asked is None:
            chosen = self._drawn(self._episode + 1)
        else:
            chosen = int(replay.chosen(np.zeros(1, np.uint64), asked)[0])
        first, end = replay.offsets[chosen : chosen + 2].tolist()
        self._rows = rows = replay.rows[first:end]
        self._length, self._ends = end - first, bool(replay.terminated[chosen])
        self._place = self._tried = self._steps = self._misses = 0
        self._items, self._rewards = log.items[rows].tolist(), log.rewards[rows].tolist()
        self._behaviours = log.behaviours[rows].tolist()
        self._propensities = None if log.propensities is None else log.propensities[rows].tolist()
        self._slots = None if log.slots is None else log.slots[rows].tolist()
        stops, depths = (ends.tolist() for ends in log.ends_of_histories(rows))
        last = log.ends_of_histories(rows[-1:], True)
        self._windows = list(zip(stops + last[0].tolist(), depths + last[1].tolist(), strict=True))

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
        stop, depth = self._windows[self._place]
        length = self.replay.history
        if depth >= length:
            return self._formed(self.log.state_items[stop - length : stop].copy())
        window = self._empty.copy()
        window[:depth] = self.log.state_items[stop - depth : stop]
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
        return self.replay.told(0, action, int(self._rows[0]), reward)


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
        users = ReplayUsers(checked_count(num_envs), _replay(options))
        super().__init__(users, render_mode, observation, autoreset_mode)


def _replay(options: Mapping[str, Any]) -> Replay:
    known_only("A replay", options, signature(Replay).parameters)
    return Replay(**options)
