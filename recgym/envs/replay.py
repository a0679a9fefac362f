"""Logged users, replayed: each goes on as the log says, whatever is recommended."""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from recgym.episodes import history_space
from recgym.errors import BadLog, InvalidArgument, NothingLeft
from recgym.home import load_log
from recgym.log import Split


class ReplayEnv(gymnasium.Env[NDArray[np.int32], np.int64]):
    """The sessions of a log's split as episodes: a contextual bandit, as actions change no state.

    The observation is what the user consumed before, oldest first, right-padded with the number
    of items. A step answers with the logged event's reward where its item is recommended, and
    with 0 otherwise; then the logged user goes on.
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        log: str,
        split: Split = "test",
        history: int = 10,
        digest: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Open a log by its name or folder; a digest says that it must be that very log."""
        self.log = load_log(log)
        if digest not in (None, self.log.manifest.digest):
            raise BadLog(
                f"The log '{log}' has digest {self.log.manifest.digest[:12]}…, and {digest[:12]}… "
                "is asked for: it was built anew from other data or under another protocol."
            )
        self._rows, lengths, self._terminated = self.log.episodes(split)
        if not len(lengths):
            raise NothingLeft(f"The log '{log}' has no {split} row with an item that it indexes.")
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._history = history
        self.observation_space = history_space(self.log.n_items, history)
        self.action_space = spaces.Discrete(self.log.n_items)
        self.render_mode = render_mode
        self._place = self._end = self._steps = self._hits = 0

    @property
    def n_episodes(self) -> int:
        """How many episodes the split has."""
        return len(self._terminated)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.int32], dict[str, Any]]:
        """Begin the episode `options["episode"]`, or one drawn at random."""
        super().reset(seed=seed)
        asked = (options or {}).get("episode")
        if asked is not None and not 0 <= asked < self.n_episodes:
            raise InvalidArgument(
                f"Episodes are 0 to {self.n_episodes - 1}, and {asked} was asked for."
            )
        self._episode = self.np_random.integers(self.n_episodes) if asked is None else asked
        self._place, self._end = self._offsets[self._episode : self._episode + 2].tolist()
        self._steps = self._hits = 0
        return self._observation(), self._info(None, False)

    def step(self, action: np.int64) -> tuple[NDArray[np.int32], float, bool, bool, dict[str, Any]]:
        """Recommend an item."""
        if self._place == self._end:
            raise gymnasium.error.ResetNeeded("The episode is over: call reset() before step().")
        row = self._rows[self._place]
        hit = bool(self.log.items[row] == action)
        self._place += 1
        self._steps += 1
        self._hits += hit
        over = self._place == self._end
        ends = bool(self._terminated[self._episode])
        reward = float(self.log.rewards[row]) if hit else 0.0
        return self._observation(), reward, over and ends, over and not ends, self._info(row, hit)

    def _observation(self) -> NDArray[np.int32]:
        over = self._place == self._end
        row = self._rows[self._place - over : self._place - over + 1]
        return np.asarray(self.log.histories(row, self._history, after=over)[0])

    def _info(self, row: int | None, hit: bool) -> dict[str, Any]:
        log = self.log
        info = {
            "hit": hit,
            "off_log": 1 - self._hits / self._steps if self._steps else 0.0,
            "behaviour": len(log.manifest.behaviours) if row is None else int(log.behaviours[row]),
        }
        if log.propensities is not None:
            info["propensity"] = math.nan if row is None else float(log.propensities[row])
        if log.slots is not None:
            info["slot"] = 255 if row is None else int(log.slots[row])
        return info
