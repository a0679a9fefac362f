"""A language model in the place of users: they take what it finds likely, tire, and leave.

The state moves only on positive actions: an item that is taken joins the history, one that is
refused leaves no trace but impatience. After several refusals in a row a user leaves, and after
each item taken as often as logged sessions ended there.
"""

import warnings
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import minari
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
from recgym.envs.draws import uniforms
from recgym.errors import InvalidArgument, MissingExtra, UnknownName, printable

Seen = Literal["history", "state", "both"]
Accept = Literal["probability", "threshold", "log"]
Reward = Literal["probability", "standardised", "raw", "accepted"]
_FAR = 1e6  # no part of a state is as far out
_DRAWS = np.array([[0], [1]])  # of a step: whether an item is taken, and whether the user leaves


class Simulated:
    """A simulator, the logged sessions that its users begin with, and the rules."""

    def __init__(
        self,
        simulator: str = "",
        role: str = "",
        data: str = "",
        seen: Seen = "history",
        accept: Accept = "probability",
        reward: Reward = "probability",
        threshold: float = 1.0,
        patience: int = 5,
        history: int = 10,
        steps: int = 50,
    ) -> None:
        """Load a simulator by its name, and the sessions of a dataset: that of its fit, or another.

        Of the two of a name, `role` says which one: that for training unless the other is named.
        `accept` says when an item is taken: with its calibrated probability, where its standardised
        reward is above the threshold, or where the log says so. `reward` is what a step brings.
        """
        for name, value, kind in (("seen", seen, Seen), ("accept", accept, Accept),
                                  ("reward", reward, Reward)):  # fmt: skip
            if value not in get_args(kind):
                raise InvalidArgument(
                    f"{name} is {', '.join(get_args(kind))}, not {printable(repr(value))}."
                )
        for name, count in (("patience", patience), ("history", history), ("steps", steps)):
            if not isinstance(count, int | np.integer) or count < 1:
                raise InvalidArgument(
                    f"{name} is a whole number from 1 on, and {printable(repr(count))} was given."
                )
        if not isinstance(threshold, int | float | np.number):
            raise InvalidArgument(
                f"threshold is a number, and {printable(repr(threshold))} was given."
            )
        if not simulator:
            raise InvalidArgument(
                "A simulator is needed: give its name as simulator=…, and fit one with "
                "`recgym simulator fit --data ID`."
            )
        self.feedback, self.scale, about = _asked(simulator, role)
        self.accept, self.reward, self.threshold = accept, reward, float(threshold)
        self.patience, self.history, self.steps = int(patience), int(history), int(steps)
        self.n_items = self.feedback.n_items
        other = data not in ("", about["dataset"])
        known = about["catalogue"] if other else ""
        self.sessions = _sessions(data or about["dataset"], self.n_items, known)
        history_space = spaces.Box(0, self.n_items, (self.history,), np.int32)
        self.layout = {"history": (0, self.history)}
        self.space = history_space
        if seen != "history":
            bare = seen == "state"
            width, at = self.feedback.width, 0 if bare else self.history
            high = np.full(at + width, _FAR, np.float32)
            low = -high
            low[:at], high[:at] = 0, self.n_items
            self.space = spaces.Box(low, high, dtype=np.float32)
            self.layout = {} if bare else self.layout
            self.layout["state"] = at, at + width
        self.seen = seen

    @cached_property
    def titles(self) -> list[str]:
        """A name for each item."""
        from recgym.simulator.catalogue import catalogue_of

        items = catalogue_of(_dataset(self.sessions.dataset)).items
        return [item.get("title") or f"item {number}" for number, item in enumerate(items)]


class Sessions:
    """What logged users took, one after the other, and where they stopped."""

    def __init__(self, dataset: str, n_items: int) -> None:
        """Read the sessions of a dataset that have an item."""
        from recgym.simulator.moments import takings

        self.dataset = dataset
        self.items, self.offsets = takings(_dataset(dataset))
        if not self.items.size:
            raise InvalidArgument(
                f"No user of {dataset} took anything, so none can begin as they did: give other "
                "data."
            )
        if self.items.max() >= n_items:
            raise InvalidArgument(
                f"{dataset} has items from {n_items} on, which the simulator does not know: give "
                "data of its catalogue."
            )
        lengths = np.diff(self.offsets)
        ended = np.bincount(lengths, minlength=2)
        there = ended[::-1].cumsum()[::-1]  # sessions of so many items or more
        self.leaving = ended / np.maximum(there, 1)  # after so many items
        self.lengths = lengths


class SimulatedUsers:
    """A batch of users, whom the simulator answers for in one call."""

    def __init__(self, count: int, simulated: Simulated) -> None:
        """Make room for that many users."""
        s = simulated
        self.count, self.simulated, self.n_items = count, s, s.n_items
        self.actions = Items(s.n_items)
        self.space, self.layout = s.space, s.layout
        self.keys = np.zeros(count, np.uint64)
        self.steps, self.refused, self.taken, self.session = np.zeros((4, count), np.int64)
        self.accepted = np.zeros(count, bool)
        self.there = np.ones(count, bool)  # whom the simulator is asked about
        self.probability = np.zeros(count)
        self._window = np.full((count, s.history), s.n_items, np.int32)

    @property
    def titles(self) -> list[str]:
        """A name for each item."""
        return self.simulated.titles

    def begin(
        self, who: NDArray[np.int64], keys: NDArray[np.uint64], options: Mapping[str, Any]
    ) -> None:
        """Draw logged sessions: users begin with the first item of theirs."""
        known_only("reset() of a simulator", options, ())
        sessions = self.simulated.sessions
        drawn = (uniforms(keys, 0) * len(sessions.lengths)).astype(np.int64)
        self.keys[who], self.session[who] = keys, drawn
        self.steps[who] = self.refused[who] = 0
        self.taken[who], self.accepted[who], self.probability[who] = 1, False, 0.0
        self._window[who] = self.n_items
        self._window[who, 0] = sessions.items[sessions.offsets[drawn]]

    def answer(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Show an item to each: it is taken or refused, and the user stays or leaves."""
        s = self.simulated
        raw, there = np.zeros(self.count, np.float32), self.there
        raw[there] = s.feedback.rewards(self._window[there], actions[there, None])[:, 0]
        standardised = s.scale.standardised(raw)
        self.probability = s.scale.probability(raw).astype(np.float64)
        takes, leaves = uniforms(self.keys, self.steps + 1, _DRAWS)
        if s.accept == "probability":
            self.accepted = takes < self.probability
        elif s.accept == "threshold":
            self.accepted = standardised > s.threshold
        else:
            self.accepted = self._logged() == actions
        self._take(actions)
        self.refused = np.where(self.accepted, 0, self.refused + 1)
        leaving = s.sessions.leaving[np.minimum(self.taken, len(s.sessions.leaving) - 1)]
        left = (self.refused >= s.patience) | (self.accepted & (leaves < leaving))
        self.steps += 1
        rewards = {"raw": raw, "standardised": standardised, "probability": self.probability,
                   "accepted": self.accepted}[s.reward]  # fmt: skip
        return rewards.astype(np.float64), left, (self.steps >= s.steps) & ~left

    def _logged(self) -> NDArray[np.int64]:
        """What each took next in the log; after its end, nothing."""
        sessions = self.simulated.sessions
        place = sessions.offsets[self.session] + self.taken
        there = place < sessions.offsets[self.session + 1]
        return np.where(there, sessions.items[np.where(there, place, 0)], -1)

    def _take(self, actions: NDArray[np.int64]) -> None:
        """Let what is taken join the histories; full ones lose their oldest."""
        who = np.flatnonzero(self.accepted)
        full = who[self.taken[who] >= self.simulated.history]
        self._window[full, :-1] = self._window[full, 1:]
        place = np.minimum(self.taken[who], self.simulated.history - 1)
        self._window[who, place] = actions[who]
        self.taken[who] += 1

    def observe(self) -> NDArray[Any]:
        """What each took, what the simulator makes of it, or both."""
        if self.simulated.seen == "history":
            return self._window.copy()
        states: NDArray[np.float32] = self.simulated.feedback.states(self._window)
        if self.simulated.seen == "state":
            return states
        return np.concatenate([self._window.astype(np.float32), states], 1)

    def infos(self) -> dict[str, NDArray[Any]]:
        """Whether the last item was taken, and how probable that was."""
        return {"accepted": self.accepted.copy(), "probability": self.probability.copy()}

    def told(self, user: int, action: int | None, reward: float) -> str:
        """What was shown, and what the user did."""
        if action is None:
            return f"before: {self.titles[int(self._window[user, 0])]}"
        did = "takes it  " if self.accepted[user] else "refuses it"
        return (
            f"{self.steps[user]:3}  {self.titles[action][:60]:60} {did} "
            f"(p = {self.probability[user]:.3f})  {reward:+.3f}"
        )


class SimulatorEnv(UserEnv):
    """One simulated user after another; keyword arguments are those of `Simulated`."""

    def __init__(
        self,
        *,
        render_mode: str | None = None,
        observation: Observation = "flat",
        **options: Any,
    ) -> None:
        """Load the simulator."""
        super().__init__(SimulatedUsers(1, _simulated(options)), render_mode, observation)


class SimulatorVectorEnv(UserVectorEnv):
    """Many simulated users, one call of the model a step; keyword arguments as of `Simulated`."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        observation: Observation = "flat",
        autoreset_mode: Any = "NextStep",
        **options: Any,
    ) -> None:
        """Load the simulator, for that many users."""
        users = SimulatedUsers(checked_count(num_envs), _simulated(options, BATCHED))
        super().__init__(users, render_mode, observation, autoreset_mode)


_ARGUMENTS = ("simulator", "role", "data", "seen", "accept", "reward", "threshold", "patience",
              "history", "steps")  # fmt: skip


def _simulated(options: Mapping[str, Any], *others: str) -> Simulated:
    known_only("A simulator", options, (*_ARGUMENTS, *COMMON, *others))
    return Simulated(**options)


@lru_cache(maxsize=4)
def _asked(simulator: str, role: str) -> Any:
    """The simulator with its answers kept on disk, its scale, and how it was made.

    On a machine without its language model it answers what it was asked before.
    """
    try:
        from recgym.simulator.calibration import Scale
        from recgym.simulator.store import kept, simulators
    except ImportError:
        raise MissingExtra("A simulator", "llm") from None

    name = simulator if simulator in simulators() else f"{simulator}-{role or 'training'}"
    user, about = kept(name, lambda sentence: warnings.warn(sentence, stacklevel=3))
    own = about["asked"]["fit"]["role"]
    if name == simulator and role not in ("", own):
        raise InvalidArgument(
            f"{printable(name)} is for {own}, and the simulator for {printable(role)} is asked "
            "for: give the name that both have, without the role."
        )
    return user, Scale(**about["scale"]), about


@lru_cache(maxsize=4)
def _sessions(dataset: str, n_items: int, catalogue: str) -> Sessions:
    from recgym.simulator.catalogue import catalogue_of

    if catalogue and catalogue_of(_dataset(dataset)).sha256 != catalogue:
        raise InvalidArgument(
            f"{dataset} has another catalogue than the simulator knows: give data of its own."
        )
    return Sessions(dataset, n_items)


def _dataset(name: str) -> Any:
    there = minari.list_local_datasets()
    if name not in there:
        raise UnknownName("dataset", name, there, "The users of a simulator begin as in its data.")
    return minari.load_dataset(name)
