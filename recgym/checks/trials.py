"""What agents are tried with: something to learn from, and what they are asked."""

import copy
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

from recgym.agent import View, has_chance, made, taught
from recgym.checks.faults import GENERATORS, Generators, short, watched
from recgym.demonstrations import shopped
from recgym.envs.frozen import as_json
from recgym.envs.oracle import RESPONSES
from recgym.envs.policies import MIXED, TIERS, LoggingPolicy
from recgym.episodes import Episodes
from recgym.errors import InvalidArgument, printable
from recgym.export import made_here, new_storage
from recgym.minari_format import runs_of
from recgym.rollouts import rolled_out

ROWS = 32  # users who are asked for
_EPISODES = 100  # of which they are
_BATCHES = {1: 0, 2: 1, 7: 3, ROWS: 0}  # users who are asked for at once, and the first of them
_ENV = "recgym/OracleBoredom-v0"
_WORLD: dict[str, Any] = {
    "n_items": 23, "n_topics": 4, "n_liked": 2, "fresh": 3, "steps": 6, "organic": 0, "history": 5,
}  # fmt: skip
_USERS = 128  # who are rolled out
_SHOP = "recgym/MiniShop-v0"
_SESSIONS = 40  # of a shopper


@dataclass
class Trial:
    """A class of agents, what its agents learn from and are asked, and one that has learned.

    Items are recommended to flat observations, whatever the infos.
    """

    kind: type[Any]
    options: dict[str, Any]
    dataset: MinariDataset
    folder: Path  # where it is saved
    given: bool  # has it learned before the trial?
    learned: Any = None
    content: str = ""  # of the dataset, before anything was learned from it
    touched: list[str] = field(default_factory=list)  # global generators, by learning

    def __post_init__(self) -> None:
        """Choose the users who are asked for."""
        self.name = printable(self.kind.__name__)
        self.ranks = callable(getattr(self.kind, "scores", None))
        self.answer = "scores" if self.ranks else "actions"
        self.source = getattr(self.kind, "learns_from", "data")
        self.told: dict[str, NDArray[Any]] = {}  # infos without which nothing can be asked
        self.choose()

    def choose(self) -> None:
        """Choose what is asked."""
        self.n_items = View.of(self.dataset).n_items
        self.rows, self.now, self.later = _questions(self.dataset)

    def new(self) -> Any:
        """One that has learned nothing."""
        return made(self.kind, self.options, 0)

    def taught(self, train: MinariDataset, validation: MinariDataset) -> Any:
        """One that has learned now."""
        agent = self.new()
        env = train.recover_environment() if self.source == "environment" else None
        with watched(generators()) as touched, env or nullcontext():
            learned = taught(agent, train, validation, env)
        self.touched += touched
        return learned

    def loaded(self) -> Any:
        """One as it was saved, that was asked nothing yet."""
        return self.kind.load(self.folder)

    def asked(self, agent: Any) -> Iterator[tuple[str, slice, NDArray[Any], Any]]:
        """What is asked, for which users, what is given, and what is answered."""
        for size, first in _BATCHES.items():
            some = slice(first, first + size)
            for name in ("act", "scores") if self.ranks else ("act",):
                given = self.rows[some].copy()
                yield name, some, given, getattr(agent, name)(given, _part(self.told, some))

    def answers(self, agent: Any) -> dict[str, dict[int, Any]]:
        """What is answered, by what was asked and for how many users."""
        found: dict[str, dict[int, Any]] = {"act": {}, "scores": {}}
        for name, some, _, answer in self.asked(agent):
            found[name][some.stop - some.start] = copy.deepcopy(answer)
        return found

    @cached_property
    def heard(self) -> dict[str, dict[int, Any]]:
        """What the one that has learned answers, when it is asked for the first time."""
        return self.answers(self.learned)

    @cached_property
    def draws(self) -> bool:
        """Does its seed decide what it recommends to the same user?"""
        agent, every = self.loaded(), slice(None)
        first, again = (
            np.array(agent.act(self.rows.copy(), _part(self.told, every))) for _ in range(2)
        )
        return has_chance(self.kind) and not np.array_equal(first, again)

    def decided(
        self, agent: Any, some: slice = slice(None), infos: Mapping[str, NDArray[Any]] | None = None
    ) -> NDArray[Any]:
        """The scores of users; of an agent without any, what it recommends to them."""
        ask = agent.scores if self.ranks else agent.act
        given = _part(self.told if infos is None else infos, some)
        return self.side_by_side(ask(self.rows[some].copy(), given))

    def side_by_side(self, answers: Any) -> NDArray[Any]:
        """What was answered, a row for each user."""
        return np.array(answers)


class ShopTrial(Trial):
    """The same of agents who shop: they are asked on pages, and told what can be done there."""

    def choose(self) -> None:
        self.rows, self.told = _pages(self.dataset)
        self.now = self.told
        self._offered = [json.loads(actions) for actions in self.told["actions"]]

    def offered_to(self, size: int) -> list[list[str]]:
        """What each of so many shoppers can do, who are asked for at once."""
        return self._offered[_BATCHES[size] :][:size]

    def side_by_side(self, answers: Any) -> NDArray[Any]:
        if not self.ranks:
            return np.array(answers, object)
        found = np.zeros((len(answers), max(map(len, self._offered))))
        for row, scores in zip(found, answers, strict=True):
            row[: len(scores)] = scores
        return found


def _part(infos: Mapping[str, NDArray[Any]], some: slice) -> dict[str, NDArray[Any]]:
    return {name: values[some].copy() for name, values in infos.items()}


# -------------------------------------------------------------------------------- what is asked


def _questions(
    dataset: MinariDataset,
) -> tuple[NDArray[Any], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Observations, as many as there are; infos of that moment, and of the next.

    The first observation of an episode is among them, whose history may be empty.
    """
    space = dataset.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not len(dataset):
        raise InvalidArgument(
            f"Agents are asked about flat observations, and {dataset.id} has {len(dataset)} "
            f"episodes of {short(space)}: give a dataset with one or more, of a Box of one "
            "dimension."
        )
    episodes = next(runs_of(dataset, dataset.episode_indices[:_EPISODES]))
    states, lengths = episodes.observations(space), episodes.lengths
    before = np.arange(lengths.sum()) + np.repeat(np.arange(len(lengths)), lengths)  # an action
    chosen = before[_several(np.unique(states[before], axis=0, return_index=True)[1])]
    infos = {
        name: values
        for name, values in episodes.infos().items()
        if isinstance(values, np.ndarray) and len(values) == len(states)
    }
    now, later = (_at(infos, places) for places in (chosen, chosen + 1))
    return states[chosen], now, later


def _pages(dataset: MinariDataset) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Pages of a shop, as many as there are, the first of them for a search; and their infos."""
    if not len(dataset) or not isinstance(dataset.observation_space, spaces.Text):
        raise InvalidArgument(
            f"Agents of shops are asked on pages, and {dataset.id} has {len(dataset)} episodes of "
            f"{short(dataset.observation_space)}: give a dataset with one or more, of texts."
        )
    episodes = next(runs_of(dataset, dataset.episode_indices[:_EPISODES]))
    texts = np.array(episodes.at_states("observations", last=False), object)
    infos = {
        name.removeprefix("infos/"): np.array(values, getattr(values, "dtype", object))
        for name in episodes.states if name.startswith("infos/")
        for values in [episodes.at_states(name, last=False)]
    }  # fmt: skip
    chosen = _several(np.unique(texts.astype(str), return_index=True)[1])
    return texts[chosen], _at(infos, chosen)


def _several(different: NDArray[np.int64]) -> NDArray[np.int64]:
    """So many of different states, the first one among them."""
    drawn = np.random.default_rng(0).permutation(different)
    return np.resize(np.append(0, drawn), ROWS)


def _at(infos: Mapping[str, NDArray[Any]], places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {name: values[places] for name, values in infos.items()}


# ------------------------------------------------------------------------- what is learned from


def roll_outs(folder: Path) -> MinariDataset:
    """What a logging policy did with a few oracle users of a little world."""
    envs = gymnasium.make_vec(
        _ENV, num_envs=_USERS, vectorization_mode="vector_entry_point", **_WORLD
    )
    users, env_spec = envs.unwrapped.users, copy.deepcopy(gymnasium.spec(_ENV))
    env_spec.kwargs |= _WORLD
    episodes = rolled_out(envs, LoggingPolicy(*(TIERS[tier] for tier in MIXED)), seed=0)
    envs.close()
    return _kept(folder, envs.single_observation_space, envs.single_action_space, env_spec, {
        "dataset_id": "recgym/oracle-boredom/little-v0",
        "layout": {part: list(places) for part, places in users.layout.items()},
        "behaviours": list(RESPONSES),
        "oracle": as_json(users.oracle),
    }, episodes)  # fmt: skip


def shoppers(folder: Path) -> MinariDataset:
    """What a few shoppers did in an embedded shop."""
    env: Any = gymnasium.make(_SHOP, split="train").unwrapped
    env_spec = copy.deepcopy(gymnasium.spec(_SHOP))
    env_spec.kwargs |= {"split": "train"}
    episodes = shopped(env, "scripted", range(_SESSIONS))
    return _kept(folder, env.observation_space, env.action_space, env_spec, {
        "dataset_id": "recgym/minishop/little-v0",
        "catalogue": env.shoppers.shopping.shop.catalogue.sha256,
    }, episodes)  # fmt: skip


def _kept(
    folder: Path,
    observed: spaces.Space[Any],
    acted: spaces.Space[Any],
    env_spec: Any,
    about: dict[str, Any],
    episodes: Episodes,
) -> MinariDataset:
    """A training dataset that nobody lists."""
    folder.mkdir()
    storage: Any = new_storage(folder, observed, acted, env_spec, "recgym")
    storage.update_metadata(made_here() | {"split": "train"} | about)
    storage.append(episodes)
    return MinariDataset(storage)


def as_if(dataset: MinariDataset, split: str) -> MinariDataset:
    """The same dataset, which says that it is another split."""
    kind: Any = type(dataset.storage)
    said = property(lambda storage: kind.metadata.fget(storage) | {"split": split})
    storage = copy.copy(dataset.storage)
    storage.__class__ = type(kind.__name__, (kind,), {"metadata": said})
    return MinariDataset(storage, dataset.episode_indices)


def generators() -> Generators:
    """Those that are global: also torch's, where it is loaded."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return GENERATORS
    return GENERATORS | {
        "torch": (
            torch.default_generator.manual_seed,
            lambda: torch.get_rng_state().numpy(),
            lambda state: torch.set_rng_state(torch.from_numpy(state)),
        )
    }
