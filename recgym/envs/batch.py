"""A batch of users behind Gymnasium's two interfaces: one of them, or all of them at once."""

import difflib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from recgym.envs.draws import keys_of, origins_of
from recgym.errors import InvalidArgument, NotReset, printable

AutoresetMode: Any = vars(gymnasium.vector).get("AutoresetMode")  # Gymnasium 1.0 has one mode only
Layout = dict[str, tuple[int, int]]
Observation = Literal["flat", "dict"]
COMMON = ("observation", "render_mode")  # arguments of every environment; of batches, one more:
BATCHED = "autoreset_mode"
_RENDER_MODES = ["ansi"]
_MODES = ("NextStep", "SameStep", "Disabled")


class World(Protocol):
    """What can be seen and done."""

    layout: Layout  # the parts of an observation

    @property
    def space(self) -> spaces.Space[Any]:
        """Of one user's observation: whole numbers, or text."""

    @property
    def actions(self) -> "Actions":
        """What can be done."""

    @property
    def titles(self) -> list[str]:
        """A name for each item."""


class Actions(Protocol):
    """What users can be shown or shoppers can do."""

    @property
    def space(self) -> spaces.Space[Any]:
        """Of one action."""

    def one(self, action: Any) -> NDArray[Any]:
        """An action as a batch of one; or a sentence on why it is none."""

    def all(self, actions: Any, count: int) -> NDArray[Any]:
        """So many actions as a batch."""


class Users(World, Protocol):
    """Users that are asked all at once; what they hide stays in here.

    A user whose episode is over is asked on, and begun anew before its answer is looked at.
    """

    count: int

    def begin(
        self, who: NDArray[np.int64], keys: NDArray[np.uint64], options: Mapping[str, Any]
    ) -> None:
        """Begin an episode of some users, out of draws from these keys."""

    def answer(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Recommend an item to each: rewards, terminated, truncated."""

    def observe(self) -> NDArray[Any]:
        """What is to be seen of each, in a new array."""

    def infos(self) -> dict[str, NDArray[Any]]:
        """What else may be known of each, in new arrays."""

    def told(self, user: int, action: Any, reward: float) -> str:
        """A line for the reader of a session; before its first action, what came before."""


class SingleEnv(gymnasium.Env[Any, Any]):
    """What environments of one user share: seeds, spaces, and the words of a session."""

    metadata: dict[str, Any] = {"render_modes": _RENDER_MODES, "render_fps": 1}

    def __init__(self, world: World, render_mode: str | None, observation: Observation) -> None:
        """Take spaces from a world."""
        self.world = world
        self.metadata = self.metadata | _parts_of(world)
        self.observation_space, self._formed = _formed(world.space, world.layout, observation)
        self.action_space = world.actions.space
        self.render_mode = _checked_mode(render_mode, self.metadata, world)
        self._origin, self._episode, self._over = np.zeros(1, np.uint64), -1, True
        self._lines: list[str] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        (seed,) = _checked_seeds([seed])
        super().reset(seed=seed)
        before = self._origin, self._episode
        if seed is not None or self._episode < 0:
            self._origin = origins_of(np.array([_seed_of(self)], np.uint64))
            self._episode = -1
        try:
            self._begin(_checked_options(options))
        except InvalidArgument:
            self._origin, self._episode = before
            raise
        self._episode, self._over = self._episode + 1, False
        if self.render_mode:
            self._lines = [self._told(None, 0.0)]
        return self._observation(), self._info()

    def render(self) -> str | None:  # type: ignore[override]
        """The session so far, in words."""
        return "\n".join(self._lines) if self.render_mode else None

    def _begin(self, options: Mapping[str, Any]) -> None:
        """Begin the episode after this one."""
        raise NotImplementedError

    def _observation(self) -> Any:
        raise NotImplementedError

    def _info(self) -> dict[str, Any]:
        raise NotImplementedError

    def _told(self, action: Any, reward: float) -> str:
        raise NotImplementedError


class UserEnv(SingleEnv):
    """One user: a batch of one."""

    def __init__(self, users: Users, render_mode: str | None, observation: Observation) -> None:
        """Take a batch of one."""
        super().__init__(users, render_mode, observation)
        self.users = users

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Recommend an item."""
        if self._over:
            raise not_reset(self._episode < 0)
        actions = self.users.actions.one(action)
        rewards, terminated, truncated = self.users.answer(actions)
        reward, ends, stops = float(rewards[0]), bool(terminated[0]), bool(truncated[0])
        self._over = ends or stops
        if self.render_mode:
            self._lines.append(self._told(actions.tolist()[0], reward))
        return self._observation(), reward, ends, stops, self._info()

    def _begin(self, options: Mapping[str, Any]) -> None:
        keys = keys_of(self._origin, np.array([self._episode + 1]))
        self.users.begin(np.zeros(1, np.int64), keys, options)

    def _observation(self) -> Any:
        return self._formed(self.users.observe()[0])

    def _info(self) -> dict[str, Any]:
        return {name: values.tolist()[0] for name, values in self.users.infos().items()}

    def _told(self, action: Any, reward: float) -> str:
        return self.users.told(0, action, reward)


class UserVectorEnv(VectorEnv[Any, Any, NDArray[Any]]):
    """Many users at once: what as many environments with seeds in a row would do, exactly."""

    metadata: dict[str, Any] = {"render_modes": _RENDER_MODES, "render_fps": 1}

    def __init__(
        self,
        users: Users,
        render_mode: str | None,
        observation: Observation,
        autoreset_mode: Any = "NextStep",
    ) -> None:
        """Take a batch."""
        self.users, self.num_envs = users, users.count
        self._mode = _autoreset(autoreset_mode)
        self.metadata = self.metadata | _parts_of(users)
        if AutoresetMode is not None:
            self.autoreset_mode = AutoresetMode(self._mode)  # where TorchRL looks for it
            self.metadata["autoreset_mode"] = self.autoreset_mode
        self.single_observation_space, self._formed = _formed(
            users.space, users.layout, observation
        )
        self.single_action_space = users.actions.space
        self.observation_space = _of_all(self.single_observation_space, self.num_envs)
        self.action_space = _of_all(self.single_action_space, self.num_envs)
        self.render_mode = _checked_mode(render_mode, self.metadata, users)
        self._origins = np.zeros(self.num_envs, np.uint64)
        self._episodes = np.full(self.num_envs, -1)
        self._over = np.ones(self.num_envs, bool)
        self._begun = False  # has everybody been reset?
        self._lines: dict[int, list[str]] = {}  # of each user, where they are to be rendered

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode of every user, or of those that `options["reset_mask"]` marks."""
        options = dict(_checked_options(options))
        who = self._asked(options.pop("reset_mask", None))
        seeds = self._seeds(seed)
        super().reset(seed=None if _is_list(seed) else seeds[0])
        before = self._origins.copy(), self._episodes.copy()
        for user in who.tolist():
            if seeds[user] is None and self._episodes[user] < 0:
                seeds[user] = _seed_of(self) + user
        new = [user for user in who.tolist() if seeds[user] is not None]
        self._origins[new] = origins_of(np.array([seeds[u] % 2**64 for u in new], np.uint64))
        self._episodes[new] = -1
        try:
            self._begin(who, options)
        except InvalidArgument:
            self._origins, self._episodes = before
            raise
        self._begun = bool(self._episodes.min() >= 0)
        mask = np.zeros(self.num_envs, bool)
        mask[who] = True
        return self._formed(self.users.observe()), _masked(self.users.infos(), mask)

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Recommend an item to every user; those whose episode is over begin another."""
        if not self._begun or (self._mode == "Disabled" and self._over.any()):
            raise not_reset(not self._begun)
        batch = self.users.actions.all(actions, self.num_envs)
        rewards, terminated, truncated = self.users.answer(batch)
        every = np.ones(self.num_envs, bool)
        if self.render_mode:
            done = batch.tolist()
            for user in np.flatnonzero(~self._over).tolist():
                self._lines[user].append(self.users.told(user, done[user], float(rewards[user])))
        ended = np.flatnonzero(self._over)
        if len(ended):  # in the step before: these begin anew instead
            for values in (rewards, terminated, truncated):
                values[ended] = 0
            self._begin(ended, {})
        over = terminated | truncated
        self._over = over.copy()
        if self._mode != "SameStep" or not over.any():
            infos = _masked(self.users.infos(), every)
            return self._formed(self.users.observe()), rewards, terminated, truncated, infos
        last, known = self._formed(self.users.observe()), _masked(self.users.infos(), over)
        final = np.full(self.num_envs, None, object)
        for user in np.flatnonzero(over).tolist():
            final[user] = _of_user(last, user)
        self._begin(np.flatnonzero(over), {})
        infos = {
            "final_obs": final,
            "_final_obs": over.copy(),
            "final_info": known,
            "_final_info": over.copy(),
        } | _masked(self.users.infos(), every)
        return self._formed(self.users.observe()), rewards, terminated, truncated, infos

    def render(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """The session of every user so far, in words."""
        if not self.render_mode:
            return None
        return tuple("\n".join(self._lines.get(user, [])) for user in range(self.num_envs))

    def _begin(self, who: NDArray[np.int64], options: Mapping[str, Any]) -> None:
        episodes = self._episodes[who] + 1
        self.users.begin(who, keys_of(self._origins[who], episodes), options)
        self._episodes[who] = episodes
        self._over[who] = False
        if self.render_mode:
            for user in who.tolist():
                self._lines[user] = [self.users.told(user, None, 0.0)]

    def _seeds(self, seed: Any) -> list[int | None]:
        """The seed of each user: one after the other from a single one on, or as given."""
        if not _is_list(seed):
            (seed,) = _checked_seeds([seed])
            return [None if seed is None else seed + user for user in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise InvalidArgument(
                f"One seed, or one for each of {self.num_envs} users: {len(seed)} were given."
            )
        return _checked_seeds(seed)

    def _asked(self, mask: Any) -> NDArray[np.int64]:
        """The users to be reset."""
        if mask is None:
            return np.arange(self.num_envs)
        try:
            marks = np.asarray(mask)
        except ValueError:  # ragged
            marks = np.asarray(None)
        if marks.shape != (self.num_envs,) or marks.dtype != bool or not marks.any():
            raise InvalidArgument(
                f"A reset_mask has a truth value for each of {self.num_envs} users, one of them "
                f"true, and this one has shape {marks.shape} and type {marks.dtype}."
            )
        return np.flatnonzero(marks)


def checked_count(num_envs: Any) -> int:
    """How many users are asked for."""
    if not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise InvalidArgument(
            f"num_envs is a whole number from 1 on, and {printable(repr(num_envs))} was given."
        )
    return int(num_envs)


def known_only(environment: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Refuse keyword arguments that an environment does not have."""
    known = sorted(known)
    for name in map(str, unknown):
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise InvalidArgument(
            f"{environment} takes no argument {printable(name)}.{guess} It takes "
            f"{', '.join(known) or 'none'}."
        )


class Items:
    """Items by their numbers, as actions."""

    def __init__(self, n_items: int) -> None:
        """Number them."""
        self.n_items, self.space = n_items, spaces.Discrete(n_items)

    def one(self, action: Any) -> NDArray[np.int64]:
        return np.array([item_of(action, self.n_items)])

    def all(self, actions: Any, count: int) -> NDArray[np.int64]:
        return items_of(actions, count, self.n_items)


def item_of(action: Any, n_items: int) -> int:
    """An action as the number of an item."""
    try:
        item = operator.index(action)
    except TypeError:
        item = -1
    if not 0 <= item < n_items:
        raise InvalidArgument(
            f"An action is one item, a whole number from 0 to {n_items - 1}, and "
            f"{printable(repr(action))} was given; nothing was changed."
        )
    return item


def items_of(actions: Any, count: int, n_items: int) -> NDArray[np.int64]:
    """The actions of a batch as the numbers of items."""
    try:
        items = np.asarray(actions)
    except ValueError:  # ragged
        items = np.array(None)
    if items.shape != (count,) or items.dtype.kind not in "iu":
        raise InvalidArgument(
            f"Actions are one item for each of {count} users, as whole numbers, and these have "
            f"shape {items.shape} and type {items.dtype}; nothing was changed."
        )
    items = items.astype(np.int64, copy=False)
    if items.view(np.uint64).max() >= n_items:  # or negative
        user = int((items.view(np.uint64) >= n_items).argmax())
        raise InvalidArgument(
            f"An action is an item from 0 to {n_items - 1}, and {items[user]} was given for user "
            f"{user}; nothing was changed."
        )
    return items


def _formed(
    space: spaces.Space[Any], layout: Layout, observation: Observation
) -> tuple[spaces.Space[Any], Callable[[Any], Any]]:
    """The space in the form asked for, and what brings flat observations into it."""
    if isinstance(space, spaces.Text):
        return space, _as_text
    assert isinstance(space, spaces.Box)
    if observation not in get_args(Observation):
        raise InvalidArgument(f"Observations are flat or dict, not {printable(repr(observation))}.")
    if observation == "flat":
        return space, _as_they_are
    parts: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(space.low[low:high], space.high[low:high], dtype=space.low.dtype.type)
        for name, (low, high) in layout.items()
    }
    return spaces.Dict(parts), partial(_in_parts, layout)


def _parts_of(world: World) -> dict[str, Any]:
    """What the metadata say of an observation: text has no parts."""
    return {"layout": world.layout} if world.layout else {}


def _of_all(space: spaces.Space[Any], count: int) -> spaces.Space[Any]:
    """Of a batch; texts have no arrays, and share one space, as each knows all characters."""
    if isinstance(space, spaces.Text):
        return spaces.Tuple((space,) * count)
    found: spaces.Space[Any] = batch_space(space, count)
    return found


def _as_they_are(flat: NDArray[Any]) -> NDArray[Any]:
    return flat


def _as_text(texts: Any) -> str | tuple[str, ...]:
    return texts if isinstance(texts, str) else tuple(texts)


def _in_parts(layout: Layout, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {name: flat[..., low:high].copy() for name, (low, high) in layout.items()}


def _of_user(observations: Any, user: int) -> Any:
    if isinstance(observations, dict):
        return {name: part[user] for name, part in observations.items()}
    return observations[user]


def _masked(infos: dict[str, NDArray[Any]], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Infos as Gymnasium wants them of a batch: beside each a mask of whom it is of."""
    return infos | {f"_{name}": mask.copy() for name in infos}


def _checked_mode(render_mode: str | None, metadata: Mapping[str, Any], world: World) -> str | None:
    modes = metadata["render_modes"]
    if render_mode not in (None, *modes):
        raise InvalidArgument(
            f"The render modes are {', '.join(modes)}, not {printable(repr(render_mode))}."
        )
    if render_mode:
        world.titles  # noqa: B018  # read now: a log may be gone later
    return render_mode


def _autoreset(mode: Any) -> str:
    """The name of an autoreset mode, given as that or as Gymnasium's."""
    name = mode.value if AutoresetMode is not None and isinstance(mode, AutoresetMode) else mode
    if name not in _MODES:
        raise InvalidArgument(
            f"An autoreset mode is {', '.join(_MODES)}, not {printable(repr(mode))}."
        )
    if AutoresetMode is None and name != "NextStep":
        raise InvalidArgument(
            f"Gymnasium {gymnasium.__version__} knows no autoreset mode but the next step's: "
            f"{name} needs Gymnasium 1.1 or newer."
        )
    return str(name)


def _checked_options(options: Any) -> Mapping[str, Any]:
    if options is not None and not isinstance(options, Mapping):
        raise InvalidArgument(
            f"Options are a dict of their names, and {printable(repr(options))} was given."
        )
    return options or {}


def _is_list(seed: Any) -> bool:
    if isinstance(seed, np.ndarray):
        return seed.ndim > 0
    return isinstance(seed, Sequence) and not isinstance(seed, str | bytes)


def _checked_seeds(seeds: Iterable[Any]) -> list[int | None]:
    for seed in seeds:
        if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
            raise InvalidArgument(
                f"A seed is a whole number from 0 on, and {printable(repr(seed))} was given."
            )
    return [None if seed is None else int(seed) for seed in seeds]


def _seed_of(env: Any) -> int:
    """The seed that Gymnasium knows of an environment; drawn where its generator was replaced."""
    seed = env.np_random_seed
    return int(seed if seed >= 0 else env.np_random.integers(2**63)) % 2**64


def not_reset(never: bool) -> NotReset:
    """What a step outside an episode raises."""
    when = "The episode has not begun" if never else "The episode is over"
    return NotReset(f"{when}: call reset() before step().")
