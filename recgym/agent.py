"""What an agent is, and how one is found by its name, whoever wrote it."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import gymnasium
import numpy as np
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.errors import InvalidArgument, MissingExtra, UnknownName, printable

Infos = Mapping[str, NDArray[Any]]  # a row for each user; empty where only histories are ranked
Source = Literal["data", "environment", "rules"]  # what an agent learns from; only one is offline
SKIP = "skip"  # the behaviour of an item that was shown and not taken

_AGENTS = "recgym.agents"


class Agent(Protocol):
    """What learns from datasets and recommends.

    It is a class whose keyword arguments are its options, such as a dataclass; an option `seed`
    decides everything that is drawn, and an agent without one leaves nothing to chance.

    An agent that has `scores(observations, infos) -> (batch, n_actions)` as well is ranked by
    them; any other by the one item that it recommends. One that has `parameters` says how many
    numbers it has learned. One that acts in the words of a shop says `shops = True`, and is checked
    in one.
    """

    learns_from: ClassVar[Source] = "data"

    def fit(
        self,
        train: MinariDataset,
        validation: MinariDataset | None = None,
        env: gymnasium.Env[Any, Any] | None = None,
    ) -> Any:
        """Learn from a dataset; `validation` is of other users or later events.

        `env` is there for agents that learn from it, where the benchmark has one that answers: of a
        shop, the one that `train` is of, with goals for training.
        """

    def act(self, observations: Any, infos: Infos) -> NDArray[Any]:
        """Recommend an item to each user of a batch; in a shop, say a text for each shopper."""

    def save(self, folder: Path) -> None:
        """Write what was learned into a folder, as JSON, safetensors or NumPy arrays."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """An agent as it was saved."""


def agent_homes() -> dict[str, str]:
    """The agents that come with recgym, by name: where their classes are."""
    return dict(import_module(_AGENTS).AGENTS)


def agent_names() -> list[str]:
    """The agents that come with recgym."""
    return sorted(agent_homes())


def load_agent(name: str) -> type[Any]:
    """The class of an agent: of that name, or of `package.module:Class`."""
    home = name
    if ":" not in name:
        agents = agent_homes()
        if name not in agents:
            raise UnknownName("agent", name, agents, "Others are named package.module:Class.")
        home = agents[name]
    module, _, attribute = home.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as problem:
        if home != name:  # it is ours: what it lacks is a library
            library = name.partition("-")[0]
            extra = library if library in ("d3rlpy", "sb3") else "agents"
            raise MissingExtra(f"The agent '{name}'", extra) from None
        raise InvalidArgument(
            f"The agent '{printable(name)}' cannot be loaded ({problem}). Name it as "
            "package.module:Class, where Python finds it: installed, or in a folder of PYTHONPATH."
        ) from None
    if not isinstance(found, type) or not callable(getattr(found, "act", None)):
        raise InvalidArgument(
            f"'{printable(name)}' is no class of agents: it has no act(observations, infos)."
        )
    return found


def home_of(agent: type[Any]) -> str:
    """The name under which any class of agents is found: `package.module:Class`."""
    return f"{agent.__module__}:{agent.__qualname__}"


def short_name(home: str) -> str:
    """What an agent at `package.module:Class` is called: its own name, or one made of that."""
    for name, known in agent_homes().items():
        if known == home:
            return name
    return re.sub(r"[^a-z0-9]+", "-", home.lower()).strip("-")


def options_of(agent: type[Any]) -> dict[str, Any]:
    """The options of an agent and their defaults; `inspect.Parameter.empty` where it has none."""
    parameters = inspect.signature(agent).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name: p.default for p in parameters if p.kind not in kinds}


def has_chance(agent: type[Any]) -> bool:
    """Does a seed decide what the agent becomes?"""
    return "seed" in options_of(agent)


def made(agent: type[Any], config: Mapping[str, Any], seed: int) -> Any:
    """An agent with these options, and this seed where it takes one."""
    known = options_of(agent)
    for name in config:
        if name not in known or name == "seed":
            raise UnknownName(f"option of {agent.__name__}", name, known.keys() - {"seed"})
    drawn = {"seed": seed} if has_chance(agent) else {}
    try:
        return agent(**config, **drawn)
    except TypeError as problem:
        raise InvalidArgument(
            f"{home_of(agent)} cannot be made: {printable(str(problem))}. Its options are "
            f"{', '.join(known) or 'none'}."
        ) from None


def taught(
    agent: Any,
    train: MinariDataset,
    validation: MinariDataset | None = None,
    env: gymnasium.Env[Any, Any] | None = None,
    run: Any = None,
) -> Any:
    """An agent that has learned: itself, or what its `fit` returns.

    A run, which keeps metrics and checkpoints, is for agents whose `fit` takes one.
    """
    more = {"run": run} if run is not None and takes_run(type(agent)) else {}
    returned = agent.fit(train, validation, env, **more)
    return agent if returned is None else returned


def takes_run(agent: type[Any]) -> bool:
    """Does its training keep metrics and checkpoints, where it is told to?"""
    return "run" in inspect.signature(agent.fit).parameters


def training_data(train: MinariDataset, validation: MinariDataset | None = None) -> None:
    """Refuse to learn from a test dataset."""
    for data in (train, validation):
        if data is not None and data.storage.metadata.get("split") == "test":
            raise InvalidArgument(
                f"{data.id} is a test dataset, and no agent learns from one: give the training "
                "split, and the validation split as validation=…."
            )


@dataclasses.dataclass(frozen=True)
class View:
    """How the observations of a dataset are read: what a user consumed, and how it was answered."""

    n_items: int  # the pad of histories, too
    parts: Mapping[str, slice]  # of a flat observation: history, and responses where it has them
    skip: int  # the response to an item that was shown and not taken; -1 where there is none

    @classmethod
    def of(cls, dataset: MinariDataset) -> "View":
        """Read the layout that a dataset states; without one, all of a flat Box is history."""
        observed, acted = dataset.observation_space, dataset.action_space
        if not isinstance(acted, spaces.Discrete) or acted.start != 0:
            raise InvalidArgument(
                f"Agents that recommend items take Discrete actions from 0, and those of "
                f"{dataset.id} are {printable(repr(acted))}."
            )
        about = dataset.storage.metadata
        layout = about.get("layout")
        if layout is None and isinstance(observed, spaces.Box) and len(observed.shape) == 1:
            layout = {"history": [0, observed.shape[0]]}
        if not layout or "history" not in layout:
            raise InvalidArgument(
                f"{dataset.id} does not say where the history stands in its observations: its "
                'metadata need a layout such as {"history": [0, 10]}.'
            )
        behaviours = list(about.get("behaviours", []))
        skip = behaviours.index(SKIP) if SKIP in behaviours else -1
        return cls(int(acted.n), {name: slice(*part) for name, part in layout.items()}, skip)

    def items(self, observations: Any) -> NDArray[np.int32]:
        """(batch, length): what was shown or consumed, oldest first, padded with n_items."""
        return self._part("history", observations)

    def consumed(self, observations: Any) -> NDArray[np.int32]:
        """The same with n_items in the place of what was skipped."""
        items = self.items(observations)
        if "responses" not in self.parts:
            return items
        skipped = self._part("responses", observations) == self.skip
        return np.where(skipped, np.int32(self.n_items), items)

    def _part(self, name: str, observations: Any) -> NDArray[np.int32]:
        if isinstance(observations, Mapping):
            return np.asarray(observations[name])
        return np.asarray(observations)[:, self.parts[name]]
